"""Values the options of a question: how likely each is as what comes next. Nothing stays in the session."""

from collections.abc import Iterator, Sequence

import numpy as np

from edge_sir._shield import shield
from edge_sir.core.scores import surprisal
from edge_sir.engine import Slice, Tokens
from edge_sir.errors import BatchError
from edge_sir.eval.play.contexts import N_OPTIONS, N_SCRATCH
from edge_sir.session import Session

__all__ = ["option_logprobs"]


def option_logprobs(session: Session, options: Sequence[Tokens], *, rank: bool = True) -> list[float]:
    """log P of each option after what is in the cache, in nats; the whole of it, or (not rank) its first token.

    The options are decoded together, each on a copy of the sequence in the cells beside the budget, and removed
    again: what is in the cache is decoded once. Raises BatchError for an option longer than a batch.
    """
    logits = session.last_logits
    rows = np.broadcast_to(logits, (len(options), len(logits)))
    first = [-float(x) for x in surprisal(rows, [option[0] for option in options])]
    if not rank:
        return first
    rest: list[float] = []
    for group in _groups(options, min(session.engine.spec.n_batch, N_SCRATCH)):
        rest += _rest(session, group)
    return [a + b for a, b in zip(first, rest, strict=True)]


def _groups(options: Sequence[Tokens], n_batch: int) -> Iterator[list[Tokens]]:
    """The options in order, as many at a time as one decode takes."""
    group: list[Tokens] = []
    for option in options:
        if len(option) > n_batch:
            raise BatchError(f"an option of {len(option)} tokens does not fit a batch of {n_batch}")
        if len(group) == N_OPTIONS or sum(map(len, group)) + len(option) > n_batch:
            yield group
            group = []
        group.append(option)
    yield group


def _rest(session: Session, options: Sequence[Tokens]) -> list[float]:
    """log P of each option's second and later tokens, one decode for all."""
    engine, p0 = session.engine, session.ledger.next_pos
    seqs = range(session.seq + 1, session.seq + 1 + len(options))
    slices = []
    for seq, option in zip(seqs, options, strict=True):
        engine.copy(session.seq, seq)
        targets = np.append(option[1:], -1).astype(np.int32)
        slices.append(Slice(seq, option, p0, targets, frozenset({"surprisal"}), logits=False))
    with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
        try:
            results = engine.decode(slices)
        finally:
            for seq in seqs:
                engine.remove(seq, 0, -1)
    return [-float(r.scores["surprisal"][:-1].sum()) for r in results]
