"""Tokens that were fed but not decoded yet, with the ledger columns they will get."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.ledger import COLUMNS, ROLES

__all__ = ["PendingTokens"]

_NAMES = ("token", "role", "pinned", "message", "sentence", "turn")
_DTYPES = dict(COLUMNS)
_FRAME = ROLES.index("frame")


class PendingTokens:
    """A queue of tokens. It numbers messages and sentences as they come in."""

    def __init__(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {}
        self._message = 0
        self._sentence = 0
        self._sentence_over = False
        self.clear()

    def __len__(self) -> int:
        return len(self._columns["token"])

    def clear(self) -> None:
        """Forgets what is waiting."""
        self._columns = {name: np.empty(0, _DTYPES[name]) for name in _NAMES}

    def start_message(self) -> None:
        """What is fed next belongs to a new message."""
        self._message += 1
        self._sentence += 1
        self._sentence_over = False

    def feed(self, tokens: ArrayLike, role: int, turn: int, pinned: bool, ends: NDArray[np.bool_]) -> None:
        """Queues `tokens` int [n]; `ends` bool [n] tells which of them end a sentence."""
        token = np.asarray(tokens, np.int32)
        new = {
            "token": token,
            "role": np.full(len(token), role),
            "pinned": np.full(len(token), pinned),
            "message": np.full(len(token), self._message),
            "sentence": self._sentences(role, ends),
            "turn": np.full(len(token), turn),
        }
        # One assignment, so that an interrupted feed queues nothing.
        self._columns = {
            name: np.concatenate([column, new[name].astype(column.dtype)]) for name, column in self._columns.items()
        }

    def _sentences(self, role: int, ends: NDArray[np.bool_]) -> NDArray[np.int64]:
        # A closing marker belongs to the sentence before it, so a sentence starts with its first content.
        if role == _FRAME or not len(ends):
            return np.full(len(ends), self._sentence)
        after = np.concatenate([[self._sentence_over], ends[:-1]])
        numbers: NDArray[np.int64] = self._sentence + np.cumsum(after)
        self._sentence = int(numbers[-1])
        self._sentence_over = bool(ends[-1])
        return numbers

    def head(self, n: int) -> dict[str, NDArray[Any]]:
        """The first `n` tokens' columns."""
        return {name: column[:n] for name, column in self._columns.items()}

    def drop(self, n: int) -> None:
        """Takes the first `n` tokens off the queue."""
        self._columns = {name: column[n:] for name, column in self._columns.items()}

    def targets(self, n: int) -> NDArray[np.int32]:
        """The token after each of the first `n`, int32 [n]; -1 where it is not known yet."""
        following = self._columns["token"][1 : n + 1]
        return np.concatenate([following, np.full(n - len(following), -1, np.int32)])
