"""An eviction as a value: decided by a policy, executed by the session, logged and replayed by others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.errors import SessionError, StateError

__all__ = ["EvictionPlan", "Move", "Run", "check_places", "moves_between", "packing_moves", "runs_of"]

Run = tuple[int, int]
"""Half-open range of positions [p0, p1)."""

Move = tuple[int, int, int]
"""Half-open range of positions and what is added to them: [p0, p1) += delta."""


@dataclass(frozen=True, slots=True, eq=False)
class EvictionPlan:
    """Which rows go.

    rows: sorted, unique ledger rows, int64 [n]. epoch: the ledger state the plan was made for.
    why: one word for people and logs. values: what the policy ranked those rows by (higher stays longer),
    float64 [n], and cut: the least value that stayed; None where it ranked nothing.
    """

    rows: NDArray[np.int64]
    epoch: int
    why: str
    values: NDArray[np.float64] | None = None
    cut: float | None = None

    def __post_init__(self) -> None:
        rows = np.array(self.rows, np.int64)  # a copy: it is made read-only
        if np.any(np.diff(rows) <= 0) or (len(rows) and rows[0] < 0):
            raise SessionError(f"a plan's rows must be sorted, unique and not negative: {rows}")
        if self.values is not None and len(self.values) != len(rows):
            raise SessionError(f"a plan of {len(rows)} rows cannot have {len(self.values)} values")
        rows.flags.writeable = False
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.rows)


def runs_of(rows: ArrayLike, pos: NDArray[np.integer]) -> list[Run]:
    """The fewest position ranges that hold exactly the resident positions `pos[rows]`.

    Neighbouring rows make one run even across a hole, since nothing lives in a hole: each
    llama_memory_seq_rm scans every cell, so fewer runs are cheaper.
    """
    index = np.asarray(rows, np.intp)
    if not len(index):
        return []
    borders = np.flatnonzero(np.diff(index) != 1) + 1
    return [(int(pos[part[0]]), int(pos[part[-1]]) + 1) for part in np.split(index, borders)]


def packing_moves(pos: NDArray[np.integer], first: int = 0) -> list[Move]:
    """Moves that renumber the sorted positions `pos` to first, first + 1, ..., in the order they must be applied."""
    return moves_between(pos, first + np.arange(len(pos)))


def moves_between(old: NDArray[np.integer], new: NDArray[np.integer]) -> list[Move]:
    """Moves from the sorted positions `old` to the sorted `new`, [n] each, in the order they must be applied.

    Those down in ascending order, then those up in descending order: a run lands beside every run not yet moved, so no
    cell is caught twice (llama_memory_seq_add; several calls cost one K-shift).
    """
    delta = np.asarray(new, np.int64) - np.asarray(old, np.int64)
    borders = np.flatnonzero(np.diff(delta)) + 1
    parts = np.split(np.arange(len(delta)), borders) if len(delta) else []
    moves = [(int(old[p[0]]), int(old[p[-1]]) + 1, int(delta[p[0]])) for p in parts]
    return [m for m in moves if m[2] < 0] + [m for m in reversed(moves) if m[2] > 0]


def check_places(saved: NDArray[np.integer], pos: NDArray[np.integer], to: NDArray[np.integer]) -> None:
    """Raises StateError unless the cells `pos` [n] are among those `saved`, and `to` [n] has a place for each in order.

    All are sorted positions, and n is at least one.
    """
    if not len(pos) or not np.isin(pos, saved).all():
        raise StateError(
            f"{len(np.setdiff1d(pos, saved))} of {len(pos)} wanted cells are not among the {len(saved)} saved"
        )
    if len(to) != len(pos) or any(np.any(np.diff(p) <= 0) or p[0] < 0 or p[-1] >= 2**31 for p in (pos, to)):
        raise StateError(f"{len(pos)} cells cannot be put in order to the positions {to}")
