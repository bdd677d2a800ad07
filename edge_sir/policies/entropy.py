"""Shannon entropy in place of surprisal: how uncertain the model was, whatever came."""

from dataclasses import dataclass
from typing import ClassVar

from edge_sir.core.policy import LedgerView, ScorePolicy, Scores

__all__ = ["Entropy"]


@dataclass(frozen=True, kw_only=True)
class Entropy(ScorePolicy):
    """Keeps the tokens that stood where the predictive distribution was widest."""

    needs: ClassVar[frozenset[str]] = frozenset({"entropy"})
    ranks_by: ClassVar[str] = "entropy, decayed"

    def score(self, view: LedgerView) -> Scores:
        return self.decayed(view["entropy"], view)
