"""`sir`: the word with the least marginal value to its turn goes first."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from views import FRAME, USER, dropped, make_view, mask

from edge_sir.core.ledger import ROLES
from edge_sir.policies import from_spec

A, M = ROLES.index("assistant"), FRAME

MARGINAL: dict[str, tuple[str, int, dict[str, Sequence[float]], list[int]]] = {
    # V = sqrt(sum): the 4 beside a 9 is worth sqrt(13) - 3 = 0.61, the lone 1 is worth 1.
    "the second word of a turn is worth less than the only one of another": (
        "power=0.5",
        1,
        {"surprisal": [9, 4, 1], "turn": [0, 0, 1]},
        [1],
    ),
    "with power 1 tokens stand for themselves": ("power=1", 1, {"surprisal": [9, 4, 1], "turn": [0, 0, 1]}, [2]),
    # sqrt(16) - sqrt(9) = 1 beats sqrt(1) - 0 = 1 by nothing: of equal ones the newer goes.
    "of equal tokens the newer goes": ("power=0.5", 1, {"surprisal": [9, 7, 1], "turn": [0, 0, 1]}, [2]),
    "markers go first, the newer before the older": (
        "",
        2,
        {"surprisal": [9, 9, 1, 9], "turn": [0, 0, 1, 1], "role": [M, USER, USER, M]},
        [0, 3],
    ),
    # 6 * 0.5 = 3 is less than 4.
    "what the model said counts half": ("", 1, {"surprisal": [6, 4], "turn": [0, 1], "role": [A, USER]}, [0]),
    "unless told otherwise": ("reply_weight=1", 1, {"surprisal": [6, 4], "turn": [0, 1], "role": [A, USER]}, [1]),
    # Ages 3 and 1: sqrt(9) / 8 = 0.375, sqrt(1) / 2 = 0.5.
    "age counts": ("power=0.5,decay=0.5", 1, {"surprisal": [9, 1], "turn": [0, 2]}, [0]),
    "what was not scored is kept": ("", 1, {"surprisal": [np.nan, 9, 8], "turn": [0, 0, 1]}, [2]),
    # 6.5 / sqrt(2) = 4.6 against 4: by themselves the word's tokens of 6 and 0.5 nats would stand around it.
    "a word is valued by all its tokens": ("power=1", 1, {"surprisal": [9, 6, 0.5, 4], "word": [1, 2, 2, 3]}, [3]),
    "and goes as a whole": ("power=1", 2, {"surprisal": [9, 2, 0.5, 4], "word": [1, 2, 2, 3]}, [1, 2]),
    "a long word costs more cells": ("power=1", 1, {"surprisal": [9, 3, 3, 5], "word": [1, 2, 2, 3]}, [2]),
    "unless that is no matter": (
        "power=1,length_power=0",
        1,
        {"surprisal": [9, 3, 3, 5], "word": [1, 2, 2, 3]},
        [3],
    ),
    "a turn loses its least surprising word first": ("", 2, {"surprisal": [2, 8, 1, 5], "turn": [0] * 4}, [0, 2]),
}


@pytest.mark.parametrize(("keys", "n", "columns", "expected"), MARGINAL.values(), ids=MARGINAL)
def test_sir(keys: str, n: int, columns: dict[str, Sequence[float]], expected: list[int]) -> None:
    keys = ",".join(filter(None, ["n_sink=0", "" if "decay" in keys else "decay=1", keys]))
    n_rows = len(columns["surprisal"])
    view = make_view(n, turn_now=3, **{"role": [USER] * n_rows, "turn": [0] * n_rows, **columns})
    assert dropped(f"sir:{keys}", view, mask(len(view))) == expected


@pytest.mark.parametrize(("n_must", "expected"), [(1, [3]), (2, [2, 3])])
def test_the_word_at_the_cut_is_torn_only_where_it_must_be(n_must: int, expected: list[int]) -> None:
    surprisal = [9, 3, 3, 1]
    view = make_view(n_must, turn_now=1, surprisal=surprisal, word=[1, 2, 2, 3], role=[USER] * 4)
    plan = from_spec("sir:n_sink=0,power=1,decay=1").plan(view, 2, mask(4))
    assert plan.rows.tolist() == expected
    assert plan.cut == pytest.approx(6 / 2**0.5)  # of the word that stays, or of what is left of it


@pytest.mark.parametrize(
    ("keys", "n_newest"), [("", 2), ("recent=0", 0), ("recent=0.5", 16), ("n_recent=3", 3), ("n_recent=1", 2)]
)
def test_a_share_of_the_cells_stays_for_being_new(keys: str, n_newest: int) -> None:
    view = make_view(1, turn_now=1, surprisal=np.arange(32.0, 0.0, -1.0), role=[USER] * 32)  # the newest is worth least
    spec = "sir:" + ",".join(filter(None, ["n_sink=0", keys]))
    assert dropped(spec, view, mask(32)) == [31 - n_newest]


@pytest.mark.parametrize("power", [0.1, 0.3, 0.9])
def test_sir_drops_what_lowers_the_value_of_all_turns_least(power: float) -> None:
    """Of a concave sum, taking the smallest margins is best: no other choice of as many rows keeps more value."""
    rng = np.random.default_rng(0)
    turn, surprisal = np.sort(rng.integers(0, 3, 9)), rng.exponential(3, 9)
    view = make_view(4, turn_now=3, turn=turn, role=[USER] * 9, surprisal=surprisal)

    def value(gone: Sequence[int]) -> float:
        kept = np.delete(np.arange(9), gone)
        return sum(surprisal[kept[turn[kept] == t]].sum() ** power for t in range(3))

    chosen = dropped(f"sir:n_sink=0,decay=1,power={power}", view, mask(9))
    assert value(chosen) == pytest.approx(max(value(gone) for gone in itertools.combinations(range(9), 4)))
