"""One conformance table over all policies, then what each of them keeps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from views import FRAME, USER, dropped, make_view, mask

from edge_sir.core.ledger import ROLES
from edge_sir.core.policy import LedgerView, Policy
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import BudgetError, ConfigError, SessionError
from edge_sir.policies import from_spec, names, policy_class

# ---- what holds for every policy ---------------------------------------------------------------

KEYS = ["", "n_sink=0", "n_recent=6", "n_recent=500", "decay=0.5", "seed=3", "n_sink=9,n_recent=1,decay=0.9"]
UNITS_KEYS = ["unit=message", "unit=sentence", "max_unit=1", "max_unit=5,unit=message,n_recent=3"]
SIR_KEYS = ["power=1", "power=0.05,reply_weight=0", "reply_weight=1,n_recent=3"]
EVICTING = [name for name in names() if policy_class(name).evicts]
SPECS = [f"{name}:{keys}" for name in EVICTING for keys in KEYS] + [f"units:{keys}" for keys in UNITS_KEYS]
SPECS += [f"sir:{keys}" for keys in SIR_KEYS]
N = 60


def random_view(seed: int, n_must: int) -> LedgerView:
    rng = np.random.default_rng(seed)
    cuts = {name: np.cumsum(rng.random(N) < share) for name, share in (("turn", 0.1), ("message", 0.2))}
    return make_view(
        n_must,
        turn_now=int(cuts["turn"][-1]) + 1,
        sentence=np.cumsum(rng.random(N) < 0.3),
        role=rng.integers(0, len(ROLES), N),
        surprisal=rng.exponential(2, N).round(),  # many ties
        entropy=rng.exponential(2, N),
        self_repeat=np.where(rng.random(N) < 0.3, np.nan, rng.exponential(2, N)),
        **cuts,
    )


def scenario(kind: str) -> tuple[LedgerView, np.ndarray, int]:
    """(view, protect, n_drop) by what is particular about it."""
    n_must, n_drop = {"at least 3": (3, 17), "one": (1, 1), "all that may": (N - 9, N - 9)}.get(kind, (20, 20))
    view, protect = random_view(len(kind), n_must), np.arange(N) < 9
    if kind == "unscored":
        columns = dict(view.columns) | {name: np.full(N, np.nan, np.float32) for name in SCORE_NAMES}
        view = LedgerView(columns, view.turn_now, view.epoch, n_must)
    if kind == "scattered":
        protect |= np.random.default_rng(3).random(N) < 0.4
    if kind == "no choice":
        protect[:] = True
        protect[np.random.default_rng(4).permutation(np.arange(9, N))[:n_drop]] = False
    return view, protect, n_drop


KINDS = ["plain", "at least 3", "one", "all that may", "unscored", "scattered", "no choice"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", SPECS)
def test_conformance(spec: str, kind: str) -> None:
    policy, (view, protect, n_drop) = from_spec(spec), scenario(kind)
    protect_before, columns_before = protect.copy(), {k: v.copy() for k, v in view.columns.items()}
    plan = policy.plan(view, n_drop, protect)

    assert view.n_must <= len(plan) <= n_drop
    assert plan.rows.tolist() == sorted(set(plan.rows.tolist()))
    assert plan.rows[-1] < N and not protect[plan.rows].any()
    assert plan.epoch == view.epoch and plan.why
    np.testing.assert_array_equal(protect, protect_before)
    for name, column in columns_before.items():
        np.testing.assert_array_equal(view[name], column)

    policy.plan(random_view(99, n_drop), n_drop, np.arange(N) < 9)  # leaves no trace in the policy
    for again in (policy, from_spec(spec)):
        np.testing.assert_array_equal(again.plan(view, n_drop, protect).rows, plan.rows)


@pytest.mark.parametrize("name", EVICTING)
def test_what_a_policy_needs_is_what_it_reads(name: str) -> None:
    """Score columns that are not in `needs` are never filled, so they must not matter."""
    policy, (view, protect, n_drop) = from_spec(name), scenario("plain")
    unread = {score: np.full(N, np.nan, np.float32) for score in SCORE_NAMES if score not in policy.needs}
    bare = LedgerView({**view.columns, **unread}, view.turn_now, view.epoch, view.n_must)
    assert policy.plan(bare, n_drop, protect).rows.tolist() == policy.plan(view, n_drop, protect).rows.tolist()


@pytest.mark.parametrize("name", EVICTING)
@pytest.mark.parametrize("n_fixed", [4, 9])
def test_n_recent_rows_at_the_tail_are_kept(name: str, n_fixed: int) -> None:
    """However low they score, and whatever is pinned besides the sinks; but room comes first."""
    falling = np.where(np.arange(N) < 9, -1, N - np.arange(N))
    view = make_view(20, turn=np.arange(N) // 5, surprisal=falling, entropy=falling, self_repeat=falling)
    protect = np.arange(N) < n_fixed
    assert max(dropped(f"{name}:n_recent=15", view, protect)) < N - 15
    assert len(dropped(f"{name}:n_recent={N - n_fixed - 19}", view, protect)) == 20


def test_only_the_papers_policies_make_room_once_per_turn() -> None:
    per_turn = {name for name in names() if policy_class(name).per_turn}
    assert per_turn == {"sirllm", "sirllm-published", "random", "interval"}


def test_keep_all_refuses_and_names_a_remedy() -> None:
    assert {*names()} - {*EVICTING} == {"keep-all"}
    with pytest.raises(BudgetError, match=r"60 tokens resident.*--policy sir"):
        from_spec("keep-all").plan(random_view(0, 1), 1, np.zeros(N, bool))


def test_too_few_unprotected_rows_are_a_session_error() -> None:
    with pytest.raises(SessionError, match="3 rows must go but only 2 may"):
        dropped("streaming", make_view(3, turn=[0] * 5), mask(5, 0, 1, 2))


# ---- what each one keeps -----------------------------------------------------------------------


def test_streaming_drops_the_oldest_of_what_may_go() -> None:
    assert dropped("streaming", make_view(3, turn=[0] * 9), mask(9, 0, 1, 3)) == [2, 4, 5]


@pytest.mark.parametrize(
    ("spec", "n_drop", "protected", "expected"),
    [
        ("interval", 4, (), [1, 3, 5, 7]),
        ("interval", 4, (0, 4), [2, 3, 6, 7]),  # of 1 2 3 5 6 7 8 stay 1, 5 and 8
        ("interval", 8, (), [1, 2, 3, 4, 5, 6, 7, 8]),
        ("interval:n_recent=3", 3, (), [1, 3, 4]),
    ],
)
def test_interval_keeps_even_distances(spec: str, n_drop: int, protected: tuple[int, ...], expected: list[int]) -> None:
    assert dropped(spec, make_view(n_drop, turn=[0] * 9), mask(9, *protected)) == expected


@pytest.mark.parametrize(("seed", "start"), [(0, 7), (5, 7), (0, 8)])
def test_random_keeps_the_highest_draws_of_its_seed_and_place(seed: int, start: int) -> None:
    lowest = np.argsort(np.random.default_rng((seed, start + 29)).random(30))[:10]
    view = make_view(10, turn=[0] * 30, born=list(range(start, start + 30)))
    assert dropped(f"random:n_sink=0,seed={seed}", view, mask(30)) == sorted(lowest.tolist())


SCORED: list[tuple[str, dict[str, Sequence[float]], int, list[int]]] = [
    ("entropy", {"entropy": [5, 1, 4, 1, 3, 9]}, 2, [1, 3]),
    ("entropy", {"entropy": [5, 1, 4, 1, 3, 9]}, 1, [3]),  # of equal ones the newer goes
    ("entropy:decay=0.5", {"entropy": [8, 7, 3, 2, 1], "turn": [0, 1, 2, 3, 3]}, 2, [0, 4]),
    ("entropy", {"entropy": [np.nan, 1, 2]}, 2, [1, 2]),  # what was not scored is kept
    ("sirllm:n_sink=0", {"surprisal": [5, 1, 4, 1, 3, 9]}, 2, [1, 3]),
    ("sirllm:n_sink=0", {"surprisal": [5, 1, 4, 1, 3, 9]}, 1, [3]),
    ("sirllm:n_sink=0", {"surprisal": [8, 7, 3, 2, 1], "turn": [0, 1, 2, 3, 3]}, 2, [3, 4]),
    ("sirllm:n_sink=0,decay=0.5", {"surprisal": [8, 7, 3, 2, 1], "turn": [0, 1, 2, 3, 3]}, 2, [0, 4]),
    ("sirllm:n_sink=0,decay=0.1", {"surprisal": [8, 7, 3, 2, 1], "turn": [0, 1, 2, 3, 3]}, 2, [0, 1]),
    ("sirllm-published:n_sink=0", {"surprisal": [1, 9, 9], "self_repeat": [9, 1, 5]}, 1, [1]),
    ("sirllm-published:n_sink=0,decay=0.5", {"self_repeat": [9, 1, 5], "turn": [0, 3, 3]}, 2, [0, 1]),
]


@pytest.mark.parametrize(("spec", "columns", "n_drop", "expected"), SCORED)
def test_the_lowest_scores_go(spec: str, columns: Any, n_drop: int, expected: list[int]) -> None:
    view = make_view(n_drop, turn_now=3, **columns)
    assert dropped(spec, view, np.zeros(len(view), bool)) == expected


@pytest.mark.parametrize("surprisal_of_pins", [0, 99])
def test_pins_do_not_compete_with_the_scores(surprisal_of_pins: float) -> None:
    surprisal = [0, surprisal_of_pins, surprisal_of_pins, 5, 7, 1, 6, 2, 3, 1]
    view = make_view(4, surprisal=surprisal)
    assert dropped("sirllm:n_sink=1", view, mask(10, 0, 1, 2)) == [5, 7, 8, 9]


def test_decay_keeps_order_within_a_turn() -> None:
    surprisal = np.random.default_rng(0).random(20)
    plans = [
        dropped(f"sirllm:n_sink=0,decay={decay}", make_view(9, turn_now=12, surprisal=surprisal), np.zeros(20, bool))
        for decay in (1, 0.7)
    ]
    assert plans[0] == plans[1] == sorted(np.argsort(surprisal)[:9].tolist())


# ---- units: they go or stay whole --------------------------------------------------------------------------

Unit = tuple[int, int, int, str]


def units_view(units: Sequence[Unit], n_must: int, turn_now: int = 0) -> LedgerView:
    """A view from (turn, message, sentence, text): a digit is its surprisal, `?` unscored, `[` and `]` markers."""
    rows = [(*unit[:3], char) for unit in units for char in unit[3]]
    return make_view(
        n_must,
        turn_now=turn_now,
        turn=[row[0] for row in rows],
        message=[row[1] for row in rows],
        sentence=[row[2] for row in rows],
        role=[FRAME if row[3] in "[]" else USER for row in rows],
        surprisal=[float(row[3]) if row[3].isdigit() else np.nan if row[3] == "?" else 9.0 for row in rows],
    )


def units_keep(units: Sequence[Unit], n_must: int, n_may: int, keys: str = "", turn_now: int = 0) -> str:
    """What stays of the text, with a bar between units."""
    view = units_view(units, n_must, turn_now)
    gone = set(dropped(f"units:{keys}", view, np.zeros(len(view), bool), n_may))
    kept, row = [], 0
    for unit in units:
        kept.append("".join(char for i, char in enumerate(unit[3], row) if i not in gone))
        row += len(unit[3])
    return "|".join(kept)


THREE: list[Unit] = [(0, 0, 0, "[55]"), (1, 1, 1, "[14]"), (2, 2, 2, "[99]")]
FINE: list[Unit] = [(0, 0, 0, "[22"), (0, 0, 1, "88]"), (0, 1, 2, "[66"), (0, 1, 3, "44]"), (1, 2, 4, "[77]")]
LONG: list[Unit] = [(0, 0, 0, "[33"), (0, 0, 1, "111"), (0, 0, 2, "222]"), (1, 1, 3, "[44]")]

UNITS: dict[str, tuple[list[Unit], int, int, str, str]] = {
    "the unit of the lowest mean goes as a whole": (THREE, 1, 4, "", "[55]||[99]"),
    "markers go with their unit": (THREE, 4, 4, "", "[55]||[99]"),
    "units go until there is room": (THREE, 5, 8, "", "||[99]"),
    "no further unit goes than must": (THREE, 4, 12, "", "[55]||[99]"),
    "a unit that need not go whole is thinned from its end": (THREE, 1, 1, "", "[55]|[1]|[99]"),
    "thinning takes content before markers": (THREE, 3, 3, "", "[55]|[|[99]"),
    "the second unit is thinned after the first went": (THREE, 5, 5, "", "[5]||[99]"),
    "markers are not valued": ([(0, 0, 0, "[[[[4]"), (1, 1, 1, "55")], 1, 6, "", "|55"),
    "the mean counts, not the sum": ([(0, 0, 0, "222222"), (1, 1, 1, "33")], 1, 6, "", "|33"),
    "markers alone go first": ([(0, 0, 0, "00"), (1, 1, 1, "[]"), (2, 2, 2, "11")], 1, 2, "", "00||11"),
    "unscored content goes first": ([(0, 0, 0, "11"), (1, 1, 1, "??")], 1, 2, "", "11|"),
    "what was scored speaks for its unit": ([(0, 0, 0, "55"), (1, 1, 1, "?9")], 1, 2, "", "|?9"),
    "of equal units the newer goes": ([(0, 0, 0, "55"), (1, 1, 1, "55")], 1, 2, "decay=1", "55|"),
    "units are turns": (FINE, 1, 12, "decay=1", "||||[77]"),
    "units are messages": (FINE, 1, 6, "unit=message,decay=1", "[22|88]|||[77]"),
    "units are sentences": (FINE, 1, 6, "unit=sentence,decay=1", "|88]|[66|44]|[77]"),
    "a long unit is cut at sentences": (LONG, 1, 4, "max_unit=4,decay=1", "[33||222]|[44]"),
    "short sentences share a part": (LONG, 1, 6, "max_unit=6,decay=1", "||222]|[44]"),
    "a long sentence is a part of its own": (LONG, 4, 7, "max_unit=2,decay=1", "[33|||[44]"),
    "recent rows are kept by their place": (THREE, 4, 4, "n_recent=8", "|[14]|[99]"),
    "age counts against a unit": ([(0, 0, 0, "99"), (5, 1, 1, "11")], 1, 2, "decay=0.5", "|11"),
    "without decay it does not": ([(0, 0, 0, "99"), (5, 1, 1, "11")], 1, 2, "decay=1", "99|"),
}


@pytest.mark.parametrize(("units", "n_must", "n_may", "keys", "kept"), UNITS.values(), ids=UNITS)
def test_units(units: list[Unit], n_must: int, n_may: int, keys: str, kept: str) -> None:
    assert units_keep(units, n_must, n_may, keys, turn_now=5) == kept


def test_units_values_what_stays_of_a_unit_by_that_alone() -> None:
    """A protected row is neither counted in its unit nor dropped with it."""
    view = units_view([(0, 0, 0, "[91]"), (1, 1, 1, "[33]")], 1)
    assert dropped("units:decay=1", view, mask(8, 1), 4) == [0, 2, 3]


# ---- from_spec ---------------------------------------------------------------------------------


def test_the_policies_are_those_of_the_design() -> None:
    expected = "entropy interval keep-all random sir sirllm sirllm-published streaming units"
    assert names() == expected.split()


@pytest.mark.parametrize("name", names())
def test_every_name_gives_a_policy_that_can_be_made_again_from_its_fields(name: str) -> None:
    policy = from_spec(name)
    assert isinstance(policy, policy_class(name))
    assert policy == from_spec(f"{name}:n_sink=4,seed=0") and policy != from_spec(f"{name}:n_sink=5")
    assert hash(policy) == hash(from_spec(f" {name}:"))


def test_values_get_the_type_of_their_field() -> None:
    policy: Any = from_spec("units:decay=0.5, n-sink = 2,unit=message,max_unit=7,")
    assert (policy.decay, policy.n_sink, policy.unit, policy.max_unit) == (0.5, 2, "message", 7)
    assert type(from_spec("sir:decay=1").decay) is float


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sirlm", "unknown policy 'sirlm'; did you mean 'sirllm'?"),
        ("sirllm_published", "did you mean 'sirllm-published'?"),
        ("Streaming", "did you mean 'streaming'?"),
        ("", "unknown policy '' (all: entropy, "),
        ("foo", "unknown policy 'foo' (all: entropy, "),
        ("sir:dcay=0.9", "policy 'sir' has no key 'dcay'; did you mean 'decay'?"),
        ("streaming:unit=turn", "policy 'streaming' has no key 'unit'; the policy 'units' has it: units:unit=..."),
        ("sir:unit=turn", "policy 'sir' has no key 'unit'; the policy 'units' has it: units:unit=..."),
        ("sir:max-unit=7", "policy 'sir' has no key 'max_unit'; the policy 'units' has it: units:max_unit=..."),
        ("sir:xyz=7", "policy 'sir' has no key 'xyz' (all: decay, "),
        ("sir:decay", "policy key 'decay' needs a value: sir:decay=..."),
        ("sir:decay=", "decay must be a number, not ''"),
        ("sir:decay=high", "decay must be a number, not 'high'"),
        ("sir:n_sink=1.5", "n_sink must be a whole number, not '1.5'"),
        ("sir:decay=0", "decay must be above 0 and at most 1, not 0.0"),
        ("sir:decay=1.01", "decay must be above 0 and at most 1"),
        ("sir:decay=nan", "decay must be above 0 and at most 1"),
        ("streaming:n_sink=-1", "n_sink must not be negative, not -1"),
        ("streaming:n_recent=-1", "n_recent must not be negative"),
        ("random:seed=-1", "seed must not be negative"),
        ("units:unit=word", "unit must be one of turn, message, sentence, not 'word'"),
        ("units:max_unit=0", "max_unit must be at least 1, not 0"),
        ("sir:power=0", "power must be above 0 and at most 1, not 0.0"),
        ("sir:reply_weight=2", "reply_weight must be between 0 and 1, not 2.0"),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_spec(spec)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_policy_is_a_frozen_value() -> None:
    policy: Policy = from_spec("sir")
    with pytest.raises(AttributeError):
        policy.decay = 0.1  # type: ignore[misc]
