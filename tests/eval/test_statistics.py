"""Intervals and tests against published values, arithmetic done by hand, and data that break formulas."""

import importlib.util
import math
from collections.abc import Sequence

import numpy as np
import pytest

from edge_sir.errors import UserError
from edge_sir.eval.report.stats import Estimate, bootstrap_mean, bootstrap_ratio, estimate_mean, mcnemar, wilson


@pytest.mark.parametrize(
    ("n_right", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3 (score without correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(n_right: int, n: int, low: float, high: float) -> None:
    assert wilson(n_right, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_by_hand() -> None:
    # p = 1/2, n = 10, z = 1.959964, z^2 = 3.841459: centre (0.5 + 3.841459/20) / (1 + 0.3841459) = 0.5,
    # half width sqrt(0.25/10 + 3.841459/400) * 1.959964 / 1.3841459 = 0.1860274 * 1.4160098 = 0.263417.
    half = math.sqrt(0.025 + 3.841459 / 400) * 1.959964 / 1.3841459
    assert wilson(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert half == pytest.approx(0.2634, abs=1e-4)


def test_wilson_keeps_a_width_when_all_were_right() -> None:
    # All of n right: low = n / (n + z^2) = 4 / 7.841459.
    assert wilson(4, 4) == pytest.approx((4 / 7.841459, 1.0), abs=1e-6)
    assert wilson(1, 1) == pytest.approx((1 / 4.841459, 1.0), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    return (
        [True] * (both + first) + [False] * (second + neither),
        [True] * both + [False] * first + [True] * second + [False] * neither,
    )


def test_mcnemar_gives_the_published_p() -> None:
    # Agresti, Categorical Data Analysis: the Prime Minister's approval, 794, 150, 86, 570. The exact p is twice the
    # binomial tail P(X <= 86) of 236 halves; the chi-square of (150 - 86)^2 / 236 = 17.36 gives 3.1e-5.
    p = mcnemar(*pairs(794, 150, 86, 570))
    tail = sum(math.comb(236, k) for k in range(87)) / 2**236
    assert p == pytest.approx(2 * tail, rel=1e-9)
    assert p == pytest.approx(3.716e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (5, 0, 2 / 32),
        (0, 6, 2 / 64),
        (9, 1, 2 * (1 + 10) / 1024),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand_counts_only_what_differs(first: int, second: int, p: float) -> None:
    assert mcnemar(*pairs(7, first, second, 4)) == pytest.approx(p)
    assert mcnemar(*pairs(0, second, first, 0)) == pytest.approx(p)


def test_mcnemar_of_nothing() -> None:
    assert mcnemar([], []) == 1.0


def test_bootstrap_agrees_with_the_normal_interval_of_many() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = ends(bootstrap_mean(list(values), range(400)))
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_draws_dialogues_not_questions() -> None:
    # Ten dialogues of 40 equal answers are ten observations: sqrt(40) = 6.3 times as wide as 400 would be.
    means = np.random.default_rng(2).normal(size=10)
    values = np.repeat(means, 40)
    low, high = ends(bootstrap_mean(list(values), np.repeat(np.arange(10), 40).tolist()))
    as_ten = ends(bootstrap_mean(list(means), range(10)))
    as_many = ends(bootstrap_mean(list(values), range(400)))
    assert (low, high) == pytest.approx(as_ten)
    assert (high - low) / (as_many[1] - as_many[0]) == pytest.approx(math.sqrt(40), rel=0.15)


def test_bootstrap_weighs_questions_not_dialogues() -> None:
    # Ten dialogues of one 0, ten of nine 1s: 0.9 of the questions. Of 20 dialogues drawn 15 have a 0 with
    # P(X >= 15) = 0.0207, so the 2.5 % end is near 14 of them, 54 / 68 = 0.79; the mean of dialogues would be 0.5.
    clusters = [*range(10), *(10 + i for i in range(10) for _ in range(9))]
    low, high = ends(bootstrap_mean([0.0] * 10 + [1.0] * 90, clusters))
    assert 0.7 < low < 0.85 and 0.9 < high < 1.0


def test_bootstrap_of_a_ratio_is_paired() -> None:
    # Equal answers have the ratio 1 in every draw, and half of each the ratio a half, however they vary.
    right = [1, 0, 1, 1, 0, 1, 0, 1]
    assert bootstrap_ratio(right, right, range(8)) == (1.0, 1.0)
    assert bootstrap_ratio([x / 2 for x in right], right, range(8)) == (0.5, 0.5)
    # Over ones it is the mean.
    assert bootstrap_ratio(right, [1] * 8, range(8)) == bootstrap_mean(right, range(8))


def test_bootstrap_of_a_ratio_knows_that_both_vary() -> None:
    # 60 of 100 right, the other 80 of 100, on different questions (20 lost by either alone): both ends lie around
    # 0.75 by the delta method: sd = sqrt(sum (a - 0.75 b)^2) / 80 with 40 of (1, 1), 20 of (1, 0), 40 of (0, 1):
    # sqrt(40 / 16 + 20 + 40 * 0.5625) / 80 = 0.0839; if the other were exact, 0.49 / 10 / 0.8 = 0.0612.
    a, b = [1] * 60 + [0] * 40, [1] * 40 + [0] * 20 + [1] * 40
    low, high = ends(bootstrap_ratio(a, b, range(100)))
    assert low == pytest.approx(0.75 - 1.96 * 0.0839, abs=0.03)
    assert high == pytest.approx(0.75 + 1.96 * 0.0839, abs=0.03)


def test_bootstrap_over_nothing_right_has_no_ratio() -> None:
    assert bootstrap_ratio([1, 0] * 5, [0] * 10, range(10)) is None


def test_bootstrap_needs_eight_to_draw_from() -> None:
    values = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert bootstrap_mean(values[:7], range(7)) is None
    assert bootstrap_mean(values, "aabcdefg") is None
    assert bootstrap_mean(values, range(8)) is not None
    # One dialogue of 16 makes six runs of three, one of 27 nine.
    assert bootstrap_mean(values * 2, "a" * 16) is None
    assert bootstrap_mean((values * 4)[:27], "a" * 27) is not None


def test_bootstrap_weighs_values() -> None:
    # A value that weighs n counts as n equal values of its dialogue.
    values, weights = [0.3, 1.2, -0.7, 2.2], [1, 3, 2, 4]
    spelled = [v for v, w in zip(values, weights, strict=True) for _ in range(w)]
    clusters = [c for c, w in zip("abcd", weights, strict=True) for _ in range(w)]
    assert bootstrap_mean(values, "abcd", weights=weights) == pytest.approx(bootstrap_mean(spelled, clusters))


def test_bootstrap_of_one_long_dialogue_draws_runs_of_neighbours() -> None:
    # 1000 questions, runs of 10. Of a series that keeps its value for 10, the runs are the observations.
    values = np.repeat(np.random.default_rng(3).normal(size=100), 10)
    low, high = ends(bootstrap_mean(list(values), ["rps"] * 1000))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(100), rel=0.1)


def test_bootstrap_is_repeatable_and_follows_its_seed() -> None:
    values = [0.3, 1.2, -0.7, 2.2, 0.9, 0.1, -0.2, 1.7]
    assert bootstrap_mean(values, range(8)) == bootstrap_mean(values, range(8))
    assert bootstrap_mean(values, range(8), seed=1) != bootstrap_mean(values, range(8))


@pytest.mark.parametrize(
    ("values", "clusters", "expected"),
    [
        ([], [], None),
        ([1.5], ["a"], None),
        ([0.1] * 8, range(8), (0.1, 0.1)),
        ([-4.0] * 9, "aabcdefgh", (-4.0, -4.0)),
        ([0.0] * 8, range(8), (0.0, 0.0)),
        ([0.0] * 7, range(7), None),
    ],
)
def test_bootstrap_of_data_that_break_formulas(
    values: Sequence[float], clusters: Sequence[str], expected: tuple[float, float] | None
) -> None:
    assert bootstrap_mean(values, clusters) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("n", [8, 9, 30])
def test_bootstrap_holds_the_mean_when_one_value_stands_out(n: int) -> None:
    values = [0.0] * (n - 1) + [1e6]
    low, high = ends(bootstrap_mean(values, range(n)))
    assert 0.0 <= low <= 1e6 / n <= high <= 1e6


def test_bootstrap_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 values and 2 others but 1 clusters"):
        bootstrap_mean([1.0, 2.0], ["a"])


def test_without_scipy_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(UserError, match=r"edge-sir\[eval\]"):
        wilson(1, 2)


def ends(interval: tuple[float, float] | None) -> tuple[float, float]:
    assert interval is not None
    return interval


def test_an_estimate_keeps_its_interval_in_order_whichever_way_a_function_goes() -> None:
    assert Estimate(1.0, (0.5, 2.0)).map(lambda x: -x) == Estimate(-1.0, (-2.0, -0.5))
    assert Estimate(1.0, (0.5, 2.0)).map(lambda x: 2 * x) == Estimate(2.0, (1.0, 4.0))
    assert Estimate(1.0).map(math.exp) == Estimate(math.e)


def test_an_estimated_mean_is_the_mean_and_its_bootstrap() -> None:
    values, weights = [1.0, 2.0, 4.0] * 4, [1.0, 2.0, 1.0] * 4
    ci = bootstrap_mean(values, range(12), weights=weights)
    assert estimate_mean(values, range(12), weights=weights) == Estimate(9 / 4, ci)
    assert estimate_mean([1.0, 2.0], ["a", "b"]) == Estimate(1.5)
