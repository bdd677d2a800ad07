"""Talk about anything but the fact: varied, seeded exchanges between which a fact must not stand out.

Exchanges are made from templates with slots, each template once before any comes again: questions, small talk,
lists, numbers, code, long pastes, odd one-word turns, recipes, travel, and rarities that surprise a model more than
most facts do.
"""

import random
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from edge_sir.eval._words import words
from edge_sir.eval.task import Say
from edge_sir.eval.texts import read

__all__ = ["MARKERS", "TEMPLATES", "Language", "chatter", "chatter_until", "endless", "has_word", "length"]

Language = Literal["en", "de"]
CountTokens = Callable[[str], int]

MARKERS = 12
"""Tokens of a template's markers around the two messages of an exchange, about."""

_TEXTS: dict[Language, dict[str, Any]] = {
    "en": tomllib.loads(read("chatter_en.toml")),
    "de": tomllib.loads(read("chatter_de.toml")),
}

TEMPLATES: dict[Language, tuple[tuple[str, str], ...]] = {
    language: tuple((user, assistant) for kind in text["exchanges"].values() for user, assistant in kind)
    for language, text in _TEXTS.items()
}
"""(user, assistant) by language; `{city}` and `{city2}` are two different words of the list `city`."""

_WORDS = {
    language: {kind: words(listed) for kind, listed in text["words"].items()} for language, text in _TEXTS.items()
}

_SHORT = 40  # tokens of an exchange that always fits
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"

_DRAWN: dict[str, Callable[[random.Random], object]] = {
    "few": lambda r: r.randint(2, 9),
    "num": lambda r: r.randint(11, 99),
    "hundreds": lambda r: r.randint(101, 989),
    "long": lambda r: r.randint(10_000, 99_999),
    "year": lambda r: r.randint(1790, 2019),
    "hour": lambda r: r.randint(6, 22),
    "minute": lambda r: r.randint(10, 59),
    "cents": lambda r: f"{r.randint(10, 99)}",
    "letter": lambda r: r.choice(_LETTERS),
    "hex": lambda r: f"{r.randrange(16**6):06x}",
    "serial": lambda r: (
        "".join(r.choice(_LETTERS) for _ in range(3)) + f"-{r.randint(1000, 9999)}-{r.choice(_LETTERS)}"
    ),
    "digits": lambda r: f"{r.randrange(10**9):09d}",
}

_COMPUTED: dict[str, Callable[[int, int], int]] = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: abs(a - b),
    "product": lambda a, b: a * b,
}


def chatter(r: random.Random, n: int, *, avoid: Sequence[str] = (), language: Language = "en") -> tuple[Say, ...]:
    """`n` different exchanges, none with a word of `avoid` (whole words or phrases, in any case).

    Two calls know nothing of each other: make a dialogue's chatter at once, then put the fact inside.
    """
    talk = _stream(r, avoid, language)
    return tuple(next(talk) for _ in range(n))


def endless(r: random.Random, n: int, *, avoid: Sequence[str] = ()) -> Iterator[Say]:
    """Talk that never runs out, `n` exchanges at a time as `chatter` gives them: then something may come again."""
    while True:
        yield from chatter(r, n, avoid=avoid)


def chatter_until(
    r: random.Random,
    count_tokens: CountTokens,
    n_tokens: int,
    *,
    at_least: int = 0,
    avoid: Sequence[str] = (),
    language: Language = "en",
) -> tuple[Say, ...]:
    """Different exchanges of about `n_tokens` tokens, markers included, but at least `at_least` of them.

    No exchange takes more than half of what is missing, unless it is short; what came is shuffled, so that long
    ones may stand at the end, too.
    """
    chosen: list[Say] = []
    missing = n_tokens
    for say in _stream(r, avoid, language):
        if missing < _SHORT // 2 and len(chosen) >= at_least:
            break
        cost = length(say, count_tokens)
        if cost <= max(_SHORT, missing // 2):
            chosen.append(say)
            missing -= cost
    r.shuffle(chosen)
    return tuple(chosen)


def length(say: Say, count_tokens: CountTokens) -> int:
    """Tokens of an exchange, markers included, about."""
    return count_tokens(say.user) + count_tokens(say.assistant) + MARKERS


def has_word(text: str, words: Sequence[str]) -> bool:
    """Whether one of `words` stands in `text` as a whole word or phrase, in any case."""
    return bool(words) and re.search(_any_of(words), text, re.IGNORECASE) is not None


def _any_of(words: Sequence[str]) -> str:
    return r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)"


def _stream(r: random.Random, avoid: Sequence[str], language: Language) -> Iterator[Say]:
    said: set[str] = set()
    in_vain = 0
    while in_vain < 4:
        before = len(said)
        for user, assistant in r.sample(TEMPLATES[language], len(TEMPLATES[language])):
            slots = _Slots(r, language)
            say = Say(user.format_map(slots), assistant.format_map(slots))
            if say.user not in said and not has_word(f"{say.user} {say.assistant}", avoid):
                said.add(say.user)
                yield say
        in_vain = 0 if len(said) > before else in_vain + 1
    raise ValueError(f"nothing left to talk about without repeating or saying one of {sorted(avoid)}")


class _Slots(dict[str, object]):
    """What the slots of one exchange hold, drawn when they are first named."""

    def __init__(self, r: random.Random, language: Language) -> None:
        super().__init__()
        self._r, self._words = r, _WORDS[language]

    def __missing__(self, key: str) -> object:
        kind = key.rstrip("0123456789")
        if kind in _COMPUTED:
            a, b = self["num"], self["num2"]
            assert isinstance(a, int) and isinstance(b, int)
            self[key] = _COMPUTED[kind](a, b)
        elif kind in _DRAWN:
            self[key] = _DRAWN[kind](self._r)
        else:
            used = set(self.values())
            self[key] = self._r.choice([word for word in self._words[kind] if word not in used])
        return self[key]
