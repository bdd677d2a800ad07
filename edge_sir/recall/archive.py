"""Messages that lost cells, kept with their cells outside the cache: saved whole before the first one is evicted.

What is said again is kept once: the newer passage keeps its cells, since it is what a recall brings back and what an
undo may need; the older one stays as text.
"""

import contextlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN, split
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import CapabilityError, EngineError
from edge_sir.recall.repeats import Repeats
from edge_sir.recall.rows import PackedRows
from edge_sir.recall.store import ByteStore, process_store
from edge_sir.session import SavedPassage, SavedRows, Session

__all__ = ["Archive", "Piece"]

_MOST_TOKENS = 128
_THOUGHT = ROLES.index("thought")
_CHANGING = ("role", "pinned", "self_repeat")  # ledger columns that can change after a token was read


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Neighbouring tokens of one message, `_MOST_TOKENS` at most, but for what was cut out of them.

    rows, epoch: as in `SavedRows`; key: of the cells in the store; first: the least born number.
    """

    turn: int
    rows: PackedRows
    epoch: int
    key: int
    first: int

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


class Archive:
    """The archive of one session, which it watches. store: where the cells are kept, by default the process's.

    cells: whether any are. Without, where the engine cannot restore cells (`EngineSpec.can_restore`), or the store's
    bound is 0, the rows are kept alone: their text can be read again.
    """

    def __init__(self, session: Session, store: ByteStore | None = None, *, cells: bool = True) -> None:
        self._session, self._store, self._cells = session, store or process_store(), cells
        self._pieces: dict[int, list[Piece]] = {}  # by turn, in the order of birth
        self._until: dict[int, int] = {}  # of each message, up to which born number it was saved once
        self._repeats: dict[int, Piece] = {}  # those that have cells, by key
        self._said = Repeats()
        self._losing: tuple[int, set[int]] = (0, set())  # a turn, and the messages that lost cells in it
        session.before_eviction = self.save

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes, cells and rows."""
        return sum(self._store.size(piece.key) + piece.rows.n_bytes for piece in self)

    def save(self, rows: NDArray[np.integer[Any]]) -> None:
        """Saves the messages of ledger `rows`, which are about to leave, as far as they are not saved yet.

        What the ledger says of these rows may have changed since they were saved (a pin, a role, a score): it is noted.
        """
        ledger = self._session.ledger
        messages = np.unique(ledger["message"][rows]).tolist()
        if self._losing[0] != self._session.turn:
            self._losing = self._session.turn, set()
        self._losing[1].update(messages)
        has_cells = self._cells and self._session.engine.spec.can_restore and self._store.bound > 0
        for message in messages:
            mine = np.flatnonzero(ledger["message"] == message)
            turn, leaving = int(ledger["turn"][mine[0]]), rows[ledger["message"][rows] == message]
            pieces = [self._note(piece, leaving) for piece in self._with(turn, ledger["born"][leaving])]
            # What lost its cells while some of it stayed resident is saved again as that leaves.
            without = [piece for piece in pieces if has_cells and piece.key not in self._store]
            kept = [piece for piece in pieces if piece not in without]
            new = ledger["born"][mine] > self._until.get(message, -1)
            new |= np.isin(mine, leaving[~_holds(kept, ledger["born"][leaving])])
            index = mine[new & (ledger["role"][mine] != _THOUGHT) & ~ledger["recalled"][mine]]
            for piece in without:
                self._cut(piece, ledger["born"][index])
            for run in split(index, index - np.arange(len(index))):
                for part in (run[i : i + _MOST_TOKENS] for i in range(0, len(run), _MOST_TOKENS)):
                    self._keep(self._saved(part, cells=has_cells))

    def _saved(self, rows: NDArray[np.integer[Any]], *, cells: bool) -> SavedRows:
        """These rows, without cells where the engine fails to save them: an eviction does not wait for that."""
        with contextlib.suppress(EngineError, CapabilityError, MemoryError):
            return self._session.save_rows(rows, cells=cells)
        return self._session.save_rows(rows, cells=False)

    def _with(self, turn: int, born: NDArray[np.integer[Any]]) -> list[Piece]:
        """The pieces of a turn that hold one of these tokens, born numbers int [n], sorted."""
        pieces, found = self._pieces.get(turn, []), list[Piece]()
        for number in born.tolist():
            if found and number in found[-1]:
                continue
            stop = bisect_right(pieces, number, key=_first)
            start = bisect_left(pieces, number - _MOST_TOKENS + 1, key=_first)
            found += [piece for piece in pieces[start:stop] if number in piece and piece not in found]
        return found

    def _note(self, piece: Piece, rows: NDArray[np.integer[Any]]) -> Piece:
        """The piece with what the ledger says of `rows` by now."""
        ledger = self._session.ledger
        _, at, index = np.intersect1d(piece.born, ledger["born"][rows], assume_unique=True, return_indices=True)
        now = {name: ledger[name][rows[index]] for name in _CHANGING}
        if all(np.array_equal(piece.rows[name][at], now[name], equal_nan=name in SCORE_NAMES) for name in _CHANGING):
            return piece
        columns = {name: column.copy() for name, column in piece.rows.columns().items()}
        for name in _CHANGING:
            columns[name][at] = now[name]
        pieces = self._pieces[piece.turn]
        pieces[pieces.index(piece)] = noted = replace(piece, rows=PackedRows(columns))
        if piece.key in self._repeats:
            self._repeats[piece.key] = noted
        return noted

    def _cut(self, piece: Piece, born: NDArray[np.integer[Any]]) -> None:
        """Takes the tokens with these born numbers out of a piece, and the cells of all of it."""
        stays = ~np.isin(piece.born, born)
        if stays.all():
            return
        self._drop([piece])
        if stays.any():
            columns = {name: column[stays] for name, column in piece.rows.columns().items()}
            self._add(replace(piece, rows=PackedRows(columns), first=int(columns["born"][0])))

    def _keep(self, saved: SavedRows) -> None:
        columns = saved.columns
        turn, message, first = (int(columns[name][0]) for name in ("turn", "message", "born"))
        piece = Piece(turn, PackedRows(columns), saved.epoch, self._store.put(saved.cells), first)
        self._add(piece)
        self._until[message] = max(int(columns["born"][-1]), self._until.get(message, -1))
        if saved.cells:
            self._keep_once(piece)

    def _add(self, piece: Piece) -> None:
        insort(self._pieces.setdefault(piece.turn, []), piece, key=_first)

    def _keep_once(self, piece: Piece) -> None:
        """Takes the cells of what `piece` says again, unless an undo of the running turn would need them."""
        if piece.key not in self._store:  # it is larger than the bound
            return
        tokens = piece.rows["token"][piece.is_said]
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
        return list(self._pieces.get(turn, ()))

    def turns(self) -> Collection[int]:
        """The turns of which something is in it."""
        return self._pieces.keys()

    def cells_of(self, piece: Piece) -> SavedRows | None:
        """The piece with its cells, which count as used now; None if it has none, or they have left the store."""
        cells = self._store.get(piece.key)
        return None if cells is None else piece.with_cells(cells)

    def holds(self, born: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Of which of the tokens with these born numbers the cells are in it, bool [n]."""
        return _holds([piece for piece in self if piece.key in self._store], born)

    def passages(self, born: NDArray[np.integer[Any]]) -> list[SavedPassage]:
        """The pieces whose cells are in it with these born numbers, and which rows of each these are, as the stream."""
        found: list[SavedPassage] = []
        for piece in sorted(self, key=_first):
            rows = np.flatnonzero(np.isin(piece.born, born))
            if len(rows) and (saved := self.cells_of(piece)) is not None:
                found.append((saved, rows))
        return found

    # ---- what leaves it ------------------------------------------------------------------------

    def truncate(self, turn: int) -> None:
        """Turns from `turn` on were taken back."""
        self._drop([piece for piece in self if piece.turn >= turn])

    def forget(self, born: NDArray[np.integer[Any]]) -> None:
        """The tokens with these born numbers are forgotten: no cells of a passage that holds one of them are kept.

        What else is in such a passage stays as text.
        """
        for piece in list(self):
            self._cut(piece, born)

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


def _first(piece: Piece) -> int:
    return piece.first


def _holds(pieces: Sequence[Piece], born: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = np.isin(born, np.concatenate([np.empty(0, np.int64), *(piece.born for piece in pieces)]))
    return held
