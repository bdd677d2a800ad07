"""A dialogue without end: what it takes in memory for each token, and nothing beside that."""

import gc
import tracemalloc

import pytest
from dialogues import Watched, request, terms

from edge_sir.batch.loop import BatchLoop
from edge_sir.engine import Slice, SliceResult


class Silent(Watched):
    """Notes no decodes."""

    def decode(self, slices: list[Slice]) -> list[SliceResult]:  # type: ignore[override]
        results = super().decode(slices)
        self.steps.clear()
        return results


@pytest.mark.parametrize(("recall", "stated"), [("off", 160), ("text", 240)])
def test_it_grows_by_so_many_bytes_a_token(recall: str, stated: int) -> None:
    """Short turns, of 36 tokens: of longer ones it is less. docs/batch.md has the figures of 50,000 turns."""
    said = [f"Mind {i}. Ok." for i in range(200)]
    asked = request("a", *said, budget=128, max_tokens=2, recall=recall)
    with BatchLoop([asked], terms(), Silent(1, n_ctx_train=10**9)) as loop:
        marks = []
        tracemalloc.start()
        try:
            for n_turns in (40, 120, 200):
                while not loop.is_over:
                    loop.step()
                    [dialogue] = loop._running.values()
                    if len(dialogue._replies) == n_turns:
                        break
                gc.collect()
                stats = dialogue._session.stats
                marks.append((tracemalloc.get_traced_memory()[0], stats.tokens_in + stats.tokens_out))
        finally:
            tracemalloc.stop()
    (m0, t0), (m1, t1), (m2, t2) = marks
    first, second = (m1 - m0) / (t1 - t0), (m2 - m1) / (t2 - t1)
    assert 0.5 * stated < first < 1.15 * stated
    assert second < 1.1 * first
