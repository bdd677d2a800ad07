"""Two arms on the questions that both answered: differences with paired intervals, and McNemar's test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sir.eval.records import Row
from edge_sir.eval.report.stats import Estimate, bootstrap_mean, bootstrap_ratio, estimate_mean, mcnemar
from edge_sir.eval.task import counts_for

__all__ = [
    "KEEP_ALL",
    "REFERENCES",
    "ArmKey",
    "Questions",
    "Versus",
    "compare",
    "perplexity",
    "policy_name",
    "versus_references",
]

KEEP_ALL = "keep-all"
REFERENCES = (KEEP_ALL, "sirllm", "streaming")
"""What every arm is compared with: keep-all at any budget, the others (as named, without keys) at the same."""

ArmKey = tuple[str, int]
"""A policy (the spec as given) and its budget."""
Questions = dict[tuple[str, int], Row]
"""One arm's rows by (dialogue, index)."""


@dataclass(frozen=True, slots=True)
class Versus:
    """An arm against a reference on the `n` questions that both answered; intervals are paired.

    gold_logprob: mean of (arm - reference), nats, of plain text over its tokens. accuracy: the share right, arm -
    reference. accuracy_ratio: right answers of the arm over the reference's, None if the latter has none; its interval
    is against keep-all alone. margin: mean of (arm - reference), nats. n_only_arm, n_only_reference: questions that
    just this one got right; p: McNemar's exact. Of plain text all but gold_logprob is None.
    """

    n: int
    gold_logprob: Estimate
    accuracy: Estimate | None = None
    accuracy_ratio: Estimate | None = None
    margin: Estimate | None = None
    n_only_arm: int | None = None
    n_only_reference: int | None = None
    p: float | None = None

    @property
    def perplexity_ratio(self) -> Estimate:
        """Of plain text, the arm's perplexity over the reference's."""
        return perplexity(self.gold_logprob)


def compare(rows: Sequence[Row], arm: ArmKey, other: ArmKey, metric: str) -> Versus | None:
    """Two arms on the questions of `metric` that both answered; None if there are none."""
    found: dict[ArmKey, Questions] = {arm: {}, other: {}}
    for row in rows:
        if counts_for(row.metric, metric) and (row.policy, row.budget) in found:
            found[row.policy, row.budget].setdefault((row.dialogue, row.index), row)
    return _versus(found[arm], found[other], other[0])


def versus_references(arm: ArmKey, arms: dict[ArmKey, Questions]) -> dict[str, Versus]:
    """One of `arms` against each of REFERENCES that is among them, by name; nothing for keep-all itself."""
    if policy_name(arm[0]) == KEEP_ALL:
        return {}
    found: dict[str, Questions] = {}
    for name in REFERENCES:
        for other, rows in arms.items():
            is_it = policy_name(other[0]) == KEEP_ALL if name == KEEP_ALL else other == (name, arm[1])
            if is_it and other != arm:
                found.setdefault(name, rows)
    compared = {name: _versus(arms[arm], rows, name) for name, rows in found.items()}
    return {name: versus for name, versus in compared.items() if versus is not None}


def policy_name(spec: str) -> str:
    """The policy that a specification names, without its keys."""
    return spec.partition(":")[0].strip()


def perplexity(logprob: Estimate) -> Estimate:
    """exp(-x) of a mean log-probability."""
    return logprob.map(lambda x: math.exp(-x))


def _versus(arm: Questions, reference: Questions, name: str) -> Versus | None:
    both = [(row, reference[key]) for key, row in arm.items() if key in reference]
    if not both:
        return None
    gaps = [a.gold_logprob - b.gold_logprob for a, b in both]
    gap = estimate_mean(gaps, [a.dialogue for a, _ in both], weights=[a.n_scored for a, _ in both])
    asked = [(a, b) for a, b in both if a.gold >= 0]
    if not asked:
        return Versus(len(both), gap)
    dialogues = [a.dialogue for a, _ in asked]
    ours, theirs = [a.correct for a, _ in asked], [b.correct for _, b in asked]
    differ = [a - b for a, b in zip(ours, theirs, strict=True)]
    margins = [(a.dialogue, x - y) for a, b in asked if (x := a.margin) is not None and (y := b.margin) is not None]
    ratio_ci = bootstrap_ratio(ours, theirs, dialogues) if name == KEEP_ALL else None
    return Versus(
        n=len(both),
        gold_logprob=gap,
        accuracy=Estimate(sum(differ) / len(asked), bootstrap_mean(differ, dialogues)),
        accuracy_ratio=Estimate(sum(ours) / sum(theirs), ratio_ci) if any(theirs) else None,
        margin=estimate_mean([gap for _, gap in margins], [name for name, _ in margins]) if margins else None,
        n_only_arm=differ.count(1),
        n_only_reference=differ.count(-1),
        p=mcnemar(ours, theirs),
    )
