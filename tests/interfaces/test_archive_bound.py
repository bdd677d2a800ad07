"""The bound on evicted cells belongs to the process: whoever gave one last decides."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_sir
from edge_sir.recall.store import process_store


@pytest.fixture(autouse=True)
def bound() -> Iterator[None]:
    before = process_store().bound
    yield
    process_store().bound = before


def test_the_last_bound_given_counts_for_all_chats(talker_path: Path) -> None:
    with edge_sir.load(talker_path, archive="3MB", budget=128, quiet=True) as model:
        assert process_store().bound == 3_000_000
        with model.chat(archive=5000):
            assert process_store().bound == 5000
            with model.chat(recall="cells") as other:
                assert process_store().bound == 5000, "a chat that gives none leaves it as it is"
                assert other._recall._index is not None


def test_none_given_is_a_share_of_memory(talker_path: Path) -> None:
    before = process_store().bound
    with edge_sir.load(talker_path, budget=128, quiet=True) as model, model.chat(recall="cells"):
        assert process_store().bound == before > 2**20
