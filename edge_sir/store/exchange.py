"""Conversations as files that other programs read: JSON lines in OpenAI's message format, and Markdown.

    {"role": "user", "content": "My name is Ada."}          ## User
    {"role": "assistant", "content": "Hello Ada."}
                                                            My name is Ada.

                                                            ## Assistant

                                                            Hello Ada.

Both give roles and texts back as they were. Turns are counted anew when a file is read, as a chat counts them. In
Markdown a line of a text that would be read as a heading of ours begins with a backslash.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message

__all__ = ["Format", "format_of", "from_json_lines", "from_markdown", "read_file", "to_json_lines", "to_markdown"]

Format = Literal["jsonl", "markdown"]

_SUFFIXES: dict[str, Format] = {
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".md": "markdown",
    ".markdown": "markdown",
}
_ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {"developer": "system", "function": "tool"}
_TEXTS = ("text", "input_text", "output_text")
_HEADING = re.compile(r"## (System|User|Assistant|Tool)")
_ESCAPED = re.compile(rf"\\*{_HEADING.pattern}\s*")
_REMEDY = 'write one {"role": ..., "content": ...} a line'


def format_of(path: str | Path) -> Format | None:
    """The format that a file's name stands for; None for another name."""
    return _SUFFIXES.get(Path(path).suffix.lower())


def read_file(path: str | Path) -> list[Message]:
    """The messages of a file in either format, by its name, else by how it begins. Raises ConfigError."""
    try:
        source = Path(path).expanduser()
        if source.exists() and not source.is_file():  # a device may have no end
            raise ValueError("it is no file")
        text = source.read_bytes().decode("utf-8-sig")  # its line ends as they are
    except (OSError, ValueError, RuntimeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None)
        raise ConfigError(f"cannot read {path} ({reason or error}); give a file of JSON lines or Markdown") from None
    kind = format_of(path) or ("jsonl" if text.lstrip()[:1] in ("{", "[") else "markdown")
    try:
        messages = from_json_lines(text) if kind == "jsonl" else from_markdown(text)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    if not messages:
        raise ConfigError(f"{path} holds no message")
    return messages


def _with_turns(said: Iterable[tuple[str, str]]) -> list[Message]:
    """Messages of (role, text), counted as a chat counts them: a user's begins a turn, and so does what comes next to
    a system prompt; a system prompt in mid-conversation has a turn for itself.
    """
    messages: list[Message] = []
    turn = system_turn = 0
    for id, (role, text) in enumerate(said, 1):
        if role == "system":
            turn += bool(messages)
            system_turn = turn
        elif role == "user" or turn == system_turn:
            turn += 1
        messages.append(Message(turn, role, text, id))
    return messages


# ---- JSON lines ----------------------------------------------------------------------------------


def to_json_lines(messages: Iterable[Message]) -> str:
    """One `{"role": ..., "content": ...}` a line."""
    lines = (json.dumps({"role": m.role, "content": m.text}, ensure_ascii=False) for m in messages)
    return "".join(f"{line}\n" for line in lines)


def from_json_lines(text: str) -> list[Message]:
    """Messages of JSON lines: messages, lists of them, or objects with a list `messages`; or all of it as one of these.

    content is a text, a list of texts and of parts of type "text", or null where nothing was said. Raises
    ConfigError with the line.
    """
    whole = _parsed(text)
    if whole is not None:
        return _with_turns(_said(whole, 1))
    said: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            said += _said(_parsed(line), number)
    return _with_turns(said)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _said(document: Any, line: int) -> Iterator[tuple[str, str]]:
    if isinstance(document, dict) and isinstance(document.get("messages"), list):
        document = document["messages"]
    for message in document if isinstance(document, list) else [document]:
        if not isinstance(message, dict) or "role" not in message:
            raise ConfigError(f"line {line}: it holds no message; {_REMEDY}")
        role = message["role"]
        if not isinstance(role, str) or role not in _ROLES:
            raise ConfigError(f"line {line}: no role {str(role)[:40]!r}; it is one of {', '.join(_ROLES)}")
        if message.get("content") is not None:  # else it calls a tool and says nothing
            yield _ROLES[role], _content(message["content"], line)


def _content(content: Any, line: int) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    if kinds := [part["type"] for part in parts if isinstance(part, dict) and part.get("type", "text") not in _TEXTS]:
        raise ConfigError(f"line {line}: a part of type {str(kinds[0])[:40]!r} is no text; take it out")
    if len(known) < len(texts):
        raise ConfigError(f"line {line}: content that is no text; {_REMEDY}")
    return "\n".join(known)


# ---- Markdown ------------------------------------------------------------------------------------


def to_markdown(messages: Iterable[Message], title: str = "") -> str:
    """A heading `## User` for each message, then a blank line and its text."""
    blocks = [f"## {m.role.capitalize()}\n\n{_escaped(m.text)}\n" for m in messages]
    return "\n".join([f"# {title}\n"] * bool(title) + blocks)


def from_markdown(text: str) -> list[Message]:
    """Messages of what `to_markdown` wrote, a person's changes included. Raises ConfigError with the line."""
    lines = text.split("\n")
    heads = [i for i, line in enumerate(lines) if _HEADING.fullmatch(line.removesuffix("\r"))]
    if heads and lines[heads[0]].endswith("\r"):  # an editor gave every line another end
        lines = [line.removesuffix("\r") for line in lines]
    first = heads[0] if heads else len(lines)
    for number, line in enumerate(lines[:first], 1):
        if line.strip() and not line.startswith("# "):
            raise ConfigError(f"line {number}: a text before the first message; begin one with '## User'")
    said = []
    for start, end in itertools.pairwise([*heads, len(lines)]):
        role = lines[start].removesuffix("\r").removeprefix("## ").lower()
        said.append((role, _unescaped(lines[start + 1 : end])))
    return _with_turns(said)


def _escaped(text: str) -> str:
    return "\n".join("\\" + line if _ESCAPED.fullmatch(line) else line for line in text.split("\n"))


def _unescaped(body: list[str]) -> str:
    """The text between two headings, without the blank line on either side of it."""
    body = body[1:] if body[:1] == [""] else body
    body = body[:-1] if body[-1:] == [""] else body
    return "\n".join(line.removeprefix("\\") if _ESCAPED.fullmatch(line) else line for line in body)
