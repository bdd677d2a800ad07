"""SirLLM as the paper writes it (arXiv 2405.12528, sections 3.2 and 3.3)."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import LedgerView, Mask, Policy, Scores

__all__ = ["PaperPolicy", "SirLLM", "select"]


def select(scores: ArrayLike, *, n_sink: int, n_entropy: int, n_recent: int, n_incoming: int) -> NDArray[np.int64]:
    """Rows kept when `n_incoming` tokens come, sorted, as the released code chooses them.

    The `n_entropy - n_incoming` highest of all scores, and the sinks; what is then left of
    `n_sink + n_entropy + n_recent - n_incoming` goes to the newest. Equal scores keep the older row.
    """
    values = np.asarray(scores, np.float64)
    n_kept = n_sink + n_entropy + n_recent - n_incoming
    if len(values) <= n_kept:
        return np.arange(len(values))
    protect = np.zeros(len(values), bool)
    protect[:n_sink] = True
    return _keep(values, protect, max(0, n_entropy - n_incoming), n_kept)


def _keep(scores: Scores, protect: Mask, n_top: int, n_kept: int) -> NDArray[np.int64]:
    """Protected rows, then the best of the `n_top` highest scores, then the newest, until `n_kept`."""
    keep = protect.copy()
    best_first = np.lexsort((np.arange(len(scores)), -scores))
    for order in (best_first[:n_top], np.arange(len(scores))[::-1]):
        fresh = order[~keep[order]]
        keep[fresh[: max(0, n_kept - int(keep.sum()))]] = True
    return np.flatnonzero(keep)


@dataclass(frozen=True, kw_only=True)
class PaperPolicy(Policy):
    """The paper's way to make room: once per turn, sinks + top scores + newest, exactly to size.

    With the session's budget L the released code's sizes are n_entropy = L - n_sink - n_recent, so
    keeping `len(view) - n_drop` rows is `select` with n_incoming = L - kept. Pins and the system
    prompt are taken out of the cells that scores compete for.
    """

    per_turn: ClassVar[bool] = True

    @abstractmethod
    def score(self, view: LedgerView) -> Scores:
        """One float per row; higher is kept."""

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        n_kept = len(view) - n_drop
        n_top = max(0, n_kept - int(protect.sum()) - self.n_recent)
        # The released code ranks sinks among the others; pins, which it does not know, are set apart.
        pins = protect & (np.arange(len(view)) >= self.n_sink)
        scores = self.score(view)
        kept = _keep(np.where(pins, -np.inf, scores), protect, n_top, n_kept)
        rows = np.setdiff1d(np.arange(len(view)), kept)
        others = scores[kept[~protect[kept]]]
        return EvictionPlan(rows, view.epoch, "room", scores[rows], float(others.min()) if len(others) else None)


@dataclass(frozen=True, kw_only=True)
class SirLLM(PaperPolicy):
    """Keeps the tokens with the highest surprisal, decayed turn by turn."""

    needs: ClassVar[frozenset[str]] = frozenset({"surprisal"})
    ranks_by: ClassVar[str] = "surprisal, decayed"

    def score(self, view: LedgerView) -> Scores:
        return self.decayed(view["surprisal"], view)
