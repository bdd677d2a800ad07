"""Text as a search compares it: without case, without the marks on Latin, Greek and Cyrillic letters."""

import unicodedata

__all__ = ["fold", "to_utf8"]

# Letters whose bar or ligature is no mark of its own in Unicode.
_LETTERS = dict(zip("øđłħŧðþæœı", ("o", "d", "l", "h", "t", "d", "th", "ae", "oe", "i"), strict=True))


class _Table(dict[int, str]):
    """For str.translate: what each character becomes, worked out when it is met."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _folded(chr(code))
        return folded


def _folded(character: str) -> str:
    if character == "\0":  # the trigram tokenizer would stop there
        return " "
    parts = unicodedata.normalize("NFKD", character.casefold())
    bare = "".join(_LETTERS.get(part, part) for part in parts if not "\u0300" <= part <= "\u036f")
    return unicodedata.normalize("NFC", bare).casefold()  # NFC: Korean syllables stay whole


_TABLE = _Table()


def fold(text: str) -> str:
    """Character by character, so that each one's place can be found again. "Tromsø" gives "tromso"."""
    return text.translate(_TABLE)


def to_utf8(text: str) -> str:
    """The text as it can be stored: half of a surrogate pair, which no file can hold, becomes "?"."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
