"""What may go, what may not, and when making room is refused."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.core.budget import Budget
from edge_sir.core.ledger import ROLES, TokenLedger
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import LedgerView, Mask, Policy
from edge_sir.core.room import MIN_TURN, Room
from edge_sir.errors import BudgetError, SessionError
from edge_sir.policies import from_spec

USER, FRAME = ROLES.index("user"), ROLES.index("frame")


@dataclass(frozen=True, kw_only=True)
class Greedy(Policy):
    """Drops the oldest rows, all that it may, and notes what it was asked for."""

    asked: list[tuple[int, int, list[bool]]] = field(default_factory=list)

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        self.asked.append((view.n_must, n_drop, protect.tolist()))
        return EvictionPlan(np.flatnonzero(~protect)[:n_drop], view.epoch, "room")


@dataclass(frozen=True, kw_only=True)
class PerTurn(Greedy):
    per_turn: ClassVar[bool] = True


def make_room(
    turns: Sequence[int] | np.ndarray,
    n_cells: int,
    policy: Policy,
    *,
    roles: Any = USER,
    pinned: Any = False,
    capacity: int = 0,
) -> Room:
    ledger = TokenLedger(max(n_cells, len(turns), capacity))
    n = np.arange(len(turns))
    ledger.append(n, {"pos": n, "born": n, "turn": turns, "role": roles, "pinned": pinned})
    return Room(ledger, policy, Budget(n_cells))


def survivors(room: Room, plan: EvictionPlan | None) -> list[int]:
    gone = [] if plan is None else plan.rows
    return np.setdiff1d(np.arange(len(room.ledger)), gone).tolist()


# ---- how much ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Greedy(), PerTurn()])
def test_nothing_goes_while_there_is_room(policy: Greedy) -> None:
    assert make_room([1] * 60, 100, policy).plan(40, 2, None) is None
    assert policy.asked == []


# 95 % of what the budget allows stays; of less than 160 cells 8 go if 85 % stay.
@pytest.mark.parametrize(
    ("n_cells", "n", "n_kept"), [(400, 20, 361), (160, 1, 152), (159, 1, 150), (100, 20, 72), (36, 1, 30)]
)
def test_a_chunk_leaves_the_low_water_mark(n_cells: int, n: int, n_kept: int) -> None:
    policy = Greedy()
    room = make_room([1] * n_cells, n_cells, policy)
    kept = survivors(room, room.plan(n, 2, None))
    assert policy.asked[0][:2] == (n, n_cells - n_kept)
    assert len(kept) == n_kept


def test_a_whole_turn_is_reserved_once_and_exactly() -> None:
    policy = PerTurn()
    room = make_room([1] * 90, 100, policy)
    assert len(survivors(room, room.plan(5, 2, 45))) == 55
    assert policy.asked[0][:2] == (35, 35)


def test_a_whole_turn_that_fits_costs_nothing() -> None:
    assert make_room([1] * 55, 100, PerTurn()).plan(5, 2, 45) is None


def test_a_policy_that_evicts_in_chunks_reserves_only_the_chunk() -> None:
    assert make_room([1] * 90, 100, Greedy()).plan(5, 2, 45) is None


@pytest.mark.parametrize(("n", "n_expected"), [(1, 22), (31, 22), (32, 22), (40, 30)])
def test_an_overlong_turn_makes_room_in_chunks(n: int, n_expected: int) -> None:
    policy = PerTurn()
    make_room([1] * 90, 100, policy).plan(n, 2, 97)  # 97 and four sinks exceed 100
    assert policy.asked[0][:2] == (n_expected, n_expected)


def test_the_longest_turn_that_fits_is_reserved_as_a_whole() -> None:
    policy = PerTurn()
    room = make_room([1] * 90, 100, policy)
    assert survivors(room, room.plan(5, 2, 96)) == [0, 1, 2, 3]


def test_inside_a_turn_room_is_made_in_chunks_and_only_when_it_is_full() -> None:
    policy = PerTurn()
    room = make_room([1] * 50 + [2] * 50, 100, policy)
    assert len(survivors(room, room.plan(1, 2, None))) == 68
    assert make_room([1] * 50 + [2] * 49, 100, policy).plan(1, 2, None) is None


# ---- what may not go ---------------------------------------------------------------------------


def test_the_running_turn_stays_while_older_turns_suffice() -> None:
    room = make_room([0] * 10 + [1] * 50 + [2] * 40, 100, Greedy())
    kept = survivors(room, room.plan(10, 2, None))
    assert {*range(4), *range(60, 100)} <= set(kept)


def test_a_turn_of_over_half_the_cells_competes_but_for_its_newest_part() -> None:
    policy = Greedy()
    room = make_room([0] * 10 + [1] * 20 + [2] * 70, 100, policy)
    room.plan(26, 2, None)
    assert np.flatnonzero(policy.asked[0][2]).tolist() == [*range(4), *range(75, 100)]


def test_an_overlong_turn_keeps_its_markers_and_its_newest_part() -> None:
    roles = np.full(100, USER)
    roles[[10, 11, 60]] = FRAME
    policy = Greedy()
    room = make_room([0] * 4 + [1] * 96, 100, policy, roles=roles)
    kept = survivors(room, room.plan(30, 1, None))
    assert {0, 1, 2, 3, 10, 11, 60, *range(75, 100)} <= set(kept)
    protected = policy.asked[0][2]
    assert sum(protected) == 4 + 3 + 25  # the newest quarter of the budget, no more


def test_a_turn_of_markers_alone_gives_them_up() -> None:
    room = make_room([1] * 100, 100, Greedy(), roles=FRAME)
    kept = survivors(room, room.plan(30, 1, None))
    assert len(kept) <= 70 and {0, 1, 2, 3, *range(75, 100)} <= set(kept)


def test_an_overlong_turn_gives_up_older_turns_first_where_the_policy_does() -> None:
    room = make_room([0] * 4 + [1] * 6 + [2] * 90, 100, Greedy())
    assert not {4, 5, 6, 7, 8, 9} & set(survivors(room, room.plan(30, 2, None)))


def test_the_policy_cannot_change_what_is_protected() -> None:
    class Vandal(Greedy):
        def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
            protect[:] = False
            return EvictionPlan(np.arange(n_drop), view.epoch, "room")

    with pytest.raises(SessionError, match="protected"):
        make_room([1] * 100, 100, Vandal()).plan(10, 2, None)


@st.composite
def rooms(draw: st.DrawFn) -> tuple[Room, int, int | None]:
    n, rng = draw(st.integers(0, 80)), np.random.default_rng(draw(st.integers(0, 2**32)))
    turns = np.sort(rng.integers(0, 4, n))
    roles = np.where(rng.random(n) < draw(st.floats(0, 1)), USER, FRAME)
    pinned = (rng.random(n) < draw(st.floats(0, 1))) & (turns < 3)
    name = draw(st.sampled_from(["sir", "sirllm", "streaming", "interval", "random"]))
    room = make_room(turns, 80, from_spec(f"{name}:n_sink={draw(st.integers(0, 6))}"), roles=roles, pinned=pinned)
    return room, draw(st.integers(1, room.slice_limit())), draw(st.none() | st.integers(1, 200))


@settings(deadline=None, max_examples=150)
@given(rooms())
def test_every_plan_makes_the_room_and_keeps_what_is_fixed(case: tuple[Room, int, int | None]) -> None:
    room, n, n_whole_turn = case
    n_before, running = len(room.ledger), set(np.flatnonzero(room.ledger["turn"] == 3))
    kept = survivors(room, room.plan(n, 3, n_whole_turn))
    assert len(kept) + n <= 80
    assert set(np.flatnonzero(room.fixed())) <= set(kept)
    if room.policy.per_turn or len(kept) == n_before:
        return
    assert len(kept) * 100 >= 85 * (80 - n)
    n_loose_old = int((~room.fixed() & (room.ledger["turn"] != 3)).sum())
    is_long = len(running) + n > 40
    assert is_long or running <= set(kept) or n_before + n - 80 > n_loose_old


# ---- what does not fit -------------------------------------------------------------------------


def remedy(error: pytest.ExceptionInfo[BudgetError]) -> int:
    """The budget that the message recommends."""
    assert "\n" not in str(error.value)
    found = re.search(r"--budget (\d+) or more", str(error.value))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("n_sink", [0, 4, 50])
def test_a_budget_without_room_for_a_turn_is_refused_with_the_least_that_works(n_sink: int) -> None:
    policy = Greedy(n_sink=n_sink)
    with pytest.raises(BudgetError, match="a budget of 31 cells is too small") as error:
        make_room([], 31, policy).check_budget()
    least = remedy(error)
    assert least == n_sink + MIN_TURN
    make_room([], least, policy).check_budget()
    with pytest.raises(BudgetError):
        make_room([], least - 1, policy).check_budget()


@pytest.mark.parametrize(("n_resident", "n_pinned"), [(0, 0), (2, 0), (10, 0), (10, 7)])
def test_a_pin_that_does_not_fit_is_refused_with_the_least_that_works(n_resident: int, n_pinned: int) -> None:
    def room(n_cells: int) -> Room:
        pinned = np.arange(n_resident) < n_pinned
        return make_room([0] * n_resident, n_cells, Greedy(), pinned=pinned, capacity=200)

    with pytest.raises(BudgetError, match=r"the poem \(90 cells\) does not fit into 100 cells: \d+ would") as error:
        room(100).check_pins(90, "the poem")
    least = remedy(error)
    # Sinks that are not resident yet may be the pinned tokens themselves.
    n_fixed = max(min(n_resident, 4), n_pinned)
    assert least == n_fixed + 90 + MIN_TURN
    room(least).check_pins(90, "the poem")
    with pytest.raises(BudgetError):
        room(least - 1).check_pins(90, "the poem")


def test_missing_sinks_count_when_pins_are_checked() -> None:
    with pytest.raises(BudgetError):
        make_room([], 35, Greedy()).check_pins(1, "it")
    make_room([], 36, Greedy()).check_pins(1, "it")


def test_all_complaints_about_too_few_cells_name_the_same_budget() -> None:
    room = make_room([0] * 40, 100, Greedy(), pinned=np.arange(40) < 20)
    with pytest.raises(BudgetError, match="a budget of 5 cells is too small") as by_budget:
        room.check_budget(5)
    with pytest.raises(BudgetError, match="or unpin something") as by_policy:
        make_room([0] * 40, 50, Greedy(), pinned=np.arange(40) < 20, capacity=50).check_pins(0, "it", "unpin something")
    assert remedy(by_budget) == remedy(by_policy) == 20 + MIN_TURN
    room.check_budget(20 + MIN_TURN)


def test_nothing_coming_in_makes_just_the_room_that_is_missing() -> None:
    for policy in (Greedy(), from_spec("sirllm")):
        room = make_room([0] * 90, 60, policy, capacity=100)
        assert len(survivors(room, room.plan(0, 2, None))) == 60


def test_tokens_that_do_not_fit_beside_the_pins_are_refused() -> None:
    room = make_room([1] * 95, 100, Greedy(), pinned=True)
    with pytest.raises(BudgetError, match=r"95 of 100 cells are fixed .* 6 tokens do not fit .* unpin .* --budget"):
        room.plan(6, 2, None)
    assert room.plan(5, 2, None) is None


@pytest.mark.parametrize(("n_pinned", "limit"), [(0, 48), (50, 25), (99, 1), (100, 1)])
def test_a_slice_takes_at_most_half_of_what_is_not_fixed(n_pinned: int, limit: int) -> None:
    room = make_room([1] * 100, 100, Greedy(), pinned=np.arange(100) < n_pinned)
    assert room.slice_limit() == limit


def test_keep_all_refuses_only_when_the_context_is_full() -> None:
    room = make_room([1] * 90, 100, from_spec("keep-all"), pinned=True)
    room.check_pins(99, "a pin costs nothing where all stays")
    assert room.slice_limit() == 100
    assert room.plan(10, 2, None) is None
    with pytest.raises(BudgetError, match="keep-all: the context is full"):
        room.plan(11, 2, None)


# ---- policies that break their contract --------------------------------------------------------

BROKEN: dict[str, list[int]] = {
    "too few": list(range(50, 69)),
    "too many": list(range(4, 37)),
    "nothing": [],
    "a sink": [0, *range(50, 69)],
    "a pin": [40, *range(50, 69)],
    "the running turn": [*range(50, 69), 99],
    "no such row": [*range(50, 69), 100],
}


@pytest.mark.parametrize("rows", BROKEN.values(), ids=BROKEN)
def test_a_policy_that_breaks_its_contract_is_named(rows: list[int]) -> None:
    class Broken(Greedy):
        def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
            assert (view.n_must, n_drop) == (20, 28)
            return EvictionPlan(np.array(rows, np.int64), view.epoch, "room")

    room = make_room([0] * 80 + [2] * 20, 100, Broken(), pinned=np.arange(100) == 40)
    with pytest.raises(SessionError, match="Broken"):
        room.plan(20, 2, None)
    assert len(room.ledger) == 100
