"""Messages to tokens: a template's markers around what somebody said, only the new message each time.

The tokens are those of the whole conversation tokenized at once. A tokenizer works on what stands between two control
tokens, so all of that goes through it together: in `[INST] Hello [/INST]` the blank before "Hello" is the word's, and
not a token of its own. Only markers may become control tokens, never what somebody said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from edge_sir.engine import TextCodec, Tokens
from edge_sir.errors import SessionError
from edge_sir.text.calls import CALL_TAGS, call_text
from edge_sir.text.reply import ToolCall
from edge_sir.text.template import ChatTemplate, Markers
from edge_sir.text.thoughts import KNOWN_TAGS, ThoughtTags
from edge_sir.text.tools import NO_TOOLS, RESPONSE_TAGS, Tools, response_text

__all__ = ["GivenReply", "MessageEncoder", "Part", "ReplyEncoder", "ReplyForm"]

_AT_SEAM = 64  # characters that can change the token before them
_APART = "\ue000"  # put into control tokens that a description of a tool spells: a template writes it among markers

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

    system: the system prompt; without one, what the template itself puts first takes its place. tools: what the model
    may call. They are described by the template in the opening, or else at the end of the system prompt.
    """

    def __init__(self, codec: TextCodec, template: ChatTemplate, system: str | None, tools: Tools = NO_TOOLS) -> None:
        self._codec, self._template, self._system, self.tools = codec, template, system, tools
        self._with_tools = template.with_tools(self._apart(tools)) if tools else None
        self._has_prompt = system is not None or (bool(tools) and self._with_tools is None)

    @property
    def prompt(self) -> str:
        """The system prompt with the tools described in it, "" without either."""
        return "\n\n".join(filter(None, (self._system, self.tools.prompt if self.tools else "")))

    def opening(self) -> list[Part]:
        """What stands before the first message: the system prompt or the template's preamble, with tools, and BOS."""
        codec, template = self._codec, self._with_tools or self._template
        if not self._has_prompt:
            opening = template.preamble + template.markers("user", first=True).open
            parts = [("system", self._marker(template.preamble))]
        else:
            system = self.prompt if self._with_tools is None else self._system or ""
            markers = template.markers("system", first=True)
            opening = markers.open
            parts = self._around("system", system, markers, None)
            if self._with_tools is not None:
                parts = self._as_prompt(parts, system)
        if codec.bos >= 0 and codec.encode(opening, special=True)[:1].tolist() != [codec.bos]:
            parts.insert(0, ("frame", np.array([codec.bos], np.int32)))
        return parts

    def _as_prompt(self, parts: list[Part], system: str) -> list[Part]:
        """Around a system prompt, what the template adds for the tools is a part of it, and no marker."""
        plain = self._around("system", system, self._template.markers("system", first=True), None)
        (_, head), (_, said), (_, tail) = parts
        n_head = _n_common(head, plain[0][1])
        n_tail = _n_common(tail[::-1], plain[2][1][::-1])
        prompt = np.concatenate([head[n_head:], said, tail[: len(tail) - n_tail]])
        return [("frame", head[:n_head]), ("system", prompt), ("frame", tail[len(tail) - n_tail :])]

    def prompt_again(self) -> list[Part]:
        """The system prompt and the tools in mid-conversation; nothing without either."""
        return self.message("system", self.prompt, first=False) if self.prompt else []

    def message(self, role: str, text: str, *, first: bool, calls: Sequence[ToolCall] = ()) -> list[Part]:
        """A message that somebody said; `first` if nothing but the opening stands before it.

        calls: of tools, which a message of an assistant makes.
        """
        first = first and role != "system"
        after_system = first and self._has_prompt
        template = self._template
        if role == "tool" and self.tools and RESPONSE_TAGS[0] not in template.markers("tool").open:
            role, parts = "user", self.message("user", response_text(text), first=first)
            return [("tool" if part == "user" else part, tokens) for part, tokens in parts]
        if first:
            before = template.markers("system", first=True).close if after_system else template.preamble or None
        else:
            before = template.markers("user" if role == "assistant" else "assistant").close
        parts = self._around(role, text, template.markers(role, first=first, after_system=after_system), before)
        if calls:
            opening, (_, said), closing = parts
            parts = [opening, (role, np.concatenate([said, *self._calls(text, calls)])), closing]
        return parts

    def _calls(self, text: str, calls: Sequence[ToolCall]) -> Iterator[Tokens]:
        """The calls at the end of a message: its tags are tokens of their own where the model has such."""
        codec, before = self._codec, text
        for call in calls:
            if before:
                yield self._after(before[-1:], "\n")
            for tag, inner in zip(CALL_TAGS, (call_text(call), ""), strict=True):
                yield codec.encode(tag, special=codec.split(tag) == ["", tag, ""])
                yield codec.encode(inner, special=False)
            before = CALL_TAGS[1]

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
        lead, trail = lead.replace(_APART, ""), trail.replace(_APART, "")
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
            ("frame", np.concatenate([tokens[stop:], self._marker("".join(closing))])),
        ]

    def _frame(self, text: str, before: str | None) -> Tokens:
        """A marker behind another."""
        first, *others = self._codec.split(text)
        tokens = self._after(self._tail(before), first.replace(_APART, ""))
        return np.concatenate([tokens, self._marker("".join(others))])

    def _marker(self, text: str) -> Tokens:
        """What a template writes, of which some may be what somebody said of tools."""
        if _APART not in text:
            return self._codec.encode(text, special=True)
        parts = self._codec.split(text)
        return np.concatenate(
            [self._codec.encode(part.replace(_APART, ""), special=bool(i % 2)) for i, part in enumerate(parts) if part]
        )

    def _apart(self, tools: Tools) -> list[Any]:
        """The tools, for a template, with what spells a control token taken apart."""

        def apart(value: Any) -> Any:
            if isinstance(value, dict):
                return {apart(name): apart(inner) for name, inner in value.items()}
            if isinstance(value, list):
                return [apart(inner) for inner in value]
            if not isinstance(value, str):
                return value
            parts = self._codec.split(value)
            return "".join(f"{part[0]}{_APART}{part[1:]}" if i % 2 else part for i, part in enumerate(parts))

        return [apart(tool) for tool in tools.definitions]

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
