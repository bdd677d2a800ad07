"""Which came first."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell

_PLACES = words(
    "museum,harbour,market,church,zoo,library,theatre,stadium,castle,airport,school,bakery,cemetery,planetarium,"
    "observatory,brewery,vineyard,monastery"
)

_STOPS = (
    "The first stop on my tour was the {}.",
    "Then I went on to the {}.",
    "After that I had a look at the {}.",
    "In the evening it all ended at the {}.",
)


class Order(FactTask):
    """Which of four places, told in four exchanges, was the first."""

    def plot(self, r: random.Random) -> Plot:
        places = r.sample(_PLACES, 4)
        facts = tuple(tell(r, stop.format(place), [place]) for stop, place in zip(_STOPS, places, strict=True))
        question = ask(r, "Where did I go first?", "The first stop on your tour was the", places[0], places[1:])
        return Plot(facts, question, tuple(places))
