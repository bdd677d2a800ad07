"""Recall on a real model: cells that were evicted are back for the turn that asks about them."""

from pathlib import Path

import pytest

import edge_sir
from edge_sir.errors import ConfigError
from edge_sir.recall import dense

FACT = "My sister Ottilie keeps fourteen hives of bees in Bergen."


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_what_a_message_asks_about_comes_back_and_leaves_again(smollm2_path: Path, positions: str) -> None:
    options = {"threads": 1, "quiet": True, "temperature": 0, "max_tokens": 8, "policy": "streaming"}
    recalling = {"budget": 192, "recall": "cells", "positions": positions}
    with edge_sir.load(smollm2_path, **options) as model, model.chat(**recalling) as chat:
        chat.add("user", FACT)
        chat.add("assistant", "Noted.")
        for i in range(8):
            chat.add("user", f"On day {i} it rained, and nothing much happened in the garden or the house.")
            chat.add("assistant", "I see.")
        assert "Ottilie" not in chat.memory().turn(1).text
        before = chat.session.ledger["born"].tolist()
        stream = chat.stream("Where does Ottilie keep her bees?")
        next(stream)
        assert "Ottilie" in chat.memory().turn(1).text and len(chat.session.ledger) <= 192
        for _ in stream:
            pass
        first = stream.reply.recalled[0]
        assert first.turn == 1 and "hives of bees" in first.text
        assert "Ottilie" not in chat.memory().turn(1).text
        assert set(chat.session.ledger["born"].tolist()) & set(range(before[-1] + 1)) <= set(before)
        assert chat.engine.pos_range(0)[1] == chat.session.ledger.next_pos - 1
        assert chat.stats().archive_bytes > 20_000 * len(FACT.split())
        chat.reply("And now to something else.")


def test_an_index_whose_packages_are_missing_is_refused_in_one_line(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_MODEL", ("no-such-package-for-edge-sir", "model.onnx", ""))
    options = {"budget": 192, "recall_index": "dense"}
    with edge_sir.load(smollm2_path, threads=1, quiet=True) as model:
        with pytest.raises(ConfigError, match=r"pip install 'edge-sir\[recall-dense\]'"):
            model.chat(**options, recall="cells")
        model.chat(**options, recall="off").close()
