"""edge-sir's own policy: every turn keeps its most surprising words, the more the fewer it still has.

Ranking tokens by surprisal alone (`sirllm`) lets a few odd turns fill the cache, and takes names apart, since the later
tokens of a word are easy to predict; keeping whole turns (`units`) forgets all others. Here words go whole, and what
a turn is worth grows with diminishing returns,

    V(turn) = decay ** age * (sum of the surprisal of its resident words) ** power,

where a word's surprisal is that of its tokens together. The words go whose loss costs least of that for the cells
they free. docs/results shows what it was chosen against.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import FRAME, LedgerView, Mask, ScorePolicy, Scores
from edge_sir.errors import ConfigError

__all__ = ["Sir"]

_ASSISTANT = ROLES.index("assistant")


@dataclass(frozen=True, kw_only=True)
class Sir(ScorePolicy):
    """Drops the words with the least marginal value to their turn.

    power: of a turn's summed surprisal, above 0 and at most 1; 1 ranks words by themselves, small powers give
    all turns much the same share of the cells. reply_weight: of surprisal in what the model said itself, 0 to 1; it
    can say that again, what the user said it cannot. length_power: a word's value is divided by its number of tokens to
    this power, 0 to 1; 0 takes no notice of what a word costs, 1 values it per cell, which favours short words.
    recent: share of the resident tokens that stay for being the newest beside the running turn, 0 to 1 (`n_recent`
    counts if that is more); what comes next hangs on them most. Role markers are worth nothing and go first.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"surprisal"})
    ranks_by: ClassVar[str] = "marginal value of the word to its turn, decayed"
    recalls: ClassVar[bool] = True

    decay: float = 0.99
    power: float = 0.2
    reply_weight: float = 0.5
    length_power: float = 0.5
    recent: float = 1 / 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.power <= 1:
            raise ConfigError(f"power must be above 0 and at most 1, not {self.power}")
        for name in ("reply_weight", "length_power", "recent"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {getattr(self, name)}")

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        """As all policies of scores, but the word at the cut stays whole if as many tokens need not go."""
        plan = super().plan(view, n_drop, protect)
        stay = np.setdiff1d(self.candidates(protect, n_drop), plan.rows)
        torn = np.isin(view["word"][plan.rows], view["word"][stay])
        if plan.values is None or not torn.any() or len(plan) - torn.sum() < view.n_must:
            return plan
        cut = float(plan.values[torn].min())
        return EvictionPlan(plan.rows[~torn], plan.epoch, plan.why, plan.values[~torn], cut)

    def n_newest(self, n_rows: int) -> int:
        return max(self.n_recent, int(self.recent * n_rows))

    def score(self, view: LedgerView) -> Scores:
        return self.decayed(self._marginal(view, self._weighted(view)), view)

    def _weighted(self, view: LedgerView) -> Scores:
        """Surprisal of each token in nats, weighted by who said it; NaN where it is unknown."""
        weight = np.where(view["role"] == _ASSISTANT, self.reply_weight, 1.0)
        return np.where(view["role"] == FRAME, 0.0, weight * view["surprisal"])

    def _marginal(self, view: LedgerView, surprisal: Scores) -> Scores:
        """For each token what its word adds to V(turn), of a turn that has this word and all that rank above it."""
        known = np.nan_to_num(surprisal, nan=0.0)
        starts = np.flatnonzero(np.diff(view["word"], prepend=-1) != 0)
        n_tokens = np.diff(np.r_[starts, len(known)])
        value = np.add.reduceat(known, starts)
        discount = n_tokens**self.length_power
        gain = self._gain(value, -value / discount, view["turn"][starts]) / discount
        return np.where(np.isnan(surprisal), np.nan, np.repeat(gain, n_tokens))

    def _gain(self, value: Scores, rank: Scores, turn: NDArray[np.integer]) -> Scores:
        """V with the word less V without it, in the order of `rank` within each turn; [n_words] each."""
        order = np.lexsort((rank, turn))
        total = np.cumsum(value[order])
        first = np.flatnonzero(np.diff(turn[order], prepend=-1))
        before = np.r_[0.0, total][first]
        with_it = total - np.repeat(before, np.diff(np.r_[first, len(turn)]))
        without = np.maximum(with_it - value[order], 0.0)
        gain = np.empty_like(value)
        gain[order] = with_it**self.power - without**self.power
        return gain
