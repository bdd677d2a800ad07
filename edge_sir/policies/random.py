"""The paper's random baseline: a seeded draw among what is resident."""

from dataclasses import dataclass

import numpy as np

from edge_sir.core.policy import LedgerView, Scores
from edge_sir.policies.sirllm import PaperPolicy

__all__ = ["Random"]


@dataclass(frozen=True, kw_only=True)
class Random(PaperPolicy):
    """Keeps tokens by lot; the draw depends on the seed and the ledger's epoch alone."""

    def score(self, view: LedgerView) -> Scores:
        return np.random.default_rng((self.seed, view.epoch)).random(len(view))
