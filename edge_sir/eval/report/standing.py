"""Where a policy stands: tables of its aims and of its rivals, over a folder of evaluations. Plays nothing.

What is aimed at, and who the rivals are, is the caller's; scripts/results_page.py has this project's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_sir.eval.report.comparisons import Versus
from edge_sir.eval.report.markdown import NONE, figure, mcnemar, policy, share, short, signed, span, spread, table
from edge_sir.eval.report.plots import decay_entries
from edge_sir.eval.report.runs import Run
from edge_sir.eval.report.stats import Estimate, estimate_mean

__all__ = [
    "Aim",
    "Measured",
    "accuracy",
    "aims_table",
    "compared",
    "decay_table",
    "pair_table",
    "perplexity_aim",
    "retained",
    "rival_tables",
]

_HEADINGS = {"win": "wins", "tie": "ties", "loss": "losses", "open": "open"}


# ---- aims ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure, and what it is over. counted: it has no interval."""

    estimate: Estimate
    over: str
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """What is aimed at: a figure that is to be at least (or, `at_most`, at most) `bound`.

    found: what was measured; in words, why there can be no figure; None where nothing was played.
    """

    says: str
    bound: float
    found: Measured | str | None
    at_most: bool = False
    show: Callable[[float], str] = short

    def verdict(self) -> str:
        """Reached or missed, and whether the interval says the same; without a figure, why there is none."""
        if not isinstance(self.found, Measured):
            return self.found or "not played"
        value, ci = self.found.estimate.value, self.found.estimate.ci
        verdict = "reached" if self._holds(value) else "**missed**"
        # An interval without width is that of values that are all equal, and no certainty.
        settled = ci is not None and ci[0] < ci[1] and self._holds(ci[0]) == self._holds(ci[1])
        return verdict if settled or self.found.counted else f"{verdict}, not settled"

    def _holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def line(self) -> list[str]:
        shown = over = NONE
        if isinstance(self.found, Measured):
            figures, over = self.found.estimate, self.found.over
            shown = self.show(figures.value) if self.found.counted else spread(figures, self.show)
        return [self.says, f"{'≤' if self.at_most else '≥'} {self.show(self.bound)}", shown, over, self.verdict()]


def aims_table(aims: Sequence[Aim]) -> str:
    return table(["aim", "bound", "measured [95 %]", "over", "verdict"], [aim.line() for aim in aims])


def compared(run: Run | None, spec: str, other: str, budget: int, field: str) -> Measured | None:
    """A figure of `Versus`, by the field's name."""
    versus = run.compare(spec, other, budget) if run else None
    found: Estimate | None = getattr(versus, field) if versus else None
    if versus is None or found is None:
        return None
    return Measured(found, f"{versus.n} {'questions' if versus.accuracy else 'pieces of text'}")


def accuracy(run: Run | None, spec: str, budget: int, unit: str) -> Measured | None:
    """The share of right answers."""
    entry = run and run.entry(spec, budget)
    right = entry and entry.accuracy
    return Measured(Estimate(right.value, right.ci), f"{right.n} {unit}") if right else None


def retained(runs: Sequence[Run], spec: str) -> tuple[Measured | None, Measured | None]:
    """A policy's mean retention over the runs that can be measured, and the least of them with its folder.

    Each counts once, at whichever budget it has; None where there is none.
    """
    entries = {
        run.name: next((e for e in run.summary.entries if e.policy == spec), None)
        for run in runs
        if run.summary.measurable
    }
    kept = {name: e.retention.value for name, e in entries.items() if e is not None and e.retention is not None}
    if not kept:
        return None, None
    least = min(kept, key=kept.__getitem__)
    mean = Measured(estimate_mean(list(kept.values()), list(kept)), f"{len(kept)} tasks")
    return mean, Measured(Estimate(kept[least]), f"`{least}`")


def perplexity_aim(run: Run | None, text: str, spec: str, budget: int, bound: float) -> Aim:
    """That a policy reads a text with at most `bound` times the perplexity of `streaming`. text: what it is called."""
    found = compared(run, spec, "streaming", budget, "perplexity_ratio")
    says = f"{text}, {budget} cells: perplexity over `streaming`'s"
    return Aim(says, bound, found, at_most=True, show="{:.3f}".format)


# ---- rivals ----------------------------------------------------------------------------------------


def rival_tables(
    runs: Sequence[Run], spec: str, rivals: Sequence[str], together: tuple[str, str], field: str = "gold_logprob"
) -> list[str]:
    """How often a policy wins against each rival, and its comparison with each in every run at every budget.

    together: the group of runs that have one more line for their mean, and what that is called; each run counts once,
    and its interval draws runs. field: of `Versus`, by which they are compared.
    """
    found = [(run, n, _gaps(against, field)) for run, n, against in _against(runs, spec, rivals)]
    outcomes = {name: [_outcome(gap) for *_, gaps in found if (gap := gaps[name])] for name in rivals}
    counts = [[policy(n), *(str(outcomes[n].count(outcome)) for outcome in _HEADINGS)] for n in rivals]
    lines = [[run.label, str(n), *map(_cell, gaps.values())] for run, n, gaps in found]
    group, title = together
    for budget in sorted({n for run, n, _ in found if run.group == group}):
        line = [title, str(budget)]
        for name in rivals:
            at = [(run.name, of[name]) for run, n, of in found if run.group == group and n == budget]
            values = {run: gap.value for run, gap in at if gap}
            line.append(_cell(estimate_mean(list(values.values()), list(values)) if values else None))
        lines.append(line)
    head = ["run", "cells", *map(policy, rivals)]
    return [table(["against", *_HEADINGS.values()], counts), table(head, lines)]


def _against(
    runs: Sequence[Run], spec: str, rivals: Sequence[str]
) -> Iterator[tuple[Run, int, Mapping[str, Versus | None]]]:
    for run in runs:
        for budget in run.budgets(spec):
            against = {name: run.compare(spec, name, budget) for name in rivals}
            if any(against.values()):
                yield run, budget, against


def _gaps(against: Mapping[str, Versus | None], field: str) -> dict[str, Estimate | None]:
    return {name: getattr(versus, field) if versus else None for name, versus in against.items()}


def _outcome(gap: Estimate) -> str:
    if gap.ci is None:
        return "open"
    return "win" if gap.ci[0] > 0 else "loss" if gap.ci[1] < 0 else "tie"


def _cell(gap: Estimate | None) -> str:
    return NONE if gap is None else f"{_outcome(gap)} {signed(gap.value)}"


def decay_table(runs: Sequence[Run]) -> str:
    """Retention by decay, wherever a policy was played with several and they are not all alike."""
    curves = decay_entries({run.label: run.summary for run in runs})
    decays = sorted({decay for curve in curves.values() for decay in curve}, reverse=True)
    lines = []
    for (label, base, budget), curve in curves.items():
        shown = [figure(e.retention.value if (e := curve.get(d)) and e.retention else None) for d in decays]
        if len(set(shown) - {NONE}) > 1:
            lines.append([label, policy(base), str(budget), span([e.n for e in curve.values()]), *shown])
    return table(["run", "policy", "cells", "n", *(f"{decay:g}" for decay in decays)], lines)


def pair_table(runs: Sequence[Run], spec: str, other: str) -> str:
    """Two policies against each other, wherever both were played."""
    lines = []
    for run, budget, against in _against(runs, spec, [other]):
        shares = [share(e.accuracy) for name in (spec, other) if (e := run.entry(name, budget))]
        for versus in filter(None, against.values()):
            lines.append([run.label, str(budget), *shares, _cell(versus.gold_logprob), mcnemar(versus)])
    head = ["run", "cells", *(f"{policy(name)}, right" for name in (spec, other)), "gold log-prob.", "p (right alone)"]
    return table(head, lines)
