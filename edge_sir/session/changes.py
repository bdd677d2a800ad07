"""What happened to the resident rows, as bytes for a redo log: one log for each turn or command.

    ledger.watcher = changes = Changes()
    ... a turn ...
    changes.take() ──> bytes ──> parse: the changes as values
                             ──> fold: the ledger after all of them     ──> Session.rebuilt
                             ──> Session.redo: ledger and cells after all of them
                             ──> blank: the same with no trace of which tokens some of them were

A log says what was done, in order, and nothing of why. Of rows that come back for a turn alone, and of those that come
back as they left within the same log (they made room for a recall), only the born numbers are in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.ledger import COLUMNS, TokenLedger
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import StateError
from edge_sir.session.lean import Ints, bits_of, from_bits, from_lean, to_lean

__all__ = [
    "Appended",
    "Change",
    "Changes",
    "Dropped",
    "Flushed",
    "Fold",
    "Inserted",
    "Renumbered",
    "Updated",
    "blank",
    "fold",
    "parse",
]

_ROW = np.dtype(list(COLUMNS))
_NAMES = tuple(name for name, _ in COLUMNS)
_LESS_POS = [name for name in _NAMES if name != "pos"]
_TYPES = dict(COLUMNS)

Rows = NDArray[np.void]
"""Rows of the ledger as a structured array [n], a field for each of its columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Appended:
    """Rows that were decoded, one slice after the other. slices: tokens of each, int64 [k], in all len(rows)."""

    rows: Rows
    slices: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Inserted:
    """Rows that came back. born, was_born: int64 [n], as in `Watcher.inserted`; pos: int64 [n_resident] afterwards.

    rows: those of them that are neither recalled nor as they left within the same log, in the same order. is_recalled:
    whether all of them are there for a turn alone.
    """

    born: Ints
    was_born: Ints
    pos: Ints
    rows: Rows
    is_recalled: bool


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """Rows that were removed, by their born numbers, int64 [n]."""

    born: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Updated:
    """Column `name` of the rows with these born numbers, int64 [n], got these values, [n] of the column's dtype."""

    name: str
    born: Ints
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Renumbered:
    """Every row got another position, int64 [n_resident]."""

    pos: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Flushed:
    """Keys followed all positions, as in `Watcher.flushed`."""


Change = Appended | Inserted | Dropped | Updated | Renumbered | Flushed


class Changes:
    """A `Watcher` that collects changes until they are taken."""

    def __init__(self) -> None:
        self._has_moved = False  # whether keys are still to follow
        self._begin()

    def _begin(self) -> None:
        self._changes: list[Change] = []
        self._fresh: list[Rows] = []  # appended, and not yet among the changes: one array a slice
        self._left: dict[int, bytes] = {}  # the rows dropped since, positions aside

    def take(self) -> bytes:
        """What came since the last time, for `parse`; empty if that is nothing."""
        self._settle()
        if all(isinstance(change, Flushed) for change in self._changes):  # it goes with what comes next
            return b""
        data = _encoded(self._changes)
        self._begin()
        return data

    def _settle(self) -> None:
        if self._fresh:
            slices = np.array([len(rows) for rows in self._fresh], np.int64)
            self._changes.append(Appended(np.concatenate(self._fresh), slices))
            self._fresh = []

    def _push(self, change: Change) -> None:
        self._settle()
        self._changes.append(change)

    # ---- core.ledger.Watcher -------------------------------------------------------------------

    def appended(self, rows: Mapping[str, NDArray[Any]]) -> None:
        if len(rows["born"]):
            self._has_moved = False  # a decode comes before
            self._fresh.append(_structured(rows))

    def inserted(self, rows: Mapping[str, NDArray[Any]], pos: NDArray[Any], was_born: NDArray[Any]) -> None:
        came, is_recalled = _structured(rows), bool(np.all(rows["recalled"]))
        keys = zip(came["born"].tolist(), _marks(came), strict=True)
        other = np.array([not is_recalled and self._left.get(born) != mark for born, mark in keys], bool)
        born = came["born"].astype(np.int64)
        self._has_moved = True
        self._push(Inserted(born, np.array(was_born, np.int64), np.array(pos, np.int64), came[other], is_recalled))

    def dropped(self, rows: Mapping[str, NDArray[Any]]) -> None:
        left = _structured(rows)
        if len(left):
            self._left.update(zip(left["born"].tolist(), _marks(left), strict=True))
            self._push(Dropped(left["born"].astype(np.int64)))

    def updated(self, name: str, born: NDArray[Any], value: ArrayLike) -> None:
        if len(born):
            values = np.array(np.broadcast_to(np.asarray(value), np.shape(born)), _TYPES[name])
            self._push(Updated(name, np.array(born, np.int64), values))

    def renumbered(self, pos: NDArray[Any]) -> None:
        self._has_moved = True
        self._push(Renumbered(np.array(pos, np.int64)))

    def flushed(self) -> None:
        if self._has_moved:
            self._has_moved = False
            self._push(Flushed())


def _structured(columns: Mapping[str, ArrayLike]) -> Rows:
    rows = np.empty(len(np.asarray(columns["born"])), _ROW)
    for name in _NAMES:
        rows[name] = columns[name]
    return rows


def _marks(rows: Rows) -> list[bytes]:
    """What each row is, positions aside: equal bytes for equal rows."""
    still = rows.copy()
    still["pos"] = 0
    data, size = still.tobytes(), _ROW.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]


# ---- bytes -------------------------------------------------------------------------------------
# One array each: of what kind the changes are, how many rows each is of, two more counts of each (see `_counts`);
# the sizes of slices, born numbers, positions, values of updates; and a column each of all rows that are given.

_N_ARRAYS = 8 + len(COLUMNS)


def _counts(change: Change) -> tuple[int, int, int, int]:
    """Its kind, and how to cut it out of the arrays again."""
    match change:
        case Appended():
            return 0, len(change.rows), len(change.slices), 0
        case Inserted():
            return 1 if change.is_recalled else 2, len(change.born), len(change.rows), len(change.pos)
        case Dropped():
            return 3, len(change.born), 0, 0
        case Updated():
            return 4, len(change.born), _NAMES.index(change.name), 0
        case Renumbered():
            return 5, len(change.pos), 0, 0
        case Flushed():
            return 6, 0, 0, 0


def _encoded(changes: Iterable[Change]) -> bytes:
    changes = list(changes)
    counts = np.array([_counts(change) for change in changes], np.int64).reshape(-1, 4)
    slices, born, pos, values, rows = list[Ints](), list[Ints](), list[Ints](), list[Ints](), list[Rows]()
    for change in changes:
        match change:
            case Appended():
                slices.append(change.slices)
                rows.append(change.rows)
            case Inserted():
                born += [change.born, change.was_born]
                pos.append(change.pos)
                rows.append(change.rows)
            case Dropped():
                born.append(change.born)
            case Updated():
                born.append(change.born)
                values.append(bits_of(change.values))
            case Renumbered():
                pos.append(change.pos)
    table = np.concatenate([np.empty(0, _ROW), *rows])
    kept = [np.concatenate([np.empty(0, np.int64), *parts]) for parts in (slices, born, pos, values)]
    return to_lean([*counts.T, *kept, *(bits_of(table[name]) for name in _NAMES)])


class _Cut:
    """An array that is cut into pieces, from the front."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array, self._at = array, 0

    def take(self, n: int) -> NDArray[Any]:
        if not 0 <= n <= self.left:
            raise ValueError(f"{n} values were expected and {self.left} are left")
        self._at += n
        return self._array[self._at - n : self._at]

    @property
    def left(self) -> int:
        return len(self._array) - self._at


def parse(data: bytes) -> list[Change]:
    """The changes that `Changes.take` wrote, in order. Raises StateError for any other bytes; none are no changes."""
    if not data:
        return []
    kinds, n, m, k, *kept = from_lean(data, _N_ARRAYS)
    try:
        slices, born, pos, values = (_Cut(array) for array in kept[:4])
        table = np.empty(len(kept[4]), _ROW)
        for name, column in zip(_NAMES, kept[4:], strict=True):
            table[name] = from_bits(column, _TYPES[name])
        rows, changes = _Cut(table), list[Change]()
        for counts in zip(kinds.tolist(), n.tolist(), m.tolist(), k.tolist(), strict=True):
            changes.append(_parsed(*counts, slices, born, pos, values, rows))
        if any(cut.left for cut in (slices, born, pos, values, rows)):
            raise ValueError("more is in it than its changes are")
    except (ValueError, IndexError) as error:  # the checksum was right
        raise StateError(f"these bytes are no log of edge-sir: {error}") from None
    return changes


def _parsed(kind: int, n: int, m: int, k: int, slices: _Cut, born: _Cut, pos: _Cut, values: _Cut, rows: _Cut) -> Change:
    """The next change. kind, n, m, k: as in `_counts`; the others: what is left of the arrays."""
    match kind:
        case 0:
            sizes = slices.take(m)
            if sizes.sum() != n or (sizes < 1).any():
                raise ValueError("its slices are not of its tokens")
            return Appended(rows.take(n), sizes)
        case 1 | 2:
            return Inserted(born.take(n), born.take(n), pos.take(k), rows.take(m), kind == 1)
        case 3:
            return Dropped(born.take(n))
        case 4:
            name = _NAMES[m]
            return Updated(name, born.take(n), from_bits(values.take(n), _TYPES[name]))
        case 5:
            return Renumbered(pos.take(n))
        case 6:
            return Flushed()
    raise ValueError(f"a change of kind {kind} is unknown")


def blank(data: bytes, born: ArrayLike) -> bytes:
    """The log with which tokens those with these born numbers were left out: -1, and no scores.

    born: int [n]. So are all tokens that were read again for a turn alone: their text may be that of others.
    Raises StateError as `parse`.
    """
    wanted = np.asarray(born, np.int64)
    changes = parse(data)
    if not len(wanted) or not changes:
        return data
    return _encoded([_blanked(change, wanted) for change in changes])


def _blanked(change: Change, born: Ints) -> Change:
    match change:
        case Appended():
            hidden = np.isin(change.rows["born"], born) | change.rows["recalled"]
            return replace(change, rows=_without(change.rows, hidden))
        case Inserted():
            numbers = change.born[np.isin(change.born, born) | np.isin(change.was_born, born)]
            return replace(change, rows=_without(change.rows, np.isin(change.rows["born"], numbers)))
        case Updated() if change.name in SCORE_NAMES:
            return replace(change, values=np.where(np.isin(change.born, born), np.float32(np.nan), change.values))
    return change


def _without(rows: Rows, hidden: NDArray[np.bool_]) -> Rows:
    out = rows.copy()
    out["token"][hidden] = -1
    for name in SCORE_NAMES:
        out[name][hidden] = np.nan
    return out


# ---- the rows as changes leave them --------------------------------------------------------------


class Fold:
    """A ledger that follows changes, with no engine. start: columns to begin with, [n] each; none for no rows.

    Raises StateError where a change does not fit what is there.
    """

    def __init__(self, start: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.ledger = TokenLedger(max(64, 0 if start is None else len(start["born"])))
        self._left: dict[int, np.void] = {}
        if start is not None:
            self.ledger.append(start["token"], start)

    def begin_log(self) -> None:
        """What comes next is of another log."""
        self._left.clear()

    def apply(self, change: Change) -> None:
        """Does to the ledger what the change says."""
        try:
            self._apply(change)
        except StateError:
            raise
        except Exception as error:  # whatever it is, the log is not of these rows
            raise StateError(f"a log does not fit what is resident: {error}") from None

    def _apply(self, change: Change) -> None:
        ledger = self.ledger
        match change:
            case Appended():
                self._grow(len(change.rows))
                ledger.append(change.rows["token"], _by_column(change.rows))
            case Inserted():
                self._grow(len(change.born))
                ledger.insert(_by_column(self._whole(change)), change.pos)
            case Dropped():
                rows = self.rows_of(change.born)
                left = _structured({name: column[rows] for name, column in ledger.columns().items()})
                self._left.update(zip(change.born.tolist(), left, strict=True))
                ledger.drop(rows, ledger.epoch)
            case Updated():
                ledger.update(change.name, self.rows_of(change.born), change.values)
            case Renumbered():
                if len(change.pos) != len(ledger) or np.any(np.diff(change.pos) <= 0):
                    raise StateError(f"{len(change.pos)} positions do not fit {len(ledger)} rows")
                ledger.renumber(change.pos)

    def _grow(self, n: int) -> None:
        if len(self.ledger) + n > self.ledger.capacity:
            self.ledger.resize(2 * self.ledger.capacity + n)

    def rows_of(self, born: Ints) -> NDArray[np.intp]:
        """The rows with these born numbers, int [n]. Raises StateError if one is not there."""
        here = self.ledger["born"]
        rows = np.searchsorted(here, born)
        if len(rows) and (rows.max() >= len(here) or not np.array_equal(here[rows], born)):
            raise StateError("a log does not fit what is resident: a row is not there")
        return rows

    def _whole(self, change: Inserted) -> Rows:
        """All rows that came, those as they left included; of recalled ones nothing but that is known."""
        rows = np.zeros(len(change.born), _ROW)
        if change.is_recalled:
            rows["born"], rows["token"], rows["recalled"] = change.born, -1, True
            return rows
        given = dict(zip(change.rows["born"].tolist(), change.rows, strict=True))
        for i, born in enumerate(change.born.tolist()):
            rows[i] = given[born] if born in given else self._left[born]
        return rows


def _by_column(rows: Rows) -> dict[str, NDArray[Any]]:
    """The same by column, [n] each."""
    return {name: rows[name] for name in _NAMES}


def fold(logs: Iterable[bytes], start: Mapping[str, NDArray[Any]] | None = None) -> dict[str, NDArray[Any]]:
    """The ledger's columns after all changes of `logs`, [n_resident] each, with no engine.

    start: the columns before them; by default there is nothing. Raises StateError if a log is damaged, or is not of
    these rows.
    """
    folded = Fold(start)
    for log in logs:
        folded.begin_log()
        for change in parse(log):
            folded.apply(change)
    return {name: column.copy() for name, column in folded.ledger.columns().items()}
