"""What a conversation still holds and what it lost, by turn: values for people and programs to look at."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import FRAME, ROLES, UNSPOKEN, TokenLedger
from edge_sir.engine import TextCodec
from edge_sir.memory.evictions import EvictionLog, Forgotten, Loss, mean
from edge_sir.memory.passages import Passage
from edge_sir.memory.transcript import Message, Transcript
from edge_sir.session import Session
from edge_sir.text.boundaries import contains, spelled

__all__ = ["Memory", "TurnMemory", "memory_of", "never_said"]

Rows = NDArray[np.intp]

_N_REMOVED = 3  # that are named; who forgot more knows


@dataclass(frozen=True, slots=True)
class TurnMemory:
    """One turn: what was said, what of it is resident, what left the cache and why.

    passages: what is resident, split wherever speaker or pin changes or something is missing. n_tokens: as decoded,
    template tokens included, thoughts only while they are resident. n_content: of these, what somebody said; template
    tokens are no content, so what people are shown counts content alone. score: mean surprisal of what is resident
    of that, nats. n_archived: of n_content_dropped, those whose cells are in the archive: they can come back as they
    were; of the others there is only text. None where there is no archive.
    """

    turn: int
    said: tuple[Message, ...]
    passages: tuple[Passage, ...]
    n_tokens: int
    n_resident: int
    n_pinned: int
    n_content: int
    n_content_dropped: int
    score: float | None
    losses: tuple[Loss, ...]
    n_archived: int | None = None

    @property
    def n_dropped(self) -> int:
        """Tokens that left the cache, template tokens included."""
        return self.n_tokens - self.n_resident

    @property
    def n_content_resident(self) -> int:
        """What is left of `n_content`."""
        return self.n_content - self.n_content_dropped

    @property
    def state(self) -> Literal["whole", "partly", "none"]:
        """How much of what was said is resident; template tokens do not count."""
        return "whole" if not self.n_content_dropped else "partly" if self.n_content_resident else "none"

    @property
    def text(self) -> str:
        """What is resident of it, gaps marked by an ellipsis."""
        return "".join((" … " if p.n_before else "") + p.text for p in self.passages)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, under the names of its format; `state` goes by the counts of content beside it."""
        spans = [
            {
                "role": p.role,
                "text": p.text,
                "n_tokens": p.n_resident,
                "pinned": p.pinned,
                "n_dropped_before": p.n_before,
            }
            for p in self.passages
        ]
        return {
            "turn": self.turn,
            "said": [asdict(message) for message in self.said],
            "spans": spans,
            "n_tokens": self.n_tokens,
            "n_resident": self.n_resident,
            "n_pinned": self.n_pinned,
            "n_content": self.n_content,
            "n_content_dropped": self.n_content_dropped,
            "n_archived": self.n_archived,
            "score": self.score,
            "losses": [asdict(loss) for loss in self.losses],
            "state": self.state,
            "n_content_resident": self.n_content_resident,
        }


@dataclass(frozen=True, slots=True)
class Memory:
    """The whole conversation as the cache holds it; turn 0 is the system prompt. removed: what was forgotten."""

    turns: tuple[TurnMemory, ...]
    turn_now: int
    n_resident: int
    budget: int
    n_pinned: int
    policy: str
    decay: float
    ranks_by: str
    removed: tuple[Forgotten, ...] = ()

    def __iter__(self) -> Iterator[TurnMemory]:
        return iter(self.turns)

    def turn(self, number: int) -> TurnMemory | None:
        """The turn of that number, if there was one."""
        return next((t for t in self.turns if t.turn == number), None)

    @property
    def n_archived(self) -> int | None:
        """Tokens of what was said whose cells are in the archive; None where there is none."""
        counts = [t.n_archived for t in self.turns if t.n_archived is not None]
        return sum(counts) if counts else None

    def saying(self, text: str) -> tuple[TurnMemory, ...]:
        """The turns in which `text` was said (in any case, as whole words), resident or not."""
        return tuple(t for t in self.turns if any(contains(m.text, text) for m in t.said) or contains(t.text, text))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        return facts | {"turns": [t.as_dict() for t in self.turns], "removed": [asdict(r) for r in self.removed]}


def never_said(text: str, removed: Sequence[Forgotten]) -> str:
    """That nobody said so; where something was forgotten on request, it may have been in that."""
    if not removed:
        return f"nobody said “{text}” in this conversation"
    newest = "; ".join(str(r) for r in removed[-_N_REMOVED:])
    more = len(removed) - _N_REMOVED
    before = f", and {more} more before" if more > 0 else ""
    return f"nobody said “{text}” in what is left; forgotten on request: {newest}{before}"


def memory_of(
    session: Session,
    codec: TextCodec,
    transcript: Transcript,
    log: EvictionLog,
    holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> Memory:
    """The view of a conversation. holds: of which tokens, by their born numbers, the archive has the cells."""
    ledger, said, lost = session.ledger, _by_turn(transcript), log.losses()
    archived = Counter(_archived(log, holds))
    turn_of = ledger["turn"]
    turns = []
    for turn in range(session.turn + 1):
        rows = np.arange(*np.searchsorted(turn_of, [turn, turn + 1]))
        losses = lost.get(turn, ())
        n_dropped = sum(loss.n_tokens - loss.n_thought for loss in losses)
        n_content_dropped = sum(loss.n_content for loss in losses)
        role = ledger["role"][rows]
        content = rows[~np.isin(role, UNSPOKEN)]
        turns.append(
            TurnMemory(
                turn=turn,
                said=tuple(said.get(turn, ())),
                passages=_passages(ledger, rows[role != FRAME], n_content_dropped, codec),
                n_tokens=len(rows) + n_dropped,
                n_resident=len(rows),
                n_pinned=int(ledger["pinned"][rows].sum()),
                n_content=len(content) + n_content_dropped,
                n_content_dropped=n_content_dropped,
                score=mean(ledger["surprisal"][content]),
                losses=losses,
                n_archived=None if holds is None else archived[turn],
            )
        )
    return Memory(
        turns=tuple(turns),
        turn_now=session.turn,
        n_resident=len(ledger),
        budget=session.budget.n_cells,
        n_pinned=int(ledger["pinned"].sum()),
        policy=session.policy.spec,
        decay=session.policy.decay,
        ranks_by=session.policy.ranks_by,
        removed=log.forgotten(),
    )


def _archived(log: EvictionLog, holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None) -> list[int]:
    """The turn of every token of what was said that was evicted and whose cells the archive has."""
    if holds is None:
        return []
    away = log.away()
    turns: list[int] = away["turn"][holds(away["born"]) & ~np.isin(away["role"], UNSPOKEN)].tolist()
    return turns


def _by_turn(transcript: Transcript) -> dict[int, list[Message]]:
    out: dict[int, list[Message]] = {}
    for message in transcript:
        out.setdefault(message.turn, []).append(message)
    return out


def _passages(ledger: TokenLedger, rows: Rows, n_dropped: int, codec: TextCodec) -> tuple[Passage, ...]:
    """Splits a turn's content rows wherever speaker, pin or stream breaks off."""
    if not len(rows):
        return ()
    born = ledger["born"][rows]
    # Template tokens stand between messages: only what is missing inside a message is a gap.
    missing = np.where(np.diff(ledger["message"][rows]) == 0, np.diff(born) - 1, 0)
    breaks = (missing > 0) | (np.diff(ledger["message"][rows]) != 0)
    breaks |= (np.diff(ledger["role"][rows]) != 0) | (np.diff(ledger["pinned"][rows].astype(int)) != 0)
    passages = []
    for part in np.split(np.arange(len(rows)), np.flatnonzero(breaks) + 1):
        first = rows[part[0]]
        gap = min(n_dropped, int(missing[part[0] - 1])) if part[0] else 0
        n_dropped -= gap
        # A character of which a token is missing is left out.
        text = spelled(codec, ledger["token"][rows[part]])
        passages.append(
            Passage(
                message=int(ledger["message"][first]),
                turn=int(ledger["turn"][first]),
                role=ROLES[ledger["role"][first]],
                said=text,
                text=text,
                n_resident=len(part),
                n_evicted=0,
                n_pinned=len(part) * int(ledger["pinned"][first]),
                n_before=gap,
            )
        )
    return tuple(passages)
