"""A wish, and later another one in its place."""

import random

from edge_sir.eval.tasks._fact import FactTask, Plot, ask_back, tell
from edge_sir.eval.tasks._things import GROCERIES

__all__ = ["Correction"]

_WISHES = ("I want you to buy {}.", "Please buy {} for me.", "When you go out later, buy {}.")

_CORRECTIONS = (
    ("Actually, not {old}. ", "In the end I would rather have {}."),
    ("I changed my mind. ", "In the end I would rather have {}."),
    ("Forget the {old}. ", "On second thoughts we had better take {}."),
    ("Forget what I said. ", "On second thoughts we had better take {}."),
)


class Correction(FactTask):
    """The latest wish must win over the withdrawn one."""

    def plot(self, r: random.Random) -> Plot:
        new, old, *others = r.sample(GROCERIES, 4)
        before, sentence = r.choice(_CORRECTIONS)
        wish = tell(r, r.choice(_WISHES).format(old), [old], asked=False)
        correction = tell(r, before.format(old=old) + sentence.format(new), [new])
        question = ask_back(r, "What do I want you to buy, after all?", sentence, new, [old, *others])
        return Plot((wish, correction), question, (new, old, *others))
