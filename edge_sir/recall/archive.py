"""Messages that lost cells, kept with their cells outside the cache: saved whole before the first one is evicted."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, split
from edge_sir.recall.store import ByteStore, process_store
from edge_sir.session import SavedPassage, SavedRows, Session

__all__ = ["Archive", "Piece"]

_MOST_TOKENS = 128
_THOUGHT = ROLES.index("thought")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Neighbouring tokens of one message. saved: their rows, without cells; key: of the cells in the store."""

    turn: int
    saved: SavedRows
    key: int

    @property
    def born(self) -> NDArray[np.int64]:
        """The born numbers of its tokens, int64 [n]."""
        born: NDArray[np.int64] = self.saved.columns["born"]
        return born


class Archive:
    """The archive of one session, which it watches. store: where the cells are kept, by default the process's.

    Where the engine cannot restore cells (`EngineSpec.can_restore`) nothing is saved.
    """

    def __init__(self, session: Session, store: ByteStore | None = None) -> None:
        self._session, self._store = session, store or process_store()
        self._pieces: dict[int, list[Piece]] = {}  # by turn
        session.before_eviction = self.save

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes, cells and rows."""
        return sum(self._store.size(p.key) + p.saved.n_bytes for pieces in self._pieces.values() for p in pieces)

    def save(self, rows: NDArray[np.integer[Any]]) -> None:
        """Saves the messages of ledger `rows`, which are about to leave, as far as they are not saved yet.

        What the ledger says of these rows may have changed since they were saved (a pin, a role, a score): it is noted.
        """
        session = self._session
        if not session.engine.spec.can_restore or self._store.bound == 0:
            return
        ledger = session.ledger
        for message in np.unique(ledger["message"][rows]).tolist():
            mine = np.flatnonzero(ledger["message"] == message)
            pieces = self.of_turn(int(ledger["turn"][mine[0]]))
            for piece in pieces:
                self._note(piece, rows)
            new = (ledger["role"][mine] != _THOUGHT) & ~ledger["recalled"][mine]
            index = mine[new & ~_holds(pieces, ledger["born"][mine])]
            for run in split(index, index - np.arange(len(index))):
                for part in (run[i : i + _MOST_TOKENS] for i in range(0, len(run), _MOST_TOKENS)):
                    self._keep(session.save_rows(part))

    def _note(self, piece: Piece, rows: NDArray[np.integer[Any]]) -> None:
        """Takes over all that the ledger says of `rows`, but their positions, which are those of the saved cells."""
        columns, ledger = piece.saved.columns, self._session.ledger
        _, at, index = np.intersect1d(piece.born, ledger["born"][rows], assume_unique=True, return_indices=True)
        for name in columns.keys() - {"pos", "recalled"}:
            columns[name][at] = ledger[name][rows[index]]

    def _keep(self, saved: SavedRows) -> None:
        turn = int(saved.columns["turn"][0])
        self._pieces.setdefault(turn, []).append(Piece(turn, replace(saved, cells=b""), self._store.put(saved.cells)))

    # ---- what is in it -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Piece]:
        return (piece for pieces in self._pieces.values() for piece in pieces)

    def of_turn(self, turn: int) -> list[Piece]:
        """The pieces of a turn."""
        return sorted(self._pieces.get(turn, ()), key=lambda piece: int(piece.born[0]))

    def turns(self) -> Collection[int]:
        """The turns of which something is in it."""
        return self._pieces.keys()

    def cells_of(self, piece: Piece) -> SavedRows | None:
        """The piece with its cells, which count as used now; None if they have left the store."""
        cells = self._store.get(piece.key)
        return None if cells is None else replace(piece.saved, cells=cells)

    def holds(self, born: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Of which of the tokens with these born numbers the cells are in it, bool [n]."""
        return _holds([piece for piece in self if piece.key in self._store], born)

    def passages(self, born: NDArray[np.integer[Any]]) -> list[SavedPassage]:
        """The pieces whose cells are in it with these born numbers, and which rows of each these are, as the stream."""
        found: list[SavedPassage] = []
        for piece in sorted(self, key=lambda piece: int(piece.born[0])):
            rows = np.flatnonzero(np.isin(piece.born, born))
            if len(rows) and (saved := self.cells_of(piece)) is not None:
                found.append((saved, rows))
        return found

    # ---- what leaves it ------------------------------------------------------------------------

    def truncate(self, turn: int) -> None:
        """Turns from `turn` on were taken back."""
        self._drop([piece for piece in self if piece.turn >= turn])

    def forget(self, born: NDArray[np.integer[Any]]) -> None:
        """The tokens with these born numbers are forgotten: no cells that hold one of them are kept, nor its number."""
        self._drop([piece for piece in self if np.isin(piece.born, born).any()])

    def clear(self) -> None:
        """A new conversation."""
        self._drop(list(self))

    def _drop(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self._store.discard(piece.key)
            self._pieces[piece.turn].remove(piece)
            if not self._pieces[piece.turn]:
                del self._pieces[piece.turn]


def _holds(pieces: Sequence[Piece], born: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = np.isin(born, np.concatenate([np.empty(0, np.int64), *(piece.born for piece in pieces)]))
    return held
