"""Messages that lost cells, kept with their cells outside the cache: saved whole before the first one is evicted.

What is said again is kept once: the newer passage keeps its cells, since it is what a recall brings back and what an
undo may need; the older one stays as text.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN, split
from edge_sir.recall.repeats import Repeats
from edge_sir.recall.rows import PackedRows
from edge_sir.recall.store import ByteStore, process_store
from edge_sir.session import SavedRows, Session

__all__ = ["Archive", "Piece"]

_MOST_TOKENS = 128
_THOUGHT = ROLES.index("thought")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Neighbouring tokens of one message. rows, epoch: as in `SavedRows`; key: of the cells in the store."""

    turn: int
    rows: PackedRows
    epoch: int
    key: int

    @property
    def born(self) -> NDArray[np.int64]:
        """The born numbers of its tokens, int64 [n]."""
        return self.rows["born"]

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

    def spoken(self) -> NDArray[np.int32]:
        """Its tokens without markers, int32 [n]."""
        tokens: NDArray[np.int32] = self.rows["token"][~np.isin(self.rows["role"], UNSPOKEN)].copy()
        return tokens


class Archive:
    """The archive of one session, which it watches. store: where the cells are kept, by default the process's.

    cells: whether any are. Without, where the engine cannot restore cells (`EngineSpec.can_restore`), or the store's
    bound is 0, the rows are kept alone: their text can be read again.
    """

    def __init__(self, session: Session, store: ByteStore | None = None, *, cells: bool = True) -> None:
        self._session, self._store, self._cells = session, store or process_store(), cells
        self._pieces: dict[int, list[Piece]] = {}  # by turn
        self._until: dict[int, int] = {}  # of each message, up to which born number it is saved
        self._repeats: dict[int, Piece] = {}  # those that have cells, by key
        self._said = Repeats()
        self._losing: tuple[int, set[int]] = (0, set())  # a turn, and the messages that lost cells in it
        session.before_eviction = self.save

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes, cells and rows."""
        return sum(self._store.size(piece.key) + piece.rows.n_bytes for piece in self)

    def save(self, rows: NDArray[np.integer[Any]]) -> None:
        """Saves the messages of ledger `rows`, which are about to leave, as far as they are not saved yet."""
        ledger = self._session.ledger
        messages = np.unique(ledger["message"][rows]).tolist()
        if self._losing[0] != self._session.turn:
            self._losing = self._session.turn, set()
        self._losing[1].update(messages)
        has_cells = self._cells and self._session.engine.spec.can_restore and self._store.bound > 0
        for message in messages:
            new = (ledger["message"] == message) & (ledger["born"] > self._until.get(message, -1))
            new &= (ledger["role"] != _THOUGHT) & ~ledger["recalled"]
            index = np.flatnonzero(new)
            for run in split(index, index - np.arange(len(index))):
                for part in (run[i : i + _MOST_TOKENS] for i in range(0, len(run), _MOST_TOKENS)):
                    self._keep(message, self._session.save_rows(part, cells=has_cells))

    def _keep(self, message: int, saved: SavedRows) -> None:
        turn = int(saved.columns["turn"][0])
        piece = Piece(turn, PackedRows(saved.columns), saved.epoch, self._store.put(saved.cells))
        self._pieces.setdefault(turn, []).append(piece)
        self._until[message] = int(saved.columns["born"][-1])
        if saved.cells:
            self._keep_once(piece)

    def _keep_once(self, piece: Piece) -> None:
        """Takes the cells of what `piece` says again, unless an undo of the running turn would need them."""
        tokens = piece.spoken()
        for key in list(self._said.said_again(tokens)):
            older = self._repeats[key]
            if older.message != piece.message and older.message not in self._losing[1]:
                self._take_cells(key)
        self._said.add(piece.key, tokens)
        self._repeats[piece.key] = piece

    def _take_cells(self, key: int) -> None:
        self._store.discard(key)
        self._said.discard(key)
        self._repeats.pop(key, None)

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
        """The piece with its cells, which count as used now; None if it has none, or they have left the store."""
        cells = self._store.get(piece.key)
        return None if cells is None else piece.with_cells(cells)

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
        self._until.clear()

    def _drop(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self._take_cells(piece.key)
            self._pieces[piece.turn].remove(piece)
            if not self._pieces[piece.turn]:
                del self._pieces[piece.turn]
