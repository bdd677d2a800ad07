"""Finds what is said again, verbatim or nearly, so that its cells need not be kept twice.

Nearly means that nothing of the older passage is missing in the newer one, and little is new in it: where one number
differs, the two say different things, and both are kept.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

__all__ = ["Repeats"]

_N_ENDS = 4  # tokens at either end; one of the two must be the same
_SHARE = 0.9  # of the newer passage's tokens, at least so many are the older one's
_MOST = 32  # passages with the same end that are compared, the newest

Tokens = NDArray[np.int32]


class Repeats:
    """Passages by key: their spoken tokens, int32 [n]."""

    def __init__(self) -> None:
        self._tokens: dict[int, Tokens] = {}
        self._by_end: defaultdict[bytes, dict[int, None]] = defaultdict(dict)  # keys in the order of being added

    def add(self, key: int, tokens: Tokens) -> None:
        """A passage; one that says nothing is not kept."""
        if len(tokens):
            self._tokens[key] = tokens
            for end in _ends(tokens):
                self._by_end[end][key] = None

    def discard(self, key: int) -> None:
        """Takes a passage out, if it is there."""
        tokens = self._tokens.pop(key, None)
        if tokens is None:
            return
        for end in _ends(tokens):
            self._by_end[end].pop(key, None)
            if not self._by_end[end]:
                del self._by_end[end]

    def said_again(self, tokens: Tokens) -> Iterator[int]:
        """The passages that `tokens` say again: all of their tokens are in it in order, and hardly others."""
        alike = (islice(reversed(self._by_end[end]), _MOST) for end in _ends(tokens) if end in self._by_end)
        for key in set(chain(*alike)):
            older = self._tokens[key]
            if _SHARE * len(tokens) <= len(older) <= len(tokens) and _holds(tokens.tolist(), older.tolist()):
                yield key


def _ends(tokens: Tokens) -> tuple[bytes, bytes]:
    return b"<" + tokens[:_N_ENDS].tobytes(), b">" + tokens[-_N_ENDS:].tobytes()


def _holds(whole: list[int], part: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)
