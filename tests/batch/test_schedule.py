"""What is done next, by exact order; and that every dialogue gets its turn, whatever comes."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.batch.schedule import Join, Phase, Running, Step, Waiting, schedule


def waiting(n_cells: int = 100, opening: str = "") -> Waiting:
    return Waiting(n_cells, opening)


def running(seq: int, phase: Phase = "writing", n_next: int = 1, opening: str = "", n_cells: int = 100) -> Running:
    return Running(seq, n_cells, opening, phase, 0 if phase == "over" else n_next)


def step(waits: list[Waiting], runs: list[Running], *, n_seq: int = 4, n_cells: int = 400, n_batch: int = 64) -> Step:
    return schedule(waits, runs, n_seq=n_seq, n_cells=n_cells, n_batch=n_batch)


# ---- who begins --------------------------------------------------------------------------------


def test_who_waits_begins_in_the_lowest_free_sequence() -> None:
    assert step([waiting()] * 2, [running(1)]) == Step((), (Join(0, 0, None), Join(1, 2, None)))


def test_nobody_begins_without_a_sequence() -> None:
    assert step([waiting()], [running(seq) for seq in range(4)]) == Step(decodes=(0, 1, 2, 3))


def test_nobody_begins_whose_budget_does_not_fit_beside_the_others() -> None:
    assert step([waiting(150)], [running(0, n_cells=250)]).joins == (Join(0, 1, None),)
    assert step([waiting(151)], [running(0, n_cells=250)]) == Step(decodes=(0,))


def test_a_large_one_is_not_passed_by_small_ones_that_came_later() -> None:
    assert step([waiting(300), waiting(10)], [running(0, n_cells=150)]) == Step(decodes=(0,))


def test_the_cells_of_those_that_begin_count_for_those_behind_them() -> None:
    assert step([waiting(200)] * 3, []).joins == (Join(0, 0, None), Join(1, 1, None))


# ---- who ends ----------------------------------------------------------------------------------


def test_who_is_over_ends_before_anything_is_decoded() -> None:
    assert step([], [running(0), running(1, "over")]) == Step((1,))


def test_sequence_and_cells_of_one_that_ends_are_free_in_the_same_step() -> None:
    full = [running(seq) for seq in (0, 1, 3)] + [running(2, "over")]
    assert step([waiting()], full) == Step((2,), (Join(0, 2, None),))


# ---- what openings share -----------------------------------------------------------------------


def test_of_those_with_one_opening_the_first_reads_it_and_the_others_wait_for_it() -> None:
    some = [waiting(opening="a"), waiting(opening="a"), waiting(opening="b"), waiting()]
    assert step(some, []).joins == (Join(0, 0, None), Join(2, 1, None), Join(3, 2, None))
    assert step(some[:2], [running(0, "opening", opening="a", n_next=9)]) == Step(decodes=(0,))


def test_an_opening_that_is_there_is_shared_by_all_who_wait() -> None:
    joins = step([waiting(opening="a")] * 2, [running(3, "reading", opening="a")]).joins
    assert joins == (Join(0, 0, 3), Join(1, 1, 3))


def test_the_opening_of_one_that_ends_stays_where_it_is() -> None:
    over = [running(0, "over", opening="b"), running(2, "over", opening="a")]
    assert step([waiting(opening="a"), waiting(opening="b")], over) == Step((0, 2), (Join(0, 2, 2), Join(1, 0, 0)))
    assert step([waiting(opening="a")] * 2, over, n_seq=3).joins == (Join(0, 2, 2), Join(1, 1, 2))


def test_who_reads_its_own_opening_takes_a_sequence_that_holds_none() -> None:
    over = [running(0, "over", opening="a")]
    assert step([waiting(opening="b"), waiting(opening="a")], over).joins == (Join(0, 1, None), Join(1, 0, 0))
    assert step([waiting(opening="b"), waiting(opening="a")], over, n_seq=1).joins == (Join(0, 0, None),)


def test_an_opening_that_is_overwritten_is_not_shared_any_more() -> None:
    over = [running(0, "over", opening="a")]
    assert step([waiting(opening="b"), waiting(opening="a")], over, n_seq=2, n_cells=400).joins[1].like == 0
    full = [running(1, n_cells=100)]
    assert step([waiting(opening="b"), waiting(opening="a")], over + full, n_seq=2).joins == (Join(0, 0, None),)


# ---- what is decoded ---------------------------------------------------------------------------


def test_who_writes_comes_first_and_who_reads_fills_what_is_left() -> None:
    some = [running(0, "reading", 40), running(1), running(2, "reading", 30), running(3, "opening", 20)]
    assert step([], some).decodes == (1, 0, 3)


def test_with_streams_a_longer_slice_is_a_decode_of_its_own_and_comes_before_single_tokens() -> None:
    runs = [running(0), running(1, "reading", 30), running(2, "opening", 9), running(3, "reading", 1)]
    decodes = []
    for _ in range(3):
        done = schedule([], runs, n_seq=4, n_cells=400, n_batch=64, streams=True).decodes
        decodes.append(done)
        runs = [replace(one, n_next=1) if one.seq in done else one for one in runs]
    assert decodes == [(1,), (2,), (0, 1, 2, 3)]
    assert step([], [running(0), running(1, "reading", 30)]).decodes == (0, 1)


def test_a_slice_is_not_cut() -> None:
    assert step([], [running(0, "reading", 64), running(1)]).decodes == (1,)
    assert step([], [running(0, "reading", 64), running(1, "reading", 64)]).decodes == (0,)


def test_of_few_that_write_only_so_many_do_together_as_was_measured() -> None:
    def decodes(*runs: Running, streams: bool = False) -> tuple[int, ...]:
        return schedule([], runs, n_seq=4, n_cells=400, n_batch=64, streams=streams, at_once=(0, 1, 1, 2)).decodes

    assert decodes(running(2), running(0)) == (2,)  # who came first
    assert decodes(running(2), running(0), running(1)) == (2, 0)
    assert decodes(running(2), running(0), running(1), running(3)) == (2, 0, 1, 3)  # of four nothing is said
    assert decodes(running(2, "reading"), running(0)) == (0,)
    assert decodes(running(2), running(0), streams=True) == (2,)
    assert decodes() == ()


def test_beside_a_longer_slice_all_write() -> None:
    runs = [running(0), running(1), running(2, "reading", 30)]
    assert schedule([], runs, n_seq=4, n_cells=400, n_batch=64, at_once=(0, 1, 1, 1)).decodes == (0, 1, 2)
    runs[2] = running(2, "reading", 64)  # which does not fit beside them
    assert schedule([], runs, n_seq=4, n_cells=400, n_batch=64, at_once=(0, 1, 1, 1)).decodes == (0,)


# ---- anything ----------------------------------------------------------------------------------


def after(one: Running) -> Running:
    """The same once its slice is decoded."""
    following: dict[Phase, Phase] = {"opening": "reading", "reading": "writing", "writing": "over"}
    return replace(one, phase=following[one.phase], n_next=int(one.phase != "writing"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_all_who_come_are_served_and_cells_and_sequences_are_never_given_twice(data: st.DataObject) -> None:
    n_seq, n_slice = data.draw(st.integers(1, 4)), 16
    n_cells, n_batch = 300, n_slice + n_seq
    waits = data.draw(st.lists(st.builds(Waiting, st.integers(50, 300), st.sampled_from(["", "a", "b"])), max_size=8))
    left, runs, n_ended = list(waits), list[Running](), 0
    while left or runs:
        now = step(left[:n_seq], runs, n_seq=n_seq, n_cells=n_cells, n_batch=n_batch)
        assert bool(now.decodes) != bool(now.ends or now.joins)  # something is done, so that this comes to an end
        held = {one.seq: one.opening for one in runs if one.phase != "opening"}
        runs = [one for one in runs if one.seq not in now.ends]
        n_ended += len(now.ends)
        for join in now.joins:
            new = left[join.waiting]
            assert join.seq not in {one.seq for one in runs}
            assert join.like is None or held[join.like] == new.opening != ""
            held[join.seq] = "" if join.like is None else new.opening
            phase: Phase = "opening" if new.opening and join.like is None else "reading"
            runs.append(Running(join.seq, new.n_cells, new.opening, phase, data.draw(st.integers(1, n_slice))))
        left = [one for i, one in enumerate(left) if i not in {join.waiting for join in now.joins}]
        assert sum(one.n_cells for one in runs) <= n_cells
        decoded = [one for one in runs if one.seq in now.decodes]
        assert sum(one.n_next for one in decoded) <= n_batch
        runs = [after(one) if one in decoded else one for one in runs]
    assert n_ended == len(waits)
