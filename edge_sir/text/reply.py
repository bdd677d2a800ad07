"""Replies: generated tokens become text as they come (characters, thoughts, stop strings)."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_sir.text.thoughts import KNOWN_TAGS, ThoughtTags, first_marker

__all__ = ["Drawn", "Finish", "Piece", "Recalled", "Reply", "ReplyText", "ToolCall"]

Finish = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model wants. arguments: JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """One drawn token with its log-probability, and the likeliest ones beside it, the likeliest first.

    They are of the model's own logits, before biases, grammar, penalties and temperature.
    """

    text: bytes
    logprob: float
    likeliest: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A bit of a reply to be shown; role is "assistant", "thought", or "call" with the `call` and no text."""

    text: str
    role: str
    call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What came back of a turn. n_tokens: cells that it took. text: its sentences, as far as they are there now."""

    turn: int
    n_tokens: int
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, under the names of its format."""
        return {"turn": self.turn, "tokens": self.n_tokens, "text": self.text}


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply.

    finish: "stop" (the model's own end, or a stop string), "length" (max_tokens, or no cell is left), "tool_calls" (it
    ended so, and calls tools) or "cancelled".
    n_read: tokens decoded for it that were not generated, template tokens included. n_generated: generated ones.
    resident: tokens in the cache after it. evicted: tokens evicted in this turn. n_thought: generated ones of thoughts.
    recalled: what was evicted before and came back for this turn. calls: of tools; they are not in the text. drawn: the
    answer's tokens with their log-probabilities, calls included, if they were asked for.
    """

    turn: int
    text: str
    thought: str
    finish: Finish
    n_read: int
    n_generated: int
    resident: int
    evicted: int
    n_thought: int = 0
    recalled: tuple[Recalled, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    drawn: tuple[Drawn, ...] = ()


class ReplyText:
    """The text of one reply.

    A character may span tokens, and the beginning of a stop string or of a thought's tag must not be shown before
    it is known not to be one; `push` gives out what is certain. thinking: the reply starts in a thought. tags: what
    surrounds thoughts. lead: what may stand before the answer and is no part of it.

    A thought opens a reply. Where only its closing tag comes, what stands before that was a thought: it may have been
    shown as an answer, but it is none in `text`.
    """

    def __init__(
        self,
        stop: Sequence[str] = (),
        *,
        thinking: bool = False,
        tags: ThoughtTags = KNOWN_TAGS[0],
        lead: str = "",
    ) -> None:
        self._stop = [s for s in stop if s]
        self._open, self._close, self._lead = tags.open, tags.close, lead.strip()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._raw = ""
        self._starts: list[int] = []  # where each token's text begins in _raw
        self._shown = 0
        self._answer_at: int | None = None  # where the answer begins, once known
        self._thought_at: int | None = 0 if thinking else None
        self._thought_end: int | None = None
        self._may_close = not thinking and bool(self._close)  # a thought that nothing opened may still be closed
        self._answering = False
        self._end: int | None = None

    @property
    def thinking(self) -> bool:
        """Whether the last token pushed belongs to a thought."""
        return self._thought_at is not None and (
            self._thought_end is None or self._starts[-1] < self._thought_end + len(self._close)
        )

    @property
    def in_thought(self) -> bool:
        """Whether a thought was begun and its closing tag is not complete."""
        return self._thought_at is not None and self._thought_end is None

    @property
    def leading(self) -> bool:
        """Whether the last token pushed stands before an answer that something came before: a blank, or a lead.

        A token that begins a character is the answer's; it is found out later if that was a blank.
        """
        begins = self._decoder.getstate()[0]
        return bool(self._answer_at) and not begins and not self._raw[self._answer_at :].strip()

    @property
    def is_open(self) -> bool:
        """Whether control tokens may still tell thought and answer apart."""
        return self._answer_at is None or self._may_close

    @property
    def written(self) -> str:
        """The answer so far with all its blanks."""
        return "" if self._answer_at is None else self._raw[self._answer_at : self._end]

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._end is not None

    @property
    def n_tokens(self) -> int:
        """How many tokens were pushed."""
        return len(self._starts)

    @property
    def n_after_stop(self) -> int:
        """How many of the pushed tokens lie behind the start of the stop string."""
        return sum(start >= self._end for start in self._starts) if self._end is not None else 0

    @property
    def before_stop(self) -> str:
        """What the token inside of which the stop string begins said of the answer before it; empty without one."""
        if self._end is None:
            return ""
        starts = [*self._starts, len(self._raw)]
        after = len(self._starts) - self.n_after_stop
        is_cut = after > 0 and starts[after] > self._end
        return self._raw[max(starts[after - 1], self._answer_at or 0) : self._end] if is_cut else ""

    @property
    def text(self) -> str:
        """The answer so far, without thought and stop string."""
        return self.written.strip()

    @property
    def thought(self) -> str:
        """The thought so far, without its tags."""
        if self._thought_at is None:
            return ""
        return self._raw[self._thought_at : self._thought_end].strip()

    def push(self, data: bytes) -> list[Piece]:
        """Takes the bytes of one more token, and returns what can be shown now."""
        self._starts.append(len(self._raw))
        self._raw += _shown(self._decoder.decode(data))
        return self._advance(False)

    def begin(self, text: str) -> None:
        """The answer begins with this text, of which nothing is shown. It comes before the first token."""
        self._raw = text
        self._shown, self._answer_at, self._answering, self._may_close = len(text), 0, bool(text.strip()), False
        self._thought_at = None

    def finish(self) -> list[Piece]:
        """No more will come: what was held back."""
        self._raw += _shown(self._decoder.decode(b"", True))
        return self._advance(True)

    def cancel(self) -> list[Piece]:
        """No more will come, and nothing more is shown: the beginning of a tag that did not come is text.

        What was held back, as `finish` gives it.
        """
        return self._advance(True)

    def _advance(self, final: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if self._answer_at is None and self._thought_at is None:
            self._decide(final)
        if self._answer_at is None and self._thought_at is not None:
            pieces += self._think(final)
        if self._answer_at is not None and self._end is None:
            pieces += self._answer(final)
        return [p for p in pieces if p.text]

    def _decide(self, final: bool) -> None:
        """A thought can only open a reply: elsewhere its tag is text like any other."""
        start = self._raw.lstrip()
        before = len(self._raw) - len(start)
        openings = [o for o in (self._open, self._lead) if o]
        if self._open and start.startswith(self._open):
            self._thought_at = self._shown = before + len(self._open)
        elif self._lead and start.startswith(self._lead):
            self._answer_at = self._shown = before + len(self._lead)
            self._may_close = False
        elif not final and any(o.startswith(start) for o in openings):
            return
        elif (channel := first_marker(self._open)) != self._open and channel and start.startswith(channel):
            self._thought_at = self._shown = before + len(channel)  # a channel of another name
        else:
            self._answer_at = 0

    def _think(self, final: bool) -> list[Piece]:
        closed = self._raw.find(self._close, self._shown)
        if closed < 0:
            return [self._show(len(self._raw) if final else self._certain([self._close]), "thought")]
        piece = self._show(closed, "thought")
        self._end_thought(closed)
        return [piece]

    def _end_thought(self, at: int) -> None:
        self._thought_end = at
        self._answer_at = self._shown = at + len(self._close)
        self._may_close = False

    def _answer(self, final: bool) -> list[Piece]:
        hits = [at for at in (self._raw.find(s, self._shown) for s in self._stop) if at >= 0]
        late = self._late_close(min(hits, default=len(self._raw)))
        if late is not None:
            piece = self._show(late, "thought")
            self._thought_at, self._answering = 0, False
            self._end_thought(late)
            return [piece, *self._answer(final)]
        if hits:
            self._end = min(hits)
        held = [*self._stop, *([self._close] if self._may_close else [])]
        until = self._certain(held) if not hits and not final else min(hits, default=len(self._raw))
        if not self._answering:  # leading blanks are not shown
            rest = self._raw[self._shown : until]
            self._shown += len(rest) - len(rest.lstrip())
            self._answering = self._shown < until
        return [self._show(max(until, self._shown), "assistant")]

    def _late_close(self, until: int) -> int | None:
        """Where a tag closes a thought that nothing opened, before `until`."""
        if not self._may_close:
            return None
        at = self._raw.find(self._close, self._shown, until)
        if self._open and self._open in self._raw[: at if at >= 0 else until]:
            self._may_close = False  # it speaks about tags
            return None
        return at if at >= 0 else None

    def _certain(self, words: Sequence[str]) -> int:
        """Up to where the text cannot be the beginning of one of `words`."""
        for at in range(max(self._shown, len(self._raw) - max(map(len, words), default=0)), len(self._raw)):
            if any(w.startswith(self._raw[at:]) for w in words):
                return at
        return len(self._raw)

    def _show(self, end: int, role: str) -> Piece:
        piece = Piece(self._raw[self._shown : end], role)
        self._shown = end
        return piece


def _shown(text: str) -> str:
    """A NUL is as what is no UTF-8: clients and files end a text there, and nobody may send one back."""
    return text.replace("\0", "\ufffd")
