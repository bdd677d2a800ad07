"""Intervals and tests of an evaluation, on SciPy (the extra `eval`).

Where a dialogue has several questions their answers hang together, so bootstraps draw whole dialogues, not
questions. The Wilson interval and the McNemar test take each question as independent.
"""

import importlib.util
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.errors import UserError

__all__ = ["LEVEL", "Interval", "bootstrap_mean", "mcnemar", "require_scipy", "wilson"]

LEVEL = 0.95
_N_DRAWS = 2000

Interval = tuple[float, float]
Floats = NDArray[np.float64]


def wilson(n_right: int, n: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927, JASA 22); of nothing it is everything.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n): unlike p -+ z s, it stays within 0 and 1, and
    keeps a width when all or none were right.
    """
    if n == 0:
        return 0.0, 1.0
    found = _scipy().binomtest(n_right, n).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


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
    """Bootstrap interval of the mean (Efron's BCa, 1987, JASA 82); of a paired difference, give the differences.

    values: one per question. clusters: of each, its dialogue; dialogues are drawn as a whole, and the mean is over
    the questions in those drawn. Of a single dialogue, runs of n^(1/3) neighbouring questions are drawn instead
    (the order of the block length: Hall, Horowitz and Jing 1995, Biometrika 82). None for less than two draws' worth.
    weights: how much each value counts (tokens of a piece of text), not all 0; None for once each.
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
    data = np.asarray(values, np.float64)
    shares = np.ones(len(data)) if weights is None else np.asarray(weights, np.float64)
    sums, counts = _by_cluster(data * shares, shares, clusters)
    if len(sums) < 2:
        return None
    mean = float(sums.sum() / counts.sum())
    if np.allclose(sums, mean * counts, rtol=1e-12, atol=1e-12):
        return mean, mean
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # BCa divides by zero on data of a few values; the fallback is below
        low, high = _ends(sums, counts, "BCa", seed)
        if not (np.isfinite(low) and np.isfinite(high)):
            low, high = _ends(sums, counts, "percentile", seed)
    return low, high


def _by_cluster(values: Floats, weights: Floats, clusters: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """The sums of the weighted values and of their weights in each cluster, [n_clusters] each."""
    ids = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.fromiter((ids[cluster] for cluster in clusters), np.intp, len(clusters))
    if len(ids) == 1:
        index = np.arange(len(values)) // max(1, round(len(values) ** (1 / 3)))
    sums, counts = np.bincount(index, weights=values), np.bincount(index, weights=weights)
    return sums.astype(np.float64), counts.astype(np.float64)


def _ends(sums: Floats, counts: Floats, method: str, seed: int) -> Interval:
    def mean(sums: Floats, counts: Floats, axis: int) -> Any:
        return sums.sum(axis) / counts.sum(axis)

    found = _scipy().bootstrap(
        (sums, counts),
        mean,
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
