"""Rows of a session with their cells, as one value that outlives their eviction.

session.save_rows(rows) ──> SavedRows ──session.restore(saved)──> the rows that are missing are resident again
                                └──dump()──> bytes ──load()──> SavedRows
"""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import COLUMNS
from edge_sir.core.sealed import seal, unseal
from edge_sir.errors import StateError

__all__ = ["SavedRows"]

_KIND = "saved passage"
_FORMAT = 1
_LABEL = "label"


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
        label = json.dumps({"format": _FORMAT, "epoch": self.epoch}).encode()
        buffer = io.BytesIO()
        arrays = {_LABEL: label, "cells": self.cells}
        np.savez(
            buffer,
            allow_pickle=False,
            **{name: np.frombuffer(data, np.uint8) for name, data in arrays.items()},
            **{f"ledger.{name}": column for name, column in self.columns.items()},
        )
        return seal(_KIND, {}, buffer.getvalue())

    @classmethod
    def load(cls, data: bytes) -> "SavedRows":
        """The value that `dump` wrote. Raises StateError for any other bytes."""
        payload = unseal(data, _KIND, {})
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        label = json.loads(arrays.pop(_LABEL).tobytes())
        if label["format"] != _FORMAT or arrays.keys() != {"cells", *(f"ledger.{name}" for name, _ in COLUMNS)}:
            raise StateError(f"the {_KIND} was written by another version")
        cells = arrays.pop("cells").tobytes()
        return cls({name.removeprefix("ledger."): a for name, a in arrays.items()}, label["epoch"], cells)
