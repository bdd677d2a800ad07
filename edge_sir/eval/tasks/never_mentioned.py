"""Which of four things was never mentioned."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell

__all__ = ["NeverMentioned"]

_THINGS = words(
    "towel,rope,lamp,knife,hat,map,book,pen,blanket,mirror,pillow,whistle,compass,raincoat,hammock,thermos,tripod,"
    "harmonica,magnifier,monocle,kimono,chessboard,corkscrew,metronome"
)

_FACTS = (
    "Remember to pack a {}.",
    "For the journey, remember to pack a {}.",
    "You also have to remember to pack a {}.",
    "Remember to pack a {}, too.",
    "It is a long way, so remember to pack a {}.",
)


class NeverMentioned(FactTask):
    """Three of four things were mentioned, each in an exchange of its own.

    A small model names what it has seen, never what it has not, so an option is what remains when one is left out.
    """

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        *told, never = r.sample(_THINGS, 4)
        phrases = r.sample(_FACTS, 3)
        facts = tuple(tell(r, text.format(thing), [thing]) for text, thing in zip(phrases, told, strict=True))
        lists = [told, *([never if x == left_out else x for x in told] for left_out in told)]
        right, *wrong = (f"{a}, remember to pack a {b} and remember to pack a {c}" for a, b, c in lists)
        user = "What did I ask you to pack? Leave out what I never mentioned."
        return FactsAndQuestion(facts, ask(r, user, "You said: remember to pack a", right, wrong), (*told, never))
