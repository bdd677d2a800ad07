"""One thing to buy."""

import random

from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell
from edge_sir.eval.tasks._things import GROCERIES

_FACTS = (
    ("I want you to buy {}.", "You said that you want me to buy"),
    ("Please buy {} for me.", "You said: please buy"),
    ("When you go out later, buy {}.", "When I go out later, I buy"),
    ("On the way home you could buy {}.", "On the way home I could buy"),
    ("The only thing on my shopping list is {}.", "The only thing on your shopping list is"),
)


class SingleItem(FactTask):
    """Which thing was to be bought."""

    def plot(self, r: random.Random) -> Plot:
        fact, stem = r.choice(_FACTS)
        right, *wrong = r.sample(GROCERIES, 4)
        question = ask(r, "What did I want you to buy?", stem, right, wrong)
        return Plot((tell(r, fact.format(right), [right]),), question, (right, *wrong))
