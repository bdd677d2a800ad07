"""Where `sir` stands: its aims and every other policy, held against the rows of docs/results. Plays nothing.

scripts/results writes the page; `write` is what it calls.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sir.eval.records import Row
from edge_sir.eval.report.comparisons import KEEP_ALL, Versus, compare
from edge_sir.eval.report.folder import Loaded
from edge_sir.eval.report.markdown import NONE, figure, mcnemar, policy, share, short, signed, span, spread, table
from edge_sir.eval.report.plots import decay_entries
from edge_sir.eval.report.stats import Interval, bootstrap_mean, mean
from edge_sir.eval.report.summary import Entry, Summary

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

_DECAY = """## Decay

Retention (right answers over keep-all's) by decay per turn; 1: nothing fades. In `decay-forgetting` recall 20 asks for
a fact that was told 20 rounds before, in `decay-short` recall 50 for one told 50 tokens before. Where all decays are
alike there is no line. Intervals are in the reports of these folders; decay.png draws them."""

_PAPER = f"""## The paper's definition against its released code

`sirllm` ranks by the surprisal that the paper defines, `sirllm-published` by what its code computes. *win* and *loss*,
of the definition over the code: {_LEGEND}"""


@dataclass(frozen=True, slots=True)
class Run:
    """One folder, by one of its metrics. label: the folder, with the metric if it has several."""

    name: str
    label: str
    group: str
    summary: Summary
    rows: Sequence[Row]

    def entry(self, spec: str, budget: int) -> Entry | None:
        return next((e for e in self.summary.entries if (e.policy, e.budget) == (spec, budget)), None)

    def budgets(self, spec: str) -> list[int]:
        """At which a policy was played, if this can tell policies apart and was not chosen on; else none."""
        if self.summary.measurable is False or self.group == CHOOSING:
            return []
        return sorted({entry.budget for entry in self.summary.entries if entry.policy == spec})

    def compare(self, spec: str, other: str, budget: int) -> Versus | None:
        return compare(self.rows, (spec, budget), (other, budget), self.summary.metric)


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure, its interval if there are enough dialogues for one, and what it is over. counted: it has none."""

    value: float
    ci: Interval | None
    over: str
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """What is aimed at: a figure that is to be at least (or, `at_most`, at most) `bound`."""

    says: str
    bound: float
    found: Measured | None
    at_most: bool = False
    show: Callable[[float], str] = short
    without: str = "not played"

    def verdict(self) -> str:
        """Reached or missed, and whether the interval says the same; `without` a figure, why there is none."""
        if self.found is None:
            return self.without
        verdict = "reached" if self._holds(self.found.value) else "**missed**"
        ci = self.found.ci
        # An interval without width is that of values that are all equal, and no certainty.
        settled = ci is not None and ci[0] < ci[1] and self._holds(ci[0]) == self._holds(ci[1])
        return verdict if settled or self.found.counted else f"{verdict}, not settled"

    def _holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def line(self) -> list[str]:
        sign = "≤" if self.at_most else "≥"
        shown, over = NONE, NONE
        if self.found is not None:
            value, ci, over = self.found.value, self.found.ci, self.found.over
            shown = self.show(value) if self.found.counted else spread(value, ci, self.show)
        return [self.says, f"{sign} {self.show(self.bound)}", shown, over, self.verdict()]


def write(folder: Path, loaded: Mapping[Path, Loaded]) -> Path:
    """Writes standing.md into the folder of all evaluations, and returns its path. loaded: those, by their folders."""
    runs = [run for place, found in loaded.items() for run in _runs(place.name, found)]
    aims = [*aims_of(runs), _throughput(folder / "bench.json")]
    compared = [line for run in runs for line in _standings(run)]
    together = _together([line for line in compared if line.run.group == TWELVE])
    head = ["run", "cells", *map(policy, RIVALS)]
    rivals = [_RIVALS, _counts(compared), table(head, [*(line.cells() for line in compared), *together])]
    lines = table(["aim", "bound", "measured [95 %]", "over", "verdict"], [aim.line() for aim in aims])
    parts = [_INTRODUCTION, _AIMS, lines, *rivals, _DECAY, _decays(runs), _PAPER, _paper(runs)]
    page = folder / "standing.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _runs(name: str, found: Loaded) -> list[Run]:
    """One per metric, the headline first; none of a folder without rows."""
    played = [summary for summary in found.summaries if summary.entries]
    labels = [f"{name}, {s.metric.replace('_', ' ')}" if len(played) > 1 else name for s in played]
    group = found.run.get("group", "")
    return [Run(name, label, group, s, found.rows) for label, s in zip(labels, played, strict=True)]


# ---- aims ------------------------------------------------------------------------------------------


def aims_of(runs: Sequence[Run]) -> list[Aim]:
    """The aims that the project set itself, in its order."""
    main = _named(runs, "grocery-lead10")
    twelve = [run for run in runs if run.group == TWELVE]
    measurable = [run for run in twelve if run.summary.measurable]
    number = Measured(len(measurable), None, f"{len(twelve)} tasks", counted=True) if twelve else None
    aims = [
        Aim("paper's task, 10 exchanges before the fact, 256 cells: recall − keep-all's", -0.02, _recall(main)),
        Aim("the same: gold log-probability − keep-all's", -0.5, _gap(main), show=signed),
        Aim("our twelve tasks: how many this model can do", 8, number, show="{:.0f}".format),
        Aim("those, in a quarter of the dialogue: mean retention", 0.95, _mean_retention(measurable)),
        Aim("those: least retention", 0.8, _least_retention(measurable)),
    ]
    for budget in (128, 256):
        found = _retention(_named(runs, "decay-forgetting", "recall_20"), budget)
        aims.append(Aim(f"a fact after 20 rounds, {budget} cells: retention", 0.95, found))
    aims.append(_adaptation(_named(runs, "rps-few-shot", "win_after")))
    for name, text in (("perplexity", "our own plain text"), ("perplexity-licence", "a licence")):
        for budget in (256, 512):
            says = f"{text}, {budget} cells: perplexity over `streaming`'s"
            found = _perplexity(_named(runs, name), budget)
            aims.append(Aim(says, 1.01, found, at_most=True, show="{:.3f}".format))
    return aims


def _named(runs: Sequence[Run], name: str, metric: str = "") -> Run | None:
    """A folder by one of its metrics, by default its headline."""
    return next((run for run in runs if run.name == name and metric in ("", run.summary.metric)), None)


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


def _retentions(runs: Sequence[Run]) -> dict[str, float]:
    """Of `sir` at whichever budget these runs have."""
    found = {}
    for run in runs:
        entries = [entry for entry in run.summary.entries if entry.policy == OURS]
        if entries and entries[0].retention is not None:
            found[run.name] = entries[0].retention
    return found


def _mean_retention(runs: Sequence[Run]) -> Measured | None:
    found = _retentions(runs)
    if not found:
        return None
    values = list(found.values())
    return Measured(mean(values), bootstrap_mean(values, list(found)), f"{len(found)} tasks")


def _least_retention(runs: Sequence[Run]) -> Measured | None:
    found = _retentions(runs)
    least = min(found, key=found.__getitem__, default=None)
    return Measured(found[least], None, f"`{least}`") if least else None


def _retention(run: Run | None, budget: int) -> Measured | None:
    versus = _versus(run, KEEP_ALL, budget)
    if versus is None or versus.accuracy_ratio is None:
        return None
    return Measured(versus.accuracy_ratio, versus.accuracy_ratio_ci, f"{versus.n} questions")


def _adaptation(run: Run | None) -> Aim:
    """Against a player who changes his favourite; no figure where the model plays one move whatever he does."""
    entry = run.entry(OURS, 1024) if run else None
    wins, can = entry.accuracy if entry else None, run is None or run.summary.measurable is not False
    found = Measured(wins.value, wins.ci, f"{wins.n} rounds") if wins and can else None
    says = "rock-paper-scissors: wins after the player changed his favourite"
    return Aim(says, 1 / 3, found, without="not played" if can else "not measurable: always the same move")


def _perplexity(run: Run | None, budget: int) -> Measured | None:
    versus = _versus(run, "streaming", budget)
    if versus is None:
        return None
    return Measured(versus.perplexity_ratio, versus.perplexity_ratio_ci, f"{versus.n} pieces of text")


def _throughput(bench: Path) -> Aim:
    """What `scripts/bench --json` measured of an evaluation, if its output was kept."""
    figures = json.loads(bench.read_text(encoding="utf-8"))["figures"] if bench.is_file() else {}
    found = None
    if kept := figures.get("eval_vs_bare"):
        over = f"one run of `scripts/bench`; {kept['limit']:.2f} if only arithmetic counted"
        found = Measured(kept["value"], (kept["low"], kept["high"]), over)
    return Aim("an evaluation's tokens per second over bare llama.cpp's", 0.9, found)


# ---- rivals ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """`sir` against every rival in one run at one budget; None of a rival that was not played there."""

    run: Run
    budget: int
    against: Mapping[str, Versus | None]

    def cells(self) -> list[str]:
        return _line(self.run.label, self.budget, self.against)


def _line(label: str, budget: int, against: Mapping[str, Versus | None]) -> list[str]:
    return [label, str(budget), *(_cell(against[name]) for name in RIVALS)]


def _standings(run: Run) -> Iterator[Standing]:
    """One per budget of a run that was not chosen on."""
    for budget in run.budgets(OURS):
        against = {name: run.compare(OURS, name, budget) for name in RIVALS}
        if any(against.values()):
            yield Standing(run, budget, against)


def _together(standings: Sequence[Standing]) -> list[list[str]]:
    """One line for our tasks together, each counted once; the interval draws tasks."""
    means = []
    for budget in sorted({line.budget for line in standings}):
        against: dict[str, Versus | None] = {}
        for name in RIVALS:
            gaps = {s.run.name: v.gold_logprob for s in standings if s.budget == budget and (v := s.against[name])}
            values = list(gaps.values())
            ci = bootstrap_mean(values, list(gaps))
            against[name] = Versus(len(values), mean(values), ci) if values else None
        means.append(_line("mean of our tasks", budget, against))
    return means


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


# ---- decay and the paper's score ---------------------------------------------------------------------


def _decays(runs: Sequence[Run]) -> str:
    """Retention by decay, wherever a policy was played with several and they are not all alike."""
    curves = decay_entries({run.label: run.summary for run in runs if run.group != CHOOSING})
    decays = sorted({decay for curve in curves.values() for decay in curve}, reverse=True)
    lines = []
    for (label, base, budget), curve in curves.items():
        shown = [figure(curve[d].retention if d in curve else None, "{:.2f}") for d in decays]
        if len(set(shown) - {NONE}) > 1:
            lines.append([label, policy(base), str(budget), span([e.n for e in curve.values()]), *shown])
    return table(["run", "policy", "cells", "n", *(f"{decay:g}" for decay in decays)], lines)


def _paper(runs: Sequence[Run]) -> str:
    """The two readings of the paper's score, wherever both were played."""
    specs = ("sirllm", "sirllm-published")
    lines = []
    for run in runs:
        for budget in run.budgets(specs[0]):
            if versus := run.compare(*specs, budget):
                shares = [share(entry.accuracy) for spec in specs if (entry := run.entry(spec, budget))]
                lines.append([run.label, str(budget), *shares, _cell(versus), mcnemar(versus)])
    head = ["run", "cells", *(f"{policy(spec)}, right" for spec in specs), "gold log-prob.", "p (right alone)"]
    return table(head, lines)
