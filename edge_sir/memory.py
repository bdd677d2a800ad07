"""What a conversation still holds and what it lost, by turn: values for people and programs to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import FRAME, ROLES, UNSPOKEN, TokenLedger, split
from edge_sir.core.policy import Policy
from edge_sir.core.records import Eviction
from edge_sir.engine import TextCodec
from edge_sir.policies import to_spec
from edge_sir.session import Session
from edge_sir.text.boundaries import contains
from edge_sir.transcript import Message, Transcript

__all__ = [
    "Loss",
    "LossBook",
    "Memory",
    "Passage",
    "Removed",
    "Span",
    "TurnMemory",
    "memory_of",
    "never_said",
    "passages",
    "with_markers",
]

Rows = NDArray[np.intp]

_THOUGHT = ROLES.index("thought")
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
class Loss:
    """What a turn lost in one eviction, and what that was decided by.

    turn_now: when. why: "room", "thought" or "forgotten". n_content: of n_tokens, those that were said (no markers,
    no thoughts). n_thought: the thoughts; a long one makes room before its turn ends. value: what the policy
    ranked these tokens by (mean), cut: the least value that stayed; None where nothing was ranked. ranks_by: what
    values are, in words. thinned: a policy of whole units took only a part of one. surprisal: mean of n_content in
    nats, not decayed. at: tokens ever decoded before it. lowered: nothing came in, the budget was lowered. undone: turn
    `turn_now` was taken back, and its number may be another's now.
    """

    turn: int
    turn_now: int
    why: str
    n_tokens: int
    n_content: int
    n_thought: int
    policy: str
    decay: float
    ranks_by: str
    value: float | None
    cut: float | None
    thinned: bool
    surprisal: float | None
    at: int
    lowered: bool = False
    undone: bool = False

    @property
    def when(self) -> str:
        """In which turn, in words."""
        return _when(self.turn_now, self.undone)


@dataclass(frozen=True, slots=True)
class Removed:
    """That something was forgotten on request: its turn and when; never what.

    n_sentences: None for the whole turn. undone: as in `Loss`.
    """

    turn: int
    turn_now: int
    n_sentences: int | None
    undone: bool = False

    def __str__(self) -> str:
        n = self.n_sentences
        what = "" if n is None else f"{n} sentence{'s' * (n != 1)} of "
        return f"{what}turn {self.turn} in {_when(self.turn_now, self.undone)}"


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
    removed: tuple[Removed, ...] = ()

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


class LossBook:
    """What each turn lost: numbers, no words. One entry per turn and eviction, so it grows slowly."""

    def __init__(self) -> None:
        self._by_turn: dict[int, list[Loss]] = {}
        self._n_let_go = 0

    def note(self, event: Eviction, policy: Policy, *, lowered: bool = False) -> None:
        """Takes an eviction in; lowered: as in `Loss`."""
        columns = event.columns
        for turn in np.unique(columns["turn"]).tolist():
            rows = np.flatnonzero(columns["turn"] == turn)
            content = rows[~np.isin(columns["role"][rows], UNSPOKEN)]
            values = None if event.values is None else event.values[rows]
            loss = Loss(
                turn=turn,
                turn_now=event.turn_now,
                why=event.why,
                n_tokens=len(rows),
                n_content=len(content),
                n_thought=int((columns["role"][rows] == _THOUGHT).sum()),
                policy=to_spec(policy),
                decay=policy.decay,
                ranks_by=policy.ranks_by,
                value=None if values is None else _mean(values),
                cut=event.cut if event.cut is not None and np.isfinite(event.cut) else None,
                # What stayed of a unit that was thinned has the same value, and it is the least that stayed.
                thinned=policy.whole_units and values is not None and bool(np.any(values == event.cut)),
                surprisal=_mean(columns["surprisal"][content]),
                at=event.n_born,
                lowered=lowered,
            )
            self._by_turn.setdefault(turn, []).append(loss)
            self._n_let_go += _let_go(loss)

    @property
    def n_let_go(self) -> int:
        """Tokens of what was said that made room."""
        return self._n_let_go

    def of(self, turn: int) -> tuple[Loss, ...]:
        """The losses of one turn, in order."""
        return tuple(self._by_turn.get(turn, ()))

    def since(self, at: int) -> tuple[Loss, ...]:
        """What made room since `at` tokens were decoded."""
        found = (loss for losses in self._by_turn.values() for loss in losses)
        return tuple(loss for loss in found if loss.at >= at and loss.why == "room")

    def truncate(self, turn: int) -> None:
        """Turns from `turn` on were never said."""
        self._by_turn = {t: _dated(losses, turn) for t, losses in self._by_turn.items() if t < turn}
        self._n_let_go = sum(_let_go(loss) for losses in self._by_turn.values() for loss in losses)


def _dated(losses: Sequence[Loss], turn: int) -> list[Loss]:
    return [replace(loss, undone=True) if loss.turn_now >= turn else loss for loss in losses]


def _when(turn: int, undone: bool) -> str:
    return "a turn that was taken back" if undone else f"turn {turn}"


def _let_go(loss: Loss) -> int:
    return loss.n_content if loss.why == "room" else 0


def never_said(text: str, removed: Sequence[Removed]) -> str:
    """That nobody said so; where something was forgotten on request, it may have been in that."""
    if not removed:
        return f"nobody said “{text}” in this conversation"
    newest = "; ".join(str(r) for r in removed[-_N_REMOVED:])
    more = len(removed) - _N_REMOVED
    before = f", and {more} more before" if more > 0 else ""
    return f"nobody said “{text}” in what is left; forgotten on request: {newest}{before}"


def memory_of(
    session: Session, codec: TextCodec, transcript: Transcript, book: LossBook, removed: Sequence[Removed] = ()
) -> Memory:
    """The view of a conversation."""
    ledger, said = session.ledger, _by_turn(transcript)
    turn_of = ledger["turn"]
    turns = []
    for turn in range(session.turn + 1):
        rows = np.arange(*np.searchsorted(turn_of, [turn, turn + 1]))
        losses = book.of(turn)
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
                score=_mean(ledger["surprisal"][content]),
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
        removed=tuple(removed),
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


def _mean(values: NDArray[np.floating[Any]]) -> float | None:
    known = values[np.isfinite(values)]
    # Significant digits, not decimals: the values of some policies are small.
    return float(f"{known.mean():.6g}") if len(known) else None
