"""The figures of a conversation, as one value."""

from dataclasses import dataclass

from edge_sir.policies import to_spec
from edge_sir.session import Session

__all__ = ["ChatStats", "figures_of"]


@dataclass(frozen=True, slots=True)
class ChatStats:
    """The figures of a conversation; `edge-sir chat --stats FILE` writes them.

    Times in seconds. tokens_in: decoded but not generated, markers included. max_resident is taken
    after every llama_decode.
    """

    policy: str
    position_mode: str
    budget: int
    n_ctx: int
    turns: int
    tokens_in: int
    tokens_out: int
    resident: int
    max_resident: int
    mean_resident: float
    evicted: int
    evictions: int
    kshifts: int
    packs: int
    rereads: int
    decode_s: float
    score_s: float
    evict_s: float
    kv_bytes: int
    model: str


def figures_of(session: Session) -> ChatStats:
    """The figures so far."""
    spec, times = session.engine.spec, session.engine.times
    counts = session.stats
    return ChatStats(
        policy=to_spec(session.policy),
        position_mode=session.mode,
        budget=session.budget.n_cells,
        n_ctx=spec.n_ctx,
        turns=session.turn,
        tokens_in=counts.tokens_in,
        tokens_out=counts.tokens_out,
        resident=len(session.ledger),
        max_resident=counts.max_resident,
        mean_resident=round(counts.mean_resident, 2),
        evicted=counts.evicted,
        evictions=counts.evictions,
        kshifts=counts.kshifts,
        packs=counts.packs,
        rereads=counts.rereads,
        decode_s=round(times.decode_s, 4),
        score_s=round(times.score_s, 4),
        evict_s=round(counts.evict_s, 4),
        kv_bytes=spec.kv_bytes,
        model=spec.model,
    )
