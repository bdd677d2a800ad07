"""Log-probabilities of drawn tokens, from the logits as the model gave them."""

import numpy as np

from edge_sir.engine import Row, TextCodec
from edge_sir.text.reply import Drawn

__all__ = ["drawn_with_logprobs"]


def drawn_with_logprobs(token: int, logits: Row, n: int, codec: TextCodec) -> Drawn:
    """Of one token that was drawn by `logits` float32 [n_vocab], with the `n` likeliest ones. In nats."""
    shifted = logits - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    n = min(n, len(logprobs))
    best = np.argpartition(-logprobs, n - 1)[:n] if n else np.empty(0, np.intp)
    best = best[np.argsort(-logprobs[best], kind="stable")]
    likeliest = tuple((codec.piece(int(other)), float(logprobs[other])) for other in best)
    return Drawn(codec.piece(token), float(logprobs[token]), likeliest)
