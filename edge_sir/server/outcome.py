"""What comes of a request: bits of a reply as they come, and all of it in the end."""

from dataclasses import dataclass
from typing import Literal

from edge_sir.text.reply import Drawn, Finish, Recalled, ToolCall

__all__ = ["Choice", "Drawn", "Finish", "Match", "Outcome", "Shown", "ToolCall"]

Match = Literal["exact", "anchor", "fork", "rebuilt", "new", "scratch", "retry", "prefill"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A bit of a reply that can be shown now. choice: which of several replies it belongs to."""

    text: str = ""
    thought: str = ""
    call: ToolCall | None = None
    drawn: tuple[Drawn, ...] = ()
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole reply."""

    text: str
    finish: Finish
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    drawn: tuple[Drawn, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request.

    n_held: tokens that were resident before it. n_read: decoded for it and not generated, template tokens included.
    n_generated, n_thought: over all choices. resident, evicted: tokens after it, and in its turn.
    """

    choices: tuple[Choice, ...]
    n_held: int
    n_read: int
    n_generated: int
    n_thought: int = 0
    resident: int = 0
    evicted: int = 0
    recalled: tuple[Recalled, ...] = ()
