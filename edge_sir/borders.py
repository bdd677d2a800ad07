"""Where sentences end and words begin, by the text of tokens."""

import unicodedata
from dataclasses import dataclass, field

import numpy as np

from edge_sir.core.pending import Borders
from edge_sir.engine import TextCodec, Tokens

__all__ = ["TextBorders"]

_ENDS = (".", "!", "?", ";", "。", "！", "？")
_APOSTROPHES = "'’_"
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


@dataclass(slots=True)
class TextBorders:
    """Tells sentence ends and word starts from the text of each token; remembers what it has seen."""

    codec: TextCodec
    _known: dict[int, tuple[bool, bool]] = field(default_factory=dict)

    def __call__(self, tokens: Tokens) -> Borders:
        """A token ends a sentence if its text ends in . ! ? ; or holds a line break, as do their wide forms.

        It goes on with a word if it begins with a letter, a digit or an apostrophe: " ban" + "anas" are one word,
        and so are "-" + "7" + "3". A part of a character goes on with the rest of it.
        """
        found = np.array([self._of(int(token)) for token in tokens], bool).reshape(len(tokens), 2)
        return Borders(found[:, 0], found[:, 1])

    def _of(self, token: int) -> tuple[bool, bool]:
        if token not in self._known:
            piece = self.codec.piece(token)
            text = piece.decode("utf-8", "ignore")
            self._known[token] = ("\n" in text or text.rstrip().endswith(_ENDS), _starts_word(piece))
        return self._known[token]


def _starts_word(piece: bytes) -> bool:
    first = piece.decode("utf-8", "replace")[:1]
    if not first or any(low <= ord(first) <= high for low, high in _NO_SPACES):
        return True
    return not (first == "\ufffd" or first in _APOSTROPHES or unicodedata.category(first)[0] in "LMN")
