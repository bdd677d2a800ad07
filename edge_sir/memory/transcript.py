"""What was said, turn by turn, as text: what a person looks at, saves and loads. The model never reads it.

As a file it is indented text: an unindented line begins a message, its text follows, indented by four blanks.

    edge-sir transcript 1
    [1] user
        My name is Ada.
    [1] assistant
        Hello Ada.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_sir.errors import ConfigError

__all__ = ["Message", "Transcript", "read_transcript"]

_HEAD = "edge-sir transcript 1"
_INDENT = "    "
_MESSAGE = re.compile(r"\[(\d{1,9})\] (system|user|assistant|tool)")


@dataclass(frozen=True, slots=True)
class Message:
    """Who said what in which turn. role: system, user, assistant or tool.

    id: of a chat's messages, the session's number of it: no other message gets that, also after an undo, when the
    turn's number is another's. 0 for a message that is in no chat. Two messages that say the same compare equal.
    """

    turn: int
    role: str
    text: str
    id: int = field(default=0, compare=False)


class Transcript:
    """All messages in order. What was forgotten on request is taken out of it. version: grows with every change."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self.version = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def add(self, turn: int, role: str, text: str, id: int) -> None:
        """Appends a message."""
        self._messages.append(Message(turn, role, text, id))
        self.version += 1

    def copy(self) -> "Transcript":
        """One of its own with the same messages."""
        other = Transcript()
        other._messages = list(self._messages)
        return other

    def of(self, turn: int) -> tuple[Message, ...]:
        """The messages of one turn."""
        return tuple(m for m in self._messages if m.turn == turn)

    def truncate(self, turn: int) -> tuple[Message, ...]:
        """Takes out everything from `turn` on and returns it."""
        taken = tuple(m for m in self._messages if m.turn >= turn)
        self._messages = [m for m in self._messages if m.turn < turn]
        self.version += 1
        return taken

    @property
    def last(self) -> Message | None:
        """What was said last."""
        return self._messages[-1] if self._messages else None

    def drop_after(self, id: int) -> None:
        """Takes out what was said after the message with this id."""
        self._messages = [m for m in self._messages if m.id <= id]
        self.version += 1

    def forget_turn(self, turn: int, prompts: Collection[int] = ()) -> int:
        """Takes out what was said in `turn`; returns how many messages that were.

        prompts: turns whose system prompt is in force, and stays.
        """
        n = len(self._messages)
        self._messages = [m for m in self._messages if m.turn != turn or _is_prompt(m, prompts)]
        self.version += 1
        return n - len(self._messages)

    def reword(self, texts: Mapping[int, str]) -> None:
        """Gives messages other texts, by id."""
        self._messages = [replace(m, text=texts.get(m.id, m.text)) for m in self._messages]
        self.version += 1

    def save(self, path: str | Path) -> Path:
        """Writes all of it to a new file and returns its path. Raises ConfigError if the file exists."""
        target = Path(path)
        lines = [_HEAD]
        for message in self._messages:
            lines.append(f"[{message.turn}] {message.role}")
            lines += [_INDENT + line for line in message.text.split("\n")]
        try:
            target = target.expanduser()
            with target.open("x", encoding="utf-8", errors="replace", newline="") as file:
                file.write("\n".join(lines) + "\n")
        except FileExistsError:
            raise ConfigError(f"{path} exists; save to a new file") from None
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot save to {path} ({reason}); choose another file") from None
        return target


def _is_prompt(message: Message, prompts: Collection[int]) -> bool:
    return message.role == "system" and message.turn in prompts


def read_transcript(path: str | Path) -> list[Message]:
    """The messages of a saved transcript. Raises ConfigError for any other file."""
    try:
        source = Path(path).expanduser()
        if source.exists() and not source.is_file():  # a device may have no end
            raise ValueError("it is no file")
        with source.open(encoding="utf-8-sig", newline="") as file:
            lines = file.read().split("\n")
    except (OSError, ValueError, RuntimeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None)
        raise ConfigError(f"cannot read {path} ({reason or error}); give a file that /save wrote") from None
    if lines[0] == f"{_HEAD}\r":  # an editor gave every line another end
        lines = [line.removesuffix("\r") for line in lines]
    if lines[0] != _HEAD:
        raise ConfigError(
            f"{path} is no transcript of edge-sir: its first line is not '{_HEAD}'; give a file that /save wrote"
        )
    heads: list[tuple[int, str]] = []
    texts: list[list[str]] = []
    for number, line in enumerate(lines[1:], 2):
        if line.startswith(_INDENT) and texts:
            texts[-1].append(line[len(_INDENT) :])
        elif found := _MESSAGE.fullmatch(line.rstrip("\r")):
            heads.append((int(found[1]), found[2]))
            texts.append([])
        elif line.strip():
            raise ConfigError(f"{path}, line {number}: neither a message's head nor an indented line of its text")
    if not heads:
        raise ConfigError(f"{path} holds no message")
    return [Message(turn, role, "\n".join(text)) for (turn, role), text in zip(heads, texts, strict=True)]
