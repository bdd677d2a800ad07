"""Whom a message names, and which of the turns that match it are about somebody else.

The same thing said of several people matches a question about one of them. Recalled side by side, a small model takes
one for the other, and what is about others fills cells for nothing.

That a turn lacks the name says little: it may say "she", or correct what was said ("the flight was moved"). So it must
give another name in the same place: beside the same word as the message's name in another turn, as "for Petra" and "for
Victor", or "Omar's birthday" and "Lena's birthday".
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from edge_sir.recall.asking import asks_whether
from edge_sir.recall.terms import is_german, is_weak, terms

__all__ = ["Named", "names"]

_WORD = re.compile(r"[^\W\d_][\w'’]*")
_BEGINS = frozenset('.!?:;"“„«([…¿¡')  # what stands before the first word of a sentence
_TIME_WORDS = """
monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december christmas easter
"""
_TIMES = frozenset(_TIME_WORDS.split())
_LINK_WORDS = "is are was were and or a an the my our your his her their this that no"
_LINKS = frozenset(_LINK_WORDS.split())  # beside any name
_COMPARES = re.compile(
    r"\b(?:besides|apart from|aside from|except|other than|else|than|instead of|as well as|same)\b", re.IGNORECASE
)
_FIRST = "first before"
_ALIKE = 2  # letters that a word and its stem have in common at least


class _Word(NamedTuple):
    """A word without its ending ("Petra" of "Petra's"), and those before and after it in its sentence, "" for none."""

    text: str
    is_owner: bool
    begins: bool
    before: str = ""
    after: str = ""

    @property
    def is_capital(self) -> bool:
        return len(self.text) > 1 and self.text[0].isupper() and not self.text.isupper()

    @property
    def is_name(self) -> bool:
        """Whether it is written as a name. The first word of a sentence is one for certain if it owns something."""
        return self.is_capital and (self.is_owner or not self.begins) and terms(self.text) != []

    @property
    def places(self) -> set[tuple[str, str]]:
        """Where it stands: after which word, before which, and as the first word before which."""
        beside = {("after", self.before), ("before", self.after)}
        if self.begins:
            beside.add((_FIRST, self.after))
        return {(where, word.lower()) for where, word in beside if word and word.lower() not in _LINKS}


def _words(text: str) -> Iterator[_Word]:
    found: list[_Word] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        word, *ending = re.split("['’]", match[0])
        begins = not found or "\n" in gap or gap.rstrip()[-1:] in _BEGINS
        found.append(_Word(word, ending == ["s"], begins))
        end = match.end()
    for i, word in enumerate(found):
        before = "" if word.begins else found[i - 1].text
        after = found[i + 1].text if i + 1 < len(found) and not found[i + 1].begins else ""
        yield word._replace(before=before, after=after)


def names(text: str) -> list[str]:
    """The terms of a message that are written as names: with a capital letter, inside a sentence or as "Petra's".

    None of a German text, or of one that writes "The" or "Did" with a capital inside a sentence: capitals mark no name
    there. Days and months are none, since a question about a date that was changed may give the old one.
    """
    found = list(_words(text))
    if is_german(text) or any(w.is_capital and not w.begins and not terms(w.text) for w in found):
        return []
    return [term for word in found if word.is_name for term in terms(word.text) if _may_name(term)]


def _may_name(term: str) -> bool:
    return term not in _TIMES and not is_weak(term)


@dataclass(frozen=True, slots=True)
class Named:
    """What a message names: stems of names. stems: of all its terms. asks_whether: it asks whether something is so."""

    names: frozenset[str]
    stems: frozenset[str]
    asks_whether: bool

    @classmethod
    def of(cls, text: str, subject: str, stems: Mapping[str, str]) -> "Named":
        """stems: by term. subject: the question that the message follows up, or "": its names count if it gives none.

        No names where it compares: there others are asked about, too.
        """
        own, before = names(text), names(subject)
        given = set(own or before)
        replaced = set(before) - given
        is_open = _COMPARES.search(f"{subject}\n{text}") is not None
        return cls(
            frozenset() if is_open else frozenset(stems[name] for name in given if name in stems),
            frozenset(stem for term, stem in stems.items() if term not in replaced),
            asks_whether(text) or asks_whether(subject),
        )

    def about_others(
        self,
        sentences: Mapping[int, Collection[frozenset[str]]],
        held: Mapping[int, frozenset[str]],
        said: Callable[[int], str],
        stems_of: Callable[[Iterable[str]], Mapping[str, str]],
    ) -> set[int]:
        """The turns that are about somebody else: they give another name where another turn has one of the message's.

        Of the message they hold a part of what one sentence of that turn holds. sentences: by turn what each sentence
        of its user holds of the message, as stems; held: the same of whole turns, the model's sentences included; said:
        what the user said in a turn; stems_of: of terms. Where the message asks whether something is so, what came
        after that turn stays: it may be a correction.
        """
        told = {turn: [s & self.stems for s in holds if s & self.names] for turn, holds in sentences.items()}
        places = lru_cache(None)(lambda turn: self._places(said(turn), stems_of))

        def is_displaced(turn: int, stems: frozenset[str]) -> bool:
            better = [t for t, holds in told.items() if any(stems < sentence for sentence in holds)]
            if self.asks_whether:
                better = [t for t in better if turn < t]
            if not better or places(turn).is_named:
                return False
            return any(places(turn).others & places(t).named for t in better)

        kept = {turn: stems & self.stems for turn, stems in held.items() if not stems & self.names}
        return {turn for turn, stems in kept.items() if stems and is_displaced(turn, stems)}

    def _places(self, text: str, stems_of: Callable[[Iterable[str]], Mapping[str, str]]) -> "_Places":
        beginnings = {name[:_ALIKE] for name in self.names}
        found = [(word, terms(word.text)) for word in _words(text)]
        found = [(w, its) for w, its in found if w.is_capital or any(t[:_ALIKE] in beginnings for t in its)]
        stems = stems_of(term for _, its in found for term in its)
        places = _Places()
        for word, its in found:
            own = {stems[term] for term in its if term in stems}
            if own & self.names:
                places.is_named = True
                places.named |= word.places
            elif word.is_capital and own and not own & self.stems and all(map(_may_name, its)):
                places.others |= word.places if word.is_name else {p for p in word.places if p[0] == _FIRST}
        return places


@dataclass(slots=True)
class _Places:
    """Whether a text has a name of the message; where such names stand, and where others."""

    is_named: bool = False
    named: set[tuple[str, str]] = field(default_factory=set)
    others: set[tuple[str, str]] = field(default_factory=set)
