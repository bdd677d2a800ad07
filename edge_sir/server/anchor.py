"""Whether a message that is known is the one that a client means, by the replies before it.

Clients send our replies back nearly as they were. What is around them changes: texts that a search put into the
user's message are left out later, notes move, the front is cut off where the context seems full.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edge_sir.server.normal import Mark
from edge_sir.store.nodes import Node

__all__ = ["Agreement", "Round", "Tolerated", "agreement", "rounds_of"]

Tolerated = Literal["missing front", "changed messages", "changed notes"]

_ENOUGH = 80  # characters that two conversations do not share by chance


@dataclass(frozen=True, slots=True)
class Round:
    """A reply and what came before it, back to the last one. end: messages up to the reply, itself included."""

    before: tuple[Mark, ...]
    reply: Mark
    end: int


@dataclass(slots=True)
class Agreement:
    """How a path agrees with what a client sent. n: replies that do.

    shared: characters of each content that agrees, by content; of these, `replied` has the replies.
    """

    n: int = 0
    is_front_missing: bool = False
    n_changed: int = 0
    are_notes_changed: bool = False
    replied: dict[bytes, int] = field(default_factory=dict)
    shared: dict[bytes, int] = field(default_factory=dict)

    @property
    def is_enough(self) -> bool:
        """Whether no other conversation is like that.

        Two short replies are enough only where all that was said between them agrees, too.
        """
        if sum(self.replied.values()) >= _ENOUGH:
            return True
        return not self.n_changed and len(self.replied) > 1 and sum(self.shared.values()) >= _ENOUGH

    @property
    def rank(self) -> tuple[bool, bool]:
        """The least is the best: among paths that agree, one whose beginning and user messages do, too."""
        return self.is_front_missing, self.n_changed > 0

    @property
    def tolerated(self) -> tuple[Tolerated, ...]:
        """What does not agree and is let pass."""
        found: dict[Tolerated, bool] = {
            "missing front": self.is_front_missing,
            "changed messages": self.n_changed > 0,
            "changed notes": self.are_notes_changed,
        }
        return tuple(what for what, is_so in found.items() if is_so)


def rounds_of(marks: Sequence[Mark]) -> list[Round]:
    """Up to the last reply."""
    rounds, begin = [], 0
    for i, mark in enumerate(marks):
        if mark.role == "assistant":
            rounds.append(Round(tuple(marks[begin:i]), mark, i + 1))
            begin = i + 1
    return rounds


def agreement(rounds: Sequence[Round], node: Node, parent_of: Callable[[Node], Node | None]) -> Agreement | int:
    """How the path to a reply agrees with rounds of which that is the last.

    The path may begin earlier, and never later. Where a reply differs: the index of the round whose reply it is.
    """
    found = Agreement()
    path = _rounds_back(node, parent_of)
    for i in range(len(rounds) - 1, -1, -1):
        theirs = rounds[i]
        reply, before = next(path, (None, ()))
        if reply is None or reply.content not in (None, theirs.reply.content):
            return i
        found.n += 1
        if reply.content is not None:
            found.replied[reply.content] = found.shared[reply.content] = reply.n_chars
        found.is_front_missing = i == 0 and (reply.n_replies > 1 or _is_cut(theirs.before, before))
        if not found.is_front_missing:
            _compare(found, theirs.before, before)
    return found


def _is_cut(theirs: Sequence[Mark], ours: Sequence[Node]) -> bool:
    """Whether only the beginning is missing of what was said before the first reply."""
    said, known = _said(theirs), _said(ours)
    return len(said) < len(known) and said == known[len(known) - len(said) :]


def _compare(found: Agreement, theirs: Sequence[Mark], ours: Sequence[Node]) -> None:
    """What was said between two replies; notes are system messages, which clients move about."""
    said, notes = _said(theirs) == _said(ours), _notes(theirs) == _notes(ours)
    if said:
        found.shared.update((mark.content, mark.n_chars) for mark in theirs if mark.role != "system")
        notes = [mark.content for mark in theirs] == [node.content for node in ours]  # also where they stand
    found.n_changed += not said
    found.are_notes_changed |= not notes


def _said(messages: Sequence[Mark | Node]) -> list[bytes | None]:
    return [message.content for message in messages if message.role != "system"]


def _notes(messages: Sequence[Mark | Node]) -> list[bytes | None]:
    return [message.content for message in messages if message.role == "system"]


def _rounds_back(node: Node, parent_of: Callable[[Node], Node | None]) -> Iterator[tuple[Node, list[Node]]]:
    """Replies from this one back to the beginning, each with what came before it."""
    at: Node | None = node
    while at is not None:
        reply, before = at, list[Node]()
        at = parent_of(reply)
        while at is not None and at.role != "assistant":
            before.insert(0, at)
            at = parent_of(at)
        yield reply, before
