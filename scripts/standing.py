"""Where `sir` stands: its aims and every other policy, held against the rows of docs/results. Plays nothing.

scripts/results writes the page; `write` is what it calls.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sir.eval.comparisons import KEEP_ALL, Versus, compare
from edge_sir.eval.folder import summaries_of
from edge_sir.eval.markdown import NONE, mcnemar, policy, share, short, signed, spread, table
from edge_sir.eval.records import Row
from edge_sir.eval.stats import Interval, bootstrap_mean
from edge_sir.eval.store import load_run
from edge_sir.eval.summary import Entry, Summary

OURS = "sir"
RIVALS = ("units", "sirllm", "sirllm-published", "entropy", "streaming", "random", "interval")
TWELVE = "twelve tasks"
CHOOSING = "choosing"

_INTRODUCTION = f"""# Where `{OURS}` stands

Made by `scripts/results --report` from the rows of the folders beside it. [README](README.md) says what each of them
asks and how to read it."""

_AIMS = """## Aims

The verdict is about the figure; where its 95 % interval reaches across the bound, or where there is none, it says
so."""

_LEGEND = """the paired 95 % interval leaves zero out; *tie*: it does not; *open*: too few dialogues for an interval.
Gold log-probability in nats (of plain text: of a token), on the same questions at the same budget. Not corrected for
the number of comparisons."""

_RIVALS = f"""## Against every other policy

`{OURS}` less the other one. *win* and *loss*: {_LEGEND} Runs that the default was chosen on are left out, and so are
those that this model cannot do even with everything in its cache. The mean of our tasks counts each of the rest
of the twelve once; its interval says how much hangs on the choice of tasks."""

_PAPER = f"""## The paper's definition against its released code

`sirllm` ranks by the surprisal that the paper defines, `sirllm-published` by what its code computes. *win* and *loss*,
of the definition over the code: {_LEGEND}"""


@dataclass(frozen=True, slots=True)
class Run:
    """One folder. summary: None of one that has not been played."""

    name: str
    config: Mapping[str, Any]
    summary: Summary | None
    rows: Sequence[Row]

    def entry(self, spec: str, budget: int) -> Entry | None:
        entries = self.summary.entries if self.summary else ()
        return next((e for e in entries if (e.policy, e.budget) == (spec, budget)), None)


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure, its interval if there are enough dialogues for one, and what it is over."""

    value: float
    ci: Interval | None
    over: str


@dataclass(frozen=True, slots=True)
class Aim:
    """What is aimed at: a figure that is to be at least (or, `at_most`, at most) `bound`."""

    says: str
    bound: float
    found: Measured | None
    at_most: bool = False
    show: Callable[[float], str] = short

    def verdict(self) -> str:
        """Reached or missed, and whether the interval says the same."""
        if self.found is None:
            return "not played"
        verdict = "reached" if self._holds(self.found.value) else "**missed**"
        settled = self.found.ci is not None and len({self._holds(end) for end in self.found.ci}) == 1
        return verdict if settled else f"{verdict}, not settled"

    def _holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def line(self) -> list[str]:
        sign = "≤" if self.at_most else "≥"
        figure = spread(self.found.value, self.found.ci, self.show) if self.found else NONE
        return [
            self.says,
            f"{sign} {self.show(self.bound)}",
            figure,
            self.found.over if self.found else NONE,
            self.verdict(),
        ]


def write(folder: Path) -> Path:
    """Writes standing.md into the folder of all evaluations, and returns its path."""
    runs = {path.parent.name: _load(path.parent) for path in sorted(folder.glob("*/run.json"))}
    aims = table(["aim", "bound", "measured [95 %]", "over", "verdict"], [aim.line() for aim in aims_of(runs)])
    compared = [line for run in runs.values() for line in _standings(run)]
    mean = _mean([line for line in compared if runs[line.run].config.get("group") == TWELVE])
    head = ["run", "cells", *map(policy, RIVALS)]
    rivals = [_RIVALS, _counts(compared), table(head, [line.cells() for line in [*compared, *mean]])]
    parts = [_INTRODUCTION, _AIMS, aims, *rivals, _PAPER, _paper(runs.values())]
    page = folder / "standing.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _load(folder: Path) -> Run:
    config, rows, _ = load_run(folder)
    summary = summaries_of(config, rows)[0]
    return Run(folder.name, config, summary if summary.entries else None, rows)


# ---- aims ------------------------------------------------------------------------------------------


def aims_of(runs: Mapping[str, Run]) -> list[Aim]:
    """The aims that the project set itself, in its order."""
    main = runs.get("grocery-lead10")
    twelve = [run for run in runs.values() if run.config.get("group") == TWELVE and run.summary]
    measurable = [run for run in twelve if run.summary and run.summary.measurable]
    aims = [
        Aim("paper's task, 10 exchanges before the fact, 256 cells: recall − keep-all's", -0.02, _recall(main)),
        Aim("the same: gold log-probability − keep-all's", -0.5, _gap(main), show=signed),
        Aim("our twelve tasks: how many this model can do", 8, _number(measurable, twelve), show="{:.0f}".format),
        Aim("those, in a quarter of the dialogue: mean retention", 0.95, _mean_retention(measurable)),
        Aim("those: least retention", 0.8, _least_retention(measurable)),
    ]
    for budget in (128, 256):
        found = _retention(runs.get("decay-forgetting"), budget)
        aims.append(Aim(f"a fact after 20 rounds, {budget} cells: retention", 0.95, found))
    found = _share(runs.get("decay-rps"), 1024, "win_after")
    aims.append(Aim("rock-paper-scissors: wins after the player changed his favourite", 1 / 3, found))
    for budget in (256, 512):
        says = f"plain text, {budget} cells: perplexity over `streaming`'s"
        found = _perplexity(runs.get("perplexity"), budget)
        aims.append(Aim(says, 1.01, found, at_most=True, show="{:.3f}".format))
    return aims


def _versus(run: Run | None, name: str, budget: int) -> Versus | None:
    entry = run.entry(OURS, budget) if run else None
    return entry.versus.get(name) if entry else None


def _recall(run: Run | None) -> Measured | None:
    versus = _versus(run, KEEP_ALL, 256)
    if versus is None or versus.accuracy is None:
        return None
    return Measured(versus.accuracy, versus.accuracy_ci, f"{versus.n} questions")


def _gap(run: Run | None) -> Measured | None:
    versus = _versus(run, KEEP_ALL, 256)
    return Measured(versus.gold_logprob, versus.ci, f"{versus.n} questions") if versus else None


def _number(some: Sequence[Run], every: Sequence[Run]) -> Measured | None:
    return Measured(len(some), (len(some), len(some)), f"{len(every)} tasks") if every else None


def _retentions(runs: Sequence[Run]) -> dict[str, float]:
    """Of `sir` at whichever budget these runs have."""
    found = {}
    for run in runs:
        entries = [e for e in run.summary.entries if e.policy == OURS] if run.summary else []
        if entries and entries[0].retention is not None:
            found[run.name] = entries[0].retention
    return found


def _mean_retention(runs: Sequence[Run]) -> Measured | None:
    found = _retentions(runs)
    if not found:
        return None
    values = list(found.values())
    return Measured(sum(values) / len(values), bootstrap_mean(values, list(found)), f"{len(found)} tasks")


def _least_retention(runs: Sequence[Run]) -> Measured | None:
    found = _retentions(runs)
    least = min(found, key=found.__getitem__, default=None)
    return Measured(found[least], None, f"`{least}`") if least else None


def _retention(run: Run | None, budget: int) -> Measured | None:
    entry = run.entry(OURS, budget) if run else None
    if entry is None or entry.retention is None:
        return None
    return Measured(entry.retention, entry.retention_ci, f"{entry.n} questions")


def _share(run: Run | None, budget: int, metric: str) -> Measured | None:
    entry = run.entry(OURS, budget) if run else None
    found = entry.others.get(metric) if entry else None
    return Measured(found.value, found.ci, f"{found.n} rounds") if found else None


def _perplexity(run: Run | None, budget: int) -> Measured | None:
    versus = _versus(run, "streaming", budget)
    if versus is None:
        return None
    return Measured(versus.perplexity_ratio, versus.perplexity_ratio_ci, f"{versus.n} pieces of text")


# ---- rivals ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """`sir` against every rival in one run at one budget; None of a rival that was not played there."""

    run: str
    budget: int
    against: Mapping[str, Versus | None]

    def cells(self) -> list[str]:
        return [self.run, str(self.budget), *(_cell(self.against[name]) for name in RIVALS)]


def _standings(run: Run) -> Iterator[Standing]:
    """One per budget of a run that was not chosen on."""
    for budget in _budgets(run, OURS):
        against = {name: _compare(run, OURS, name, budget) for name in RIVALS}
        if any(against.values()):
            yield Standing(run.name, budget, against)


def _mean(standings: Sequence[Standing]) -> list[Standing]:
    """One line for our tasks together, each counted once; the interval draws tasks."""
    means = []
    for budget in sorted({line.budget for line in standings}):
        against: dict[str, Versus | None] = {}
        for name in RIVALS:
            gaps = {s.run: v.gold_logprob for s in standings if s.budget == budget and (v := s.against[name])}
            values = list(gaps.values())
            mean = sum(values) / len(values) if values else 0
            against[name] = Versus(len(values), mean, bootstrap_mean(values, list(gaps))) if values else None
        means.append(Standing("mean of our tasks", budget, against))
    return means


def _budgets(run: Run, spec: str) -> list[int]:
    """At which a policy was played, in a run that can tell policies apart and was not chosen on; else none."""
    if run.summary is None or run.summary.measurable is False or run.config.get("group") == CHOOSING:
        return []
    return sorted({entry.budget for entry in run.summary.entries if entry.policy == spec})


def _compare(run: Run, spec: str, other: str, budget: int) -> Versus | None:
    return compare(run.rows, (spec, budget), (other, budget), run.summary.metric) if run.summary else None


def _outcome(versus: Versus) -> str:
    if versus.ci is None:
        return "open"
    return "win" if versus.ci[0] > 0 else "loss" if versus.ci[1] < 0 else "tie"


def _cell(versus: Versus | None) -> str:
    return NONE if versus is None else f"{_outcome(versus)} {signed(versus.gold_logprob)}"


def _counts(standings: Sequence[Standing]) -> str:
    """How often `sir` wins against each rival."""
    lines = []
    for name in RIVALS:
        found = [_outcome(versus) for s in standings if (versus := s.against[name])]
        lines.append([policy(name), *(str(found.count(outcome)) for outcome in ("win", "tie", "loss", "open"))])
    return table(["against", "wins", "ties", "losses", "open"], lines)


def _paper(runs: Iterable[Run]) -> str:
    """The two readings of the paper's score, wherever both were played."""
    specs = ("sirllm", "sirllm-published")
    lines = []
    for run in runs:
        for budget in _budgets(run, specs[0]):
            if versus := _compare(run, *specs, budget):
                shares = [share(entry.accuracy) for spec in specs if (entry := run.entry(spec, budget))]
                lines.append([run.name, str(budget), *shares, _cell(versus), mcnemar(versus)])
    head = ["run", "cells", *(f"{policy(spec)}, right" for spec in specs), "gold log-prob.", "p (right alone)"]
    return table(head, lines)
