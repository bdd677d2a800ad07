"""The paper's random baseline: a seeded draw among what is resident."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edge_sir.core.policy import LedgerView, Scores
from edge_sir.policies.sirllm import PaperPolicy

__all__ = ["Random"]


@dataclass(frozen=True, kw_only=True)
class Random(PaperPolicy):
    """Keeps tokens by lot; the draw depends on the seed and on how far the stream has come."""

    ranks_by: ClassVar[str] = "lot"

    def score(self, view: LedgerView) -> Scores:
        newest = int(view["born"].max(initial=0))
        return np.random.default_rng((self.seed, newest)).random(len(view))
