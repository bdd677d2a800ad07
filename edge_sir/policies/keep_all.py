"""No eviction: the reference that the others are measured against."""

from dataclasses import dataclass
from typing import ClassVar

from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import LedgerView, Mask, Policy
from edge_sir.errors import BudgetError

__all__ = ["KeepAll"]


@dataclass(frozen=True, kw_only=True)
class KeepAll(Policy):
    """Keeps everything and refuses when the context is full."""

    evicts: ClassVar[bool] = False

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        raise BudgetError(
            f"keep-all: the context is full ({len(view)} tokens resident); "
            "choose a policy that evicts, e.g. --policy sir"
        )
