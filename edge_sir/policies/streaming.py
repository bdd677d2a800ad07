"""StreamingLLM (arXiv 2309.17453): attention sinks and the most recent tokens."""

from dataclasses import dataclass

import numpy as np

from edge_sir.core.policy import LedgerView, ScorePolicy, Scores

__all__ = ["Streaming"]


@dataclass(frozen=True, kw_only=True)
class Streaming(ScorePolicy):
    """Keeps what was born last."""

    def score(self, view: LedgerView) -> Scores:
        return view["born"].astype(np.float64)
