"""Figures and tables in Markdown, short enough to read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from edge_sir.eval.report.comparisons import Versus
from edge_sir.eval.report.stats import Estimate
from edge_sir.eval.report.summary import Share

__all__ = [
    "NONE",
    "cells",
    "figure",
    "four",
    "grid",
    "mcnemar",
    "p_value",
    "policy",
    "share",
    "short",
    "signed",
    "span",
    "spread",
    "table",
    "two",
    "words",
]

NONE = "–"

Item = TypeVar("Item")


def grid(items: Iterable[Item], columns: Mapping[str, Callable[[Item], str]]) -> str:
    """A table with a line for each item; columns: what each shows of one, by its title."""
    return table(list(columns), [[show(item) for show in columns.values()] for item in items])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source reads as one, too: the first column left, the others right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    body = [[c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))] for r in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [body[0], rule, *body[1:]])


def two(value: float) -> str:
    """Two decimals."""
    return f"{value:.2f}"


def short(value: float) -> str:
    """Two decimals below 10, one from there on, none from 100 on."""
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def signed(value: float) -> str:
    """`short` with a plus where it is more."""
    text = short(value)
    return f"+{text}" if float(text) > 0 else text


def four(value: float) -> str:
    """Four significant digits of a positive figure, zeros at the end included."""
    text = f"{value:#.4g}"
    return text.rstrip(".") if "e" not in text else f"{value:.0f}"


def spread(found: Estimate | Share | None, show: Callable[[float], str] = short) -> str:
    """A figure and its interval, a dash in its place if there is none."""
    if found is None:
        return NONE
    ends = NONE if found.ci is None else f"{show(found.ci[0])}, {show(found.ci[1])}"
    return f"{show(found.value)} [{ends}]"


def share(found: Share | None) -> str:
    """A share right and Wilson's interval."""
    return spread(found, two)


def figure(value: float | None, show: Callable[[float], str] = two) -> str:
    """A figure, or a dash."""
    return NONE if value is None else show(value)


def span(values: Sequence[int]) -> str:
    """Counts that should be one: that one, or the least and the largest."""
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low} to {high}"


def p_value(p: float) -> str:
    """Two significant digits; below 0.001 just that."""
    return "<0.001" if p < 0.001 else "1" if p > 0.995 else f"{p:.2g}"


def mcnemar(versus: Versus) -> str:
    """Its p, and the questions that only the arm and only the reference got right."""
    return NONE if versus.p is None else f"{p_value(versus.p)} ({versus.n_only_arm}:{versus.n_only_reference})"


def cells(budget: int) -> str:
    """A budget; 0 is that of arms that have none."""
    return str(budget) if budget else "all"


def policy(spec: str) -> str:
    """A policy's specification, as code."""
    return f"`{spec}`"


def words(metric: str) -> str:
    """A metric's name as one reads it."""
    return metric.replace("_", " ")
