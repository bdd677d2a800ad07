"""What is resident of one sequence, its ledger and cells in step; what is saved of it, and comes back."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir._owner import Owner
from edge_sir._shield import shield
from edge_sir.core.ledger import Journal, TokenLedger
from edge_sir.core.plan import moves_between, runs_of
from edge_sir.core.records import SessionStats
from edge_sir.core.returned import Returned
from edge_sir.engine import Engine, Slice
from edge_sir.errors import CapabilityError, EngineError, PoisonedError, SessionError, StateError
from edge_sir.session.positions import (
    PositionEpochs,
    PositionMode,
    Positions,
    pack,
    places_among,
    read_again,
    resolve_positions,
    window_is_lost,
)
from edge_sir.session.saved import SavedPassage, SavedRows

__all__ = ["ResidentRows"]

_log = logging.getLogger(__name__)


class ResidentRows:
    """The ledger of sequence `seq` of `engine`, and the cells that it speaks of.

    After each change the engine's largest position equals the ledger's, or the rows are poisoned and every further call
    says so. turn: the running one. stats: what was done. owner: who may go on with it.
    """

    def __init__(
        self, engine: Engine, n_cells: int, *, seq: int, positions: Positions, journal: Journal | None
    ) -> None:
        self.owner = Owner("chat")
        self.engine = engine
        self.seq = seq
        self.mode: PositionMode = resolve_positions(positions, engine)
        self.ledger = TokenLedger(n_cells, journal)
        self.stats = SessionStats()
        self.turn = 0
        self._born = 0
        self._turn_born = 0
        self._epochs = PositionEpochs()
        self._returned = Returned()
        self._in_flight: Slice | None = None
        self._poison = ""

    @property
    def n_born(self) -> int:
        """Tokens ever decoded."""
        return self._born

    def make_ready(self) -> None:
        """Takes back what was handed out but not committed. Raises PoisonedError if ledger and cache disagree."""
        self._check_usable()
        self._undo_in_flight()
        self._check_agreement()

    # ---- what is saved, and what comes back ------------------------------------------------------

    def save_rows(self, rows: ArrayLike, *, cells: bool = True) -> SavedRows:
        """The ledger `rows` (sorted, int [n]) with their cells, for `restore` after they were evicted.

        cells: False for the rows alone, which cost nothing and cannot be restored. Raises CapabilityError where the
        engine cannot restore cells (`EngineSpec.why_restore`).
        """
        self.make_ready()
        index = np.asarray(rows, np.intp)
        if not len(index) or np.any(np.diff(index) < 1) or index[0] < 0 or index[-1] >= len(self.ledger):
            raise SessionError(f"{len(index)} rows of a ledger of {len(self.ledger)} are no passage to save")
        columns = {name: column[index].copy() for name, column in self.ledger.columns().items()}
        if not cells:
            return SavedRows(columns, self._epochs.now, b"")
        first, *more = runs_of(index, self.ledger["pos"])
        with shield():  # a pending K-shift is applied by a decode
            saved = SavedRows(columns, self._epochs.now, self.engine.save(self.seq, *first, *more))
            self._note_flush()
        return saved

    def restore(
        self,
        saved: SavedRows,
        rows: ArrayLike | None = None,
        *,
        place: Literal["own", "last"] = "own",
        recalled: bool = False,
        why: str = "",
    ) -> int:
        """Makes those of the saved rows resident again that are not, with no decode; returns how many those are.

        rows: which of them, sorted int [n]; None for all. place: "own" is the one in the order of birth (packed: among
        the survivors, which move up; with gaps: at the old positions, or between its neighbours if those belong to
        others by now); "last" is behind all that is resident, so right before a message that was fed and not decoded
        yet: there they are tokens of the running turn, born anew. recalled: they leave with `end_recall`. why: as in
        `Journal.restoring`. The last decoded row stays as it was. Rows of turns that were taken back are the caller's
        to leave out, and so is making room.
        Raises SessionError if they do not fit the budget, StateError where their text must be read instead: the cells
        were not saved, are damaged, of another model or context, or must move and cannot. Then nothing has changed.
        """
        self.make_ready()
        if not saved.cells:
            raise StateError("these rows were saved without their cells; read their text again")
        missing = self._missing(saved, rows)
        if not len(missing):
            return 0
        if len(self.ledger) + len(missing) > self.ledger.capacity:
            n = len(self.ledger) + len(missing) - self.ledger.capacity
            raise SessionError(f"{len(missing)} rows do not fit beside {len(self.ledger)}: evict {n} first")
        columns = {name: column[missing].copy() for name, column in saved.columns.items()}
        columns["recalled"] = np.full(len(missing), recalled)
        was_born = columns["born"]
        if place == "last":
            columns |= {"born": self._born + np.arange(len(missing)), "turn": np.full(len(missing), self.turn)}
        at = np.searchsorted(self.ledger["born"], columns["born"])
        places = self._places(columns["pos"], at, saved.epoch if place == "own" else -1)
        self._insert(saved.cells, columns, at, places, why, was_born)
        return len(missing)

    def put_back(self, passages: Sequence[SavedPassage], why: str) -> int:
        """As `restore`, for each passage and its rows and for good; returns how many rows came back.

        What cannot be restored is left out. why: as in `Journal.restoring`. Raises SessionError if they do not fit.
        """
        n = 0
        with shield():
            for saved, rows in passages:
                with contextlib.suppress(EngineError, CapabilityError):
                    n += self.restore(saved, rows, why=why)
        return n

    def can_put_back(self, saved: SavedRows, rows: ArrayLike | None = None) -> bool:
        """Whether their positions are free, or keys can move; else `put_back` leaves these rows out."""
        missing = self._missing(saved, rows)
        with contextlib.suppress(StateError):
            born = saved.columns["born"][missing]
            self._places(saved.columns["pos"][missing], np.searchsorted(self.ledger["born"], born), saved.epoch)
            return True
        return False

    def _missing(self, saved: SavedRows, rows: ArrayLike | None) -> NDArray[np.intp]:
        """Which of the saved rows (of `rows`, or of all) are not resident."""
        chosen = np.arange(len(saved)) if rows is None else np.asarray(rows, np.intp)
        return chosen[~np.isin(saved.columns["born"][chosen], self.ledger["born"])]

    def _places(self, pos: NDArray[Any], at: NDArray[np.intp], epoch: int) -> NDArray[np.int64]:
        """The position of every row when rows from positions `pos`, saved in `epoch`, come in before the rows `at`."""
        own: NDArray[np.int64] = np.insert(self.ledger["pos"].astype(np.int64), at, pos)
        spec, is_own = self.engine.spec, epoch >= 0 and self._epochs.still_own(epoch, int(pos[-1]))
        if self.mode == "gaps" and is_own and np.all(np.diff(own) > 0):
            return own
        if not spec.can_pack:
            raise StateError(
                f"the positions of these cells belong to others, and keys of {spec.model} cannot move ({spec.why}); "
                "read their text again"
            )
        first = self.engine.shared_until(self.seq)
        places = places_among(self.ledger["pos"], at, first, packed=self.mode == "packed")
        if 0 < spec.n_ctx_train <= places[-1]:
            places = places_among(self.ledger["pos"], at, first, packed=True)
        return places

    def _insert(
        self,
        cells: bytes,
        columns: dict[str, NDArray[Any]],
        at: NDArray[np.intp],
        places: NDArray[np.int64],
        why: str,
        was_born: NDArray[Any],
    ) -> None:
        new = at + np.arange(len(at))
        moves = moves_between(self.ledger["pos"], np.delete(places, new))
        is_moved = bool(moves) or not np.array_equal(places[new], columns["pos"])
        with shield():
            self.engine.restore(self.seq, cells, columns["pos"], places[new], moves)
            with self._atomically():
                if self.ledger.journal is not None:
                    self.ledger.journal.restoring(why, self.turn)
                self.ledger.insert(columns, places, was_born)
                self._returned.note(why, columns["born"], self.turn)
                if self.mode == "gaps" and is_moved:
                    self._epochs.give(min([int(places[new[0]]), *(p0 for p0, _, _ in moves)]), self.ledger.next_pos)
                n_anew = int((columns["born"] >= self._born).sum())
                self._turn_born += n_anew if self._turn_born >= self._born else 0
                self._born += n_anew
                self.stats.restored += len(new)
                self.stats.kshifts += is_moved
            self._check_agreement()

    # ---- what leaves its cells, and moves --------------------------------------------------------

    def _take_out(self, rows: NDArray[np.integer]) -> None:
        """Ledger `rows` leave their cells, and what stays closes up where positions are packed."""
        if not len(rows):
            return
        with shield(), self._atomically():
            pos = self.ledger["pos"].copy()
            self.ledger.drop(rows, self.ledger.epoch)
            for p0, p1 in runs_of(rows, pos):
                self.engine.remove(self.seq, p0, p1)
            if self.mode == "packed":
                self.stats.kshifts += pack(self.engine, self.seq, self.ledger)
        self._check_agreement()

    def _must_renumber(self, n: int) -> bool:
        """Whether `n` more tokens would go beyond the trained length."""
        return self.mode == "gaps" and 0 < self.engine.spec.n_ctx_train < self.ledger.next_pos + n

    def _renumber(self) -> None:
        """Gap mode at the trained length: pack the survivors once, or decode them again where keys cannot move."""
        done = "moved together" if self.engine.spec.can_pack else "read again"
        n, n_ctx_train = len(self.ledger), self.engine.spec.n_ctx_train
        _log.warning("the trained length of %d positions is reached: %d tokens are %s", n_ctx_train, n, done)
        with self._atomically(), shield():
            if self.engine.spec.can_pack:
                self.stats.kshifts += pack(self.engine, self.seq, self.ledger)
                self.stats.packs += 1
            else:
                self._read_again()
            self._epochs.give(0, self.ledger.next_pos)

    def _mend_window(self) -> None:
        """After a rewind: what is resident is read again if the cells of a sliding window are not all there."""
        if window_is_lost(self.engine, self.seq, self.ledger["pos"]):
            self._read_again()
            self._epochs.give(0, self.ledger.next_pos)

    def _read_again(self) -> None:
        read_again(self.engine, self.seq, self.ledger)
        self.stats.rereads += 1

    def _note_flush(self) -> None:
        """The engine saved cells, and so applied what was pending."""
        if self.ledger.watcher is not None:
            self.ledger.watcher.flushed()

    def _note_positions(self, p0: int, n: int, born: int) -> None:
        if self.mode == "gaps":  # packed, every eviction gives positions to others, and what comes back moves anyway
            self._epochs.decoded(p0, n, born)

    # ---- in step -------------------------------------------------------------------------------

    def _undo_in_flight(self) -> None:
        """A slice that was handed out but never committed (an error, Ctrl-C) is taken out of the cache."""
        if self._in_flight is not None:
            self.engine.remove(self.seq, self._in_flight.p0, -1)
            self._in_flight = None

    def _check_usable(self) -> None:
        self.owner.check()
        if self._poison:
            raise PoisonedError(f"the session cannot go on: {self._poison}")

    def _check_agreement(self) -> None:
        last = self.engine.pos_range(self.seq)[1]
        expected = self.ledger.next_pos - 1
        # A sliding-window cache forgets its end after a long truncation (llama_kv_cache_iswa::seq_pos_max).
        if last != expected and not (self.engine.spec.n_swa and last == -1):
            self._poison = f"the cache ends at position {last}, the ledger at {expected}"
            self._check_usable()

    @contextmanager
    def _atomically(self) -> Iterator[None]:
        """Marks the session as unusable if the block does not run to its end."""
        self._check_usable()
        try:
            yield
        except KeyboardInterrupt:  # a delayed Ctrl-C arrives after the block did its work
            raise
        except BaseException as error:
            self._poison = f"an eviction or rewind broke off ({error})"
            raise

    @contextmanager
    def _unrecorded(self) -> Iterator[None]:
        """The journal learns nothing of what happens in here: it follows what would be resident without a recall.

        To be used in a shield, or Ctrl-C could leave the journal off.
        """
        journal, self.ledger.journal = self.ledger.journal, None
        try:
            yield
        finally:
            self.ledger.journal = journal
