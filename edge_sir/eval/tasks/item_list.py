"""A list of three things."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell
from edge_sir.eval.tasks._things import GROCERIES

__all__ = ["ItemList"]

_FACTS = (
    "My shopping list has three things on it: {}, {} and {}.",
    "On my shopping list are {}, {} and {}.",
    "The shopping list for tonight is {}, {} and {}.",
)


class ItemList(FactTask):
    """Which three things are on a list; each wrong list shares one of them with the right one."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        words = r.sample(GROCERIES, 6)
        (a, b, c), (x, y, z) = words[:3], words[3:]
        right, *wrong = (f"{p}, {q} and {s}" for p, q, s in ((a, b, c), (a, y, z), (x, b, z), (x, y, c)))
        question = ask(r, "What is on my shopping list?", "The three things on your shopping list are", right, wrong)
        return FactsAndQuestion((tell(r, r.choice(_FACTS).format(a, b, c), [a, b, c]),), question, tuple(words))
