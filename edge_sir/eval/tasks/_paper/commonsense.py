"""Common-sense questions with five options, written for this project in the form of the paper's.

In texts/commonsense.txt, one line each: the question, the right answer, then four wrong ones, with bars between.
"""

import random

from edge_sir.eval.tasks._paper.files import Item
from edge_sir.eval.texts import read

__all__ = ["QUESTIONS", "questions"]

QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (question, tuple(options))
    for question, *options in (line.split("|") for line in read("commonsense.txt").strip().splitlines())
)
"""(question, options), the right one first."""


def questions(r: random.Random, n: int) -> list[Item]:
    """`n` different questions, their options in drawn order."""
    found = []
    for stem, options in r.sample(QUESTIONS, n):
        order = r.sample(options, len(options))
        found.append(Item("", stem, tuple(order), order.index(options[0])))
    return found
