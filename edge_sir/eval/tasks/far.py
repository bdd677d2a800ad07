"""A hundred facts, told 1k to 100k tokens before they are asked for, half of them asked for in other words.

Twenty facts stand around each distance, spread evenly from 0.9 to 1.1 of it; around 1,000 tokens they have no room
there and stand side by side. At the end there is one probe for each. Half of a distance's questions share no content
word with their fact ("overlap-0"): they ask for an errand that no other fact of the dialogue has. The others name it
and the person whom it is for ("overlap-1"), and the same errand may be for others, too.
"""

import random
from collections.abc import Iterator, Sequence

from edge_sir.eval.chatter import endless, length
from edge_sir.eval.task import Ask, Dialogue, Say, Setup, Task
from edge_sir.eval.tasks._distances import reached, talk_of
from edge_sir.eval.tasks._errands import ERRANDS, NAMES
from edge_sir.eval.tasks._paper.topics import fact

__all__ = ["DISTANCES", "N_FACTS", "Far"]

DISTANCES = {"recall_10k": 10_000, "recall_1k": 1_000, "recall_3k": 3_000, "recall_30k": 30_000, "recall_100k": 100_000}
"""Tokens between a fact and the end, by metric."""

N_FACTS = 20
"""Facts around each distance."""

_PARTS = ("overlap-0", "overlap-1")
_AROUND = 0.2  # from 0.9 to 1.1 of the distance
_TOKENS = 60  # of a short dialogue for each fact
_N_UNNAMED = 50  # errands that are asked for in other words, at most; the rest is for people

_Told = tuple[Say, Ask]


class Far(Task):
    """A hundred facts, told 1k to 100k tokens ago; half of the questions share no word with them (accuracy: 10k)

    `n_tokens` is the longest distance, what lies farther is left out; below 1,000, a few facts at that distance are all
    (they count for "recall_1k"; each answer's distance is in its row).
    """

    metrics = (*DISTANCES, *(f"{metric}/{part}" for metric in DISTANCES for part in _PARTS))
    x_label = "tokens since the fact"
    n_default = 1
    n_tokens = max(DISTANCES.values())

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        distances = sorted(reached(DISTANCES, setup).items(), key=lambda item: item[1])
        n_facts = N_FACTS if setup.n_tokens >= DISTANCES["recall_1k"] else max(2 * (setup.n_tokens // (2 * _TOKENS)), 2)
        facts = _facts(r, [metric for metric, _ in distances], n_facts)
        placed = [pair for (_, n), group in zip(distances, facts, strict=True) for pair in _placed(setup, n, group)]
        asks = [ask for group in facts for _, ask in group]
        talk = endless(r, 100, avoid=sorted({option for ask in asks for option in ask.options}))
        return talk_of(setup, index, r, placed, talk, asks)


def _facts(r: random.Random, metrics: Sequence[str], n_facts: int) -> list[list[_Told]]:
    """For each metric as many facts, half of them for somebody and half not, in drawn order."""
    errands = r.sample(ERRANDS, len(ERRANDS))
    unnamed, shared = iter(errands[:_N_UNNAMED]), errands[_N_UNNAMED:]
    names = iter(r.sample(NAMES, len(NAMES)))
    found: list[list[_Told]] = []
    for metric in metrics:
        group = [fact(r, next(unnamed), f"{metric}/{_PARTS[0]}") for _ in range(n_facts // 2)]
        group += [fact(r, r.choice(shared), f"{metric}/{_PARTS[1]}", next(names)) for _ in range(n_facts // 2)]
        r.shuffle(group)
        found.append(group)
    return found


def _placed(setup: Setup, distance: int, group: Sequence[_Told]) -> Iterator[tuple[float, Say]]:
    """The facts with their distances from the end, the nearest first; where they need more room, side by side."""
    span = max(_AROUND * distance, sum(length(say, setup.count_tokens) for say, _ in group))
    for i, (say, _) in enumerate(group):
        yield distance + (i / max(len(group) - 1, 1) - 0.5) * span, say
