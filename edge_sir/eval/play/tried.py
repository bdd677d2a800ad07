"""What was tried in place of `sir` and is no policy to use, so that the choice can be made again: `sir-tried:around=1`.

docs/results says how each did.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.policy import FRAME, LedgerView, Policy, Scores
from edge_sir.engine import Engine, TextCodec
from edge_sir.errors import ConfigError
from edge_sir.policies.sir import Sir

__all__ = ["SirTried", "bound"]

_MARK = re.compile(
    r".*\d.*|\s*[.!?]+\s*|\s*(?:no|not|never|none|nobody|nothing|without|cannot|n't|n’t|nicht|nie|ohne|kein\w*)",
    re.IGNORECASE | re.DOTALL,
)
"""A token with a digit, one that ends a sentence, a negation."""


@dataclass(frozen=True, kw_only=True)
class SirTried(Sir):
    """`sir` with one thing more.

    around: a word that stays keeps so many tokens on each side of it. bonus: nats that digits, negations and marks at
    the end of a sentence have beside their surprisal (LLMLingua-2, arXiv 2403.12968, keeps such tokens always).
    low_norm: a share of the cells for whole turns, those whose keys have the least L2 norm, mean over layers, heads and
    tokens (arXiv 2406.11430). is_marked: bool [n_vocab]; norms: of the keys in the cells, by position, float64 [n];
    `bound` gives both.
    """

    around: int = 0
    bonus: float = 0.0
    low_norm: float = 0.0
    is_marked: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    norms: Callable[[], Scores] | None = field(default=None, compare=False, repr=False)
    known: dict[int, float] = field(default_factory=dict, compare=False, repr=False)  # norms by born number

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.around < 0 or not 0 <= self.low_norm <= 1:
            raise ConfigError(f"around {self.around} must not be negative, low_norm {self.low_norm} from 0 to 1")

    def score(self, view: LedgerView) -> Scores:
        scores = self._spread(super().score(view), view)
        if self.low_norm and self.norms is not None:
            scores[self._of_low_norm(view, self._norms(view, self.norms()))] = np.inf
        return scores

    def _norms(self, view: LedgerView, in_cells: Scores) -> Scores:
        """By row, float64 [n]. While something is recalled a view has rows that are displaced: of those as it was."""
        born = view["born"].tolist()
        if len(in_cells) == len(born):
            self.known.update(zip(born, in_cells.tolist(), strict=True))
        return np.array([self.known.get(number, np.inf) for number in born])

    def _weighted(self, view: LedgerView) -> Scores:
        weighted = super()._weighted(view)
        if not self.bonus or self.is_marked is None:
            return weighted
        has_bonus = self.is_marked[view["token"]] & (view["role"] != FRAME)
        return np.where(has_bonus, weighted + self.bonus, weighted)

    def _spread(self, scores: Scores, view: LedgerView) -> Scores:
        """Each token gets the highest score of those up to `around` beside it, as far as they were read together."""
        best = scores.copy()
        born = view["born"]
        for n in range(1, self.around + 1):
            beside = born[n:] - born[:-n] == n
            best[n:][beside] = np.maximum(best[n:], scores[:-n])[beside]
            best[:-n][beside] = np.maximum(best[:-n], scores[n:])[beside]
        return best

    def _of_low_norm(self, view: LedgerView, norms: Scores) -> NDArray[np.bool_]:
        """The rows of whole turns, those of least norm, that together take `low_norm` of the cells; bool [n]."""
        turns, of = np.unique(view["turn"], return_inverse=True)
        sizes = np.bincount(of)
        order = np.argsort(np.bincount(of, weights=norms) / sizes)
        taken = order[np.cumsum(sizes[order]) <= self.low_norm * len(view)]
        return np.isin(view["turn"], turns[taken])


def bound(policy: Policy, codec: TextCodec, engine: Engine, seq: int) -> Policy:
    """The policy with what it reads off the vocabulary and the cells of a sequence; another policy as it is."""
    if not isinstance(policy, SirTried):
        return policy
    marked = _marked(codec, engine.spec.n_vocab) if policy.bonus else None
    return replace(policy, is_marked=marked, norms=lambda: _key_norms(engine, seq))


def _marked(codec: TextCodec, n_vocab: int) -> NDArray[np.bool_]:
    texts = (codec.piece(token).decode("utf-8", "replace") for token in range(n_vocab))
    return np.fromiter((_MARK.fullmatch(text) is not None for text in texts), bool, n_vocab)


def _key_norms(engine: Engine, seq: int) -> Scores:
    """By position, float64 [n]. They do not change as keys are moved: a rotation keeps the norm."""
    from edge_sir.llama.engine import cells_of

    layers = cells_of(engine.save(seq, 0, -1)).keys()
    norms = [np.linalg.norm(keys.view(np.float16).astype(np.float32), axis=1) for keys in layers]
    mean: Scores = np.mean(norms, axis=0, dtype=np.float64)
    return mean
