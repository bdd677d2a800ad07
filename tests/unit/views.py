"""Ledger views that no session made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sir.core.ledger import COLUMNS, ROLES
from edge_sir.core.policy import LedgerView
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.policies import from_spec

FRAME, USER = ROLES.index("frame"), ROLES.index("user")


def make_view(n_must: int, *, epoch: int = 7, turn_now: int = 0, **columns: Sequence[Any]) -> LedgerView:
    """A view with these columns; the others are zero, scores NaN, and all of them read-only."""
    n = len(next(iter(columns.values())))
    full: dict[str, Any] = {"pos": np.arange(n), "born": np.arange(n), "word": np.arange(n)} | columns
    arrays = {}
    for name, dtype in COLUMNS:
        arrays[name] = np.array(full.get(name, [np.nan if name in SCORE_NAMES else 0] * n), dtype)
        arrays[name].flags.writeable = False
    return LedgerView(arrays, turn_now, epoch, n_must)


def mask(n: int, *protected: int) -> np.ndarray:
    protect = np.zeros(n, bool)
    protect[list(protected)] = True
    return protect


def dropped(spec: str, view: LedgerView, protect: np.ndarray, n_drop: int | None = None) -> list[int]:
    return from_spec(spec).plan(view, n_drop or view.n_must, protect).rows.tolist()
