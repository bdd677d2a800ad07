"""Messages to tokens: a template's markers around what somebody said, only the new message each time.

The tokens are those of the whole conversation tokenized at once. A tokenizer works on what stands between two control
tokens, so all of that goes through it together: in `[INST] Hello [/INST]` the blank before "Hello" is the word's, and
not a token of its own. Only markers may become control tokens, never what somebody said.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from edge_sir.engine import TextCodec, Tokens
from edge_sir.errors import SessionError
from edge_sir.text.template import ChatTemplate, Markers
from edge_sir.text.thoughts import KNOWN_TAGS, ThoughtTags

__all__ = ["GivenReply", "MessageEncoder", "Part", "ReplyEncoder", "ReplyForm"]

_AT_SEAM = 64  # characters that can change the token before them

Part = tuple[str, Tokens]
"""A role of the ledger, and tokens of that role."""


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """How a reply stands in the cache: while it is written, and in history.

    opening: what opens it, `frame` in history as well, `thought` while it is written. thinking: the opening begins a
    thought. tags: what surrounds thoughts. shown: control tokens that are part of the tags, and what they spell.
    history: what history has between the `frame` of the opening and the answer; lead: the same as a text, which the
    model may write by itself. ends: tokens that end a reply; thought_end: the token that begins the end of a thought,
    and so ends nothing inside of one, -1 for none.
    """

    opening: tuple[Part, ...]
    thinking: bool
    tags: ThoughtTags
    shown: dict[int, bytes] = field(default_factory=dict)
    history: Tokens = field(default_factory=lambda: np.empty(0, np.int32))
    lead: str = ""
    ends: frozenset[int] = frozenset()
    thought_end: int = -1


class ReplyEncoder(Protocol):
    """What a turn asks about the reply that it writes; what each is says `MessageEncoder`."""

    @property
    def reply_form(self) -> ReplyForm: ...

    @property
    def assistant_close(self) -> Tokens: ...

    def close_reply(self, written: str) -> Tokens: ...

    def continue_reply(self, written: str, text: str) -> Tokens: ...

    def control_token(self, text: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class GivenReply:
    """A `ReplyEncoder` for a reply that is not drawn but given, as history has it. assistant_close: what ends it."""

    assistant_close: Tokens
    reply_form = ReplyForm((), thinking=False, tags=KNOWN_TAGS[0])

    def close_reply(self, written: str) -> Tokens:
        return self.assistant_close

    def continue_reply(self, written: str, text: str) -> Tokens:
        raise SessionError("a given reply is not continued")

    def control_token(self, text: str) -> int | None:
        return None


class MessageEncoder:
    """Renders one message at a time as parts.

    system: the system prompt; without one, what the template itself puts first takes its place.
    """

    def __init__(self, codec: TextCodec, template: ChatTemplate, system: str | None) -> None:
        self._codec, self._template, self._system = codec, template, system

    def opening(self) -> list[Part]:
        """What stands before the first message: the system prompt or the template's preamble, and BOS."""
        codec, template = self._codec, self._template
        if self._system is None:
            opening = template.preamble + template.markers("user", first=True).open
            parts = [("system", codec.encode(template.preamble, special=True))]
        else:
            markers = template.markers("system", first=True)
            opening = markers.open
            parts = self._around("system", self._system, markers, None)
        if codec.bos >= 0 and codec.encode(opening, special=True)[:1].tolist() != [codec.bos]:
            parts.insert(0, ("frame", np.array([codec.bos], np.int32)))
        return parts

    def message(self, role: str, text: str, *, first: bool) -> list[Part]:
        """A message that somebody said; `first` if nothing but the opening stands before it."""
        first = first and role != "system"
        after_system = first and self._system is not None
        template = self._template
        if first:
            before = template.markers("system", first=True).close if after_system else template.preamble or None
        else:
            before = template.markers("user" if role == "assistant" else "assistant").close
        return self._around(role, text, template.markers(role, first=first, after_system=after_system), before)

    def reply_opening(self) -> list[Part]:
        """What opens a reply."""
        return list(self.reply_form.opening)

    @cached_property
    def assistant_close(self) -> Tokens:
        """What ends a reply that ends in no blank."""
        return self.close_reply("")

    def close_reply(self, written: str) -> Tokens:
        """What ends a reply that was `written` so: the template's text, without blanks that are there already."""
        close = self._template.markers("assistant").close
        blanks = written[len(written.rstrip()) :]
        return self._codec.encode(close.removeprefix(blanks), special=True)

    def continue_reply(self, written: str, text: str) -> Tokens:
        """Tokens of `text` in the middle of a reply, behind what was `written` of it."""
        return self._after(written[-1:], text)

    def control_token(self, text: str) -> int | None:
        """The control token that is spelled so, None if it is none or more than that."""
        return next(iter(self._special_in(text))) if text and self._codec.split(text) == ["", text, ""] else None

    @cached_property
    def reply_form(self) -> ReplyForm:
        """How a reply begins and ends."""
        codec, template = self._codec, self._template
        before, history_open = template.markers("user").close, template.markers("assistant").open
        generation = template.generation.rstrip(" ")  # the blank is the reply's first word's
        opening, in_history = self._frame(generation, before), self._frame(history_open, before)
        n = _n_common(opening, in_history)
        tags = template.thoughts or _tags_in_vocabulary(codec)
        history, special = in_history[n:], self._special_in(history_open)
        spelled = [special.get(int(t)) or codec.piece(int(t)) for t in history]
        return ReplyForm(
            opening=(("frame", opening[:n]), ("thought", opening[n:])),
            thinking=tags.is_opened_by(generation),
            tags=tags,
            shown=self._special_in(tags.open + tags.close) | {t: special[t] for t in history.tolist() if t in special},
            history=history,
            lead=b"".join(spelled).decode("utf-8", "replace"),
            ends=frozenset(list(self._special_in(template.after_reply))[:1]),
            thought_end=next(iter(self._special_in(tags.close)), -1),
        )

    # ---- tokens --------------------------------------------------------------------------------

    def _around(self, role: str, text: str, markers: Markers, before: str | None) -> list[Part]:
        """A message and its markers. before: the marker that stands before it, None at the very beginning."""
        codec, said = self._codec, markers.content(text)
        *opening, lead = codec.split(markers.open)
        trail, *closing = codec.split(markers.close)
        head = "".join(opening)
        lead = self._without_eaten_blanks(head, lead)
        tail = "" if opening else self._tail(before)
        tokens = self._after(tail, lead + said + trail, goes_on=not closing)
        n_lead = _n_common(tokens, self._after(tail, lead))
        last = self._after((lead + said)[-1:], trail, goes_on=not closing)
        n_trail = min(len(tokens) - n_lead, _n_common(tokens[::-1], last[::-1]))
        stop = len(tokens) - n_trail
        return [
            ("frame", np.concatenate([self._frame(head, before), tokens[:n_lead]])),
            (role, tokens[n_lead:stop]),
            ("frame", np.concatenate([tokens[stop:], codec.encode("".join(closing), special=True)])),
        ]

    def _frame(self, text: str, before: str | None) -> Tokens:
        """A marker behind another."""
        first, *others = self._codec.split(text)
        tokens = self._after(self._tail(before), first)
        return np.concatenate([tokens, self._codec.encode("".join(others), special=True)])

    def _tail(self, before: str | None) -> str:
        """The text behind the last control token, of which a tokenizer takes notice; what was said is like a point."""
        return "" if before is None else self._codec.split(before)[-1] if before else "."

    def _after(self, tail: str, text: str, *, goes_on: bool = False) -> Tokens:
        """Tokens of `text` behind the text `tail`. goes_on: a word comes next, without a control token before it."""
        codec = self._codec
        if goes_on and text.endswith("\n"):  # many a tokenizer keeps the last of several line breaks for the next word
            tokens = self._after(tail, text + "A")
            return tokens[:-1] if codec.piece(int(tokens[-1])) == b"A" else self._after(tail, text)
        if not tail or not text:
            return codec.encode(text, special=False)
        for lead in (tail, "\n", "."):  # with another one where the text would change the last token
            expected = codec.encode(lead, special=False)
            for shown in (text[:_AT_SEAM], text):  # a long text is not tokenized for nothing
                tokens = codec.encode(lead + shown, special=False)
                if not np.array_equal(tokens[: len(expected)], expected):
                    break
            else:
                return tokens[len(expected) :]
        return codec.encode(text, special=False)

    def _without_eaten_blanks(self, head: str, lead: str) -> str:
        """`lead` without blanks that the control token at the end of `head` takes to itself."""
        if not head or lead == lead.lstrip():
            return lead
        codec = self._codec
        apart = np.concatenate([codec.encode(head, special=True), codec.encode(lead, special=False)])
        return lead if np.array_equal(codec.encode(head + lead, special=True), apart) else lead.lstrip()

    def _special_in(self, text: str) -> dict[int, bytes]:
        """The control tokens in a text, in order, and what they spell."""
        names = self._codec.split(text)[1::2]
        return {int(self._codec.encode(name, special=True)[0]): name.encode() for name in names}


def _tags_in_vocabulary(codec: TextCodec) -> ThoughtTags:
    """The first known tags that are tokens of their own, else the most common ones."""
    own = (tags for tags in KNOWN_TAGS if codec.split(tags.open) == ["", tags.open, ""])
    return next(own, KNOWN_TAGS[0])


def _n_common(a: Tokens, b: Tokens) -> int:
    """How many tokens both begin with."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
