"""Does to ledger and cells what logged changes say, for a session that goes on from an older snapshot.

Nothing is planned anew: what was decoded is decoded again, in the same slices at the same positions; what left is
removed; what came back is put back, from cells that are saved as they leave here, or that somebody else kept.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.ledger import TokenLedger
from edge_sir.core.plan import Move, moves_between, runs_of
from edge_sir.engine import Engine, Slice
from edge_sir.errors import BatchError, CapabilityError, NoSlotError, StateError
from edge_sir.session.changes import Appended, Change, Dropped, Flushed, Fold, Inserted, Renumbered, Updated, parse
from edge_sir.session.lean import Ints
from edge_sir.session.positions import read_again, window_is_lost
from edge_sir.session.saved import SavedPassage, SavedRows

__all__ = ["Redo", "SavedFor", "nothing_saved"]

SavedFor = Callable[[Ints], Sequence[SavedPassage]]
"""Gives the saved rows with these born numbers, int64 [n], as far as there are any: `Archive.passages`."""


_Passage = tuple[SavedRows, NDArray[np.intp], Ints]  # saved rows, which of them, and the born numbers that they get


def nothing_saved(born: Ints) -> Sequence[SavedPassage]:
    """Nobody kept cells."""
    return ()


class Redo:
    """Applies logs to `ledger` and to the cells of `seq` that it speaks of.

    saved: where the cells of rows are that left before the first log. Rows that were recalled for a turn and whose
    cells are nowhere are left out while they would be there; n_left_out: how many. logits: the last decoded row,
    float32 [n_vocab], None if nothing was decoded. needs: the scores that the session asks for.
    """

    def __init__(
        self, engine: Engine, seq: int, ledger: TokenLedger, saved: SavedFor, needs: frozenset[str] = frozenset()
    ) -> None:
        self.n_left_out = 0
        self.logits: NDArray[np.float32] | None = None
        self._engine, self._seq, self._ledger, self._saved, self._needs = engine, seq, ledger, saved, needs
        self._fold = Fold(ledger.columns())  # what the ledger would be with all that is left out
        self._left_out: set[int] = set()
        # By born number: saved rows, and which of them. What made room within a log, and what the archive saved.
        self._displaced: dict[int, tuple[SavedRows, int]] = {}
        self._archived: dict[int, tuple[SavedRows, int]] = {}

    def run(self, logs: Iterable[bytes]) -> None:
        """Raises StateError if a log is damaged, is not of these rows, or needs cells that nobody has.

        Ledger and cells are of no use after an error.
        """
        changes = [(number, change) for number, log in enumerate(logs) for change in parse(log)]
        wanted = _Wanted([change for _, change in changes], self._has)
        last = max((i for i, (_, change) in enumerate(changes) if isinstance(change, Appended)), default=-1)
        running = -1
        try:
            for i, (number, change) in enumerate(changes):
                if number != running:
                    self._fold.begin_log()
                    running = number
                self._fold.apply(change)
                if isinstance(change, Dropped):
                    self._keep(change, wanted, i)
                self._apply(change, is_last=i == last)
        except (BatchError, NoSlotError, CapabilityError) as error:
            raise StateError(f"what was logged cannot be done again here: {error}") from None
        self._check_same()

    def _apply(self, change: Change, *, is_last: bool) -> None:
        match change:
            case Appended():
                self._append(change, is_last)
            case Dropped():
                self._drop(change)
            case Inserted():
                with shield():
                    self._insert(change)
            case Updated():
                rows = self._rows_of(change.born)
                values = self._fold.ledger[change.name][self._fold.rows_of(self._ledger["born"][rows])]
                self._ledger.update(change.name, rows, values)
            case Renumbered():
                self._renumber()
            case Flushed():
                with shield():
                    self._engine.flush(self._seq)

    def _check_same(self) -> None:
        wanted = self._fold.ledger.columns()
        is_same = all(column.tobytes() == wanted[name].tobytes() for name, column in self._ledger.columns().items())
        if self._left_out or not is_same:
            raise StateError("what was logged does not lead to the rows that were resident")

    def _rows_of(self, born: Ints) -> NDArray[np.intp]:
        """The rows of these born numbers, without those that are left out."""
        return np.flatnonzero(np.isin(self._ledger["born"], born))

    def _has(self, born: Ints) -> set[int]:
        """Of these rows those that were saved before."""
        found = self._saved(born) if len(born) else ()
        return {n for saved, rows in found for n in saved.columns["born"][np.asarray(rows, np.intp)].tolist()}

    def _places(self) -> NDArray[np.int64]:
        """Where the rows that are there should stand."""
        here = np.isin(self._fold.ledger["born"], self._ledger["born"])
        return self._fold.ledger["pos"][here].astype(np.int64)

    # ---- decoding ------------------------------------------------------------------------------

    def _append(self, change: Appended, is_last: bool) -> None:
        rows = change.rows
        if (rows["token"] < 0).any():
            raise StateError("a token that is to be decoded again was forgotten")
        if int(rows["pos"][0]) != self._ledger.next_pos or np.any(np.diff(rows["pos"]) != 1):
            raise StateError("a token cannot be decoded at its position again")
        self._make_place(len(rows))
        n_batch, end = self._engine.spec.n_batch, 0
        for n in change.slices.tolist():
            end += n
            for start in range(end - n, end, n_batch):
                stop = min(start + n_batch, end)
                with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
                    self._decode(rows[start:stop], logits=is_last and stop == len(rows))

    def _decode(self, rows: NDArray[np.void], *, logits: bool) -> None:
        unknown = np.full(len(rows), -1, np.int32)
        needs = self._needs if logits else frozenset()  # one row of logits alone is rounded otherwise than among others
        piece = Slice(self._seq, np.array(rows["token"]), self._ledger.next_pos, unknown, needs, logits)
        [result] = self._engine.decode([piece])
        self._ledger.append(rows["token"], {name: rows[name] for name in rows.dtype.names or ()})
        if logits:
            self.logits = result.logits

    def _make_place(self, n: int) -> None:
        if len(self._ledger) + n > self._ledger.capacity:  # the budget was larger then
            self._ledger.resize(len(self._ledger) + n)

    # ---- what leaves and comes back ------------------------------------------------------------

    def _drop(self, change: Dropped) -> None:
        rows = self._rows_of(change.born)
        self._left_out -= set(change.born.tolist())
        if not len(rows):
            return
        pos = self._ledger["pos"].copy()
        with shield():
            for p0, p1 in runs_of(rows, pos):
                self._engine.remove(self._seq, p0, p1)
            self._ledger.drop(rows, self._ledger.epoch)

    def _keep(self, change: Dropped, wanted: "_Wanted", i: int) -> None:
        """Saves rows that come back, when they were saved then: what is displaced, and a message at its first loss.

        Keys follow their positions then, and each time that rounds them: at other times they would be other keys.
        """
        rows = self._rows_of(change.born)
        if not len(rows) or not self._engine.spec.can_restore:
            return
        with shield():
            if rows[-1] < len(self._ledger) - 1:  # else the newest tokens were taken back, and nothing was evicted
                mine = np.flatnonzero(np.isin(self._ledger["message"], self._ledger["message"][rows]))
                born = self._ledger["born"][mine].tolist()
                later = [wanted.last.get(n, -1) > i and n not in self._archived for n in born]
                self._archived |= self._saved_now(mine[np.array(later, bool)])
            self._displaced |= self._saved_now(rows[np.isin(self._ledger["born"][rows], list(wanted.displaced[i]))])

    def _saved_now(self, rows: NDArray[np.intp]) -> dict[int, tuple[SavedRows, int]]:
        if not len(rows):
            return {}
        first, *more = runs_of(rows, self._ledger["pos"])
        cells = self._engine.save(self._seq, first[0], first[1], *more)
        saved = SavedRows({name: c[rows].copy() for name, c in self._ledger.columns().items()}, 0, cells)
        return {born: (saved, i) for i, born in enumerate(saved.columns["born"].tolist())}

    def _insert(self, change: Inserted) -> None:
        came = self._restore(self._passages(change))
        missing = np.setdiff1d(change.born, came)
        if len(missing) and not change.is_recalled:
            raise StateError(f"the cells of {len(missing)} tokens that came back are not kept")
        self._left_out |= set(missing.tolist())
        self.n_left_out += len(missing)
        for born in came.tolist():
            self._displaced.pop(born, None)  # it is saved again if it leaves again

    def _sources(self, change: Inserted) -> dict[int, tuple[SavedRows, int]]:
        """By born number before they left: the saved rows that are there for it, and which of them.

        Those that made room came from what was saved as they left; all others from the archive, if it has them still.
        """
        mine = {n: self._displaced[n] for n in _returned(change).tolist() if n in self._displaced}
        others = np.array([n for n in change.was_born.tolist() if n not in mine], np.int64)
        found = {n: self._archived[n] for n in others.tolist() if n in self._archived}
        if len(others):
            for saved, rows in self._saved(others):
                index = np.asarray(rows, np.intp)
                found.update(
                    zip(saved.columns["born"][index].tolist(), ((saved, i) for i in index.tolist()), strict=True)
                )
        return found | mine

    def _passages(self, change: Inserted) -> list[_Passage]:
        """Runs of neighbouring rows that are saved together, in order: which rows, and the born numbers that they get.

        One after the other they take the free cells that they would take all at once.
        """
        sources = self._sources(change)
        runs: list[tuple[SavedRows, list[int], list[int]]] = []
        for number, born in zip(change.was_born.tolist(), change.born.tolist(), strict=True):
            if number not in sources:
                continue
            saved, row = sources[number]
            if not runs or runs[-1][0] is not saved:
                runs.append((saved, [], []))
            runs[-1][1].append(row)
            runs[-1][2].append(born)
        return [(saved, np.array(rows, np.intp), np.array(born, np.int64)) for saved, rows, born in runs]

    def _restore(self, passages: Sequence[_Passage]) -> Ints:
        """Puts those back that the engine takes; the born numbers of their rows, sorted."""
        full = self._fold.ledger
        moves = moves_between(self._ledger["pos"], self._places())
        came, tokens = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        for saved, rows, born in passages:
            to = full["pos"][self._fold.rows_of(born)]
            try:
                self._engine.restore(self._seq, saved.cells, saved.columns["pos"][rows], to, moves)
            except (StateError, CapabilityError):
                continue
            moves, came, tokens = [], [*came, born], [*tokens, saved.columns["token"][rows]]
        self._shift(moves)
        born = np.concatenate(came)
        order = np.argsort(born)
        index = self._fold.rows_of(born[order])
        columns = {name: column[index] for name, column in full.columns().items()}
        columns["token"] = np.concatenate(tokens)[order]  # a log does not have those of recalled rows
        here = np.isin(full["born"], np.concatenate([self._ledger["born"], born]))
        self._make_place(len(born))
        self._ledger.insert(columns, full["pos"][here])
        return born[order]

    # ---- what moves ----------------------------------------------------------------------------

    def _renumber(self) -> None:
        places = self._places()
        with shield():
            if self._engine.spec.can_pack and not window_is_lost(self._engine, self._seq, self._ledger["pos"]):
                self._shift(moves_between(self._ledger["pos"], places))
                self._ledger.renumber(places)
            elif np.array_equal(places, np.arange(len(places))):
                read_again(self._engine, self._seq, self._ledger)
            else:
                raise StateError(f"keys of {self._engine.spec.model} cannot move ({self._engine.spec.why})")

    def _shift(self, moves: Sequence[Move]) -> None:
        for p0, p1, delta in moves:
            self._engine.shift(self._seq, p0, p1, delta)


def _returned(change: Inserted) -> Ints:
    """Which of the rows that came back had made room within the same log, by their born numbers before they left."""
    if change.is_recalled:
        return np.empty(0, np.int64)
    return change.was_born[~np.isin(change.born, change.rows["born"])]


class _Wanted:
    """Which of the rows that leave come back later on, and are saved nowhere else.

    displaced: of each change those of its rows that made room and come back within the same log. last: of all others,
    by born number, the index of the last change that they come back with. has: which rows with these born numbers were
    saved before.
    """

    def __init__(self, changes: Sequence[Change], has: Callable[[Ints], set[int]]) -> None:
        self.last: dict[int, int] = {}
        self.displaced: list[frozenset[int]] = []
        for i, change in enumerate(changes):
            if isinstance(change, Inserted):
                self.last.update(dict.fromkeys(np.setdiff1d(change.was_born, _returned(change)).tolist(), i))
        for number in has(np.array(sorted(self.last), np.int64)):
            self.last.pop(number, None)
        wanted: set[int] = set()
        for change in reversed(changes):
            here: frozenset[int] = frozenset()
            match change:
                case Inserted():
                    wanted |= set(_returned(change).tolist())
                case Dropped():
                    here = frozenset(wanted.intersection(change.born.tolist()))
                    wanted -= here
                case _:
                    pass
            self.displaced.append(here)
        self.displaced.reverse()
