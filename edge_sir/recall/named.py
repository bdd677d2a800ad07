"""Whom a message names, and which of the turns that match it are about somebody else.

The same thing said of several people matches a question about one of them. Recalled side by side, a small model takes
one for the other, and what is about others fills cells for nothing.

That a turn lacks the name says little: it may say "she", or correct what was said ("the flight was moved"). So it must
give another name in the same place: beside the same word as the message's name in another turn, as "for Petra" and "for
Victor", or "Omar's birthday" and "Lena's birthday".
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from edge_sir.recall.terms import is_german, is_weak, terms

__all__ = ["Named", "names"]

_WORD = re.compile(r"[^\W\d_][\w'’]*")
_BEGINS = frozenset('.!?:;"“„«([')  # what stands before the first word of a sentence
_TIME_WORDS = """
monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december christmas easter
"""
_TIMES = frozenset(_TIME_WORDS.split())
_LINKS = frozenset({"is", "are", "was", "were"})  # beside any name
_COMPARES = re.compile(
    r"\b(?:besides|apart from|aside from|except|other than|else|than|instead of|as well as|same)\b", re.IGNORECASE
)


class _Word(NamedTuple):
    """A word without its ending ("Petra" of "Petra's"), and those before and after it in its sentence, "" for none."""

    text: str
    begins: bool
    before: str
    after: str

    @property
    def is_capital(self) -> bool:
        return len(self.text) > 1 and self.text[0].isupper() and not self.text.isupper()

    @property
    def places(self) -> set[tuple[str, str]]:
        """Where it stands: after which word, and before which."""
        beside = {("after", self.before.lower()), ("before", self.after.lower())}
        return {place for place in beside if place[1] and place[1] not in _LINKS}


def _words(text: str) -> Iterator[_Word]:
    found: list[tuple[str, bool]] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        bare = gap.rstrip()
        begins = (not found and not bare) or "\n" in gap[len(bare) :] or bare[-1:] in _BEGINS
        found.append((re.split("['’]", match[0])[0], begins))
        end = match.end()
    for i, (word, begins) in enumerate(found):
        before = "" if begins or not i else found[i - 1][0]
        after = found[i + 1][0] if i + 1 < len(found) and not found[i + 1][1] else ""
        yield _Word(word, begins, before, after)


def names(text: str) -> list[str]:
    """The terms of a message that are written as names: with a capital letter, inside a sentence.

    None of a German text, or of one in which the words of all texts have capitals as well: they mark no name there.
    Days and months are none, since a question about a date that was changed may give the old one.
    """
    found = [word.text for word in _words(text) if word.is_capital and not word.begins]
    if is_german(text) or not all(map(terms, found)):
        return []
    return [term for word in found for term in terms(word) if term not in _TIMES]


@dataclass(frozen=True, slots=True)
class Named:
    """What a message names. names: their stems; stems: of all its terms; asks_whether: it may give what was so."""

    names: frozenset[str]
    stems: frozenset[str]
    asks_whether: bool

    @classmethod
    def of(cls, text: str, stems: Mapping[str, str], asks_whether: bool) -> "Named":
        """stems: by term. No names where the message compares: there others are asked about, too."""
        named = frozenset() if _COMPARES.search(text) else frozenset(stems[n] for n in names(text) if n in stems)
        return cls(named, frozenset(stems.values()), asks_whether)

    def about_others(
        self,
        sentences: Mapping[int, Collection[frozenset[str]]],
        held: Mapping[int, frozenset[str]],
        said: Callable[[int], str],
        stems_of: Callable[[Iterable[str]], Mapping[str, str]],
    ) -> set[int]:
        """The turns that give another name in the place of the message's, and hold no more of it than that turn.

        sentences: by turn what each sentence of its user holds of the message, as stems; held: the same of whole turns,
        the model's sentences included; said: what the user said in a turn; stems_of: of terms. Where the message asks
        whether something is so, what came after the other turn stays: it may be a correction.
        """
        told = {turn: [s for s in holds if s & self.names] for turn, holds in sentences.items()}
        told = {turn: holds for turn, holds in told.items() if holds}
        places = lru_cache(None)(lambda turn: self._places(said(turn), stems_of))
        others = set()
        for turn, stems in held.items():
            if not stems or stems & self.names:
                continue
            better = [other for other, holds in told.items() if any(stems < sentence for sentence in holds)]
            if self.asks_whether:
                better = [other for other in better if turn < other]
            if better and not places(turn).is_named and any(places(turn).others & places(o).named for o in better):
                others.add(turn)
        return others

    def _places(self, text: str, stems_of: Callable[[Iterable[str]], Mapping[str, str]]) -> "_Places":
        found = [(word, terms(word.text)) for word in _words(text)]
        stems = stems_of(term for _, its in found for term in its)
        places = _Places(False, set(), set())
        for word, its in found:
            own = {stems[term] for term in its if term in stems}
            if own & self.names:
                places = places._replace(is_named=True)
                places.named.update(word.places)
            elif word.is_capital and own and not own & self.stems and not any(t in _TIMES or is_weak(t) for t in its):
                places.others.update(word.places)
        return places


class _Places(NamedTuple):
    """Whether a text has a name of the message; where such names stand, and where others."""

    is_named: bool
    named: set[tuple[str, str]]
    others: set[tuple[str, str]]
