"""Intervals and tests of an evaluation, on SciPy (the extra `eval`).

Where a dialogue has several questions their answers hang together, so bootstraps draw whole dialogues, not
questions. The Wilson interval and the McNemar test take each question as independent.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.errors import UserError

__all__ = [
    "LEAST_CLUSTERS",
    "LEVEL",
    "Estimate",
    "Interval",
    "bootstrap_mean",
    "bootstrap_ratio",
    "estimate_mean",
    "mcnemar",
    "mean",
    "require_scipy",
    "wilson",
]

LEVEL = 0.95
LEAST_CLUSTERS = 8
"""Drawing from fewer, a bootstrap gives little more than the least and the largest of them, not 95 %."""
_N_DRAWS = 2000

Interval = tuple[float, float]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval; None for too few to draw from, or where there is none by definition."""

    value: float
    ci: Interval | None = None

    def map(self, monotone: Callable[[float], float]) -> "Estimate":
        """The same of a function of the figure, which may rise or fall."""
        ends = self.ci and sorted(map(monotone, self.ci))
        return Estimate(monotone(self.value), (ends[0], ends[1]) if ends else None)


def wilson(n_right: int, n: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927, JASA 22); of nothing it is everything.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n): unlike p -+ z s, it stays within 0 and 1, and
    keeps a width when all or none were right.
    """
    if n == 0:
        return 0.0, 1.0
    found = _scipy().binomtest(n_right, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The mean of at least one value, summed without rounding on the way; weights as for `bootstrap_mean`."""
    if weights is None:
        return math.fsum(values) / len(values)
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / (math.fsum(weights) or 1)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided exact p of McNemar's test (1947, Psychometrika 12) on the same items under two arms.

    Of the items that just one of them got right, each would get half if they were equally good: a binomial
    test of that. 1 if there are none.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    n = only_first + only_second
    return float(_scipy().binomtest(only_first, n).pvalue) if n else 1.0


def bootstrap_mean(
    values: Sequence[float], clusters: Sequence[Hashable], *, weights: Sequence[float] | None = None, seed: int = 0
) -> Interval | None:
    """`bootstrap_ratio` for the mean of `values`, one per question; of a paired difference, give the differences.

    weights: how much each value counts (tokens of a piece of text), not all 0; None for once each.
    """
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    return bootstrap_ratio(np.asarray(values) * shares, shares, clusters, seed=seed)


def estimate_mean(
    values: Sequence[float], clusters: Sequence[Hashable], *, weights: Sequence[float] | None = None
) -> Estimate:
    """`mean` and `bootstrap_mean` of at least one value."""
    return Estimate(mean(values, weights), bootstrap_mean(values, clusters, weights=weights))


def bootstrap_ratio(
    values: ArrayLike, others: ArrayLike, clusters: Sequence[Hashable], *, seed: int = 0
) -> Interval | None:
    """Bootstrap interval of sum(values) / sum(others), paired (Efron's BCa, 1987, JASA 82).

    values, others: one of each per question, others >= 0. clusters: of each question its dialogue; dialogues are drawn
    as a whole, and the sums are over the questions in those drawn. Of a single dialogue, runs of n^(1/3) neighbouring
    questions are drawn instead (the order of the block length: Hall, Horowitz and Jing 1995, Biometrika 82).
    None for fewer than LEAST_CLUSTERS to draw from, or if there is nothing to divide by.
    """
    data = [np.asarray(found, np.float64) for found in (values, others)]
    if not len(data[0]) == len(data[1]) == len(clusters):
        raise ValueError(f"{len(data[0])} values and {len(data[1])} others but {len(clusters)} clusters")
    tops, bottoms = (_by_cluster(found, clusters) for found in data)
    if len(tops) < LEAST_CLUSTERS or not bottoms.sum():
        return None
    ratio = float(tops.sum() / bottoms.sum())
    if np.allclose(tops, ratio * bottoms, rtol=1e-12, atol=1e-12):
        return ratio, ratio
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # BCa divides by zero on data of a few values; the fallback is below
        low, high = _ends(tops, bottoms, "BCa", seed)
        if not (np.isfinite(low) and np.isfinite(high)):
            low, high = _ends(tops, bottoms, "percentile", seed)
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None


def _by_cluster(values: Floats, clusters: Sequence[Hashable]) -> Floats:
    """The sum of the values in each cluster, [n_clusters]."""
    ids = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.fromiter((ids[cluster] for cluster in clusters), np.intp, len(clusters))
    if len(ids) == 1:
        index = np.arange(len(values)) // max(1, round(len(values) ** (1 / 3)))
    return np.bincount(index, weights=values).astype(np.float64)


def _ends(tops: Floats, bottoms: Floats, method: str, seed: int) -> Interval:
    def ratio(tops: Floats, bottoms: Floats, axis: int) -> Any:
        return tops.sum(axis) / bottoms.sum(axis)

    found = _scipy().bootstrap(
        (tops, bottoms),
        ratio,
        n_resamples=_N_DRAWS,
        batch=256,  # bounds the memory: draws x clusters x 8 bytes
        vectorized=True,
        paired=True,
        confidence_level=LEVEL,
        method=method,
        random_state=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def require_scipy() -> None:
    """Raises UserError where SciPy is not installed; cheap, to be called before an evaluation is played."""
    if importlib.util.find_spec("scipy") is None:
        raise UserError("statistics need SciPy; run: pip install 'edge-sir[eval]' (a clone: scripts/setup eval)")


def _scipy() -> Any:
    """scipy.stats; imported late, since it takes a second and only evaluations need it."""
    require_scipy()
    from scipy import stats

    return stats
