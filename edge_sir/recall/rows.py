"""Ledger rows in little memory: an archive keeps those of every token that ever left."""

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import COLUMNS

__all__ = ["PackedRows", "row_from_bits"]

_ALL = np.dtype(list(COLUMNS))
_BITS = np.dtype([(name, np.int32 if _ALL[name].kind == "f" else kind) for name, kind in COLUMNS])


def _span(kind: np.dtype[Any]) -> tuple[int, int]:
    return (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))


_SPANS = [_span(_BITS[name]) for name, _ in COLUMNS]


class PackedRows:
    """The ledger columns of a passage, [n] each, n at least 1.

    One array holds what differs from row to row, side by side; of a column that has one value all through, its first.
    """

    __slots__ = ("_first", "_rows")

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        differs = tuple(name for name, _ in COLUMNS if not _is_constant(columns[name]))
        self._first = np.empty(1, _ALL)
        self._rows = np.empty(len(columns["born"]), _layout(differs))
        for name, _ in COLUMNS:
            self._first[name] = columns[name][0]
            if name in differs:
                self._rows[name] = columns[name]

    @classmethod
    def of(cls, first: NDArray[Any], differing: Mapping[str, NDArray[Any]], n: int) -> "PackedRows":
        """`n` rows: the columns that differ from row to row, [n] each; of all others the values of the first row.

        first: [1], with a field for each column.
        """
        rows = cls.__new__(cls)
        rows._first, rows._rows = first, np.empty(n, _layout(tuple(name for name, _ in COLUMNS if name in differing)))
        for name, column in differing.items():
            rows._rows[name] = column
        return rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that it takes, those of Python's objects included."""
        return sum(map(sys.getsizeof, (self._first, self._rows)))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Column `name`, [n], a view that must not be written to."""
        if name in (self._rows.dtype.names or ()):
            return self._rows[name]
        return np.broadcast_to(self._first[name], len(self._rows))

    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns by name, as views."""
        return {name: self[name] for name, _ in COLUMNS}


def _is_constant(column: NDArray[Any]) -> bool:
    same = column == column[0]
    return bool(np.all(same | np.isnan(column) if np.isnan(column[0]) else same))


@lru_cache
def _layout(names: tuple[str, ...]) -> np.dtype[Any]:
    return np.dtype([(name, kind) for name, kind in COLUMNS if name in names])


def row_from_bits(values: Sequence[int]) -> NDArray[Any]:
    """One row, [1], with a field for each column, of its values as `lean.bits_of` has them.

    Raises ValueError for numbers that the columns do not hold.
    """
    if not all(low <= value <= high for value, (low, high) in zip(values, _SPANS, strict=True)):
        raise ValueError("a number is too large for its column")
    row: NDArray[Any] = np.array([tuple(values)], _BITS).view(_ALL).copy()  # not a view: its size counts
    return row
