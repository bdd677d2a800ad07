"""Where sentences end and words begin: of a conversation's tokens as they come, and of text.

There is one rule, and it is read off tokens. A text is split as the tokens are that it would be decoded as.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edge_sir.core.ledger import ROLES, split
from edge_sir.engine import TextCodec, Tokens
from edge_sir.session.pending import Borders, PendingTokens

__all__ = ["NO_SPACES", "TextBorders", "contains", "pattern_of", "sentences", "spelled", "without", "words"]

_ENDS = (".", "!", "?", ";", "。", "！", "？")
_APOSTROPHES = "'’_"
_TAIL = 12  # characters, longer than any abbreviation
NO_SPACES = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Japanese syllables
    "\u3400-\u9fff"  # Chinese characters
    "\uf900-\ufaff"
    "\U00020000-\U0003ffff"
    "]"
)
"""A character of a script that puts no spaces between words: there every token stands for itself."""
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "e.g", "i.e", "z.b", "bzw", "ca"}
_USER = ROLES.index("user")


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
    if not first or NO_SPACES.match(first):
        return True
    return not (first == "\ufffd" or first in _APOSTROPHES or unicodedata.category(first)[0] in "LMN")


def _abbreviates(tail: str) -> bool:
    """Whether the point at the end belongs to an abbreviation or an initial."""
    word = re.split(r"\s", tail.rstrip().removesuffix("."))[-1].lstrip("([\"'")
    return tail.rstrip().endswith(".") and (word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper()))


# ---- text ----------------------------------------------------------------------------------------


def sentences(codec: TextCodec, text: str) -> list[str]:
    """The sentences of a message with this text, in order; together they are the text as its tokens spell it."""
    tokens = codec.encode(text, special=False)
    queue = PendingTokens()
    queue.start_message()
    queue.feed(tokens, _USER, 0, False, TextBorders(codec)(tokens))
    parts = split(np.arange(len(tokens)), queue.head(len(tokens))["sentence"])
    return [spelled(codec, tokens[part], "replace") for part in parts]


def spelled(codec: TextCodec, tokens: Tokens, errors: Literal["ignore", "replace"] = "ignore") -> str:
    """The text of `tokens` int [n]. errors: what becomes of a character of which a token is missing."""
    return b"".join(codec.piece(int(token)) for token in tokens).decode("utf-8", errors)


def words(text: str) -> list[tuple[int, int]]:
    """Where each word of `text` begins and ends, blanks in none; what the rule calls a word, letter by letter."""
    starts = [i for i, c in enumerate(text) if not c.isspace() and (_begins_a_word(c) or text[i - 1 : i].isspace())]
    starts = starts if not text or text[0].isspace() or 0 in starts else [0, *starts]
    ends = (i + len(text[i:after].rstrip()) for i, after in zip(starts, [*starts, len(text)][1:], strict=True))
    return list(zip(starts, ends, strict=True))


def contains(text: str, part: str) -> bool:
    """Whether `text` holds `part`, in any case and with any blanks, as whole words."""
    return pattern_of(part).search(text) is not None


def without(codec: TextCodec, text: str, words: str) -> str:
    """The text without the sentences that hold these words; words across two sentences take all of it."""
    if not contains(text, words):
        return text
    said = sentences(codec, text)
    kept = [sentence for sentence in said if not contains(sentence, words)]
    return "".join(kept).strip() if len(kept) < len(said) else ""


def pattern_of(part: str) -> re.Pattern[str]:
    """Matches `part` as `contains` does; blanks match nothing."""
    wanted = r"\s+".join(re.escape(word) for word in part.split())
    return re.compile(rf"(?<!\w){wanted}(?!\w)" if wanted else r"(?!)", re.IGNORECASE)
