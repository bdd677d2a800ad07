"""From rows to what a table says: one entry per arm, with intervals and paired comparisons.

A question counts once per arm, however often its row is there. Arms are compared on the questions both have.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_sir.eval.records import Row
from edge_sir.eval.report.comparisons import (
    KEEP_ALL,
    ArmKey,
    Questions,
    Versus,
    perplexity,
    policy_name,
    versus_references,
)
from edge_sir.eval.report.stats import Estimate, Interval, estimate_mean, mean, wilson
from edge_sir.eval.task import counts_for

__all__ = ["Entry", "Share", "Summary", "summarize", "to_json"]

_HABIT, _MANY = 0.95, 20  # so often the same option, in so many questions, and the answer is a habit


@dataclass(frozen=True, slots=True)
class Share:
    """How many of `n` questions were answered right, with Wilson's interval."""

    n: int
    n_right: int
    ci: Interval

    @property
    def value(self) -> float:
        return self.n_right / self.n


@dataclass(frozen=True, slots=True)
class Entry:
    """One arm: a policy (the spec as given) at a budget. All but `others` is about the task's first metric.

    n: questions, in `n_dialogues` dialogues. accuracy: None for plain text; there perplexity = exp(-gold_logprob)
    is a number. others: the share right by further metrics. gold_logprob: mean, nats, of plain text over its tokens.
    habit: the share of questions to which its answer was the option, by number, that it gave most; None of plain text.
    gold_resident: mean share of the fact's tokens that were in the cache. tokens: per dialogue, mean. resident: tokens
    in the cache, mean. archive_bytes: of evicted cells kept outside the cache, at the dialogue's end, mean. found: of
    the questions of whose fact something was evicted, those that recalled a turn that holds it; None of arms that never
    recall. seconds_at_ends: per turn, in the first and the last tenth of long dialogues; None of short
    ones. versus: by name of the reference, those that there are. margin: mean, how much likelier the right option is
    than the best wrong one, nats. gold_per_token: of the right option with its closing mark, nats; None of older rows.
    """

    policy: str
    budget: int
    n: int
    n_dialogues: int
    accuracy: Share | None
    others: dict[str, Share]
    habit: float | None
    gold_logprob: Estimate
    gold_resident: float | None
    resident: float
    tokens: float
    seconds_per_turn: float
    seconds_at_ends: tuple[float, float] | None
    versus: dict[str, Versus]
    archive_bytes: float = 0.0
    found: Share | None = None
    margin: Estimate | None = None
    gold_per_token: Estimate | None = None

    @property
    def is_keep_all(self) -> bool:
        return policy_name(self.policy) == KEEP_ALL

    @property
    def retention(self) -> Estimate | None:
        """Accuracy / keep-all's, on the questions that both answered; keep-all's own is 1 by definition."""
        if self.is_keep_all:
            return Estimate(1.0) if self.accuracy is not None and self.accuracy.n_right else None
        return self.versus[KEEP_ALL].accuracy_ratio if KEEP_ALL in self.versus else None

    @property
    def perplexity(self) -> Estimate | None:
        return perplexity(self.gold_logprob) if self.accuracy is None else None


@dataclass(frozen=True, slots=True)
class Summary:
    """One task on one model. metric: the first of its metrics. chance: the share right that guessing gets."""

    task: str
    model: str
    answer: str
    metric: str
    chance: float
    entries: tuple[Entry, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is about text that was read, not about questions."""
        return bool(self.entries) and all(entry.accuracy is None for entry in self.entries)

    @property
    def keep_all(self) -> Entry | None:
        return next((entry for entry in self.entries if entry.is_keep_all), None)

    @property
    def habitual(self) -> bool:
        """Whether every policy gave one and the same answer nearly always, so that no memory is seen in it."""
        played = [entry for entry in self.entries if entry.budget or entry.is_keep_all]
        return bool(played) and all(e.n >= _MANY and e.habit is not None and e.habit >= _HABIT for e in played)

    @property
    def measurable(self) -> bool | None:
        """Whether keep-all's interval lies above chance; None if that is no question (plain text, no keep-all)."""
        if self.habitual:
            return False
        if self.keep_all is None or self.keep_all.accuracy is None:
            return None
        return self.keep_all.accuracy.ci[0] > self.chance


def summarize(
    rows: Sequence[Row], *, task: str, model: str, answer: str, metrics: Sequence[str], chance: float
) -> list[Summary]:
    """A summary for each metric that rows count for, in the task's order; one without entries if there are no rows.

    Each has one entry per arm in order of appearance; those of the first metric have the others' shares, too. metrics:
    the task's. chance: the task's, for want of rows; questions are judged against that of their own options.
    """
    arms: dict[ArmKey, Questions] = {}
    for row in rows:
        arms.setdefault((row.policy, row.budget), {}).setdefault((row.dialogue, row.index), row)
    there = dict.fromkeys(row.metric for row in rows)
    known = [metric for metric in metrics if any(counts_for(other, metric) for other in there)] or list(metrics[:1])
    found = dict.fromkeys([*known, *there])
    summaries: list[Summary] = []
    for metric in found:
        main = {arm: {k: row for k, row in of.items() if counts_for(row.metric, metric)} for arm, of in arms.items()}
        others = [] if summaries else [other for other in dict.fromkeys([*metrics, *there]) if other != metric]
        entries = tuple(_entry(arm, list(arms[arm].values()), main, metric, others) for arm in arms if main[arm])
        asked = [row for of in main.values() for row in of.values() if row.gold >= 0]
        summaries.append(Summary(task, model, answer, metric, _chance(asked) if asked else chance, entries))
    return summaries


def to_json(summary: Summary, further: Sequence[Summary] = (), scratch_cells: int | None = None) -> dict[str, Any]:
    """What `edge-sir eval --json` prints; figures rounded to 6 significant digits.

    further: the summaries by the task's other metrics, which come under "metrics" by their names. scratch_cells: those
    in which options were valued, beside the budget.
    """
    document: dict[str, Any] = {
        "task": summary.task,
        "model": summary.model,
        "answer": summary.answer,
        "chance": _rounded(summary.chance),
        "measurable": summary.measurable,
        "scratch_cells": scratch_cells,
        "rows": [_rounded(_entry_json(entry)) for entry in summary.entries],
    }
    if further:
        document["metrics"] = {
            other.metric: [_rounded(_entry_json(entry)) for entry in other.entries] for other in further
        }
    return document


def _chance(asked: Sequence[Row]) -> float:
    """The share right that guessing gets, the mean of 1 / options."""
    return mean([1 / len(row.logprobs) for row in asked])


# ---- entries -----------------------------------------------------------------------------------------


def _entry(
    arm: ArmKey, every: Sequence[Row], questions: dict[ArmKey, Questions], metric: str, others: Sequence[str]
) -> Entry:
    """every: the arm's rows. questions: those by the metric, of all arms. others: further metrics."""
    rows = list(questions[arm].values())
    resident = [row.gold_resident for row in rows if row.gold_resident is not None]
    ends = _last_rows(every)
    return Entry(
        policy=arm[0],
        budget=arm[1],
        n=len(rows),
        n_dialogues=len({row.dialogue for row in rows}),
        accuracy=_share(rows, metric),
        others={name: share for name in others if (share := _share(every, name)) is not None},
        habit=_habit(rows),
        gold_logprob=estimate_mean(
            [row.gold_logprob for row in rows], [row.dialogue for row in rows], weights=[row.n_scored for row in rows]
        ),
        gold_resident=mean(resident) if resident else None,
        resident=mean([row.resident for row in rows]),
        tokens=mean([row.tokens for row in ends]),
        # Turns are counted from 1 on, so a dialogue's last row has their number.
        seconds_per_turn=sum(row.seconds for row in ends) / max(1, sum(row.turn for row in ends)),
        seconds_at_ends=_at_ends(ends),
        versus=versus_references(arm, questions),
        archive_bytes=mean([row.archive_bytes for row in ends]),
        found=_found(rows),
        margin=_mean_of([(row, row.margin, 1) for row in rows]),
        gold_per_token=_mean_of([(row, row.gold_logprob / (row.n_gold or 1), row.n_gold) for row in rows]),
    )


def _mean_of(valued: Sequence[tuple[Row, float | None, int]]) -> Estimate | None:
    """The mean of (row, value, weight), drawn by dialogues; None where nothing has both a value and a weight."""
    there = [(row, value, weight) for row, value, weight in valued if value is not None and weight]
    if not there:
        return None
    rows, values, weights = zip(*there, strict=True)
    return estimate_mean(list(values), [row.dialogue for row in rows], weights=list(weights))


def _share(rows: Sequence[Row], metric: str) -> Share | None:
    """The share right; None where no question has a right answer (plain text)."""
    right = [row.correct for row in rows if counts_for(row.metric, metric) and row.gold >= 0]
    return Share(len(right), sum(right), wilson(sum(right), len(right))) if right else None


def _found(rows: Sequence[Row]) -> Share | None:
    found = [row.found for row in rows if row.found is not None]
    return Share(len(found), sum(found), wilson(sum(found), len(found))) if found else None


def _habit(rows: Sequence[Row]) -> float | None:
    chosen = Counter(row.chosen for row in rows if row.gold >= 0)
    return max(chosen.values()) / chosen.total() if chosen else None


def _last_rows(rows: Sequence[Row]) -> list[Row]:
    """Of each dialogue the row with the highest index: what is counted per dialogue has come furthest there."""
    last: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.index):
        last[row.dialogue] = row
    return list(last.values())


def _at_ends(rows: Sequence[Row]) -> tuple[float, float] | None:
    timed = [row.ends for row in rows if row.ends is not None]
    return (mean([first for first, _ in timed]), mean([last for _, last in timed])) if timed else None


# ---- JSON --------------------------------------------------------------------------------------------


def _entry_json(entry: Entry) -> dict[str, Any]:
    accuracy = entry.accuracy
    row: dict[str, Any] = {
        "policy": entry.policy,
        "budget": entry.budget,
        "n": entry.n,
        "accuracy": accuracy and accuracy.value,
        "ci": accuracy and accuracy.ci,
        **_estimate_json("retention", entry.retention),
        **_estimate_json("gold_logprob", entry.gold_logprob),
        **_estimate_json("margin", entry.margin),
        **_estimate_json("gold_logprob_per_token", entry.gold_per_token),
        "gold_resident": entry.gold_resident,
        "n_dialogues": entry.n_dialogues,
        "resident": entry.resident,
        "tokens": entry.tokens,
        "seconds_per_turn": entry.seconds_per_turn,
        "archive_bytes": entry.archive_bytes,
    }
    if entry.found is not None:
        row |= {"found": entry.found.value, "found_ci": entry.found.ci, "found_n": entry.found.n}
    if entry.seconds_at_ends is not None:
        row["seconds_per_turn_at_ends"] = entry.seconds_at_ends
    for name, share in entry.others.items():
        row |= {f"accuracy_{name}": share.value, f"ci_{name}": share.ci, f"n_{name}": share.n}
    if accuracy is None:
        row |= _estimate_json("perplexity", entry.perplexity)
    for name, versus in entry.versus.items():
        row[f"vs_{name.replace('-', '_')}"] = _versus_json(versus)
    return row


def _versus_json(versus: Versus) -> dict[str, Any]:
    found = {"n": versus.n, **_estimate_json("gold_logprob", versus.gold_logprob)}
    if versus.p is not None:
        found |= _estimate_json("accuracy", versus.accuracy)
        found |= {"only_this": versus.n_only_arm, "only_other": versus.n_only_reference, "mcnemar_p": versus.p}
    return found


def _estimate_json(name: str, estimate: Estimate | None) -> dict[str, Any]:
    return {name: estimate and estimate.value, f"{name}_ci": estimate and estimate.ci}


def _rounded(value: Any) -> Any:
    """The same in plain JSON types: no tuples, no NaN, floats of 6 significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
