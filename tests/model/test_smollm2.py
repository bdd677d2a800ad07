"""SmolLM2-135M-Instruct through the whole of edge-sir: bounded chats, mixed sessions, and llama.cpp's own failures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sir.core.budget import Budget
from edge_sir.core.records import Eviction
from edge_sir.engine import Slice
from edge_sir.errors import CapabilityError, ShiftError, StateError
from edge_sir.llama.engine import LlamaEngine
from edge_sir.llama.native import LOG, NativeModel, lib
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.runtime import open_chat
from edge_sir.session import Session

pytestmark = pytest.mark.model

MakeEngine = Callable[..., LlamaEngine]

QUESTIONS = (
    "Hi! My name is Anna and I live in Oslo.",
    "I have a cat called Tom. He is three years old.",
    "What is a good name for a dog?",
    "Tell me about the sea.",
    "Schreib bitte etwas über Käse 🧀.",
    "What colour is the sky?",
    "List three fruits.",
    "Why is the night dark?",
    "What is 2 + 2?",
    "Name a river.",
    "How do planes fly?",
    "What is my name?",
)


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_a_chat_of_twelve_turns_stays_within_its_budget(smollm2_path: Path, positions: Any) -> None:
    options = Options(
        model=str(smollm2_path), budget=128, positions=positions, max_tokens=10, temperature=0, threads=1, quiet=True
    )
    with open_chat(options) as chat:
        replies = [chat.reply(question) for question in QUESTIONS]
        stats = chat.stats()
        last = chat.engine.pos_range(0)[1]
    assert (stats.turns, stats.n_ctx, stats.position_mode) == (12, 256, positions)
    assert 64 < stats.max_resident <= 128
    assert stats.evicted == sum(reply.evicted for reply in replies) > 200
    assert (stats.kshifts > 0) == (positions == "packed")
    assert last >= 150 if positions == "gaps" else last == stats.resident - 1
    assert all(reply.text for reply in replies)
    assert "\ufffd" not in "".join(reply.text for reply in replies)
    assert len({reply.text for reply in replies}) >= 3


def test_a_seed_repeats_a_conversation(smollm2_path: Path) -> None:
    def reply(seed: int) -> str:
        options = Options(model=str(smollm2_path), budget=128, max_tokens=10, threads=1, seed=seed, quiet=True)
        with open_chat(options) as chat:
            return chat.reply(QUESTIONS[3]).text

    assert reply(1) == reply(1) != reply(2)


# ---- many sessions -----------------------------------------------------------------------------

TEXT = (
    "The harbour lay quiet that morning. Three boats had gone out before dawn, and only one had come back. "
    "Old Henrik counted 417 herring into the blue crate, wiped his hands, and asked nobody in particular whether "
    "the ferry to Bergen still left at a quarter past nine. Nobody knew. The baker's daughter said that her uncle "
    "kept a timetable from 1987, printed on yellow paper, and that it had never once been wrong. "
)


@dataclass
class Dialogue:
    """A session and what it lost, driven with given tokens."""

    session: Session
    events: list[Eviction]


def make_dialogue(engine: LlamaEngine, seq: int, policy: str, budget: int) -> Dialogue:
    events: list[Eviction] = []
    return Dialogue(Session(engine, from_spec(policy), Budget(budget), seq=seq, on_evict=events.append), events)


def run(dialogues: list[Dialogue], streams: list[NDArray[np.int32]], n_turns: int) -> None:
    """Every turn each dialogue takes its next part in, in slices that share decodes."""
    for turn in range(n_turns):
        for dialogue, stream in zip(dialogues, streams, strict=True):
            dialogue.session.begin_turn()
            dialogue.session.start_message()
            dialogue.session.feed(np.array_split(stream, n_turns)[turn], "user")
        while pieces := [(d, p) for d in dialogues if (p := d.session.next_slice(20)) is not None]:
            results = dialogues[0].session.engine.decode([piece for _, piece in pieces])
            for (dialogue, _), result in zip(pieces, results, strict=True):
                dialogue.session.commit(result)


def scored(dialogue: Dialogue) -> NDArray[np.float32]:
    """The surprisal of every token of the stream, evicted or not."""
    parts = [event.columns for event in dialogue.events] + [dialogue.session.ledger.columns()]
    born = np.concatenate([part["born"] for part in parts])
    values = np.concatenate([part["surprisal"] for part in parts])
    return values[np.argsort(born)]


def test_three_sessions_in_mixed_slices_are_each_as_if_alone(
    smollm2: NativeModel, make_llama_engine: MakeEngine
) -> None:
    plans = [("streaming", 48), ("sirllm", 64), ("sir", 56)]
    shared = make_llama_engine(smollm2, 256, threads=1, chunk=64, n_seq_max=3)
    streams = [shared.text.encode(TEXT, special=False)[skip : 100 - skip] for skip in (0, 5, 10)]
    mixed = [make_dialogue(shared, seq, *plan) for seq, plan in enumerate(plans)]
    run(mixed, streams, 4)
    for seq, (plan, stream) in enumerate(zip(plans, streams, strict=True)):
        alone = make_dialogue(make_llama_engine(smollm2, 256, threads=1, chunk=64, n_seq_max=3), seq, *plan)
        run([alone], [stream], 4)
        assert mixed[seq].session.stats.evicted > 0
        kept, kept_alone = (d.session.ledger["born"].tolist() for d in (mixed[seq], alone))
        if plan[0] == "streaming":
            assert kept == kept_alone
            assert len(scored(alone)) == len(stream)
        else:  # a batch of other sizes rounds otherwise, and two near scores may change places
            assert len({*kept} & {*kept_alone}) >= 0.9 * len(kept)
            difference = np.abs(scored(mixed[seq]) - scored(alone))[1:]
            assert np.median(difference) < 0.1
            assert np.mean(difference) < 0.4
            assert np.nanstd(scored(alone)) > 2


# ---- llama.cpp's own failures ------------------------------------------------------------------


def test_a_failed_kshift_is_reported_now_and_ever_after(
    smollm2: NativeModel, make_llama_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, other = (make_llama_engine(smollm2, 256, threads=1) for _ in range(2))
    session = Session(engine, from_spec("streaming"), Budget(64))
    session.feed(engine.text.encode(TEXT, special=False)[:60], "user")
    while session.step():
        pass
    assert session.stats.kshifts == 0
    decode = lib.llama_decode

    def decode_with_a_failing_shift(*args: Any) -> int:
        LOG._receive(4, b"apply: failed to compute K-shift graph\n", None)
        return int(decode(*args))

    monkeypatch.setattr(lib, "llama_decode", decode_with_a_failing_shift)
    session.feed(engine.text.encode(TEXT, special=False)[:20], "user")
    with pytest.raises(ShiftError, match="K-shift"):
        session.step()
    assert session.stats.kshifts == 1
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(ShiftError, match="K-shift"):
            session.step()
    with pytest.raises(ShiftError):
        engine.dump(0)
    with pytest.raises(ShiftError):
        engine.decode([Slice(0, np.array([5], np.int32), 0, np.array([-1], np.int32))])
    other.decode([Slice(0, np.array([5], np.int32), 0, np.array([-1], np.int32))])  # another context is sound


def test_errors_of_llama_cpp_reach_the_log(
    smollm2: NativeModel, make_llama_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_llama_engine(smollm2, 256, threads=1, n_seq_max=2)
    for p0 in (0, 64, 128):
        engine.decode([Slice(0, np.arange(20, 84, dtype=np.int32), p0, np.full(64, -1, np.int32))])
    with caplog.at_level(logging.ERROR, "llama.cpp"), pytest.raises(StateError) as caught:
        engine.load(1, engine.dump(0))  # 192 cells, where 64 are free
    records = [record for record in caplog.records if record.name == "llama.cpp"]
    assert records
    assert records[-1].levelno == logging.ERROR
    assert records[-1].getMessage() in str(caught.value)


# ---- the V cache -------------------------------------------------------------------------------


@pytest.mark.parametrize("flash_attn", ["auto", "on"])
@pytest.mark.parametrize(("kv_v", "share"), [("q8_0", 0.77), ("q4_0", 0.65)])
def test_values_may_be_quantized_with_flash_attention(
    smollm2: NativeModel, make_llama_engine: MakeEngine, kv_v: str, flash_attn: str, share: float
) -> None:
    plain, small = (
        make_llama_engine(smollm2, 256, threads=1, flash_attn=flash_attn, kv_v=kind) for kind in ("f16", kv_v)
    )
    tokens = plain.text.encode(TEXT, special=False)[:40]
    piece = Slice(0, tokens, 0, np.full(40, -1, np.int32))
    rows = [engine.decode([piece])[0].logits for engine in (plain, small)]
    assert rows[0] is not None and rows[1] is not None
    assert 0 < float(np.sqrt(np.mean((rows[0] - rows[1]) ** 2))) < 0.5
    assert small.spec.kv_bytes / plain.spec.kv_bytes == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("kv_v", ["q8_0", "q4_0"])
def test_quantized_values_without_flash_attention_are_refused(
    smollm2: NativeModel, make_llama_engine: MakeEngine, kv_v: str
) -> None:
    with pytest.raises(CapabilityError, match="flash attention"):
        make_llama_engine(smollm2, 256, threads=1, flash_attn="off", kv_v=kv_v)
    make_llama_engine(smollm2, 256, threads=1, flash_attn="off")
