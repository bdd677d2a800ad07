"""Ledger, plans and budget against naive twins in plain Python lists."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sir.core.budget import Budget
from edge_sir.core.ledger import COLUMNS, ROLES, TokenLedger
from edge_sir.core.plan import EvictionPlan, packing_moves, runs_of
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import BudgetError, SessionError, StalePlanError

quick = settings(deadline=None, max_examples=80)
FRAME, USER = ROLES.index("frame"), ROLES.index("user")

positions = st.lists(st.integers(0, 200), unique=True, max_size=40).map(sorted)


@st.composite
def positions_and_rows(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    pos = draw(positions)
    mask = draw(st.lists(st.booleans(), min_size=len(pos), max_size=len(pos)))
    return pos, [row for row, goes in enumerate(mask) if goes]


# ---- ledger ------------------------------------------------------------------------------------

operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 2**20), st.just(0)),
        st.tuples(st.just("update"), st.integers(0, 2**20), st.integers(0, 5)),
        st.tuples(st.just("renumber"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


def chosen(bits: int, n: int) -> list[int]:
    return [row for row in range(n) if bits >> row % 20 & 1]


def apply(ledger: TokenLedger, twin: list[dict[str, Any]], operation: tuple[str, int, int], born: int) -> None:
    """Does the same to the ledger and to a list of rows."""
    kind, a, b = operation
    if kind == "append":
        p0 = ledger.next_pos + b
        tokens = np.arange(born, born + a)
        values = {"pos": p0 + np.arange(a), "born": tokens, "turn": b, "pinned": tokens % 2 == 0}
        ledger.append(tokens, values | {"entropy": tokens / 2})
        for i in range(a):
            row = {"token": born + i, "pos": p0 + i, "born": born + i, "turn": b, "pinned": (born + i) % 2 == 0}
            zeros = {"message": 0, "sentence": 0, "word": 0, "role": 0, "recalled": False}
            twin.append(zeros | row | {"surprisal": None, "entropy": (born + i) / 2, "self_repeat": None})
    elif kind == "drop":
        rows = chosen(a, len(twin))
        ledger.drop(rows, ledger.epoch)
        twin[:] = [row for i, row in enumerate(twin) if i not in rows]
    elif kind == "update":
        rows = chosen(a, len(twin))
        ledger.update("role", np.array(rows, np.intp), b)
        for i in rows:
            twin[i]["role"] = b
    else:
        ledger.renumber(np.arange(len(ledger)))
        for i, row in enumerate(twin):
            row["pos"] = i


def rows_of(ledger: TokenLedger) -> list[dict[str, Any]]:
    columns = {name: column.tolist() for name, column in ledger.columns().items()}
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(ledger))]
    return [{k: None if v != v else v for k, v in row.items()} for row in rows]


@quick
@given(operations)
def test_ledger_does_what_a_list_of_rows_does(todo: list[tuple[str, int, int]]) -> None:
    ledger, twin = TokenLedger(200), []
    for born, operation in enumerate(todo):
        n_before, epoch = len(ledger), ledger.epoch
        apply(ledger, twin, operation, 10 * born)
        assert rows_of(ledger) == twin
        assert ledger.next_pos == (twin[-1]["pos"] + 1 if twin else 0)
        assert ledger.epoch > epoch or len(ledger) == n_before


def filled(n: int, capacity: int = 64) -> TokenLedger:
    ledger = TokenLedger(capacity)
    ledger.append(np.arange(n), {"pos": np.arange(n), "born": np.arange(n)})
    return ledger


def test_columns_have_the_declared_types_and_length() -> None:
    columns = filled(3).columns()
    assert {name: column.dtype for name, column in columns.items()} == {n: np.dtype(t) for n, t in COLUMNS}
    assert {len(column) for column in columns.values()} == {3}


def test_scores_that_were_not_given_are_nan() -> None:
    assert all(np.isnan(filled(2)[name]).all() for name in SCORE_NAMES)


def test_columns_are_read_only() -> None:
    ledger = filled(2)
    for column in (ledger["pos"], *ledger.columns().values()):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    ledger.update("pinned", slice(None), True)  # ... but not for the ledger itself
    assert ledger["pinned"].all()


@pytest.mark.parametrize(
    ("tokens", "values", "message"),
    [
        (np.arange(4), {"pos": np.arange(3, 7)}, "evict first"),
        ([1], {"pos": 3, "colour": 1}, "colour"),
        ([1], {"pos": 2}, "grow"),
        ([1, 2], {"pos": [4, 4]}, "grow"),
    ],
)
def test_a_refused_append_changes_nothing(tokens: Any, values: dict[str, Any], message: str) -> None:
    ledger = filled(3, capacity=6)
    before, epoch = rows_of(ledger), ledger.epoch
    with pytest.raises(SessionError, match=message):
        ledger.append(tokens, values)
    assert (rows_of(ledger), ledger.epoch) == (before, epoch)


@pytest.mark.parametrize("change", ["append", "drop"])
def test_a_plan_does_not_outlive_a_change(change: str) -> None:
    ledger = filled(5)
    plan = EvictionPlan(np.array([1]), ledger.epoch, "room")
    if change == "append":
        ledger.append([9], {"pos": 5})
    else:
        ledger.drop([4], ledger.epoch)
    before = rows_of(ledger)
    with pytest.raises(StalePlanError, match=f"epoch {plan.epoch}"):
        ledger.drop(plan.rows, plan.epoch)
    assert rows_of(ledger) == before


def test_a_plan_survives_what_changes_no_residents() -> None:
    ledger = filled(5)
    epoch = ledger.epoch
    ledger.update("role", slice(2, None), USER)
    ledger.renumber(np.arange(5) + 7)
    ledger.drop([0], epoch)
    assert ledger["pos"].tolist() == [8, 9, 10, 11]


# ---- plans -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[2, 1], [1, 1], [-1, 3]])
def test_a_plan_refuses_rows_out_of_order(rows: list[int]) -> None:
    with pytest.raises(SessionError, match="sorted, unique and not negative"):
        EvictionPlan(np.array(rows), 0, "room")


def test_a_plan_is_a_frozen_value() -> None:
    plan = EvictionPlan([1, 4], 3, "room")  # type: ignore[arg-type]
    assert len(plan) == 2 and plan.rows.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        plan.rows[0] = 0
    assert len(EvictionPlan(np.empty(0, np.int64), 0, "room")) == 0


@quick
@given(positions_and_rows())
def test_runs_hold_exactly_the_planned_positions(case: tuple[list[int], list[int]]) -> None:
    pos, rows = case
    runs = runs_of(rows, np.array(pos, np.int32))
    removed = [p for p in pos if any(p0 <= p < p1 for p0, p1 in runs)]
    assert removed == [pos[row] for row in rows]


@quick
@given(positions_and_rows())
def test_runs_are_as_few_as_can_be(case: tuple[list[int], list[int]]) -> None:
    """Between two runs something stays, or they would be one; and every run removes something."""
    pos, rows = case
    runs = runs_of(rows, np.array(pos, np.int32))
    stays = set(pos) - {pos[row] for row in rows}
    assert all(any(p1 <= p < q0 for p in stays) for (_, p1), (q0, _) in pairwise(runs))
    assert all(set(range(p0, p1)) & set(pos) for p0, p1 in runs)


@quick
@given(positions)
def test_moves_pack_without_collision(pos: list[int]) -> None:
    cells = {p: token for token, p in enumerate(pos)}
    for p0, p1, delta in packing_moves(np.array(pos, np.int32)):
        assert delta < 0 and p0 + delta >= 0
        moved = {p + delta: token for p, token in cells.items() if p0 <= p < p1}
        rest = {p: token for p, token in cells.items() if not p0 <= p < p1}
        assert moved and not moved.keys() & rest.keys()
        cells = rest | moved
    assert cells == dict(enumerate(range(len(pos))))


@quick
@given(positions)
def test_moves_are_as_few_as_can_be(pos: list[int]) -> None:
    """One for each distance that anything has to go."""
    assert len(packing_moves(np.array(pos, np.int32))) == len({p - i for i, p in enumerate(pos)} - {0})


# ---- budget ------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 300), st.booleans())
def test_need_is_what_a_loop_would_find(n_cells: int, n_resident: int, n_incoming: int, exact: bool) -> None:
    need = Budget(n_cells).need(n_resident, n_incoming, exact=exact)
    n_allowed = max(0, n_cells - n_incoming)
    n_must = next(n for n in range(n_resident + 1) if n_resident - n <= n_allowed)
    assert need.n_must == n_must
    if exact or n_must == 0:
        assert need.n_may == n_must
    else:
        n_left, is_small = n_resident - need.n_may, n_cells < 160
        assert need.n_may >= n_must and n_left * 100 >= (85 if is_small else 95) * n_allowed
        lower = (n_left - 1) * 100
        assert n_left == 0 or lower < 85 * n_allowed or (lower < 95 * n_allowed and n_allowed - n_left >= 8 * is_small)


@pytest.mark.parametrize("n_cells", [0, -5])
def test_a_budget_holds_something(n_cells: int) -> None:
    with pytest.raises(BudgetError, match=str(n_cells)):
        Budget(n_cells)


# ---- what comes back -----------------------------------------------------------------------------


def columns_at(ledger: TokenLedger, rows: list[int]) -> dict[str, NDArray[Any]]:
    return {name: column[rows].copy() for name, column in ledger.columns().items()}


def varied(n: int, capacity: int) -> TokenLedger:
    ledger = TokenLedger(capacity)
    at = np.arange(n)
    ledger.append(at + 100, {"pos": at, "born": at, "turn": at // 3, "pinned": at % 2 == 0, "surprisal": at / 2})
    return ledger


def test_rows_come_back_to_their_place_in_the_order_of_birth() -> None:
    ledger = varied(10, 12)
    before = columns_at(ledger, list(range(10)))
    lost = columns_at(ledger, [0, 4, 5, 9])
    ledger.drop([0, 4, 5, 9], ledger.epoch)
    epoch = ledger.epoch
    ledger.insert(lost, range(10))
    assert ledger.epoch == epoch + 1 and len(ledger) == 10
    for name, column in before.items():
        np.testing.assert_array_equal(ledger[name], column, err_msg=name)
    ledger.drop([3], ledger.epoch)
    ledger.insert({name: column[3:4] for name, column in before.items()}, np.arange(10) * 5)
    assert ledger["pos"].tolist() == list(range(0, 50, 5)) and ledger["born"].tolist() == list(range(10))


def test_rows_that_cannot_be_inserted_change_nothing() -> None:
    ledger = varied(10, 12)
    lost = columns_at(ledger, [4, 5, 6])
    ledger.drop([4, 5], ledger.epoch)
    before, epoch = columns_at(ledger, list(range(8))), ledger.epoch
    two = {name: column[:2] for name, column in lost.items()}
    for rows, pos, problem in (
        (lost, range(11), "must not be resident"),
        ({name: column[::-1] for name, column in two.items()}, range(10), "order of birth"),
        (two, range(9), "must grow"),
        (two, [*range(9), 8], "must grow"),
        ({name: np.repeat(column[:1], 5) for name, column in lost.items()}, range(13), "do not fit"),
    ):
        with pytest.raises(SessionError, match=problem):
            ledger.insert(rows, pos)
        np.testing.assert_equal(columns_at(ledger, list(range(8))), before)
    assert ledger.epoch == epoch
