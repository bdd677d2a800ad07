"""Evaluations as reports take them, each by one of its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_sir.eval.records import Row
from edge_sir.eval.report.comparisons import KEEP_ALL, Versus, compare
from edge_sir.eval.report.summary import Entry, Summary

__all__ = ["Run", "find"]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """name: its folder's. config: run.json's mapping. label: the name, with the metric if the folder has several."""

    name: str
    summary: Summary
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    label: str = ""

    @property
    def group(self) -> str:
        """In words, the runs that a mean is taken over; empty for none."""
        return str(self.config.get("group") or "")

    def entry(self, spec: str, budget: int) -> Entry | None:
        return next((e for e in self.summary.entries if (e.policy, e.budget) == (spec, budget)), None)

    def budgets(self, spec: str) -> list[int]:
        """At which a policy was played, if this can tell policies apart; else none."""
        played = {entry.budget for entry in self.summary.entries if entry.policy == spec}
        return [] if self.summary.measurable is False else sorted(played)

    def compare(self, spec: str, other: str, budget: int) -> Versus | None:
        reference = (other, 0 if other == KEEP_ALL else budget)
        return compare(self.rows, (spec, budget), reference, self.summary.metric)


def find(runs: Sequence[Run], name: str, metric: str = "") -> Run | None:
    """A folder by one of its metrics, by default its headline."""
    return next((run for run in runs if run.name == name and metric in ("", run.summary.metric)), None)
