"""Scores of tokens, read off the logits that the model computes anyway. All values are in nats.

Row t of a logits matrix predicts the token *after* token t. The three scores are

* surprisal, -log P(x | context): what SirLLM (arXiv 2405.12528, section 3.2) calls token entropy;
* entropy, the Shannon entropy of the predictive distribution;
* self-repeat, -log P(next = x_t | x_<=t): what the released SirLLM code gathers in place of surprisal.

A row of a large vocabulary is 200 KB to 1 MB: `reduce_rows` walks the matrix in blocks that stay in
the L2 cache, which is over ten times faster than whole-array expressions and needs no copy of it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SCORE_NAMES", "Carry", "entropy", "published", "reduce_rows", "surprisal"]

SCORE_NAMES = ("surprisal", "entropy", "self_repeat")
_OF_THE_NEXT = frozenset({"surprisal"})  # known only with the token that comes next

_BLOCK_VALUES = 65_536  # float32 values per block: 256 KB, and at least one row

Floats = NDArray[np.floating[Any]]


def reduce_rows(logits: Floats, tokens: ArrayLike, targets: ArrayLike, names: Collection[str]) -> dict[str, Floats]:
    """Reduces `logits` [n, n_vocab] to one float per row and name in `names` (of `SCORE_NAMES`).

    `tokens` int [n] are the tokens the rows belong to (used by self_repeat), `targets` int [n] the
    tokens that follow them (used by surprisal); a target of -1 means unknown and scores NaN.
    The result has the dtype of `logits` and never aliases it.
    """
    n, n_vocab = logits.shape
    token_ids, target_ids = np.asarray(tokens, np.intp), np.asarray(targets, np.intp)
    out = {name: np.full(n, np.nan, logits.dtype) for name in names}
    # A generated token is scored once its successor is known (`Carry`), not here as well.
    if n == 0 or not out.keys() - (_OF_THE_NEXT if np.all(target_ids < 0) else frozenset()):
        return out
    block = min(n, max(1, _BLOCK_VALUES // n_vocab))
    shifted = np.empty((block, n_vocab), logits.dtype)
    weights = np.empty_like(shifted) if "entropy" in out else shifted
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        x, index = logits[rows], np.arange(rows.stop - rows.start)
        d, e = shifted[: len(x)], weights[: len(x)]
        np.subtract(x, x.max(axis=1, keepdims=True), out=d)
        at_target, at_token = d[index, target_ids[rows]], d[index, token_ids[rows]]
        np.exp(d, out=e)  # in place where nothing more is read from d
        total = e.sum(axis=1)
        log_total = np.log(total)
        if "surprisal" in out:
            out["surprisal"][rows] = np.where(target_ids[rows] >= 0, log_total - at_target, np.nan)
        if "self_repeat" in out:
            out["self_repeat"][rows] = log_total - at_token
        if "entropy" in out:
            np.maximum(d, np.finfo(d.dtype).min, out=d)  # a logit of -inf has weight 0, not 0 * inf
            out["entropy"][rows] = log_total - np.einsum("ij,ij->i", e, d) / total
    return out


def _matrix(logits: ArrayLike) -> Floats:
    array = np.asarray(logits)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)


def surprisal(logits: ArrayLike, targets: ArrayLike) -> Floats:
    """-log P(targets[t]) under row t, float [n]; row t goes with targets[t], nothing is shifted."""
    return reduce_rows(_matrix(logits), targets, targets, ("surprisal",))["surprisal"]


def entropy(logits: ArrayLike) -> Floats:
    """Shannon entropy of each row's distribution, float [n]."""
    matrix = _matrix(logits)
    unused = np.zeros(len(matrix), np.intp)
    return reduce_rows(matrix, unused, unused, ("entropy",))["entropy"]


def published(logits: ArrayLike, token_ids: ArrayLike) -> Floats:
    """The score of the released SirLLM code for one chunk, float [n].

    It gathers row t at token t and shifts the result right by one, so token t carries the surprise of
    *repeating token t-1*; the first token gets the chunk's maximum. Kept for reproduction.
    """
    gathered = surprisal(logits, token_ids)
    return np.concatenate([gathered.max(keepdims=True), gathered[:-1]]) if len(gathered) else gathered


@dataclass(frozen=True, slots=True)
class Carry:
    """The last decoded row: it scores the token that comes next, once that is known.

    scores: the row's scores by name. target: the token its surprisal was computed for, -1 for none.
    logits: the row itself, float32 [n_vocab], where nothing was waiting behind it.
    """

    scores: dict[str, float]
    target: int
    logits: NDArray[np.float32] | None

    def score(self, name: str, token: int) -> float:
        """Score `name` of `token` if it comes next; NaN where it cannot be known."""
        if name not in _OF_THE_NEXT or self.target == token:
            return self.scores.get(name, np.nan)
        if self.logits is None:
            return np.nan
        return float(reduce_rows(self.logits[None], [token], [token], (name,))[name][0])

    def shifted(self, scores: Mapping[str, NDArray[np.float32]], first: int) -> dict[str, NDArray[np.float32]]:
        """Scores of tokens from those of rows: row t scores token t + 1, and this row the token `first` after it."""
        return {
            name: np.concatenate([[self.score(name, first)], rows[:-1]]).astype(np.float32)
            for name, rows in scores.items()
        }
