"""Forgetting, budgets and traces on SmolLM2: what the toy cannot show."""

from pathlib import Path

import numpy as np
import pytest

from edge_sir.chat import Chat
from edge_sir.core.scores import surprisal
from edge_sir.engine import Slice
from edge_sir.options import Options
from edge_sir.runtime import open_chat
from edge_sir.trace.record import read_trace
from edge_sir.trace.replay import replay

pytestmark = pytest.mark.model

FACT = "The code of my door is 4417."


def log_probability(chat: Chat, prompt: str, answer: str) -> float:
    """log P(answer) in nats if the model now began a reply with `prompt`; the cache is left as it was."""
    codec, session = chat.codec, chat.session
    said = np.concatenate([codec.encode(prompt, special=False), codec.encode(answer, special=False)])
    n_answer = len(codec.encode(answer, special=False))
    p0, total = session.ledger.next_pos, 0.0
    unknown = np.array([-1], np.int32)
    logits = None
    for i, token in enumerate(said.astype(np.int32)):
        if i >= len(said) - n_answer:
            assert logits is not None
            total -= float(surprisal(logits[None], [token])[0])
        piece = Slice(0, np.array([token], np.int32), p0 + i, unknown, frozenset(), True)
        logits = chat.engine.decode([piece])[0].logits
    chat.engine.remove(0, p0, -1)
    return total


@pytest.mark.parametrize("what", ["4417", 1])
@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_a_forgotten_fact_is_improbable(smollm2_path: Path, what: int | str, positions: str) -> None:
    options = Options(model=str(smollm2_path), budget=512, temperature=0, threads=1, quiet=True, positions=positions)
    with open_chat(options) as chat:
        chat.add("user", FACT)
        chat.add("assistant", "Understood.")
        chat.add("user", "I like the sea.")
        chat.add("assistant", "So do I.")
        ask = "What is the code of my door?The code of your door is"
        known = log_probability(chat, ask, " 4417")
        other = log_probability(chat, ask, " 9283")
        chat.forget(what)
        forgotten = log_probability(chat, ask, " 4417")
        n_cells = chat.engine.pos_range(0)[1] + 1
        assert known > other + 3  # the control: it was known
        assert forgotten < known - 3
        assert forgotten < other + 3  # no likelier than any other number
        if positions == "packed":
            assert n_cells == len(chat.session.ledger)
        assert "4417" not in chat.memory().turn(1).text  # type: ignore[union-attr]


def test_a_budget_is_lowered_and_raised_beyond_the_context_live(smollm2_path: Path, tmp_path: Path) -> None:
    options = Options(
        model=str(smollm2_path),
        budget=200,
        recall="off",  # a raised budget would bring back what was evicted
        max_tokens=12,
        temperature=0,
        threads=1,
        quiet=True,
        trace=tmp_path / "t",
    )
    with open_chat(options) as chat:
        chat.reply(FACT)
        chat.pin(1)
        ask = "What is the code of my door?The code of your door is"
        for text in ("I like the sea.", "Name a river.", "Name a tree.", "Name a dog."):
            chat.reply(text)
        assert chat.set_budget(120) > 0
        assert len(chat.session.ledger) <= 120
        before, n_ctx = log_probability(chat, ask, " 4417"), chat.engine.spec.n_ctx
        assert chat.set_budget(600) == 0
        assert n_ctx == 256 and chat.engine.spec.n_ctx == 768
        assert log_probability(chat, ask, " 4417") == pytest.approx(before, abs=0.05)
        for _ in range(8):
            chat.reply("Tell me about the sea and about the sky, about rivers, trees, dogs and cats.")
        assert 200 < len(chat.session.ledger) <= 600
        kept = set(chat.session.ledger["born"].tolist())
    again = replay(read_trace(tmp_path / "t"))
    assert again.as_recorded and again.kept == kept
