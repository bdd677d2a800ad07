"""Rows that were put back on request, as far as the evictions after that must know: who asked wants to have them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.policy import Mask

__all__ = ["Returned"]


class Returned:
    """Which rows came back by hand, or with a raised budget, by born number.

    Those by hand are spared, where others can make room, until the next turn is over: whoever asks for them wants the
    model to have them then. Those that a raised budget brought leave first if it is lowered before anything else is
    read, the last one that came back first, so that what was there before stays.
    """

    def __init__(self, spared: Mapping[str, int] | None = None, filled: Sequence[int] = ()) -> None:
        self._spared = {int(born): int(turn) for born, turn in (spared or {}).items()}  # until which turn
        self._filled = [int(born) for born in filled]

    def note(self, why: str, born: NDArray[np.integer[Any]], turn_now: int) -> None:
        """Rows came back. why: as in `Journal.restoring`."""
        if why == "recall":
            self._spared |= dict.fromkeys(born.tolist(), turn_now + 1)
        elif why == "budget":
            self._filled += born.tolist()

    def read(self) -> None:
        """Something was read: what a raised budget brought is as all others."""
        self._filled.clear()

    def spared(self, born: NDArray[np.integer[Any]], turn_now: int) -> Mask:
        """Which of these rows other rows should leave for, bool [n]."""
        self._spared = {one: until for one, until in self._spared.items() if until >= turn_now}
        spared: Mask = np.isin(born, np.fromiter(self._spared, np.int64, len(self._spared)))
        return spared

    def first(self, born: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Of these rows, sorted by birth, those that leave first when the budget is lowered, in order; int [k]."""
        order = np.array(self._filled[::-1], np.int64)
        order = order[np.isin(order, born)]
        return np.searchsorted(born, order)

    def state(self) -> dict[str, Any]:
        """The arguments of one that goes on from here."""
        return {"spared": {str(born): until for born, until in self._spared.items()}, "filled": list(self._filled)}
