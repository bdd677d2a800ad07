"""A wish, and later another one in its place."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell
from edge_sir.eval.tasks._things import GROCERIES

__all__ = ["Correction"]

# Both wishes are told in the same words, so that to find the words that the answer begins with is not enough.
_WISHES = ("I want you to buy", "I would like you to buy", "I need you to get")

_CHANGES = (
    "Not {old}, I changed my mind. Now ",
    "Actually, not the {old}. In the end, ",
    "I have changed my mind about what I said before. In the end, ",
    "Forget what I said before. Now ",
)

_QUESTION = "What do I want now, and not the other thing that I wanted before?"
_STEM = 'You changed your mind, and the last thing you said was: "'


class Correction(FactTask):
    """The latest wish must win over the withdrawn one."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        new, old, *others = r.sample(GROCERIES, 4)
        words, change = r.choice(_WISHES), r.choice(_CHANGES).format(old=old)
        wish = tell(r, f"{words} {old}.", [old], asked=False)
        correction = tell(r, f"{change}{words} {new}.", [new])
        question = ask(r, _QUESTION, _STEM + words, new, [old, *others])
        return FactsAndQuestion((wish, correction), question, (new, old, *others))
