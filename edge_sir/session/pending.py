"""Tokens that were fed but not decoded yet, with the ledger columns they will get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.ledger import COLUMNS, FRAME

__all__ = ["Borders", "Boundaries", "PendingTokens", "no_borders"]

_NAMES = ("token", "role", "pinned", "recalled", "message", "sentence", "word", "turn")
_NUMBERING = ("message", "sentence", "sentence_over", "word", "word_length")
_ROW = np.dtype([(name, dtype) for name, dtype in COLUMNS if name in _NAMES])
_WORD_TOKENS = 16  # a longer run of letters (a hash, a picture in base 64) is cut, so that it need not go at once


@dataclass(frozen=True, slots=True)
class Borders:
    """Of n tokens, which end a sentence and which begin a word; bool [n] each."""

    sentence_ends: NDArray[np.bool_]
    word_starts: NDArray[np.bool_]


class Boundaries(Protocol):
    """Tells where sentences end and words begin in a stream of tokens. It remembers how the stream ended."""

    def __call__(self, tokens: NDArray[np.int32]) -> Borders:
        """The borders of `tokens` int [n], which follow what came before."""

    @property
    def tail(self) -> str:
        """All that it remembers of what came before."""

    def after(self, tail: str) -> "Boundaries":
        """One of its own for a stream that ended in `tail`."""


class _NoBorders:
    """No sentence ends, and every token is a word."""

    tail = ""

    def __call__(self, tokens: NDArray[np.int32]) -> Borders:
        return Borders(np.zeros(len(tokens), bool), np.ones(len(tokens), bool))

    def after(self, tail: str) -> "Boundaries":
        return self


no_borders: Boundaries = _NoBorders()


class PendingTokens:
    """A queue of tokens. It numbers messages, sentences and words as they come in."""

    def __init__(self) -> None:
        self._rows = np.empty(0, _ROW)
        self._message = 0
        self._sentence = 0
        self._sentence_over = False
        self._word = 0
        self._word_length = 0  # tokens of the running word so far; 0: the next token begins one

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forgets what is waiting."""
        self._rows = self._rows[:0]

    def start_message(self) -> int:
        """What is fed next belongs to a new message; returns its number, which no other gets."""
        self._message += 1
        self._sentence += 1
        self._sentence_over = False
        self._word_length = 0
        return self._message

    def feed(self, tokens: ArrayLike, role: int, turn: int, pinned: bool, borders: Borders) -> None:
        """Queues `tokens` int [n]."""
        new = np.empty(len(borders.word_starts), _ROW)
        new["token"], new["role"], new["pinned"], new["turn"] = tokens, role, pinned, turn
        new["recalled"] = False
        new["message"] = self._message
        new["sentence"], new["word"] = self._sentences(role, borders), self._words(role, borders.word_starts)
        # One assignment, so that an interrupted feed queues nothing.
        self._rows = np.concatenate([self._rows, new]) if len(self._rows) else new

    def feed_first(self, messages: Sequence[Sequence[tuple[int, NDArray[np.int32]]]], turn: int) -> None:
        """Queues recalled `messages` before all that waits: roles and tokens of each. What waits is fed on as before.

        Their numbers are given again, since they leave before the next message begins. Each token is a word.
        """
        waiting, numbering = self._rows, self.numbering
        self._rows = waiting[:0]
        for parts in messages:
            self.start_message()
            for role, tokens in parts:
                self.feed(tokens, role, turn, False, no_borders(tokens))
        self._rows["recalled"] = True
        self._rows = np.concatenate([self._rows, waiting])
        self.go_on(numbering)

    @property
    def n_recalled(self) -> int:
        """How many of the first are recalled."""
        return int(self._rows["recalled"].sum())

    def _sentences(self, role: int, borders: Borders) -> NDArray[np.int64]:
        # A closing marker belongs to the sentence before it, so a sentence starts with its first content; and with a
        # word: the point in "3.5" ends none.
        ends = borders.sentence_ends
        if role == FRAME or not len(ends):
            return np.full(len(ends), self._sentence)
        after = np.concatenate([[self._sentence_over], ends[:-1]]) & borders.word_starts
        numbers: NDArray[np.int64] = self._sentence + np.cumsum(after)
        self._sentence = int(numbers[-1])
        self._sentence_over = bool(ends[-1])
        return numbers

    def _words(self, role: int, starts: NDArray[np.bool_]) -> NDArray[np.int64]:
        n = len(starts)
        if role == FRAME or not n:
            self._word_length = 0
            self._word += n
            return np.arange(self._word - n, self._word) + 1
        at = np.arange(n)
        goes_on = self._word_length > 0
        # Where the word of each token begins; the running one began before this piece.
        begun = np.maximum.accumulate(np.where(starts, at, -self._word_length if goes_on else 0))
        begins = (at - begun) % _WORD_TOKENS == 0
        numbers: NDArray[np.int64] = self._word + np.cumsum(begins)
        self._word = int(numbers[-1])
        self._word_length = (n - int(begun[-1]) - 1) % _WORD_TOKENS + 1
        return numbers

    @property
    def numbering(self) -> dict[str, int]:
        """The running numbers, by name, for `go_on`."""
        return {name: int(getattr(self, f"_{name}")) for name in _NUMBERING}

    def go_on(self, numbering: Mapping[str, int]) -> None:
        """Counts on from the `numbering` of another queue."""
        for name in _NUMBERING:
            setattr(self, f"_{name}", int(numbering[name]))
        self._sentence_over = bool(self._sentence_over)

    def head(self, n: int) -> dict[str, NDArray[Any]]:
        """The first `n` tokens' columns."""
        return {name: self._rows[name][:n] for name in _NAMES}

    def drop(self, n: int) -> None:
        """Takes the first `n` tokens off the queue."""
        self._rows = self._rows[n:]

    def targets(self, n: int) -> NDArray[np.int32]:
        """The token after each of the first `n`, int32 [n]; -1 where it is not known yet."""
        following = self._rows["token"][1 : n + 1]
        return np.concatenate([following, np.full(n - len(following), -1, np.int32)])
