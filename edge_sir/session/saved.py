"""Rows of a session with their cells, as one value that outlives their eviction.

session.save_rows(rows) ──> SavedRows ──session.restore(saved)──> the rows that are missing are resident again
                                └──dump()──> bytes ──load()──> SavedRows
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.ledger import COLUMNS
from edge_sir.core.sealed import seal, unseal
from edge_sir.errors import StateError
from edge_sir.session.npz import from_npz, to_npz

__all__ = ["SavedPassage", "SavedRows"]

_KIND = "saved passage"
_FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class SavedRows:
    """columns: of the ledger, [n] each, as they were, `pos` included. epoch: of the positions (`PositionEpochs`).
    cells: what `Engine.save` gave, with its own checksum and what it depends on.
    """

    columns: dict[str, NDArray[Any]]
    epoch: int
    cells: bytes

    def __len__(self) -> int:
        return len(self.columns["born"])

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that it takes."""
        return len(self.cells) + sum(column.nbytes for column in self.columns.values())

    def dump(self) -> bytes:
        """The value as bytes with a checksum; no pickled objects are in them."""
        arrays = {f"ledger.{name}": column for name, column in self.columns.items()}
        cells = {"cells": np.frombuffer(self.cells, np.uint8)}
        return seal(_KIND, {}, to_npz(_FORMAT, {"epoch": self.epoch}, arrays | cells))

    @classmethod
    def load(cls, data: bytes) -> "SavedRows":
        """The value that `dump` wrote. Raises StateError for any other bytes."""
        try:
            scalars, arrays = from_npz(_FORMAT, unseal(data, _KIND, {}))
            cells = arrays.pop("cells").tobytes()
            columns = {name: arrays.pop(f"ledger.{name}") for name, _ in COLUMNS}
        except (ValueError, KeyError):  # the checksum was right
            raise StateError(f"the {_KIND} was written by another version") from None
        if arrays:
            raise StateError(f"the {_KIND} was written by another version")
        return cls(columns, scalars["epoch"], cells)


SavedPassage = tuple[SavedRows, ArrayLike]
"""Saved rows, and which of them are meant, sorted int [n]."""
