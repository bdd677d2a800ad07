"""Where sentences end and words begin, by the text of tokens."""

import unicodedata
from dataclasses import dataclass, field

import numpy as np

from edge_sir.engine import TextCodec, Tokens
from edge_sir.session.pending import Borders

__all__ = ["TextBorders"]

_ENDS = (".", "!", "?", ";", "。", "！", "？")
_APOSTROPHES = "'’_"
_TAIL = 12  # characters, longer than any abbreviation
_NO_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Japanese syllables
    (0x3400, 0x9FFF),  # Chinese characters
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Scripts that put no spaces between words: there every token stands for itself."""
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "e.g", "i.e", "z.b", "bzw", "ca"}


@dataclass(slots=True)
class TextBorders:
    """Tells sentence ends and word starts from the text of tokens; remembers texts, and how the last one ended."""

    codec: TextCodec
    # Of a token: its text, and whether that begins a word.
    _known: dict[int, tuple[str, bool]] = field(default_factory=dict)
    tail: str = ""  # the end of what came before

    def __call__(self, tokens: Tokens) -> Borders:
        """A token ends a sentence if its text ends in . ! ? ; or holds a line break, as do their wide forms.

        The point after "Mr", or after a single letter, ends none. A token goes on with a word if it begins with a
        letter, a digit or an apostrophe and no blank is before it: " ban" + "anas" are one word, and so are "-" + "7" +
        "3". A part of a character goes on with the rest of it.
        """
        ends, starts = np.zeros(len(tokens), bool), np.ones(len(tokens), bool)
        for i, token in enumerate(tokens):
            text, begins = self._of(int(token))
            starts[i] = begins or self.tail[-1:].isspace()
            self.tail = (self.tail + text)[-_TAIL:]
            ends[i] = "\n" in text or (text.rstrip().endswith(_ENDS) and not _abbreviates(self.tail))
        return Borders(ends, starts)

    def after(self, tail: str) -> "TextBorders":
        """One of its own for a stream that ended in `tail`; the texts that are known are shared."""
        return TextBorders(self.codec, self._known, tail)

    def _of(self, token: int) -> tuple[str, bool]:
        if token not in self._known:
            text = self.codec.piece(token).decode("utf-8", "replace")
            self._known[token] = text, _begins_a_word(text)
        return self._known[token]


def _begins_a_word(text: str) -> bool:
    first = text[:1]
    if not first or any(low <= ord(first) <= high for low, high in _NO_SPACES):
        return True
    return not (first == "\ufffd" or first in _APOSTROPHES or unicodedata.category(first)[0] in "LMN")


def _abbreviates(tail: str) -> bool:
    """Whether the point at the end belongs to an abbreviation or an initial."""
    word = tail.rstrip().removesuffix(".").rpartition(" ")[2].lstrip("([\"'")
    return tail.rstrip().endswith(".") and (word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper()))
