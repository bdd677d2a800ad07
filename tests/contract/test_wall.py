"""Before llama.cpp is called: whatever would end the process, or be read as another number, is an error of ours.

Every call of the library in edge_sir/llama, and what stands before it:

    llama_decode              ids, targets, positions, sequences, sizes (Batch.fill); a closed or a foreign engine
    llama_get_logits          a missing row
    llama_memory_seq_rm, _add, _cp, _pos_min, _pos_max    sequences, positions beyond an int32, below 0
    llama_state_seq_*         sequences, positions; a blob that is damaged or of another context (core/sealed.py)
    llama_init_from_model     cells, chunk, threads, sequences, types; memory (ram.py)
    llama_sampler_*           rows of another size or without a number; a closed chain; parameters beyond an int32
    llama_tokenize            lengths (text_limits.py); llama_token_to_piece: ids
    llama_model_*, _vocab_*   a model that is closed stays until its contexts and calls have ended
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import CHEAP, Kind, kind_of, piece, read, some_tokens
from tiny_gguf import bpe_tokenizer, write_llama

import edge_sir
from edge_sir.core.budget import Budget
from edge_sir.engine import SamplingParams
from edge_sir.errors import (
    BatchError,
    BudgetError,
    CapabilityError,
    ConfigError,
    EngineError,
    ModelFileError,
    SessionError,
    StateError,
)
from edge_sir.llama import ram
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel
from edge_sir.llama.text import LlamaText
from edge_sir.policies import from_spec
from edge_sir.session import Session

BIG = 2**31


@pytest.fixture(params=[name for name in CHEAP if not name.startswith("toy")])
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


# ---- ids, positions, sizes -----------------------------------------------------------------------

BAD_SLICES: dict[str, Callable[[int], Any]] = {
    "a token below 0": lambda n: piece(0, [3, -1], 5),
    "a token beyond the vocabulary": lambda n: piece(0, [n], 5),
    "a target beyond the vocabulary": lambda n: piece(0, [3], 5, targets=[n], needs={"surprisal"}),
    "a position below 0": lambda n: piece(0, [3], -1),
    "a position beyond an int32": lambda n: piece(0, [3], BIG),
    "positions that pass the end of an int32": lambda n: piece(0, [3, 4], BIG - 2),
    "a position that leaves a hole": lambda n: piece(0, [3], 9),
    "a position that is taken": lambda n: piece(0, [3], 2),
    "a sequence below 0": lambda n: piece(-1, [3], 0),
    "a sequence too many": lambda n: piece(4, [3], 0),
    "no token": lambda n: piece(0, [], 5),
    "more tokens than a chunk": lambda n: piece(0, np.full(65, 3), 5),
}


@pytest.mark.parametrize("case", BAD_SLICES)
def test_a_bad_slice_is_a_batch_error(kind: Kind, case: str) -> None:
    engine = kind.make()
    before = read(engine, 0, some_tokens(engine, 5))
    with pytest.raises(BatchError):
        engine.decode([BAD_SLICES[case](engine.spec.n_vocab)])
    assert engine.pos_range(0)[1] == 4 and np.isfinite(before).all()
    read(engine, 0, [7])


def test_no_slices_and_one_sequence_twice(kind: Kind) -> None:
    engine = kind.make()
    for slices in ([], [piece(0, [3], 0), piece(0, [4], 1)]):
        with pytest.raises(BatchError):
            engine.decode(slices)


def test_a_chunk_of_more_tokens_than_there_are_cells(tiny_llama: NativeModel, make_llama_engine: Any) -> None:
    engine = make_llama_engine(tiny_llama, 256, threads=1, chunk=512)
    assert engine.spec.n_batch == 256
    with pytest.raises(BatchError):
        engine.decode([piece(0, np.full(300, 3), 0)])


@pytest.mark.parametrize("seq", [-1, 4, BIG, -BIG])
def test_sequences_that_are_none(kind: Kind, seq: int) -> None:
    engine = kind.make()
    calls: list[Callable[[], Any]] = [
        lambda: engine.remove(seq, 0, -1),
        lambda: engine.shift(seq, 0, -1, 1),
        lambda: engine.copy(seq, 0),
        lambda: engine.copy(0, seq),
        lambda: engine.shared_until(seq),
        lambda: engine.pos_range(seq),
        lambda: engine.dump(seq),
        lambda: engine.load(seq, b"x"),
        lambda: engine.save(seq, 0, -1),
        lambda: engine.restore(seq, b"x", [0]),
    ]
    for call in calls:
        with pytest.raises(BatchError):
            call()


@pytest.mark.parametrize(("p0", "p1"), [(BIG, -1), (0, BIG), (-2, -1), (0, -2), (2**32, 2**32 + 1)])
def test_positions_that_are_none(kind: Kind, p0: int, p1: int) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 5))
    for call in (engine.remove, lambda s, a, b: engine.copy(0, 1, a, b)):
        with pytest.raises(BatchError):
            call(0, p0, p1)
    if engine.spec.can_pack:
        with pytest.raises(BatchError):
            engine.shift(0, p0, p1, 1)
    if engine.spec.can_restore:
        for ranges in ((p0, p1), (0, 1, (p0, p1))):
            with pytest.raises(BatchError):
                engine.save(0, *ranges)
    assert engine.pos_range(0)[1] == 4


@pytest.mark.parametrize("delta", [-5, BIG - 4, -BIG, BIG, 2**32])
def test_keys_do_not_move_to_positions_that_are_none(
    tiny_llama: NativeModel, make_llama_engine: Any, delta: int
) -> None:
    engine = make_llama_engine(tiny_llama, 256, threads=1, chunk=64)
    read(engine, 0, some_tokens(engine, 9))
    engine.remove(0, 0, 4)
    with pytest.raises(BatchError, match="cannot move"):
        engine.shift(0, 0, -1, delta)
    engine.shift(0, 0, -1, -4)
    assert engine.pos_range(0) == (0, 4)


def test_positions_that_grow_for_ever_are_packed_before_an_int32_ends(tiny_folder: Path) -> None:
    path = write_llama(tiny_folder / "endless.gguf", n_ctx_train=BIG - 1)
    with edge_sir.load(path, quiet=True, threads=1) as model:
        engine = model.open_engine(256)
        session = Session(engine, from_spec("streaming"), Budget(64), positions="gaps")
        read(engine, 0, some_tokens(engine, 1), BIG - 40)
        tokens = some_tokens(engine, 80)
        session.ledger.append(some_tokens(engine, 1), {"pos": BIG - 40, "born": 0})
        session.feed(tokens, "user")
        while session.step():
            pass
        assert session.stats.packs == 1 and engine.pos_range(0)[1] < 200


# ---- contexts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_cells", "options"),
    [
        (0, {}),
        (-1, {}),
        (BIG, {}),
        (2**32, {}),
        (256, {"chunk": -1}),
        (256, {"chunk": 2**32}),
        (256, {"threads": -1}),
        (256, {"threads": 513}),
        (256, {"chunk": 4, "n_seq_max": 5}),
        (256, {"chunk": 512, "n_seq_max": 257}),
        (256, {"n_seq_max": 0}),
    ],
)
def test_a_context_of_bad_sizes(tiny_llama: NativeModel, n_cells: int, options: dict[str, int]) -> None:
    with pytest.raises((CapabilityError, BudgetError)):
        LlamaEngine(tiny_llama, n_cells, EngineOptions(**({"threads": 1} | options)))


def test_memory_that_is_not_there_is_refused_with_a_remedy_that_the_policy_has(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_llama(tiny_folder / "long.gguf", n_ctx_train=10_485_760)
    monkeypatch.setattr(ram, "available_bytes", lambda: 10**9)
    with edge_sir.load(path, quiet=True, threads=1) as model:
        with pytest.raises(BudgetError, match=r"a context of 10485760 cells takes \d+ MB.*use --policy sir"):
            model.chat(policy="keep-all")
        with pytest.raises(BudgetError, match=r"take a budget of \d+ or less$"):
            model.chat(budget=10_485_760)
        with pytest.raises(BudgetError, match="a context of 10485760 cells"):
            LlamaEngine(model.native, 10_485_760)
        model.chat(budget=128).close()


def test_memory_that_llama_cpp_does_not_get_is_refused_with_a_remedy(
    tiny_llama: NativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(ram, "available_bytes", lambda: 2**50)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**28, before[1]))
    try:
        with pytest.raises(BudgetError, match=r"not enough memory for a context of .* take a smaller budget"):
            LlamaEngine(tiny_llama, 2**24, EngineOptions(threads=1))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# ---- samplers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": BIG},
        {"top_p": float("nan")},
        {"min_p": float("nan")},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"repeat_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
        {"repeat_last_n": 2**31 - 1},
        {"repeat_last_n": -1},
        {"seed": 2**32},
    ],
)
def test_sampling_parameters_that_llama_cpp_cannot_take(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(SamplingParams(), **wrong)


def test_rows_that_are_none(kind: Kind) -> None:
    engine = kind.make()
    n = engine.spec.n_vocab
    for params in (SamplingParams(), SamplingParams(temperature=0), SamplingParams(top_k=0)):
        sampler = engine.sampler(params)
        for row in (np.full(n, np.nan), np.full(n, -np.inf), *(np.zeros(m) for m in (n - 1, n + 1, 1, 0))):
            with pytest.raises(EngineError):
                sampler.sample(row.astype(np.float32))
        some = np.zeros(n)
        some[5] = np.nan
        with pytest.raises(EngineError):
            sampler.sample(some.astype(np.float32))
        assert 0 <= sampler.sample(np.zeros(n, np.float32)) < n
        sampler.close()
        sampler.close()
        with pytest.raises(SessionError, match="the sampler is closed"):
            sampler.sample(np.zeros(n, np.float32))


# ---- states --------------------------------------------------------------------------------------


def test_damaged_states(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 9))
    state, random = engine.dump(0), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(state[: random.integers(0, len(state))] if random.random() < 0.3 else state)
        for at in random.integers(0, min(len(damaged), 160) or 1, random.integers(1, 6)):
            damaged[at : at + 1] = bytes([random.integers(256)])
        try:
            engine.load(1, bytes(damaged))
        except StateError:
            assert engine.pos_range(1) == (-1, -1)
        else:
            assert bytes(damaged) == state
    engine.load(1, state)
    assert engine.pos_range(1)[1] == 8
    read(engine, 1, [7])


# ---- what is closed ------------------------------------------------------------------------------


def test_a_closed_engine_refuses_every_call(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 5))
    engine.close()
    engine.close()
    calls: list[Callable[[], Any]] = [
        lambda: engine.decode([piece(0, [3], 5)]),
        lambda: engine.remove(0, 0, -1),
        lambda: engine.shift(0, 0, -1, 1),
        lambda: engine.copy(0, 1),
        lambda: engine.shared_until(0),
        lambda: engine.pos_range(0),
        lambda: engine.flush(0),
        lambda: engine.dump(0),
        lambda: engine.load(0, b"x"),
        lambda: engine.save(0, 0, -1),
        lambda: engine.restore(0, b"x", [0]),
        lambda: engine.sampler(SamplingParams()),
    ]
    for call in calls:
        with pytest.raises(SessionError, match="the engine is closed"):
            call()


def test_a_model_is_freed_after_its_contexts_and_refuses_new_ones(tiny_llama_path: Path) -> None:
    model = NativeModel(tiny_llama_path)
    text, engine = LlamaText(model), LlamaEngine(model, 256, EngineOptions(threads=1))
    model.close()
    assert np.isfinite(read(engine, 0, some_tokens(engine, 5))).all()
    with pytest.raises(SessionError, match="the model is closed"):
        LlamaEngine(model, 256, EngineOptions(threads=1))
    assert model.handle is not None
    engine.close()
    assert model.handle is None
    for call in (lambda: text.encode("x", special=False), lambda: text.piece(5), lambda: text.is_end(5)):
        with pytest.raises(SessionError, match="the model is closed"):
            call()


def test_two_threads_in_one_engine(kind: Kind) -> None:
    """Below a chat, where nobody asks who drives it."""
    engine, wrong = kind.make(), []

    def work(seq: int) -> None:
        for i in range(40):
            try:
                engine.decode([piece(seq, [3 + i], engine.pos_range(seq)[1] + 1)])
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seq,)) for seq in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and all(engine.pos_range(seq)[1] == 39 for seq in range(4))
    assert np.isfinite(read(engine, 0, [5])).all()


# ---- files ---------------------------------------------------------------------------------------


def test_an_unknown_pre_tokenizer_wants_a_newer_llama_cpp(tiny_folder: Path) -> None:
    path = write_llama(tiny_folder / "new.gguf", metadata=bpe_tokenizer("of-next-year"))
    with pytest.raises(ModelFileError, match=r"of-next-year.*needs a newer llama.cpp") as raised:
        NativeModel(path)
    assert "download the file again" not in str(raised.value)


def test_a_file_that_does_not_say_how_texts_are_split_is_doubted_once(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = bpe_tokenizer("gpt-2")
    for name, metadata in (("said", entries), ("unsaid", entries | {"tokenizer.ggml.pre": None})):
        caplog.clear()
        with edge_sir.load(write_llama(tiny_folder / f"{name}.gguf", metadata=metadata), threads=1) as model:
            model.chat(budget=128).close()
        doubts = [r for r in caplog.records if r.name.startswith("edge_sir") and "tokenizer.ggml.pre" in r.message]
        assert len(doubts) == (name == "unsaid")
        assert bool(model.header.warning) == (name == "unsaid")


@pytest.mark.parametrize("key", ["bos", "eos", "eot"])
def test_special_tokens_that_are_none(tiny_folder: Path, key: str) -> None:
    path = write_llama(tiny_folder / f"{key}.gguf", metadata={f"tokenizer.ggml.{key}_token_id": 99_999})
    with pytest.raises(ModelFileError, match=f"{key}_token_id is 99999"):
        NativeModel(path)


def test_tokens_that_are_none(tiny_llama: NativeModel) -> None:
    text = LlamaText(tiny_llama)
    for token in (-1, tiny_llama.n_vocab, BIG, -BIG):
        with pytest.raises(EngineError):
            text.piece(token)
        assert not text.is_end(token)
