"""A wish, and later another one in its place."""

import random

from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell
from edge_sir.eval.tasks._things import GROCERIES

__all__ = ["Correction"]

_WISHES = ("I want you to buy {}.", "Please buy {} for me.", "When you go out later, buy {}.")

_CORRECTIONS = (
    ("Actually, not {old}. In the end I would rather have {new}.", "In the end you would rather have"),
    ("I changed my mind, in the end I would rather have {new}.", "In the end you would rather have"),
    ("Forget the {old}, on second thoughts we had better take {new}.", "On second thoughts we had better take"),
    ("Forget what I said, on second thoughts we had better take {new}.", "On second thoughts we had better take"),
)


class Correction(FactTask):
    """The latest wish must win over the withdrawn one."""

    def plot(self, r: random.Random) -> Plot:
        new, old, *others = r.sample(GROCERIES, 4)
        text, stem = r.choice(_CORRECTIONS)
        wish = tell(r, r.choice(_WISHES).format(old), [old], asked=False)
        correction = tell(r, text.format(old=old, new=new), [new])
        question = ask(r, "What do I want you to buy, after all?", stem, new, [old, *others])
        return Plot((wish, correction), question, (new, old, *others))
