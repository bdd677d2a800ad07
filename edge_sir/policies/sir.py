"""edge-sir's own policy: every turn keeps its most surprising words, the more the fewer it still has.

Ranking tokens by surprisal alone (`sirllm`) lets a few odd turns fill the cache; keeping whole turns (`units`) forgets
all others. Here what a turn is worth grows with diminishing returns,

    V(turn) = decay ** age * (sum of the surprisal of its resident tokens) ** power,

and the tokens go whose loss costs least of that: the predictable words of all turns first, one more word of a turn that
keeps many before the last word of a turn that keeps few. docs/results shows what it was chosen against.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES
from edge_sir.core.policy import FRAME, LedgerView, ScorePolicy, Scores
from edge_sir.errors import ConfigError

__all__ = ["Sir"]

_ASSISTANT = ROLES.index("assistant")


@dataclass(frozen=True, kw_only=True)
class Sir(ScorePolicy):
    """Drops the tokens with the least marginal value to their turn.

    power: of a turn's summed surprisal, above 0 and at most 1; 1 ranks tokens by themselves, small powers give
    all turns much the same number of cells. reply_weight: of surprisal in what the model said itself, 0 to 1; it
    can say that again, what the user said it cannot. Role markers are worth nothing and go first.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"surprisal"})
    ranks_by: ClassVar[str] = "marginal value of the token to its turn, decayed"

    decay: float = 0.99
    power: float = 0.2
    reply_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.power <= 1:
            raise ConfigError(f"power must be above 0 and at most 1, not {self.power}")
        if not 0 <= self.reply_weight <= 1:
            raise ConfigError(f"reply_weight must be between 0 and 1, not {self.reply_weight}")

    def score(self, view: LedgerView) -> Scores:
        return self.decayed(self._marginal(self._weighted(view), view["turn"]), view)

    def _weighted(self, view: LedgerView) -> Scores:
        """Surprisal of each token in nats, weighted by who said it; NaN where it is unknown."""
        weight = np.where(view["role"] == _ASSISTANT, self.reply_weight, 1.0)
        return np.where(view["role"] == FRAME, 0.0, weight * view["surprisal"])

    def _marginal(self, surprisal: Scores, turn: NDArray[np.integer]) -> Scores:
        """V(turn) with the token less V without it, of a turn that has this token and all more surprising ones."""
        known = np.nan_to_num(surprisal, nan=0.0)
        order = np.lexsort((-known, turn))
        total = np.cumsum(known[order])
        starts = np.flatnonzero(np.diff(turn[order], prepend=-1))
        before = np.r_[0.0, total][starts]
        with_it = total - np.repeat(before, np.diff(np.r_[starts, len(turn)]))
        without = np.maximum(with_it - known[order], 0.0)
        gain = np.empty_like(known)
        gain[order] = with_it**self.power - without**self.power
        return np.where(np.isnan(surprisal), np.nan, gain)
