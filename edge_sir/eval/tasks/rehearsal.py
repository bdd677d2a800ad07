"""A fact that is said more than once."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell

__all__ = ["Rehearsal"]

_PLACES = words(
    "doormat,bench,stone,bucket,stairs,roof,tree,chair,table,flowerpot,birdbath,gnome,wheelbarrow,sundial,trampoline,"
    "hydrangea"
)

_FACTS = (
    "The spare key is under the {}.",
    "If you lock yourself out: the spare key is under the {}.",
    "You can always get in, the spare key lies under the {}.",
    "Remember, the spare key is hidden under the {}.",
)


class Rehearsal(FactTask):
    """A fact that is said three times, in other words."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        right, *wrong = r.sample(_PLACES, 4)
        facts = tuple(tell(r, fact.format(right), [right]) for fact in r.sample(_FACTS, 3))
        question = ask(r, "Where is the spare key?", "The spare key is under the", right, wrong)
        return FactsAndQuestion(facts, question, (right, *wrong))
