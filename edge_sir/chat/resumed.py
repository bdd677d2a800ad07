"""What is said of a chat that went on from what was saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_sir.memory.transcript import Message
from edge_sir.store.values import Stored, StoredMessage

__all__ = ["Begun", "How", "Resumed", "last_in", "said_in"]

How = Literal["exact", "replayed", "rebuilt", "read again"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A session in which nothing was said yet. like: the name of one that is there and has nearly this name, or "".

    changed: options that were given for it and are not the defaults; it keeps them.
    """

    name: str
    like: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resumed:
    """How a chat went on with its session.

    n_turns: it had. used: when its last record was made, unix seconds. how: "exact", "replayed" (n_replayed turns were
    decoded again), "rebuilt" (what was resident was) or "read again" (only its text was left, or this is another
    model). n_left_out: tokens that were recalled in the replayed turns and are nowhere now. unsent: what the user said
    and got no reply to. last: the user's last message with a reply, and that reply. is_cut: it was stopped before its
    end. kept: options that the session keeps and that are not the defaults. changed: those that were given now and are
    not what it kept; from now on it keeps them.
    """

    name: str
    n_turns: int
    used: float
    how: How
    n_replayed: int = 0
    n_left_out: int = 0
    unsent: tuple[str, ...] = ()
    last: tuple[Message, ...] = ()
    is_cut: bool = False
    kept: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)


def said_in(stored: Stored) -> tuple[StoredMessage, ...]:
    """The messages of a session's path, in order, without those that were forgotten whole: a row stands for them."""
    unsaid = frozenset(stored.state["chat"]["unsaid"]) if stored.state else frozenset()
    return tuple(row for row in stored.path if row.message.id not in unsaid)


def last_in(stored: Stored) -> tuple[Message, ...]:
    """What the user said last in the session, and what came after it."""
    said = [row.message for row in said_in(stored)]
    at = max((i for i, message in enumerate(said) if message.role == "user"), default=len(said))
    return tuple(said[at:])
