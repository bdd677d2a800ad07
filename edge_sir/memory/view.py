"""What a conversation still holds and what it lost, by turn: values for people and programs to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import FRAME, ROLES, UNSPOKEN, TokenLedger, split
from edge_sir.engine import TextCodec
from edge_sir.memory.evictions import EvictionLog, Forgotten, Loss, mean
from edge_sir.memory.transcript import Message, Transcript
from edge_sir.policies import to_spec
from edge_sir.session import Session
from edge_sir.text.boundaries import contains

__all__ = [
    "Memory",
    "Passage",
    "Span",
    "TurnMemory",
    "memory_of",
    "never_said",
    "passages",
    "with_markers",
]

Rows = NDArray[np.intp]

_N_REMOVED = 3  # that are named; who forgot more knows


@dataclass(frozen=True, slots=True)
class Passage:
    """Something resident that was found, pinned or removed; text without markers, gaps marked by an ellipsis.

    n_tokens: resident ones of what was said; markers that are pinned or removed with it are nobody's words, as in
    `TurnMemory.n_content`. n_pinned: those of them that were pinned, or are now.
    """

    turn: int
    role: str
    text: str
    n_tokens: int
    n_pinned: int


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring resident tokens of one speaker. n_gone: tokens of the turn that went just before them."""

    role: str
    text: str
    n_tokens: int
    pinned: bool
    n_gone: int


@dataclass(frozen=True, slots=True)
class TurnMemory:
    """One turn: what was said, what of it is resident, what went and why.

    n_tokens: as decoded, markers included, thoughts only while they are resident. n_content: of these, what somebody
    said; a template's markers are nobody's words, so what people are shown counts content alone. score: mean surprisal
    of what is resident of that, nats.
    """

    turn: int
    said: tuple[Message, ...]
    spans: tuple[Span, ...]
    n_tokens: int
    n_resident: int
    n_pinned: int
    n_content: int
    n_content_gone: int
    score: float | None
    losses: tuple[Loss, ...]

    @property
    def n_gone(self) -> int:
        """Tokens that went, markers included."""
        return self.n_tokens - self.n_resident

    @property
    def n_content_resident(self) -> int:
        """What is left of `n_content`."""
        return self.n_content - self.n_content_gone

    @property
    def state(self) -> Literal["whole", "partly", "gone"]:
        """How much of what was said is resident; markers do not count."""
        return "whole" if not self.n_content_gone else "partly" if self.n_content_resident else "gone"

    @property
    def text(self) -> str:
        """What is resident of it, gaps marked by an ellipsis."""
        return "".join((" … " if s.n_gone else "") + s.text for s in self.spans)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `state` goes by the counts of content beside it."""
        return asdict(self) | {"state": self.state, "n_content_resident": self.n_content_resident}


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

    def saying(self, text: str) -> tuple[TurnMemory, ...]:
        """The turns in which `text` was said (in any case, as whole words), resident or not."""
        return tuple(t for t in self.turns if any(contains(m.text, text) for m in t.said) or contains(t.text, text))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"turns": [turn.as_dict() for turn in self.turns]}


def never_said(text: str, removed: Sequence[Forgotten]) -> str:
    """That nobody said so; where something was forgotten on request, it may have been in that."""
    if not removed:
        return f"nobody said “{text}” in this conversation"
    newest = "; ".join(str(r) for r in removed[-_N_REMOVED:])
    more = len(removed) - _N_REMOVED
    before = f", and {more} more before" if more > 0 else ""
    return f"nobody said “{text}” in what is left; forgotten on request: {newest}{before}"


def memory_of(session: Session, codec: TextCodec, transcript: Transcript, log: EvictionLog) -> Memory:
    """The view of a conversation."""
    ledger, said, lost = session.ledger, _by_turn(transcript), log.losses()
    turn_of = ledger["turn"]
    turns = []
    for turn in range(session.turn + 1):
        rows = np.arange(*np.searchsorted(turn_of, [turn, turn + 1]))
        losses = lost.get(turn, ())
        n_gone = sum(loss.n_tokens - loss.n_thought for loss in losses)
        n_content_gone = sum(loss.n_content for loss in losses)
        role = ledger["role"][rows]
        content = rows[~np.isin(role, UNSPOKEN)]
        turns.append(
            TurnMemory(
                turn=turn,
                said=tuple(said.get(turn, ())),
                spans=_spans(ledger, rows[role != FRAME], n_content_gone, codec),
                n_tokens=len(rows) + n_gone,
                n_resident=len(rows),
                n_pinned=int(ledger["pinned"][rows].sum()),
                n_content=len(content) + n_content_gone,
                n_content_gone=n_content_gone,
                score=mean(ledger["surprisal"][content]),
                losses=losses,
            )
        )
    return Memory(
        turns=tuple(turns),
        turn_now=session.turn,
        n_resident=len(ledger),
        budget=session.budget.n_cells,
        n_pinned=int(ledger["pinned"].sum()),
        policy=to_spec(session.policy),
        decay=session.policy.decay,
        ranks_by=session.policy.ranks_by,
        removed=log.forgotten(),
    )


def _by_turn(transcript: Transcript) -> dict[int, list[Message]]:
    out: dict[int, list[Message]] = {}
    for message in transcript:
        out.setdefault(message.turn, []).append(message)
    return out


def _spans(ledger: TokenLedger, rows: Rows, n_gone: int, codec: TextCodec) -> tuple[Span, ...]:
    """Splits a turn's content rows wherever speaker, pin or stream breaks off."""
    if not len(rows):
        return ()
    born = ledger["born"][rows]
    # Markers stand between messages: only what is missing inside a message is a gap.
    missing = np.where(np.diff(ledger["message"][rows]) == 0, np.diff(born) - 1, 0)
    breaks = (missing > 0) | (np.diff(ledger["message"][rows]) != 0)
    breaks |= (np.diff(ledger["role"][rows]) != 0) | (np.diff(ledger["pinned"][rows].astype(int)) != 0)
    spans = []
    for part in np.split(np.arange(len(rows)), np.flatnonzero(breaks) + 1):
        first = rows[part[0]]
        gap = min(n_gone, int(missing[part[0] - 1])) if part[0] else 0
        n_gone -= gap
        spans.append(
            Span(
                role=ROLES[ledger["role"][first]],
                text=_text(codec, ledger["token"][rows[part]]),
                n_tokens=len(part),
                pinned=bool(ledger["pinned"][first]),
                n_gone=gap,
            )
        )
    return tuple(spans)


# ---- finding -------------------------------------------------------------------------------------


def with_markers(ledger: TokenLedger, rows: Rows, *, emptied_only: bool) -> Rows:
    """`rows` and the markers of their messages; emptied_only: just of messages of which no other word is left."""
    frames = np.flatnonzero(ledger["role"] == FRAME)
    messages = np.unique(ledger["message"][rows])
    if emptied_only:
        rest = np.setdiff1d(np.flatnonzero(ledger["role"] != FRAME), rows)
        messages = np.setdiff1d(messages, ledger["message"][rest])
    return np.union1d(rows, frames[np.isin(ledger["message"][frames], messages)])


def passages(ledger: TokenLedger, rows: Rows, codec: TextCodec) -> tuple[Passage, ...]:
    """What ledger `rows` (sorted) say, message by message."""
    out = []
    for part in split(rows, ledger["message"][rows]):
        content = part[ledger["role"][part] != FRAME]
        first = content[0] if len(content) else part[0]
        runs = split(content, ledger["born"][content] - np.arange(len(content)))
        texts = (_text(codec, ledger["token"][run]).strip() for run in runs)
        out.append(
            Passage(
                turn=int(ledger["turn"][first]),
                role=ROLES[ledger["role"][first]],
                text=" … ".join(filter(None, texts)),
                n_tokens=len(content),
                n_pinned=int(ledger["pinned"][content].sum()),
            )
        )
    return tuple(out)


def _text(codec: TextCodec, tokens: Sequence[int] | NDArray[Any]) -> str:
    # A character of which a token is missing is left out.
    return b"".join(codec.piece(int(t)) for t in tokens).decode("utf-8", "ignore")
