"""An undone turn, a raised budget and a pin on SmolLM2-135M: what was evicted is back with its cells."""

from pathlib import Path

import numpy as np
import pytest

import edge_sir
from edge_sir.chat import Chat
from edge_sir.engine import Slice

FACT = "My sister Ottilie keeps hives of bees on a roof in Bergen."


def next_row(chat: Chat) -> np.ndarray:
    """The logits after a token that comes next; nothing stays of it."""
    session = chat.session
    token = session.ledger["token"][:1].copy()
    piece = Slice(0, token, session.ledger.next_pos, np.array([-1], np.int32), frozenset(), True)
    row = chat.engine.decode([piece])[0].logits
    chat.engine.remove(0, piece.p0, -1)
    assert row is not None
    return row


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Kullback-Leibler divergence of the next token's distribution, nats."""
    p, q = (row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64)) for row in (one, other))
    return float(np.sum(np.exp(p) * (p - q)))


@pytest.mark.parametrize(("positions", "policy"), [("packed", "sir"), ("gaps", "streaming")])
def test_what_was_evicted_is_back(smollm2_path: Path, positions: str, policy: str) -> None:
    options = {"threads": 1, "quiet": True, "temperature": 0, "max_tokens": 6, "policy": policy}
    terms = {"budget": 160, "recall": "cells", "positions": positions}
    with edge_sir.load(smollm2_path, **options) as model, model.chat(**terms) as chat:
        chat.reply(FACT)
        for i in range(4):
            chat.reply(f"On day {i} it rained, and nothing much happened in the garden or the house.")
        columns = {name: column.copy() for name, column in chat.session.ledger.columns().items()}
        row = next_row(chat)
        chat.reply("Where does Ottilie keep her bees? " + "Tell me all about it, if you please. " * 3)
        undone = chat.undo()
        assert sum(undone.restored.values()) > 20 and undone.lost == ()
        for name, column in chat.session.ledger.columns().items():
            np.testing.assert_array_equal(columns[name], column, name)
        assert distance(row, next_row(chat)) < 0.01
        here = set(chat.session.ledger["born"].tolist())
        chat.set_budget(320)
        assert here < set(chat.session.ledger["born"].tolist())
        chat.set_budget(160)
        assert here <= set(chat.session.ledger["born"].tolist())
        chat.pin("Ottilie")
        assert "hives of bees on a roof" in chat.memory().turn(1).text and len(chat.session.ledger) <= 160
        assert chat.engine.pos_range(0)[1] == chat.session.ledger.next_pos - 1
        assert chat.reply("And now?").text
