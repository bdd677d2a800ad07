"""Which came first."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["Order"]

_PLACES = words(
    "museum,harbour,market,church,zoo,library,theatre,stadium,castle,school,bakery,cemetery,planetarium,"
    "brewery,vineyard,monastery"
)

_STOPS = (
    "The very first stop on my tour was the {}.",
    "Then I went on to a {}.",
    "After that I had a look at a {}.",
    "In the evening it all ended in a {}.",
)


class Order(FactTask):
    """Which of four places, told in four exchanges, was the first.

    The question begins the answer with the words that the first stop alone was told with. So it measures whether that
    statement is still there among its rivals, not whether the order is known: a 135M model with everything in its
    cache names the last stop rather than the first if all four are told in the same words.
    """

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        places = r.sample(_PLACES, 4)
        facts = tuple(
            tell(r, stop.format(place), [place], asked=i == 0)
            for i, (stop, place) in enumerate(zip(_STOPS, places, strict=True))
        )
        question = ask_back(r, "Where did I go first?", _STOPS[0], places[0], places[1:])
        return FactsAndQuestion(facts, question, tuple(places))
