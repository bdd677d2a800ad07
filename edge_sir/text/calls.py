"""Calls of tools in a reply: found while it is written, and written into a history.

Let me look.
<tool_call>
{"name": "weather", "arguments": {"city": "Oslo"}}
</tool_call>
"""

import json
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from edge_sir.text.reply import Piece, ToolCall

__all__ = ["CALL_TAGS", "CallReader", "call_text", "split_calls", "with_calls"]

CALL_TAGS = ("<tool_call>", "</tool_call>")
"""What surrounds a call, as Hermes, Qwen and others write it."""

_OPEN, _CLOSE = CALL_TAGS
_FORMS = (CALL_TAGS, ("```json", "```"))  # Qwen2.5-Coder writes the second, whatever its template says


def call_text(call: ToolCall) -> str:
    """What stands between the tags."""
    return f'\n{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments or "{}"}}}\n'


def with_calls(text: str, calls: Sequence[ToolCall]) -> str:
    """A reply as its model wrote it: what it said, then its calls."""
    return "\n".join(filter(None, (text, *(f"{_OPEN}{call_text(call)}{_CLOSE}" for call in calls))))


_BEGINNING = 2048  # characters, in which the longest name has come
_NEVER = 2**62  # behind all that is found: -1 modulo it


def split_calls(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """What a reply says, and its calls of tools with these names."""
    reader = CallReader(names)
    shown = [*reader.push([Piece(text, "assistant")]), *reader.finish()]
    return "".join(piece.text for piece in shown), tuple(reader.calls)


@dataclass(frozen=True, slots=True)
class _Broken:
    """What stands in a call and is none. is_open: a string in it is not closed, so that the tag may be its content."""

    is_open: bool


class CallReader:
    """Takes the pieces of an answer and gives them on, with calls as calls.

    JSON that is a call and nothing else is one without tags, too: in a block, or at the beginning. names: of the tools
    that can be called; a call of another one is text, and so is one that cannot be read. With no names all is text.
    begun: what stands there of the answer already. calls: those that came. text: the answer without them.
    """

    def __init__(self, names: Collection[str], begun: str = "") -> None:
        self._names = frozenset(names)
        self._beginnings = tuple(f'{{"name":"{name}"' for name in names)
        self._held = ""
        self._inside: tuple[str, str] | None = None  # the form of the call that was begun
        self._blanks_of = begun[len(begun.rstrip()) :]  # held back: before a call they are no part of it
        self.calls: list[ToolCall] = []
        self.text = begun.rstrip()

    def push(self, pieces: Sequence[Piece]) -> list[Piece]:
        """What can be shown once these pieces came."""
        if not self._names:
            return list(pieces)
        shown: list[Piece] = []
        for piece in pieces:
            if piece.role == "assistant":
                self._held += piece.text
                shown += self._advance()
            else:
                shown.append(piece)
        return shown

    def finish(self) -> list[Piece]:
        """No more will come: a call that lacks its closing tag alone is one, all else that was held back is text."""
        shown: list[Piece] = []
        if self._inside is not None:
            found = self._read(self._held)
            shown = self._called(found) if isinstance(found, ToolCall) else self._said(self._inside[0] + self._held)
        elif self._held:
            shown = self._said(self._held)
        self._held, self._inside = "", None
        return shown

    def _advance(self) -> list[Piece]:
        shown: list[Piece] = []
        while True:
            if self._inside is not None:
                found = self._close(*self._inside)
                if found is None:
                    return shown
                shown += found
                continue
            if not self.text:
                bare = self._bare()
                if bare is None:
                    return shown
                shown += bare
            at, form = min((self._held.find(form[0]) % _NEVER, form) for form in _FORMS)
            if at == _NEVER - 1:
                n = max(_n_begun(self._held, opening) for opening, _ in _FORMS)
                before, self._held = self._held[: len(self._held) - n], self._held[len(self._held) - n :]
                return shown + self._said(before)
            shown += self._said(self._held[:at])
            self._held, self._inside = self._held[at + len(form[0]) :], form

    def _bare(self) -> list[Piece] | None:
        """A call without tags at the beginning; nothing where none is there, None while one may come."""
        begun = re.sub(r"\s+", "", self._held[:_BEGINNING])
        if not begun or not any(known.startswith(begun) or begun.startswith(known) for known in self._beginnings):
            return []
        text = self._held.lstrip()
        try:
            _, stop = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return None
        found = _call_in(text[:stop], self._names, is_tagged=False)
        if not isinstance(found, ToolCall):
            return []
        self._held = text[stop:]
        return self._called(found)

    def _close(self, opening: str, closing: str) -> list[Piece] | None:
        """What the held call comes to; None while it may go on."""
        at = self._held.find(closing)
        while at >= 0:
            found = self._read(self._held[:at])
            if isinstance(found, ToolCall) or not found.is_open:
                inside, self._held = self._held[:at], self._held[at + len(closing) :]
                self._inside = None
                return self._called(found) if isinstance(found, ToolCall) else self._said(opening + inside + closing)
            at = self._held.find(closing, at + 1)
        return None

    def _read(self, text: str) -> ToolCall | _Broken:
        return _call_in(text, self._names, is_tagged=self._inside == CALL_TAGS)

    def _called(self, call: ToolCall) -> list[Piece]:
        self.calls.append(call)
        self._blanks_of = ""
        return [Piece("", "call", call)]

    def _said(self, text: str) -> list[Piece]:
        """Blanks at the beginning of the answer, around calls and at the end are none of it."""
        text = self._blanks_of + text
        if not self.text:
            text = text.lstrip()
        said = text.rstrip()
        self._blanks_of = text[len(said) :] if self.text or said else ""
        self.text += said
        return [Piece(said, "assistant")] if said else []


def _n_begun(text: str, opening: str) -> int:
    """How many characters at the end of `text` may be the beginning of `opening`."""
    return next((n for n in range(min(len(opening) - 1, len(text)), 0, -1) if text.endswith(opening[:n])), 0)


def _call_in(text: str, names: Collection[str], *, is_tagged: bool) -> ToolCall | _Broken:
    try:
        found = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        return _Broken(error.msg.startswith("Unterminated string"))
    except (ValueError, RecursionError):
        return _Broken(False)
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str) or name not in names:
        return _Broken(False)
    if not is_tagged and set(found) != {"name", "arguments"}:
        return _Broken(False)
    arguments = _as_object(found.get("arguments", found.get("parameters", {})))
    if arguments is None:
        return _Broken(False)
    return ToolCall(f"call_{uuid.uuid4().hex[:24]}", name, json.dumps(arguments, ensure_ascii=False))


def _as_object(value: Any) -> dict[str, Any] | None:
    """Arguments, which some models write as a text of JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
