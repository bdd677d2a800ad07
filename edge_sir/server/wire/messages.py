"""The messages of a request become what was said."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from edge_sir.server.incoming import Role, Said
from edge_sir.server.wire.tools import Call, calls_text
from edge_sir.server.wire.values import Text, Wire, quoted, refuse

__all__ = ["ChatMessage", "Content", "Part", "merged", "said_of", "split_head"]

_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_ROLES: dict[str, Role] = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
_ROLES["tool"] = "tool"


class Part(Wire):
    """A part of a message; only text can be read."""

    type: Text
    text: Text = ""
    refusal: Text = ""

    @model_validator(mode="after")
    def _check_kind(self) -> "Part":
        if self.type not in _TEXTS:
            refuse(f"is a part of type {quoted(self.type)}; this server reads text alone, so leave the part out")
        if _TEXTS[self.type] not in self.model_fields_set:
            refuse(f"has no '{_TEXTS[self.type]}'")
        return self

    @property
    def shown(self) -> str:
        """Its text, whatever kind of text it is."""
        return self.text if _TEXTS[self.type] == "text" else self.refusal


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return value if isinstance(value, list) else refuse("must be text, or a list of parts")


_PART_SCHEMA = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
Content = Annotated[
    list[Part],
    BeforeValidator(_parts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART_SCHEMA}]}),
]
"""Text, or a list of parts."""


class ChatMessage(Wire):
    """One message of a chat request."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = Field(default_factory=list)
    name: Text = ""
    tool_calls: list[Call] = Field(default_factory=list)
    tool_call_id: Text = ""

    @model_validator(mode="after")
    def _check_content(self) -> "ChatMessage":
        if "content" not in self.model_fields_set and self.role not in ("assistant", "tool"):
            refuse(f"has the role {self.role} and no 'content'")
        return self

    def said(self) -> Said:
        """What it says. Thoughts that a client sends back apart (`reasoning_content`) are no part of it."""
        is_reply = self.role == "assistant"
        return Said(
            _ROLES[self.role],
            "\n".join(part.shown for part in self.content),
            tool_calls=calls_text(self.tool_calls) if is_reply else "",
            tool_call_id=self.tool_call_id if self.role == "tool" else "",
            name=self.name,
        )


def said_of(messages: Sequence[ChatMessage]) -> tuple[Said, ...]:
    """What all of them say, neighbours of one role as one."""
    return tuple(merged(message.said() for message in messages))


def merged(messages: Iterable[Said]) -> Iterator[Said]:
    """Neighbours of one role as one, a blank line between: many templates refuse what does not alternate.

    Results of tools, and what calls tools, stay apart: each belongs to its call.
    """
    last: Said | None = None
    for message in messages:
        if last is not None and last.role == message.role != "tool" and not (last.tool_calls or message.tool_calls):
            text = "\n\n".join(filter(None, (last.text, message.text)))
            last = replace(last, text=text, name=last.name if last.name == message.name else "")
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last


def split_head(messages: Sequence[Said]) -> tuple[str, tuple[Said, ...]]:
    """The system prompt at the head, and the rest.

    Where there is no rest, something must be answered all the same: the prompt is taken as the user's.
    """
    if messages and messages[0].role == "system":
        head, rest = messages[0].text, tuple(messages[1:])
        return (head, rest) if rest else ("", (replace(messages[0], role="user"),))
    return "", tuple(messages)
