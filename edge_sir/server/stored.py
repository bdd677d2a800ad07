"""What is known of earlier requests, in the state folder's database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from sqlite3 import Connection

from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.known import MOST, linked
from edge_sir.server.normal import ROOT, name_of, owner_of, prompt_of, space_of
from edge_sir.store import nodes
from edge_sir.store.database import Database
from edge_sir.store.failures import decoding
from edge_sir.store.nodes import Node, Served

__all__ = ["StoredKnown"]


class StoredKnown:
    """`Known` over the state folder's database, which also takes what is to be known later.

    Each method that writes is a transaction, durable on return; `edge_sir.store.nodes` has the parts, for those who
    write more in the same one. All raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._database.reading() as connection, decoding(self._database.layout.database):
            yield connection

    # ---- looking up ----------------------------------------------------------------------------

    def by_chain(self, space: bytes, chain: bytes) -> Sequence[Node]:
        """See `Known`."""
        with self._reading() as connection:
            return nodes.by_chain(connection, space, chain, MOST)

    def replies(self, space: bytes, content: bytes) -> Sequence[Node]:
        """See `Known`."""
        with self._reading() as connection:
            return nodes.replies(connection, space, content, MOST + 1)

    def named(self, name: bytes) -> Node | None:
        """See `Known`."""
        with self._reading() as connection:
            return nodes.by_name(connection, name)

    def node(self, id: int) -> Node | None:
        """See `Known`."""
        with self._reading() as connection:
            return nodes.by_id(connection, id)

    def served(self, session: int) -> Served | None:
        """See `Known`."""
        with self._reading() as connection:
            return nodes.served(connection, session)

    # ---- noting --------------------------------------------------------------------------------

    def begin(self, session: int, incoming: Incoming, fork_of: Node | None = None) -> int | None:
        """A session of the store was made for a request, to go on from a message of another one; its copy's id."""
        space, prompt = space_of(incoming.namespace, incoming.session_key), prompt_of(incoming.system, incoming.tools)
        with self._database.writing() as transaction:
            owner = owner_of(incoming.namespace)
            nodes.begin(transaction.connection, session, space, prompt.exact, prompt.masked, owner)
            return None if fork_of is None else nodes.fork(transaction.connection, session, fork_of.id)

    def add(self, session: int, after: int | None, said: Sequence[tuple[int, Said]]) -> list[int]:
        """The session holds these messages, each with its number in the transcript, behind that one; their ids."""
        with self._database.writing() as transaction:
            last = None if after is None else nodes.by_id(transaction.connection, after)
            new = linked(ROOT if last is None else last.chain, said)
            return nodes.add(transaction.connection, session, after, new)

    def set_tip(self, session: int, tip: int | None) -> None:
        """The session holds all up to that message, and nothing after it."""
        with self._database.writing() as transaction:
            nodes.set_tip(transaction.connection, session, tip)

    def set_prompt(self, session: int, incoming: Incoming) -> None:
        """The session has read this request's system prompt and tools."""
        prompt = prompt_of(incoming.system, incoming.tools)
        with self._database.writing() as transaction:
            nodes.set_prompt(transaction.connection, session, prompt.exact, prompt.masked)

    def name(self, namespace: str, node_key: str, node: int) -> None:
        """A client will name that message so."""
        with self._database.writing() as transaction:
            nodes.name(transaction.connection, name_of(namespace, node_key), node)

    def forget(self, session: int, numbers: Sequence[int]) -> None:
        """Nothing on disk tells any more what messages of these numbers said."""
        with self._database.writing() as transaction:
            transaction.scrubs = True
            nodes.forget(transaction.connection, session, numbers)

    def clear(self, session: int) -> None:
        """The session begins anew."""
        with self._database.writing() as transaction:
            nodes.clear(transaction.connection, session)
