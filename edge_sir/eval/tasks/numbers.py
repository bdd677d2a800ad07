"""Numbers and codes, from a head count in words to a six-digit code."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell

__all__ = ["Numbers"]

_WORDS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen")

_KINDS = (
    (4, "The code of the front door is {}.", "What is the code of the front door?", "The code of the front door is"),
    (3, "My locker at the gym has the number {}.", "Which number has my locker?", "Your locker has the number"),
    (2, "I take the bus with the number {}.", "Which bus do I take?", "You take the bus with the number"),
    (6, "The alarm is switched off with {}.", "How is the alarm switched off?", "The alarm is switched off with"),
    (4, "My extension at work is {}.", "What is my extension at work?", "Your extension at work is"),
    (0, "We have a table for {} at the restaurant.", "How big is our table?", "You have a table for"),
    (0, "The party takes place on floor {}.", "On which floor is the party?", "The party takes place on floor"),
)


class Numbers(FactTask):
    """A number that somebody told; one of the wrong ones differs in its last digit alone."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        n_digits, fact, user, stem = r.choice(_KINDS)
        right, *wrong = _twins(r, n_digits) if n_digits else r.sample(_WORDS, 4)
        question = ask(r, user, stem, right, wrong)
        return FactsAndQuestion((tell(r, fact.format(right), [right]),), question, (right, *wrong))


def _twins(r: random.Random, n_digits: int) -> list[str]:
    """Two pairs of numbers that differ in the last digit, so that none stands out among the four."""
    starts = r.sample(range(10 ** (n_digits - 2), 10 ** (n_digits - 1)), 2)
    return [f"{start}{last}" for start in starts for last in r.sample(range(10), 2)]
