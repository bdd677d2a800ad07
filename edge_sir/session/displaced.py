"""Rows that make room for recalled ones: saved with their cells, they return when the turn ends.

resident    a b c d e f          what is in the cells before the turn
recalled    a b   R R   e f      c and d are displaced while R is there
standing    a b c d e f          what would be resident without the recall: room is made in this
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.ledger import TokenLedger
from edge_sir.session.saved import SavedRows

__all__ = ["Displaced", "n_standing", "standing"]


class Displaced:
    """What is displaced at present. A row that is evicted meanwhile does not return."""

    def __init__(self) -> None:
        self._saved: list[tuple[SavedRows, NDArray[np.bool_]]] = []  # with which of its rows are to return

    def __len__(self) -> int:
        return sum(int(stays.sum()) for _, stays in self._saved)

    def add(self, saved: SavedRows) -> None:
        """These rows have left their cells."""
        self._saved.append((saved, np.ones(len(saved), bool)))

    def drop(self, born: ArrayLike) -> None:
        """The rows with these born numbers will not return."""
        for saved, stays in self._saved:
            stays &= ~np.isin(saved.columns["born"], born)

    def columns(self) -> list[dict[str, NDArray[Any]]]:
        """The ledger columns of all rows that are to return, piece by piece."""
        return [{name: column[stays] for name, column in saved.columns.items()} for saved, stays in self._saved]

    def take(self) -> Iterator[tuple[SavedRows, NDArray[np.intp]]]:
        """What is to return, piece by piece, and which rows of it; each is taken out as it is handed over."""
        while self._saved:
            saved, stays = self._saved.pop()
            if stays.any():
                yield saved, np.flatnonzero(stays)


def n_standing(ledger: TokenLedger, displaced: Displaced) -> int:
    """How many rows would be resident had nothing been recalled."""
    return len(ledger) - int(ledger["recalled"].sum()) + len(displaced)


def standing(ledger: TokenLedger, displaced: Displaced) -> TokenLedger:
    """The rows that would be resident had nothing been recalled; their positions are of no use."""
    here = ledger.columns()
    pieces = [{name: column[~here["recalled"]] for name, column in here.items()}, *displaced.columns()]
    rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in here}
    order = np.argsort(rows["born"])
    rows = {name: column[order] for name, column in rows.items()} | {"pos": np.arange(len(order))}
    copy = TokenLedger(max(ledger.capacity, len(order)))
    copy.append(rows.pop("token"), rows)
    return copy
