"""How many dialogues at once: the choice on invented numbers, the measurement on the toy with an invented clock."""

import threading
from collections.abc import Sequence
from typing import ClassVar

import pytest

from edge_sir.batch.measure import Way, choose, counts_up_to, in_words, measure, together
from edge_sir.engine import Slice, SliceResult
from edge_sir.errors import ComputeError
from edge_sir.testing import ToyEngine


def ways(of_one: dict[int, float], of_two: dict[int, float] | None = None) -> list[Way]:
    """Tokens a second by dialogues in all: in one context, and in two."""
    one = [Way(1, n, n / per_s) for n, per_s in of_one.items()]
    return one + [Way(2, n // 2, n / per_s) for n, per_s in (of_two or {}).items()]


# Two cores, two threads: what was measured on them, by hand.
HALF = ways({1: 65, 2: 53, 4: 80, 8: 124, 16: 192}, {2: 95, 16: 127})
SMOL = ways({1: 170, 2: 162, 4: 228, 8: 307, 16: 355}, {2: 301, 16: 336})


@pytest.mark.parametrize(
    ("measured", "n_most", "chosen"),
    [
        (HALF, 16, (1, 16)),
        (HALF, 8, (1, 8)),
        (HALF, 4, (2, 1)),  # 95 a second with two, 80 with four
        (HALF, 3, (2, 1)),
        (HALF, 1, (1, 1)),
        (SMOL, 16, (1, 16)),
        (SMOL, 8, (1, 8)),  # 307 in one context are nearly as many as 301 in two, and the simpler
        (SMOL, 4, (2, 1)),
        (ways({1: 100, 2: 60, 4: 80}), 4, (1, 1)),  # where batching never pays
        (ways({1: 100, 2: 200, 4: 400, 8: 800, 16: 810}), 16, (1, 8)),  # where twice as many gain next to nothing
        (ways({1: 10, 2: 20}, {2: 20.5}), 2, (1, 2)),
    ],
)
def test_the_fastest_way_is_taken_and_of_those_nearly_as_fast_the_simplest(
    measured: list[Way], n_most: int, chosen: tuple[int, int]
) -> None:
    way = choose(measured, n_most)
    assert (way.n_contexts, way.n_each) == chosen


def test_the_numbers_that_are_measured() -> None:
    assert [counts_up_to(n) for n in (1, 2, 3, 8, 13, 16)] == [
        [1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 13], [1, 2, 4, 8, 16],
    ]  # fmt: skip


def test_one_line_says_what_was_measured_and_chosen() -> None:
    assert in_words(HALF, HALF[4]) == (
        "tokens written a second: 65 with 1, 53 with 2, 80 with 4, 124 with 8, 192 with 16; in 2 contexts of one "
        "thread 95 with 2, 127 with 16; 16 dialogues are held at once, in one context"
    )
    assert in_words(HALF, HALF[5]).endswith("; 2 dialogues are held at once, in 2 contexts of one thread each")
    assert in_words(HALF, HALF[0]).endswith("; 1 dialogue is held at once, in one context")


@pytest.mark.parametrize(
    ("measured", "chosen", "at_once"),
    [
        (HALF, (1, 16), (0, 1, 1, *range(3, 17))),  # three, between two and four, are 68 a second
        (HALF, (1, 4), (0, 1, 1, 3, 4)),
        (HALF, (2, 1), (0, 1)),
        (SMOL, (1, 16), (0, *range(1, 17))),  # 162 with two are nearly as many as 170 with one
        (ways({1: 100, 2: 60, 4: 80, 8: 90, 16: 150}), (1, 16), (0, *[1] * 8, *range(9, 17))),
        (ways({1: 50, 4: 400, 5: 300}), (1, 5), (0, 1, 2, 3, 4, 4)),
    ],
)
def test_how_many_of_those_that_are_left_write_together(
    measured: list[Way], chosen: tuple[int, int], at_once: tuple[int, ...]
) -> None:
    way = next(way for way in measured if (way.n_contexts, way.n_each) == chosen)
    assert together(measured, way) == at_once


def test_the_line_says_where_fewer_write_at_a_time() -> None:
    assert in_words(HALF, HALF[4], together(HALF, HALF[4])).endswith(
        "; 16 dialogues are held at once, in one context; of 2 that are left 1 at a time"
    )
    assert in_words(SMOL, SMOL[4], together(SMOL, SMOL[4])).endswith("held at once, in one context")


class Timed(ToyEngine):
    """A decode of n tokens takes so many seconds of an invented clock; every third one is disturbed."""

    now = 0.0
    n_decodes = 0

    def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
        self.n_decodes += 1
        self.now += {1: 1.0, 2: 4.0, 4: 5.0}[len(slices)] + (50 if self.n_decodes % 3 == 0 else 0)
        return super().decode(slices)


def test_the_median_of_decodes_in_turn_is_what_a_step_takes() -> None:
    engine = Timed(n_ctx=64, n_seq_max=4)
    found = measure([engine], [1, 2, 4], repeats=5, clock=lambda: engine.now)
    assert engine.n_decodes == 1 + 3 * 5
    assert [(way.n_contexts, way.n_each) for way in found] == [(1, 1), (1, 2), (1, 4)]
    assert [way.seconds % 50 for way in found] == [1, 4, 5]
    assert [engine.pos_range(seq) for seq in range(4)] == [(-1, -1)] * 4


@pytest.mark.parametrize("can_restore", [True, False])
def test_each_sequence_holds_cells_of_its_own_meanwhile(can_restore: bool) -> None:
    class Filled(ToyEngine):
        seen: ClassVar[list[tuple[int, ...]]] = []

        def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
            if max(len(piece.tokens) for piece in slices) == 1:
                held = [int(self._member[:, seq].sum()) for seq in range(4)]
                assert self._member.any(axis=1).sum() == sum(held)
                self.seen.append((len(slices), *held))
                assert {piece.p0 for piece in slices} == {held[0]}
            return super().decode(slices)

    engine = Filled(n_ctx=100, n_batch=16, n_seq_max=4, can_restore=can_restore)
    measure([engine], [1, 2], n_resident=40, repeats=2)
    assert engine.seen == [(2, 40, 40, 0, 0)] + 2 * [(1, 41, 41, 0, 0), (2, 41, 41, 0, 0)]
    assert [engine.pos_range(seq) for seq in range(4)] == [(-1, -1)] * 4


class Meeting(ToyEngine):
    """Its decodes wait for the other's."""

    barrier = threading.Barrier(2, timeout=10)

    def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
        if threading.current_thread() is not threading.main_thread():
            self.barrier.wait()
        return super().decode(slices)


def test_several_contexts_decode_at_the_same_time() -> None:
    engines = [Meeting(n_ctx=64, n_seq_max=2) for _ in range(2)]
    found = measure(engines, [1, 2], repeats=2)
    assert [(way.n_contexts, way.n_each, way.n_dialogues) for way in found] == [(2, 1, 2), (2, 2, 4)]


def test_what_fails_in_one_of_them_is_raised() -> None:
    class Failing(ToyEngine):
        def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
            if threading.current_thread() is not threading.main_thread():
                raise ComputeError("broken")
            return super().decode(slices)

    with pytest.raises(ComputeError, match="broken"):
        measure([ToyEngine(n_ctx=64), Failing(n_ctx=64)], [1])
