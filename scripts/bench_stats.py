"""Figures, their spread and how they are shown: pure functions, no clock, no model."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TARGETS",
    "Figure",
    "Floats",
    "bootstrap",
    "growth",
    "head_flop_ratio",
    "paired",
    "report",
    "robust_line",
    "robust_slope",
    "slope",
    "table",
]

Floats = NDArray[np.float64]

TARGETS = {
    "prefill_scored_ratio": ("<=", 1.20),
    "prefill_scored_ratio_gemma": ("", 0.0),
    "overflow_decode_steps": ("<=", 3.0),
    "reread_over_overflow": (">=", 100.0),
    "decode_vs_bare": (">=", 0.95),
    "late_vs_early_turn_speed": (">=", 0.97),
    "rss_growth_mb_per_1000_turns": ("<=", 2.0),
    "eval_vs_bare": (">=", 0.90),
    "decode_vs_bare_0.5b": (">=", 0.95),
    "prefill_scored_ratio_0.5b": ("", 0.0),
    "reread_over_overflow_0.5b": (">=", 100.0),
    "encode_vs_bare": ("<=", 1.05),
    "restore_vs_reread": (">=", 8.0),
    "archive_bytes_per_token": ("", 0.0),
    "restore_vs_reread_0.5b": (">=", 8.0),
    "archive_bytes_per_token_0.5b": ("", 0.0),
    "recall_first_token_ratio": ("<=", 1.03),
    "recall_hit_decode_steps": ("<=", 3.0),
    "recall_first_token_ratio_0.5b": ("<=", 1.03),
    "recall_hit_decode_steps_0.5b": ("<=", 3.0),
    "save_turn_over_fsync": ("<=", 1.5),
    "search_ms_100k": ("<=", 50.0),
    "search_ms_100k_short": ("<=", 50.0),
    "snapshot_over_raw": ("<=", 1.3),
    "resume_s": ("", 0.0),
    "state_bytes_over_kv": ("<=", 1.1),
    "snapshot_over_raw_0.5b": ("<=", 1.3),
    "resume_s_0.5b": ("<=", 0.5),
    "state_bytes_over_kv_0.5b": ("<=", 1.1),
    "batch_speedup": ("", 0.0),
    "batch_decode_speedup": ("", 0.0),
    "batch_vs_bare": (">=", 0.92),
    "scheduler_share": ("<=", 0.04),
    "shared_prefix_saved": (">=", 0.98),
    "batch_speedup_0.5b": (">=", 1.6),
    "batch_decode_speedup_0.5b": (">=", 2.5),
    "batch_vs_bare_0.5b": (">=", 0.92),
    "scheduler_share_0.5b": ("<=", 0.04),
    "shared_prefix_saved_0.5b": (">=", 0.98),
    "first_token_turn_50_over_turn_2": ("<=", 1.3),
    "tokens_read_over_new": ("<=", 1.3),
    "server_vs_chat": (">=", 0.95),
    "swap_in_vs_reread": (">=", 10.0),
}
"""Which way and how far each figure should be; "" for one that is only shown."""

_LEVEL = 0.95  # of bootstrap intervals
_BLOCK = 20  # neighbouring turns drawn together, since memory grows in steps


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    spread: what low and high are. limit: the best that the hardware or the arithmetic allows, and
    limit_is: how that was found. value is None where the figure cannot be measured; note says why.
    """

    key: str
    value: float | None
    low: float | None = None
    high: float | None = None
    spread: str = ""
    limit: float | None = None
    limit_is: str = ""
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> float | None:
        way, bound = TARGETS[self.key]
        return bound if way else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target or a value."""
        way, bound = TARGETS[self.key]
        if not way or self.value is None:
            return None
        return self.value <= bound if way == "<=" else self.value >= bound

    def as_json(self) -> dict[str, Any]:
        """The figure for programs, in plain types."""
        way, _ = TARGETS[self.key]
        return {
            "value": _rounded(self.value),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "spread": self.spread,
            "target": self.target,
            "target_is": {"<=": "most", ">=": "least", "": None}[way],
            "reached": self.reached,
            "limit": _rounded(self.limit),
            "limit_is": self.limit_is or None,
            "over_limit": _rounded(self.value / self.limit) if self.value is not None and self.limit else None,
            "note": self.note or None,
            "detail": {name: _rounded(value) for name, value in self.detail.items()},
        }


def bootstrap(
    n: int, statistic: Callable[[NDArray[np.intp]], float], *, block: int = 1, n_draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of `statistic(index)` over indices int [n] drawn anew, in runs of `block`."""
    random = np.random.default_rng(seed)
    n_blocks = -(-n // block)
    values = []
    for _ in range(n_draws):
        starts = random.integers(0, n, n_blocks)
        index = (starts[:, None] + np.arange(block)).ravel()[:n] % n
        values.append(statistic(index))
    tail = (1 - _LEVEL) / 2
    return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))


def paired(key: str, top: ArrayLike, bottom: ArrayLike, **rest: Any) -> Figure:
    """The median of top / bottom, measurements taken side by side, [n] each: what slows both cancels."""
    ratios = np.asarray(top, np.float64) / np.asarray(bottom, np.float64)
    low, high = bootstrap(len(ratios), lambda i: float(np.median(ratios[i])))
    return Figure(key, float(np.median(ratios)), low, high, f"95 % of {len(ratios)} pairs", **rest)


def slope(y: ArrayLike) -> float:
    """Least squares: growth of `y` per step."""
    values = np.asarray(y, np.float64)
    x = np.arange(len(values)) - (len(values) - 1) / 2
    return float(x @ values / (x @ x))


def robust_slope(y: ArrayLike) -> float:
    """Theil and Sen's: the median slope over all pairs of steps."""
    values = np.asarray(y, np.float64)
    i, j = np.triu_indices(len(values), 1)
    return float(np.median((values[j] - values[i]) / (j - i)))


def robust_line(values: Floats, chosen: NDArray[np.intp] | None = None) -> Floats:
    """Theil and Sen's line through `values` [n_reps, n_chunks], NaN where not measured, at each chunk.

    A chunk's time grows linearly with what is resident, and a busy machine makes outliers. chosen: int
    indices into the flattened values, for a bootstrap.
    """
    n_chunks = values.shape[1]
    index = np.arange(values.size) if chosen is None else chosen
    y, x = values.ravel()[index], index % n_chunks
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    i, j = np.triu_indices(len(x), 1)
    apart = x[i] != x[j]
    rise = np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart]) if apart.any() else 0.0
    line: Floats = np.median(y - rise * x) + rise * np.arange(n_chunks)
    return line


def growth(key: str, rss_mb: ArrayLike, **rest: Any) -> Figure:
    """Growth of memory per 1000 turns; `rss_mb` is float [n turns]."""
    y = np.asarray(rss_mb, np.float64)
    fit = slope(y)
    line = fit * np.arange(len(y))
    residual = y - line
    low, high = bootstrap(len(y), lambda i: slope(line + residual[i]), block=_BLOCK)
    detail = {"robust_slope": 1000 * robust_slope(y), "first_mb": y[0], "last_mb": y[-1], "turns": len(y)}
    fit, low, high = (round(1000 * value, 6) for value in (fit, low, high))
    return Figure(key, fit, low, high, f"95 % over {len(y)} turns", detail=detail, **rest)


def head_flop_ratio(n_body: int, n_head: int) -> float:
    """What scoring every row costs at least: all weights over those without the LM head (n parameters each)."""
    return (n_body + n_head) / n_body


def report(host: Mapping[str, Any], figures: Sequence[Figure]) -> dict[str, Any]:
    """The whole run for programs."""
    return {"host": dict(host), "figures": {figure.key: figure.as_json() for figure in figures}}


def table(host: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The whole run for people."""
    rows = [("figure", "value", "spread", "target", "reached", "limit")]
    for figure in figures:
        way, bound = TARGETS[figure.key]
        verdict = {None: "", True: "yes", False: "NO"}[figure.reached]
        spread = f"{_short(figure.low)} to {_short(figure.high)}" if figure.low is not None else ""
        target = f"{way} {bound:g}" if way else ""
        rows.append((figure.key, _short(figure.value), spread, target, verdict, _short(figure.limit)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*_host_lines(host), "", *lines, "", *_notes(figures)])


def _host_lines(host: Mapping[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' ')}: {value}" for name, value in host.items()]


def _notes(figures: Sequence[Figure]) -> list[str]:
    lines = []
    for figure in figures:
        parts = [figure.note] if figure.note else []
        if figure.limit is not None:
            parts.append(f"limit: {figure.limit_is}")
        parts += [f"{name} {_short(value)}" for name, value in figure.detail.items()]
        lines += textwrap.wrap(f"{figure.key}: {'; '.join(parts)}", 116, subsequent_indent="  ")
    return lines


def _rounded(value: Any) -> Any:
    """Six significant digits, as a plain number."""
    return float(f"{float(value):.6g}") if isinstance(value, float | np.floating) else value


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
