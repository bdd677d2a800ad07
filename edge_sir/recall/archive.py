"""Messages that lost cells, kept with their cells outside the cache: saved whole before the first one is evicted.

What is said again is kept once: the newer passage keeps its cells, since it is what a recall brings back and what an
undo may need; the older one stays as text.
"""

import contextlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.ledger import ROLES, split
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import CapabilityError, EngineError, SessionError, StateError
from edge_sir.recall.piece import Piece, piece_from_bytes
from edge_sir.recall.repeats import Repeats
from edge_sir.recall.rows import PackedRows
from edge_sir.recall.store import ByteStore, process_store
from edge_sir.recall.watch import ArchiveChanges, ArchiveWatch
from edge_sir.session import SavedPassage, SavedRows, Session

__all__ = ["Archive", "Disk"]

_MOST_TOKENS = 128
_THOUGHT = ROLES.index("thought")
_CHANGING = ("role", "pinned", "self_repeat")  # ledger columns that can change after a token was read


class Disk(Protocol):
    """Where cells of pieces are kept that outlive the process, by the numbers of their pieces."""

    def __contains__(self, number: int) -> bool:
        """Whether there are cells of this piece. It is asked often, and must not read a file."""

    def get(self, number: int) -> bytes | None:
        """The cells of this piece; None if there are none, or they are damaged."""


class Archive:
    """The archive of one session, which it watches. store: where the cells are kept, by default the process's.

    cells: whether any are. Without, where the engine cannot restore cells (`EngineSpec.can_restore`), or the store's
    bound is 0, the rows are kept alone: their text can be read again. disk: has cells that are in no store any more.
    The archive only reads it; `watch` and `take_changes` say what belongs there.
    """

    def __init__(
        self, session: Session, store: ByteStore | None = None, *, cells: bool = True, disk: Disk | None = None
    ) -> None:
        self._session, self._store, self._cells = session, store or process_store(), cells
        self.disk = disk
        self._pieces: dict[int, list[Piece]] = {}  # by turn, in the order of birth
        self._by_number: dict[int, Piece] = {}
        self._n_numbered = 0
        self._until: dict[int, int] = {}  # of each message, up to which born number it was saved once
        self._said = Repeats()  # by number, those that were kept with their cells
        self._watch: ArchiveWatch | None = None
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
            without = [piece for piece in pieces if has_cells and not self._has_cells(piece)]
            kept = [piece for piece in pieces if piece not in without]
            new = ledger["born"][mine] > self._until.get(message, -1)
            new |= np.isin(mine, leaving[~_holds(kept, ledger["born"][leaving])])
            index = mine[new & (ledger["role"][mine] != _THOUGHT) & ~ledger["recalled"][mine]]
            for piece in without:
                self._cut(piece, ledger["born"][index])
            for run in split(index, ledger["born"][index] - np.arange(len(index))):
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
        return self._replace(piece, replace(piece, rows=PackedRows(columns)))

    def _cut(self, piece: Piece, born: NDArray[np.integer[Any]]) -> None:
        """Takes the tokens with these born numbers out of a piece, and the cells of all of it."""
        stays = ~np.isin(piece.born, born)
        if stays.all():
            return
        if not stays.any():
            self._drop([piece])
            return
        self._discard(piece)
        columns = {name: column[stays] for name, column in piece.rows.columns().items()}
        first = int(columns["born"][0])
        self._replace(piece, replace(piece, rows=PackedRows(columns), first=first, is_text=True))

    def _keep(self, saved: SavedRows) -> None:
        columns = saved.columns
        turn, message, first = (int(columns[name][0]) for name in ("turn", "message", "born"))
        key, number = self._store.put(saved.cells), self._next_number()
        piece = Piece(number, turn, PackedRows(columns), saved.epoch, key, first, is_text=not saved.cells)
        self._add(piece)
        self._until[message] = max(int(columns["born"][-1]), self._until.get(message, -1))
        if self._watch is not None:
            self._watch.added(piece)
        if saved.cells:
            self._keep_once(piece)

    def _next_number(self) -> int:
        """One that no piece has or had, and that the disk has no cells under, as of a damaged piece."""
        self._n_numbered += 1
        while self.disk is not None and self._n_numbered in self.disk:
            self._n_numbered += 1
        return self._n_numbered

    def _add(self, piece: Piece) -> None:
        insort(self._pieces.setdefault(piece.turn, []), piece, key=_first)
        self._by_number[piece.number] = piece

    def _replace(self, old: Piece, new: Piece) -> Piece:
        """Puts another in its place, of the same turn, under the same number."""
        self._pieces[old.turn].remove(old)
        self._add(new)
        if self._watch is not None:
            self._watch.replaced(old, new)
        return new

    def _keep_once(self, piece: Piece) -> None:
        """Takes the cells of what `piece` says again, unless an undo of the running turn would need them."""
        if piece.key not in self._store:  # it is larger than the bound
            return
        tokens = piece.rows["token"][piece.is_said]
        for number in list(self._said.said_again(tokens)):
            older = self._by_number[number]
            if older.message != piece.message and older.message not in self._losing[1]:
                self._take_cells(older)
        self._said.add(piece.number, tokens)

    def _take_cells(self, piece: Piece) -> None:
        """The piece stays as text."""
        self._discard(piece)
        self._replace(piece, replace(piece, is_text=True))

    def _discard(self, piece: Piece) -> None:
        """Takes its cells out of the store, and it from what may be said again."""
        self._store.discard(piece.key)
        self._said.discard(piece.number)

    # ---- what is on disk -----------------------------------------------------------------------

    def watch(self) -> None:
        """From now on what happens to pieces is collected for `take_changes`."""
        self._watch = ArchiveWatch()

    def take_changes(self) -> ArchiveChanges:
        """What happened to pieces since the last time, or since `watch`, which must come first."""
        if self._watch is None:
            raise SessionError("nobody watches this archive; call watch first")
        return self._watch.take()

    def cells(self, number: int) -> bytes | None:
        """The cells of the piece with this number, out of the store; None if they are not there (any more)."""
        piece = self._by_number.get(number)
        return None if piece is None else self._store.get(piece.key)

    def load(self, pieces: Mapping[int, bytes]) -> None:
        """Takes the pieces that `Piece.dump` wrote, by number, of the session that this one goes on from.

        Their text comes back, and the cells that `disk` has. Raises StateError, with nothing changed, if one is damaged
        or is of another vocabulary; SessionError unless the archive is empty.
        """
        if self._pieces:
            raise SessionError("an archive that holds something cannot be loaded")
        n_vocab = self._session.engine.spec.n_vocab
        loaded = [piece_from_bytes(pieces[number], number) for number in sorted(pieces)]
        if any(int(piece.rows["token"].max()) >= n_vocab for piece in loaded):
            raise StateError("these pieces of an archive are of another vocabulary")
        for piece in loaded:
            self._add(replace(piece, key=self._store.put(b"")))
            self._until[piece.message] = max(int(piece.born[-1]), self._until.get(piece.message, -1))
            self._n_numbered = max(piece.number, self._n_numbered)
            if self._is_on_disk(piece):
                self._said.add(piece.number, piece.rows["token"][piece.is_said])

    def leave_disk(self) -> None:
        """Takes away the cells that `disk` has now, since they cannot be put back here: their pieces stay as text."""
        for piece in list(self):
            if self.disk is not None and not piece.is_text and piece.number in self.disk:
                self._take_cells(piece)

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
        """The piece with its cells, which count as used now; None if it has none, or they have left.

        What is on disk alone is in the store again, as far as its bound allows. What is damaged there counts as taken
        away from now on.
        """
        cells = self._store.get(piece.key)
        if cells is None and self._is_on_disk(piece):
            cells = self._fetched(piece)
        return None if cells is None else piece.with_cells(cells)

    def _fetched(self, piece: Piece) -> bytes | None:
        """Its cells from the disk; None if they are damaged."""
        cells = None if self.disk is None else self.disk.get(piece.number)
        with shield():
            if cells:
                self._store.put(cells, piece.key)
                return cells
            self._take_cells(self._by_number[piece.number])
        return None

    def _is_on_disk(self, piece: Piece) -> bool:
        if self.disk is None or not self._cells or not self._session.engine.spec.can_restore:
            return False
        now = self._by_number.get(piece.number)  # who asks may hold it as it was
        return now is not None and not now.is_text and piece.number in self.disk

    def _has_cells(self, piece: Piece) -> bool:
        return piece.key in self._store or self._is_on_disk(piece)

    def holds(self, born: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Of which of the tokens with these born numbers the cells are in it, bool [n]."""
        return _holds([piece for piece in self if self._has_cells(piece)], born)

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

    def drop_after(self, message: int) -> None:
        """What was said after the message of that number was taken back."""
        self._drop([piece for piece in self if piece.message > message])

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
            self._discard(piece)
            self._pieces[piece.turn].remove(piece)
            if not self._pieces[piece.turn]:
                del self._pieces[piece.turn]
            del self._by_number[piece.number]
            if self._watch is not None:
                self._watch.dropped(piece)


def _first(piece: Piece) -> int:
    return piece.first


def _holds(pieces: Sequence[Piece], born: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = np.isin(born, np.concatenate([np.empty(0, np.int64), *(piece.born for piece in pieces)]))
    return held
