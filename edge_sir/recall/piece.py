"""A piece of a message in the archive: its rows, and under which key its cells are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import COLUMNS, ROLES, UNSPOKEN
from edge_sir.errors import StateError
from edge_sir.recall.rows import PackedRows, row_from_bits
from edge_sir.session import SavedRows
from edge_sir.session.lean import bits_of, from_bits, from_lean, to_lean

__all__ = ["Piece", "piece_from_bytes", "piece_if_whole"]

_NO_KEY = 0  # a store's keys begin at 1
_BORN = [name for name, _ in COLUMNS].index("born")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Tokens of one message that followed each other in the stream, but for what was cut out of them.

    number: no other piece of its archive ever has it; key: of the cells in the process's store, which archives share.
    rows, epoch: as in `SavedRows`; first: the least born number. is_text: it never had cells, or they were taken away.
    """

    number: int
    turn: int
    rows: PackedRows
    epoch: int
    key: int
    first: int
    is_text: bool = False

    @property
    def born(self) -> NDArray[np.int64]:
        """The born numbers of its tokens, int64 [n]."""
        return self.rows["born"]

    def __contains__(self, number: int) -> bool:
        """Whether it holds the token with this born number."""
        at = int(np.searchsorted(self.born, number))
        return at < len(self.born) and int(self.born[at]) == number

    @property
    def message(self) -> int:
        """The message that they are of."""
        return int(self.rows["message"][0])

    @property
    def saved(self) -> SavedRows:
        """Its rows without cells."""
        return self.with_cells(b"")

    def with_cells(self, cells: bytes) -> SavedRows:
        """Its rows with these cells."""
        return SavedRows(self.rows.columns(), self.epoch, cells)

    @property
    def is_said(self) -> NDArray[np.bool_]:
        """Which of its tokens were said, markers aside, bool [n]."""
        said: NDArray[np.bool_] = ~np.isin(self.rows["role"], UNSPOKEN)
        return said

    def dump(self) -> bytes:
        """All of it but number, key and cells as bytes, for `piece_from_bytes`; no pickled objects are in them.

        Of a column that has one value all through, the first is written.
        """
        columns = [bits_of(self.rows[name]) for name, _ in COLUMNS]
        is_constant = [bool(np.all(column == column[0])) for column in columns]
        first = [int(column[0]) for column in columns]
        head = np.array([self.epoch, self.is_text, *first], np.int64)
        return to_lean(
            [head, *(column[: 0 if same else None] for column, same in zip(columns, is_constant, strict=True))]
        )


def piece_from_bytes(data: bytes, number: int) -> Piece:
    """The piece that `dump` wrote, under this number, with no key yet. Raises StateError for any other bytes."""
    head, *written = from_lean(data, 1 + len(COLUMNS))
    try:
        epoch, is_text, *first = head.tolist()
        if epoch < 0 or is_text not in (0, 1):
            raise ValueError("its positions, or what it has of cells, are unknown")
        n = max(1, len(written[_BORN]))  # it differs from row to row
        kinds = zip(COLUMNS, written, strict=True)
        differing = {name: from_bits(column, dtype) for (name, dtype), column in kinds if len(column)}
        if any(len(column) != n for column in differing.values()):
            raise ValueError("its columns are not of one length")
        row = row_from_bits(first)
        turn, born = _checked({name: differing.get(name, row[name]) for name, _ in COLUMNS})
        rows = PackedRows.of(row, differing, n)
    except (ValueError, OverflowError) as error:  # the checksum was right
        raise StateError(f"these bytes are no piece of an archive: {error}") from None
    return Piece(number, turn, rows, epoch, _NO_KEY, born, bool(is_text))


def piece_if_whole(data: bytes, number: int) -> Piece | None:
    """As `piece_from_bytes`; None for any other bytes."""
    try:
        return piece_from_bytes(data, number)
    except StateError:
        return None


def _checked(columns: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Its turn and its least born number. Raises ValueError if these columns are not those of a piece.

    columns: [n] each, or [1] of one that has one value all through.
    """
    born, role = columns["born"], columns["role"]
    if int(born[0]) < 0 or np.any(born[1:] <= born[:-1]):
        raise ValueError("its tokens do not stand in the order of birth")
    if any(np.any(columns[name] != columns[name][0]) for name in ("turn", "message")):
        raise ValueError("it is of more than one message")
    if np.any((role < 0) | (role >= len(ROLES))) or np.any(columns["token"] < 0):
        raise ValueError("it has a role or a token that there is not")
    return int(columns["turn"][0]), int(born[0])
