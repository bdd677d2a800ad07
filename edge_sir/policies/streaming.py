"""StreamingLLM (arXiv 2309.17453): attention sinks and the most recent tokens."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edge_sir.core.policy import LedgerView, ScorePolicy, Scores

__all__ = ["Streaming"]


@dataclass(frozen=True, kw_only=True)
class Streaming(ScorePolicy):
    """Keeps what was born last."""

    ranks_by: ClassVar[str] = "place in the stream"

    def score(self, view: LedgerView) -> Scores:
        return view["born"].astype(np.float64)
