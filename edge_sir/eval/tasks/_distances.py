"""Facts at given distances from the end of a long talk: what `long` and `far` share."""

import random
from collections.abc import Iterable, Iterator, Mapping

from edge_sir.eval.chatter import length
from edge_sir.eval.task import Ask, Dialogue, Say, Setup

__all__ = ["reached", "talk_of"]


def reached(distances: Mapping[str, int], setup: Setup) -> dict[str, int]:
    """Metrics and distances, as far as `n_tokens` lets them reach; below all of them that length for "recall_1k"."""
    found = {metric: n for metric, n in distances.items() if n <= setup.n_tokens}
    return found or {"recall_1k": setup.n_tokens}


def talk_of(
    setup: Setup,
    index: int,
    r: random.Random,
    placed: Iterable[tuple[float, Say]],
    talk: Iterator[Say],
    asks: Iterable[Ask],
) -> Dialogue:
    """Dialogue `index`: a lead, each fact so many tokens before the end, talk between, the questions in drawn order.

    placed: the facts with their distances, the nearest first. talk: draws from `r`, too.
    """
    backwards: list[Say] = []
    distance = 0
    for place, say in placed:
        while distance < place:
            backwards.append(next(talk))
            distance += length(backwards[-1], setup.count_tokens)
        backwards.append(say)
        distance += length(say, setup.count_tokens)
    lead = [next(talk) for _ in range(3 if setup.lead is None else setup.lead)]
    asked = list(asks)
    r.shuffle(asked)
    return Dialogue(f"{setup.seed}-{index}", (*lead, *reversed(backwards), *asked))
