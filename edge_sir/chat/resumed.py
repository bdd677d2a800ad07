"""What is said of a chat that went on from what was saved."""

from dataclasses import dataclass
from typing import Literal

from edge_sir.store.values import Stored, StoredMessage

__all__ = ["How", "Resumed", "said_in"]

How = Literal["exact", "replayed", "rebuilt", "read again"]


@dataclass(frozen=True, slots=True)
class Resumed:
    """How a chat went on with its session.

    n_turns: it had. used: when its last record was made, unix seconds. how: "exact", "replayed" (n_replayed turns were
    decoded again), "rebuilt" (what was resident was) or "read again" (only its text was left, or this is another
    model). n_left_out: tokens that were recalled in the replayed turns and are nowhere now. unsent: what the user said
    and got no reply to.
    """

    name: str
    n_turns: int
    used: float
    how: How
    n_replayed: int = 0
    n_left_out: int = 0
    unsent: tuple[str, ...] = ()


def said_in(stored: Stored) -> tuple[StoredMessage, ...]:
    """The messages of a session's path, in order, without those that were forgotten whole: a row stands for them."""
    unsaid = frozenset(stored.state["chat"]["unsaid"]) if stored.state else frozenset()
    return tuple(row for row in stored.path if row.message.id not in unsaid)
