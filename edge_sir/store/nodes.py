"""What the server knows sessions by: digests of what was said in them, never its text.

Each session has a tree of its own; a fork copies the path that it goes on from, so that either can be removed. All
functions are parts of a transaction, or read. Digests are bytes [16].
"""

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = [
    "NewNode",
    "Node",
    "Served",
    "add",
    "begin",
    "by_chain",
    "by_id",
    "by_name",
    "clear",
    "forget",
    "fork",
    "name",
    "numbered",
    "owned",
    "path",
    "renumber",
    "replies",
    "served",
    "set_prompt",
    "set_tip",
    "sharing",
    "unname",
    "unserved",
]

_COLUMNS = "id, session, parent, role, content, n_chars, chain, n_replies, number"


@dataclass(frozen=True, slots=True)
class NewNode:
    """A message to add. content: what it is compared by; n_chars: how much of it that is.

    chain: of it and all before it. number: of the message in the session's transcript.
    """

    role: str
    content: bytes | None
    n_chars: int
    chain: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Node:
    """A message that was said in a session. parent: id of the one before, None at the beginning.

    content: None once it was forgotten; n_chars is 0 then. n_replies: on its path, itself included.
    """

    id: int
    session: int
    parent: int | None
    role: str
    content: bytes | None
    n_chars: int
    chain: bytes
    n_replies: int
    number: int


@dataclass(frozen=True, slots=True)
class Served:
    """A session that the server made. space: where requests look for it. exact, masked: of its system prompt.

    tip: id of the last message that the session holds, None before the first. owner: whose it is.
    """

    session: int
    space: bytes
    exact: bytes
    masked: bytes
    tip: int | None
    owner: bytes = b""


# ---- looking up --------------------------------------------------------------------------------


def by_id(connection: sqlite3.Connection, id: int) -> Node | None:
    """None if there is none."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM nodes WHERE id = ?", (id,)).fetchone()
    return None if row is None else Node(*row)


def by_chain(connection: sqlite3.Connection, space: bytes, chain: bytes, most: int) -> list[Node]:
    """Newest first."""
    query = f"SELECT {_COLUMNS} FROM nodes WHERE space = ? AND chain = ? ORDER BY id DESC LIMIT ?"
    return [Node(*row) for row in connection.execute(query, (space, chain, most))]


def replies(connection: sqlite3.Connection, space: bytes, content: bytes, most: int) -> list[Node]:
    """Replies of that content, the oldest of each chain: from one chain to the next, however many have the same."""
    query = (
        f"SELECT {_COLUMNS} FROM nodes WHERE space = ? AND content = ? AND role = 'assistant' AND chain > ?"
        " ORDER BY chain, id LIMIT 1"
    )
    found: list[Node] = []
    while len(found) < most:
        row = connection.execute(query, (space, content, found[-1].chain if found else b"")).fetchone()
        if row is None:
            break
        found.append(Node(*row))
    return found


def by_name(connection: sqlite3.Connection, name: bytes) -> Node | None:
    """The message that a client's id names."""
    row = connection.execute("SELECT node FROM node_names WHERE name = ?", (name,)).fetchone()
    return None if row is None else by_id(connection, row[0])


def served(connection: sqlite3.Connection, session: int) -> Served | None:
    """None for a session that the server did not make."""
    row = connection.execute(
        "SELECT session, space, exact, masked, tip, owner FROM served WHERE session = ?", (session,)
    ).fetchone()
    return None if row is None else Served(*row)


def owned(connection: sqlite3.Connection, owner: bytes | None) -> list[int]:
    """The sessions that are the server's and that owner's, None for anybody's."""
    where = "" if owner is None else " WHERE owner = ?"
    rows = connection.execute(f"SELECT session FROM served{where}", () if owner is None else (owner,))
    return [session for (session,) in rows]


def numbered(connection: sqlite3.Connection, session: int, numbers: Sequence[int]) -> list[Node]:
    """The messages of a session that have these numbers, oldest first."""
    marks = ", ".join("?" * len(numbers))
    query = f"SELECT {_COLUMNS} FROM nodes WHERE session = ? AND number IN ({marks}) ORDER BY id"
    return [Node(*row) for row in connection.execute(query, (session, *numbers))]


def sharing(connection: sqlite3.Connection, space: bytes, chain: bytes) -> list[int]:
    """All sessions that hold a message of that chain."""
    rows = connection.execute("SELECT DISTINCT session FROM nodes WHERE space = ? AND chain = ?", (space, chain))
    return [session for (session,) in rows]


def unserved(connection: sqlite3.Connection, prefix: str) -> list[str]:
    """Names of sessions that begin so, of which neither the server nor anybody else has said anything."""
    where = "record = 0 AND unsent = '[]' AND substr(name, 1, ?) = ? AND id NOT IN (SELECT session FROM served)"
    rows = connection.execute(f"SELECT name FROM sessions WHERE {where}", (len(prefix), prefix))
    return [name for (name,) in rows]


def path(connection: sqlite3.Connection, id: int) -> list[Node]:
    """From the beginning to that message."""
    nodes = []
    at: int | None = id
    while at is not None and (node := by_id(connection, at)) is not None:
        nodes.append(node)
        at = node.parent
    return nodes[::-1]


# ---- writing -----------------------------------------------------------------------------------


def begin(
    connection: sqlite3.Connection, session: int, space: bytes, exact: bytes, masked: bytes, owner: bytes = b""
) -> None:
    """A session of the store is the server's from here on; nothing was said in it."""
    connection.execute(
        "INSERT INTO served (session, space, exact, masked, owner) VALUES (?, ?, ?, ?, ?)",
        (session, space, exact, masked, owner),
    )


def add(connection: sqlite3.Connection, session: int, after: int | None, new: Iterable[NewNode]) -> list[int]:
    """Puts messages behind one of the session's, None for its beginning; the last is the tip. Returns their ids.

    Raises ValueError if the session has no such message.
    """
    owner = served(connection, session)
    last = None if after is None else by_id(connection, after)
    if owner is None or (after is not None and (last is None or last.session != session)):
        raise ValueError(f"the session {session} has no message {after}")
    parent, n_replies = after, 0 if last is None else last.n_replies
    ids = []
    for node in new:
        n_replies += node.role == "assistant"
        row = (session, owner.space, parent, node.role, node.content, node.n_chars, node.chain, n_replies, node.number)
        parent = connection.execute(
            "INSERT INTO nodes (session, space, parent, role, content, n_chars, chain, n_replies, number)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        ).lastrowid
        assert parent is not None
        ids.append(parent)
    if ids:
        set_tip(connection, session, ids[-1])
    return ids


def fork(connection: sqlite3.Connection, session: int, node: int) -> int:
    """Copies the path to a message of another session into one that was just begun; the tip, which is its copy."""
    copied = path(connection, node)
    if not copied:
        raise ValueError(f"there is no message {node}")
    new = [NewNode(n.role, n.content, n.n_chars, n.chain, n.number) for n in copied]
    return add(connection, session, None, new)[-1]


def renumber(connection: sqlite3.Connection, node: int, number: int) -> None:
    """The message was read again, and has another number in the transcript."""
    connection.execute("UPDATE nodes SET number = ? WHERE id = ?", (number, node))


def set_tip(connection: sqlite3.Connection, session: int, tip: int | None) -> None:
    """The session holds all up to that message, and nothing after it."""
    connection.execute("UPDATE served SET tip = ? WHERE session = ?", (tip, session))


def set_prompt(connection: sqlite3.Connection, session: int, exact: bytes, masked: bytes) -> None:
    """The session has read another system prompt."""
    connection.execute("UPDATE served SET exact = ?, masked = ? WHERE session = ?", (exact, masked, session))


def name(connection: sqlite3.Connection, name: bytes, node: int) -> None:
    """A client will name that message so; a name stands for the last message that it was given to."""
    connection.execute("INSERT OR REPLACE INTO node_names (name, node) VALUES (?, ?)", (name, node))


def forget(connection: sqlite3.Connection, session: int, numbers: Sequence[int]) -> None:
    """Removes the digests of messages of these numbers, and of what follows: a short text can be guessed from them.

    What follows is still found by its own contents. The caller scrubs.
    """
    blank = set(numbers)
    broken: set[int | None] = set()
    for row in connection.execute(f"SELECT {_COLUMNS} FROM nodes WHERE session = ? ORDER BY id", (session,)).fetchall():
        node = Node(*row)
        if node.number not in blank and node.parent not in broken:
            continue
        broken.add(node.id)
        if node.number in blank:
            node = replace(node, content=None, n_chars=0)
        connection.execute(
            "UPDATE nodes SET content = ?, n_chars = ?, chain = ? WHERE id = ?",
            (node.content, node.n_chars, secrets.token_bytes(16), node.id),
        )


def unname(connection: sqlite3.Connection, name: bytes) -> bool:
    """The name stands for no message any more; whether it did."""
    return connection.execute("DELETE FROM node_names WHERE name = ?", (name,)).rowcount > 0


def clear(connection: sqlite3.Connection, session: int) -> None:
    """The session begins anew: nothing leads to what was said in it."""
    connection.execute("DELETE FROM nodes WHERE session = ?", (session,))
    set_tip(connection, session, None)
