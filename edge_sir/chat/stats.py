"""The figures of a conversation, as one value."""

from dataclasses import dataclass

from edge_sir.core.records import SessionStats
from edge_sir.session import Session

__all__ = ["ChatStats", "Figures"]


@dataclass(frozen=True, slots=True)
class ChatStats:
    """The figures of a conversation, or of a run of several, one after the other (clearing begins another).

    Times in seconds. tokens_in: decoded but not generated, template tokens included. evicted: template tokens and
    thoughts included. archive_bytes: of evicted cells that are kept outside the cache, of
    their rows and of the index that finds them. max_resident is taken after
    every llama_decode. turns, counts and times of a run are those of all its `conversations`; what describes a state is
    the last one's.
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
    conversations: int
    archive_bytes: int


class Figures:
    """Counts on through the conversations that a session holds one after the other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._earlier = SessionStats()
        self._turns = 0
        self._conversations = 1
        self._began = (0.0, 0.0)  # seconds of decoding and scoring when the present conversation began

    def restart(self, turns: int = 0) -> None:
        """A conversation of so many turns has just been cleared; one of none was none, but its work was done."""
        self._earlier = self._earlier.plus(self._session.stats)
        self._session.stats = SessionStats()
        self._turns += turns
        self._conversations += turns > 0
        self._began = (self._session.engine.times.decode_s, self._session.engine.times.score_s)

    @property
    def seconds(self) -> tuple[float, float]:
        """Of decoding and of scoring, in the present conversation."""
        times = self._session.engine.times
        return times.decode_s - self._began[0], times.score_s - self._began[1]

    def now(self, archive_bytes: int) -> ChatStats:
        """Those of the present conversation."""
        return _figures(self._session, self._session.stats, self._session.turn, 1, self._began, archive_bytes)

    def run(self, archive_bytes: int) -> ChatStats:
        """Those of all conversations."""
        counts = self._earlier.plus(self._session.stats)
        turns = self._turns + self._session.turn
        return _figures(self._session, counts, turns, self._conversations, (0.0, 0.0), archive_bytes)


def _figures(
    session: Session,
    counts: SessionStats,
    turns: int,
    conversations: int,
    began: tuple[float, float],
    archive_bytes: int,
) -> ChatStats:
    spec, times = session.engine.spec, session.engine.times
    return ChatStats(
        policy=session.policy.spec,
        position_mode=session.mode,
        budget=session.budget.n_cells,
        n_ctx=spec.n_ctx,
        turns=turns,
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
        decode_s=round(times.decode_s - began[0], 4),
        score_s=round(times.score_s - began[1], 4),
        evict_s=round(counts.evict_s, 4),
        kv_bytes=spec.kv_bytes,
        model=spec.model,
        conversations=conversations,
        archive_bytes=archive_bytes,
    )
