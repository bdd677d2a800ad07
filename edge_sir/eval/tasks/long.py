"""Facts told 1k, 3k, 10k, 30k and 100k tokens before they are asked for, in one stream of talk.

Three facts stand around each distance (at 0.9, 1 and 1.1 of it), all about different things, and at the end there is
one probe for each. So one long dialogue gives fifteen answers, and every distance is asked under the same load.
"""

from edge_sir.eval.chatter import endless
from edge_sir.eval.task import Dialogue, Setup, Task
from edge_sir.eval.tasks._distances import reached, talk_of
from edge_sir.eval.tasks._paper.topics import TOPICS, fact

__all__ = ["Long"]

DISTANCES = {"recall_1k": 1_000, "recall_3k": 3_000, "recall_10k": 10_000, "recall_30k": 30_000, "recall_100k": 100_000}
"""Tokens between a fact and the end, by metric."""

_AROUND = (0.9, 1.0, 1.1)


class Long(Task):
    """Facts told 1k, 3k, 10k, 30k and 100k tokens before the question, in one dialogue.

    `n_tokens` is the longest distance; below 1,000, three facts at that distance are all (they count for "recall_1k";
    each answer's distance is in its row).
    """

    metrics = tuple(DISTANCES)
    x_label = "tokens since the fact"
    n_default = 1
    n_tokens = max(DISTANCES.values())

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        places = [(metric, share * n) for metric, n in reached(DISTANCES, setup).items() for share in _AROUND]
        topics = r.sample(TOPICS, len(places))
        told = [(place, *fact(r, topic, metric)) for (metric, place), topic in zip(places, topics, strict=True)]
        asks = [ask for _, _, ask in told]
        talk = endless(r, 50, avoid=[option for ask in asks for option in ask.options])
        return talk_of(setup, index, r, [(place, say) for place, say, _ in told], talk, asks)
