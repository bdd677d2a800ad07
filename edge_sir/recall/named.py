"""Whom a message names, and which of the turns that match it are about somebody else.

The same thing said of several people matches a question about one of them. Recalled side by side, a small model takes
one for the other, and what is about others fills cells for nothing.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from edge_sir.recall.terms import is_german, terms

__all__ = ["about_others", "names"]

_WORD = re.compile(r"[^\W\d_][\w'’]*")
_BEGINS = re.compile(r"(?:^|[.!?:;\n\"“„«(\[])\s*$")  # what stands before the first word of a sentence
_TIME_WORDS = """
monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december christmas easter
"""
_TIMES = frozenset(_TIME_WORDS.split())
_BESIDE = 1  # turns


def names(text: str) -> list[str]:
    """The terms of a message that are written as names: with a capital letter, inside a sentence.

    None of a German text, or of one in which the words of all texts have capitals as well: they mark no name there.
    Days and months are none, since a question about a date that was changed may give the old one.
    """
    found = list(_capitals(text))
    if is_german(text) or not all(map(terms, found)):
        return []
    return [term for word in found for term in terms(word) if term not in _TIMES]


def _capitals(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = re.split("['’]", match[0])[0]
        if len(word) > 1 and word[0].isupper() and not word.isupper() and not _BEGINS.search(text[: match.start()]):
            yield word


def about_others(
    sentences: Mapping[int, Collection[frozenset[str]]],
    held: Mapping[int, frozenset[str]],
    named: frozenset[str],
    may_correct: Callable[[int], bool],
) -> set[int]:
    """The turns that hold none of the names, where another turn holds one and all that they hold, in one sentence.

    sentences: by turn what each sentence of its user holds of the message, as stems; held: the same of whole turns, the
    model's sentences included; named: the message's names. The turn beside the other one is not among them, since it
    may go on about the same ("she"), nor is the newest one if it came later and may correct what the other says.
    """
    told = {turn: [s for s in said if s & named] for turn, said in sentences.items()}
    told = {turn: said for turn, said in told.items() if said}
    others = set()
    for turn, stems in held.items():
        if stems and not stems & named:
            better = [other for other, said in told.items() if any(stems < sentence for sentence in said)]
            if better and all(abs(turn - other) > _BESIDE for other in better):
                others.add(turn)
    if others and (newest := max(others)) > max(told) and may_correct(newest):
        others.remove(newest)
    return others
