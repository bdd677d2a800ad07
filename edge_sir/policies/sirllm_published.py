"""SirLLM as its released code computes it: the score is off by one token (for reproduction)."""

from dataclasses import dataclass
from typing import ClassVar

from edge_sir.core.policy import LedgerView, Scores
from edge_sir.policies.sirllm import PaperPolicy

__all__ = ["SirLLMPublished"]


@dataclass(frozen=True, kw_only=True)
class SirLLMPublished(PaperPolicy):
    """Keeps the tokens before which a repetition of their predecessor would have surprised most."""

    needs: ClassVar[frozenset[str]] = frozenset({"self_repeat"})
    ranks_by: ClassVar[str] = "surprisal of repeating the token before, decayed"

    def score(self, view: LedgerView) -> Scores:
        return self.decayed(view["self_repeat"], view)
