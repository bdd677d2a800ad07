"""Chat templates, taken apart so that only the new message is ever rendered.

A template renders a whole history. edge-sir never re-reads the history, so the template is rendered
once over messages with placeholder contents; what stands between the placeholders is what opens and
closes a message of each role.

    <bos>  <system> .. </s>  <user> .. </s>  <assistant> .. </s>  <user> .. </s>  <assistant> <think>
    preamble or system's     user's markers   assistant's, in history                generation

What opens a reply may differ from what history has there: `generation` is the first, the assistant's markers are the
second, and `ReplyForm` (encoder.py) leads from one to the other.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from edge_sir.errors import TemplateError
from edge_sir.text.calls import CALL_TAGS
from edge_sir.text.jinja import compile_template, one_line
from edge_sir.text.thoughts import (
    MARKER,
    ThoughtTags,
    first_marker,
    marker_end,
    marker_start,
    n_common,
    tags_around,
    tags_in_source,
    tags_of_empty,
)

__all__ = ["ChatTemplate", "Markers"]

_PLACEHOLDER = re.compile("(EDGE0SIR[0-9]X)")
_THOUGHT = "EDGE0SIR9X"
_AS_TRANSFORMERS: Mapping[str, Any] = {"tools": None, "documents": None}
"""Names that the `transformers` library always defines; a few templates fail with them, a few without."""
_THOUGHTS: tuple[dict[str, Any], ...] = (
    {"reasoning_content": _THOUGHT},
    {"thinking": _THOUGHT},
    {"reasoning": _THOUGHT},
    {"content": [{"type": "thinking", "thinking": _THOUGHT}]},
)
"""How a message brings a thought: no two makers agree."""
_CONVERSATIONS = (
    ("user", "assistant", "user", "assistant", "user"),
    ("system", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)


@dataclass(frozen=True, slots=True)
class Markers:
    """What a template writes around a message.

    strips_start, strips_end: it takes blanks off the beginning or the end of what was said.
    """

    open: str
    close: str
    strips_start: bool = False
    strips_end: bool = False

    def content(self, text: str) -> str:
        """What the template makes of what was said."""
        text = text.lstrip() if self.strips_start else text
        return text.rstrip() if self.strips_end else text


class ChatTemplate:
    """The markers of a Jinja chat template.

    arguments: names that the template may ask for, such as `enable_thinking`. asks_for: all such names. preamble:
    what it writes before the first message when there is no system prompt (often a default one). generation: what
    opens a reply. after_reply: all that history has between a reply and the next user message. thoughts: what
    surrounds a thought, None if the template does not say. differences: where a conversation put together message by
    message is not what the template renders, one line each. tools: definitions that it gets with each rendering, for
    templates that describe them to the model (`with_tools`). Raises TemplateError for a template that does not compile,
    drops what is said, or rewrites earlier turns.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        arguments: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._source, self._bos, self._eos = source, bos, eos
        self.arguments: Mapping[str, Any] = dict(arguments or {})
        self._constants = {"bos_token": bos, "eos_token": eos} | ({"tools": list(tools)} if tools else {})
        self._template, names = compile_template(source)
        self._asks_for_tools = "tools" in names
        self.asks_for = names - {"messages", "add_generation_prompt", *_AS_TRANSFORMERS, *self._constants}
        start, *_, between, self.after_reply, generation = self._choose_form()
        alone, generation_alone = self._around("user", generate=True)
        if start != alone:
            raise TemplateError("the chat template rewrites earlier turns; give a plain one with --chat-template")
        user_close = self._user_close(between, generation, generation_alone)
        reply_close = self._reply_close(start, user_close)
        user_open = self.after_reply[len(reply_close) :]
        self.preamble, self._first_open = _split_end(start, user_open)
        self.generation = generation[len(user_close) :]
        strips = {role: self._strips(role) for role in ("user", "assistant", "system")}
        self._markers = {
            "user": Markers(user_open, user_close, *strips["user"]),
            "assistant": Markers(between[len(user_close) :], reply_close, *strips["assistant"]),
        }
        for role in ("tool", "system"):
            self._markers[role] = self._later_markers(role, reply_close, user_open)
        found: list[str] = []
        self._system, self._open_after_system = self._system_markers(user_open, strips["system"], found)
        self.thoughts = self._thought_tags(user_close)
        self.differences = tuple(dict.fromkeys([*found, *self._find_differences(has_system=not found)]))

    def with_arguments(self, arguments: Mapping[str, Any]) -> "ChatTemplate":
        """The same template with these arguments on top of its own."""
        both = {**self.arguments, **arguments}
        return ChatTemplate(self._source, bos=self._bos, eos=self._eos, arguments=both) if arguments else self

    def with_tools(self, tools: Sequence[Mapping[str, Any]]) -> "ChatTemplate | None":
        """The same template where it describes `tools` in front of the first message, in whose markers they are then.

        None where it does not, or has the model call them in another way than `CALL_TAGS` say.
        """
        if not self._asks_for_tools:
            return None
        try:
            other = ChatTemplate(self._source, bos=self._bos, eos=self._eos, arguments=self.arguments, tools=tools)
        except TemplateError:
            return None
        around_system = other.markers("system", first=True)
        names = [tool["function"]["name"] for tool in tools]
        for text in (other.preamble, around_system.open + around_system.close):
            if not all(part in text for part in (*CALL_TAGS, *names)):
                return None
        same = all(
            other.markers(r, after_system=True) == self.markers(r, after_system=True) for r in ("user", "assistant")
        )
        is_same = same and other.markers("user", first=True) == self.markers("user", first=True)
        return other if is_same and other.generation == self.generation else None

    def markers(self, role: str, *, first: bool = False, after_system: bool = False) -> Markers:
        """Around a message of `role` (user, assistant, tool, system); an assistant's as in history.

        first: it is the conversation's first message. after_system: only a system prompt stands before it,
        in place of `preamble`.
        """
        if role == "system" and first:
            return self._system
        markers = self._markers[role]
        if role == "user" and (first or after_system):
            opening = self._open_after_system if after_system else self._first_open
            return Markers(opening, markers.close, markers.strips_start, markers.strips_end)
        return markers

    def render(self, messages: Sequence[Mapping[str, Any]], *, generate: bool) -> str:
        """The template's own rendering of a whole history. Raises TemplateError if it fails."""
        wrap = self._parts
        shaped = [
            {**m, "content": [{"type": "text", "text": m["content"]}]} if wrap and isinstance(m["content"], str) else m
            for m in messages
        ]
        names = {**self._names, **self.arguments, **self._constants}
        try:
            return self._template.render({**names, "messages": shaped, "add_generation_prompt": generate})
        except Exception as error:  # a template is somebody's program: whatever happens is its fault
            raise TemplateError(f"the chat template fails: {one_line(error)}") from None

    # ---- taking it apart -----------------------------------------------------------------------

    def _choose_form(self) -> list[str]:
        """Finds names and a form of content (a text, or a list of parts) that the template takes, and renders."""
        first: TemplateError | None = None
        for self._names, self._parts in product((_AS_TRANSFORMERS, {}), (False, True)):
            try:
                return self._around(*_CONVERSATIONS[0], generate=True)
            except TemplateError as error:
                first = first or error
        assert first is not None
        raise first

    def _user_close(self, between: str, generation: str, generation_alone: str) -> str:
        """What ends a user message, whatever comes next."""
        shared = _common_start(between, generation)
        last = self._around("user")[1]
        if last != generation_alone and shared.startswith(last):
            return last
        try:  # the template opens a reply whether it was asked to or not, or ends its last message in another way
            _, middle, _ = self._around("user", "user")
        except TemplateError:
            return shared if last == shared else first_marker(_common_start(shared, last))
        close = _split_end(middle, self.after_reply[len(_common_start(middle, self.after_reply)) :])[0]
        return first_marker(_common_start(_common_start(close, shared), last))

    def _reply_close(self, start: str, user_close: str) -> str:
        """What ends a reply: what follows it where it is the last message and where one of a user comes next."""
        last = self._around("user", "assistant")[2]
        if last and self.after_reply.startswith(last):
            return last
        if close := first_marker(_common_start(last, self.after_reply)):
            return close
        if self.after_reply.startswith(user_close) and MARKER.search(user_close):
            return user_close
        if not MARKER.search(self.after_reply):
            return last if self.after_reply.startswith(last) else ""
        return self.after_reply[: len(self.after_reply) - len(_common_end(start, self.after_reply))]

    def _strips(self, role: str) -> tuple[bool, bool]:
        """Whether blanks at the beginning and at the end of such a message are taken off."""
        pad = " \n "
        roles = ("system", "user") if role == "system" else ("user", "assistant", "user")
        at = roles.index(role)
        try:
            parts = self._around(*roles, pad=pad)
        except TemplateError:
            return False, False
        return not parts[at].endswith(pad), not parts[at + 1].startswith(pad)

    def _later_markers(self, role: str, reply_close: str, user_open: str) -> Markers:
        """In mid-conversation. Where the template knows no such message there, it is written like a user's."""
        try:
            _, _, opening, close, _ = self._around("user", "assistant", role, "user", generate=True)
        except TemplateError:
            return self._markers["user"]
        if not (opening.startswith(reply_close) and close.endswith(user_open)):
            return self._markers["user"]
        return Markers(opening[len(reply_close) :], _split_end(close, user_open)[0])

    def _system_markers(self, user_open: str, strips: tuple[bool, bool], found: list[str]) -> tuple[Markers, str]:
        """Around a system prompt, and what opens the user message after it.

        A template without a system role gets the prompt as the beginning of the first user message.
        """
        try:
            before, between, _ = self._around("system", "user", generate=True)
        except TemplateError:
            found.append("it takes no system message; a system prompt begins the first user message")
            return Markers(self.preamble + self._first_open, "\n\n"), ""
        close, opening = _split_end(between, user_open)
        return Markers(before, close, *strips), opening

    def _thought_tags(self, user_close: str) -> ThoughtTags | None:
        """What the template writes around the thought of a last reply that brings one, or leaves empty, or mentions."""
        history = self._markers["assistant"].open
        for thought in _THOUGHTS:
            try:
                _, before, after, _ = self._around("user", "assistant", thought=thought)
            except TemplateError:
                continue
            if tags := tags_around(before[len(user_close) :], after, self.generation, history):
                return tags
        return tags_of_empty(self.generation, history) or tags_in_source(self._source)

    # ---- checking ------------------------------------------------------------------------------

    def _find_differences(self, *, has_system: bool) -> Iterator[str]:
        seen: set[tuple[str, str]] = set()
        for roles in _CONVERSATIONS:
            if "system" in roles and not has_system:
                continue
            try:
                theirs = self._around(*roles, generate=True)
            except TemplateError as error:
                yield self._other_order(roles) or f"{error}; each message is written as in a shorter conversation"
                continue
            for i, pair in enumerate(zip(self._ours(roles), theirs, strict=True)):
                if pair[0] != pair[1] and pair not in seen:
                    seen.add(pair)
                    where = f"before message {i + 1}" if i < len(roles) else "after the last message"
                    yield f"{where} of {', '.join(roles)} it writes {pair[1]!r}, and edge-sir {pair[0]!r}"

    def _other_order(self, roles: Sequence[str]) -> str:
        names = [f"EDGE0SIR{i}X" for i in range(len(roles))]
        messages = [{"role": role, "content": name} for role, name in zip(roles, names, strict=True)]
        found = _PLACEHOLDER.findall(self.render(messages, generate=True))
        if sorted(found) != names:
            return ""
        order = ", ".join(roles[names.index(name)] for name in found)
        return f"it writes {', '.join(roles)} in the order {order}; here each message stays where it was said"

    def _ours(self, roles: Sequence[str]) -> list[str]:
        """What is put around placeholder messages of these roles, message by message, as `_around` has it."""
        has_system = roles[0] == "system"
        texts = ["" if has_system else self.preamble]
        for i, role in enumerate(roles):
            markers = self.markers(role, first=i == 0, after_system=has_system and i == 1)
            texts[-1] += markers.open
            texts.append(markers.close)
        texts[-1] += self.generation
        return texts

    def _around(
        self, *roles: str, generate: bool = False, pad: str = "", thought: Mapping[str, Any] | None = None
    ) -> list[str]:
        """What stands before, between and after placeholder messages of these roles: len(roles) + 1 texts.

        thought: fields that give the last message one, named `_THOUGHT`; there is one text more then.
        """
        names = [f"EDGE0SIR{i}X" for i in range(len(roles))]
        messages: list[dict[str, Any]] = [
            {"role": role, "content": pad + name + pad} for role, name in zip(roles, names, strict=True)
        ]
        if thought is not None:
            parts_of_thought = thought.get("content", [])
            messages[-1] |= thought
            if parts_of_thought:
                messages[-1]["content"] = [*parts_of_thought, {"type": "text", "text": names[-1]}]
            names.insert(-1, _THOUGHT)
        parts = _PLACEHOLDER.split(self.render(messages, generate=generate))
        if parts[1::2] != names:
            raise TemplateError(f"the chat template drops or repeats a message ({', '.join(roles)})")
        return parts[::2]


def _split_end(text: str, end: str) -> tuple[str, str]:
    """`text` without `end` and `end`; all of it and nothing where it does not end so."""
    return (text[: len(text) - len(end)], end) if text.endswith(end) else (text, "")


def _common_start(a: str, b: str) -> str:
    """What both begin with, whole markers alone."""
    n = n_common(a, b)
    return a[: min(marker_start(a, n), marker_start(b, n))]


def _common_end(a: str, b: str) -> str:
    """What both end with, whole markers alone."""
    n = n_common(a[::-1], b[::-1])
    n = min(len(a) - marker_end(a, len(a) - n), len(b) - marker_end(b, len(b) - n))
    return a[len(a) - n :]
