"""The paper's interval baseline: tokens at even distances."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import LedgerView, Mask, Policy

__all__ = ["Interval"]


@dataclass(frozen=True, kw_only=True)
class Interval(Policy):
    """Keeps unprotected tokens at even distances over what is resident."""

    per_turn: ClassVar[bool] = True
    ranks_by: ClassVar[str] = "nothing: it keeps even distances"

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        rest = self.candidates(protect, n_drop)
        kept = rest[np.linspace(0, len(rest) - 1, len(rest) - n_drop).round().astype(int)]
        return EvictionPlan(np.setdiff1d(rest, kept), view.epoch, "room")
