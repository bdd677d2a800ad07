"""What matching needs to know of earlier requests."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from edge_sir.server.incoming import Said
from edge_sir.server.normal import chained, mark_of
from edge_sir.store.nodes import NewNode, Node, Served

__all__ = ["MOST", "Known", "linked"]

MOST = 32
"""How many messages one look-up gives at most."""


class Known(Protocol):
    """Look-ups, none of which takes longer the more sessions there are."""

    def by_chain(self, space: bytes, chain: bytes) -> Sequence[Node]:
        """The newest MOST messages of that chain, newest first."""

    def replies(self, space: bytes, content: bytes) -> Sequence[Node]:
        """Replies of that content, the oldest of each chain, at most MOST + 1 of them."""

    def named(self, name: bytes) -> Node | None:
        """The message that a client's id names."""

    def node(self, id: int) -> Node | None:
        """A message."""

    def served(self, session: int) -> Served | None:
        """The session that a message belongs to."""


def linked(chain: bytes, said: Iterable[tuple[int, Said]]) -> list[NewNode]:
    """Messages, each with its number in the session's transcript, as they are kept behind one with that chain."""
    new = []
    for number, message in said:
        mark = mark_of(message)
        chain = chained(chain, mark.content)
        new.append(NewNode(mark.role, mark.content, mark.n_chars, chain, number))
    return new
