"""What is resident: one row per occupied cell, in the order of the stream.

    stream    born  0   1   2   3   4   5   6   7   8   9  10  ...     every token ever decoded
                    |   |       |   |           |   |       |
    ledger    row   0   1       2   3           4   5       6          what is still in the cache
              pos   0   1       2   3           4   5       6          packed: renumbered
              pos   0   1       3   4           7   8      10          gaps: as decoded

Three integers with three names everywhere: *row* is an index into the ledger, *pos* a llama.cpp
position, *born* an index into the endless stream.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import SessionError, StalePlanError

__all__ = ["COLUMNS", "FRAME", "ROLES", "UNSPOKEN", "Journal", "TokenLedger", "Watcher", "split"]

Column = NDArray[Any]

ROLES = ("frame", "system", "user", "assistant", "thought", "tool")
"""Role names; the ledger stores the index. A *frame* token is a template's marker, not anybody's words."""

FRAME = ROLES.index("frame")
UNSPOKEN = (FRAME, ROLES.index("thought"))
"""What is no part of what was said: markers, and thoughts, which leave when their turn ends."""

COLUMNS: tuple[tuple[str, str], ...] = (
    ("token", "<i4"),
    ("pos", "<i4"),
    ("born", "<i8"),
    ("turn", "<i4"),
    ("message", "<i4"),  # running number of the message the token belongs to
    ("sentence", "<i4"),  # running number of the sentence; a message's markers go with its sentences
    ("word", "<i4"),  # running number of the word; each marker is one of its own
    ("role", "<i1"),
    ("pinned", "|b1"),
    ("recalled", "|b1"),  # evicted before, and back for the running turn
    *((name, "<f4") for name in SCORE_NAMES),
)
"""Name and dtype of every column. Score columns are NaN where nothing was computed."""


class Journal(Protocol):
    """Gets every change of what is resident, in order, and what it was for. It must not raise."""

    def asked(self, n: int, turn_now: int, n_whole_turn: int | None) -> None:
        """Room is about to be made for `n` tokens, with the arguments of `Room.plan`."""

    def changed(self, what: str, value: str | int, turn_now: int) -> None:
        """From now on there is another policy (its specification) or budget (cells)."""

    def cleared(self) -> None:
        """All that is resident is about to go, and another conversation begins."""

    def evicting(self, why: str, turn_now: int, n_resident: int) -> None:
        """The next rows dropped are an eviction's."""

    def appended(self, rows: Mapping[str, Column]) -> None:
        """Rows were added; all their columns, views."""

    def updated(self, name: str, born: Column, value: ArrayLike) -> None:
        """Column `name` was overwritten where the rows' born numbers are `born`."""

    def dropped(self, born: Column) -> None:
        """The rows with these born numbers were removed."""

    def restoring(self, why: str, turn_now: int) -> None:
        """The next rows that are back are so for an "undo", a raised "budget", a "pin" or a "recall" by hand."""

    def recalled(self, born: Column, turn_now: int) -> None:
        """The rows with these born numbers are back for the running turn; nothing else is said of them."""

    def restored(self, rows: Mapping[str, Column]) -> None:
        """Rows that had left are back, each at its place in the order of birth; all their columns."""

    def forgotten(self, born: Column) -> None:
        """The user asked for these to be forgotten, resident or not: which tokens they were must not be kept."""


class Watcher(Protocol):
    """Gets every change of the rows as it happens, those for one turn alone included, which a journal may not get.

    Applied in this order to the same rows, the changes give the same rows again. Arrays are views: copy what is kept.
    It must not raise.
    """

    def appended(self, rows: Mapping[str, Column]) -> None:
        """Rows were added behind all others, with one decode; all their columns."""

    def inserted(self, rows: Mapping[str, Column], pos: Column, was_born: Column) -> None:
        """Rows came back, each at its place in the order of birth; all their columns.

        pos: the position of every row afterwards. was_born: the born numbers of the rows whose cells these are.
        """

    def dropped(self, rows: Mapping[str, Column]) -> None:
        """These rows were removed; all their columns as they were."""

    def updated(self, name: str, born: Column, value: ArrayLike) -> None:
        """Column `name` was overwritten where the rows' born numbers are `born`; value: one, or one for each."""

    def renumbered(self, pos: Column) -> None:
        """The position of every row was set."""

    def flushed(self) -> None:
        """Keys followed all positions, with no token decoded: they are rounded each time that they move."""


class TokenLedger:
    """Columns of equal length with room for `capacity` rows.

    `epoch` counts the changes of what is resident; an eviction plan carries the epoch it was made for.
    journal, watcher: each gets the changes, if there is one.
    """

    def __init__(self, capacity: int, journal: Journal | None = None) -> None:
        self.capacity = capacity
        self.journal = journal
        self.watcher: Watcher | None = None
        self.epoch = 0
        self._n = 0
        self._columns = {name: np.zeros(capacity, dtype) for name, dtype in COLUMNS}

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, name: str) -> Column:
        """Column `name`, [len(self)], a read-only view that the next change invalidates."""
        view = self._columns[name][: self._n]
        view.flags.writeable = False
        return view

    @property
    def next_pos(self) -> int:
        """The only position llama.cpp accepts next: one past the largest resident one (llama-batch.cpp)."""
        return int(self._columns["pos"][self._n - 1]) + 1 if self._n else 0

    def columns(self) -> dict[str, Column]:
        """All columns by name, read-only views."""
        return {name: self[name] for name, _ in COLUMNS}

    def append(self, token: ArrayLike, values: Mapping[str, ArrayLike]) -> None:
        """Adds one row per token; `values` maps column names to arrays or scalars.

        Score columns that are not given become NaN, others zero. The row count is raised last, so an
        interrupted append leaves the ledger as it was.
        """
        tokens = np.asarray(token, np.int32)
        start, stop = self._n, self._n + len(tokens)
        if stop > self.capacity:
            raise SessionError(f"{stop} rows do not fit a ledger of {self.capacity}; evict first")
        unknown = values.keys() - self._columns.keys()
        if unknown:
            raise SessionError(f"no such ledger column: {', '.join(sorted(unknown))}")
        for name, column in self._columns.items():
            default = np.nan if name in SCORE_NAMES else 0
            column[start:stop] = values.get(name, default)
        self._columns["token"][start:stop] = tokens
        pos = self._columns["pos"][max(0, start - 1) : stop]
        if np.any(np.diff(pos) <= 0):
            raise SessionError("positions must grow along the ledger")
        self.epoch += 1
        self._n = stop
        if self.journal is not None or self.watcher is not None:
            rows = {name: column[start:stop] for name, column in self._columns.items()}
            for listener in (self.journal, self.watcher):
                if listener is not None:
                    listener.appended(rows)

    def insert(self, rows: Mapping[str, ArrayLike], pos: ArrayLike, was_born: ArrayLike | None = None) -> None:
        """Puts rows that had left back, each at its place in the order of birth.

        rows: all columns, [n] each, in that order. pos: the position of every row afterwards, int [len(self) + n].
        was_born: their born numbers before they left, int [n], where they are born anew; None for the same.
        Raises SessionError, with nothing changed, for rows that do not fit or are resident, or positions out of order.
        """
        new = {name: np.asarray(rows[name], dtype) for name, dtype in COLUMNS}
        born, places = self["born"], np.asarray(pos)
        stop = self._n + len(new["born"])
        if stop > self.capacity:
            raise SessionError(f"{stop} rows do not fit a ledger of {self.capacity}; evict first")
        if np.isin(new["born"], born).any() or np.any(np.diff(new["born"]) <= 0):
            raise SessionError("rows that are to be inserted must not be resident, and stand in the order of birth")
        if len(places) != stop or np.any(np.diff(places) <= 0):
            raise SessionError("positions must grow along the ledger")
        at = np.searchsorted(born, new["born"])
        merged = {name: np.insert(column[: self._n], at, new[name]) for name, column in self._columns.items()}
        merged["pos"] = places
        for name, column in self._columns.items():
            column[:stop] = merged[name]
        self.epoch += 1
        self._n = stop
        if self.journal is not None:
            self.journal.restored(new)
        if self.watcher is not None:
            self.watcher.inserted(new, places, new["born"] if was_born is None else np.asarray(was_born))

    def update(self, name: str, rows: NDArray[Any] | slice, value: ArrayLike) -> None:
        """Overwrites column `name` at `rows` (int or bool index, or a slice). What is resident does not change."""
        self._columns[name][: self._n][rows] = value
        for listener in (self.journal, self.watcher):
            if listener is not None:
                listener.updated(name, self._columns["born"][: self._n][rows], value)

    def drop(self, rows: ArrayLike, epoch: int) -> None:
        """Removes `rows` (sorted ints); raises StalePlanError unless `epoch` is the present one."""
        if epoch != self.epoch:
            raise StalePlanError(f"the plan was made for epoch {epoch}, the ledger is at {self.epoch}")
        keep = np.ones(self._n, bool)
        keep[np.asarray(rows, np.intp)] = False
        born = self._columns["born"][: self._n][~keep]
        left = {} if self.watcher is None else {name: c[: self._n][~keep] for name, c in self._columns.items()}
        n_kept = int(keep.sum())
        for column in self._columns.values():
            column[:n_kept] = column[: self._n][keep]
        self.epoch += 1
        self._n = n_kept
        if self.journal is not None:
            self.journal.dropped(born)
        if self.watcher is not None:
            self.watcher.dropped(left)

    def resize(self, capacity: int) -> None:
        """Makes room for `capacity` rows. What is resident does not change; SessionError if it would not fit."""
        if capacity < self._n:
            raise SessionError(f"{self._n} rows do not fit a ledger of {capacity}; evict first")
        grown = {name: np.zeros(capacity, dtype) for name, dtype in COLUMNS}
        for name, column in self._columns.items():
            grown[name][: self._n] = column[: self._n]
        self._columns, self.capacity = grown, capacity

    def renumber(self, pos: ArrayLike) -> None:
        """Sets the position of every row after the cells were shifted. What is resident does not change."""
        self._columns["pos"][: self._n] = pos
        if self.watcher is not None:
            self.watcher.renumbered(self["pos"])


def split(rows: NDArray[np.intp], keys: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
    """`rows` int [n] in pieces of equal neighbouring `keys` [n], in order; none of no rows."""
    return np.split(rows, np.flatnonzero(np.diff(keys)) + 1) if len(rows) else []
