"""One thing to buy."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell
from edge_sir.eval.tasks._things import GROCERIES

__all__ = ["SingleItem"]

_FACTS = (
    "I want you to buy {}.",
    "Please buy {} for me.",
    "When you go out later, buy {}.",
    "On the way home you could buy {}.",
    "The only thing on my shopping list is {}.",
)


class SingleItem(FactTask):
    """Which thing was to be bought."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact = r.choice(_FACTS)
        right, *wrong = r.sample(GROCERIES, 4)
        question = ask_back(r, "What did I want you to buy?", fact, right, wrong)
        return FactsAndQuestion((tell(r, fact.format(right), [right]),), question, (right, *wrong))
