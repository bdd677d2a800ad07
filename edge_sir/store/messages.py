"""Messages as rows: each hangs on the one before it, and its hash covers all of them, so a branch is a few rows."""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping

from edge_sir.errors import DamagedError
from edge_sir.memory.transcript import Message
from edge_sir.store.failures import VERIFY
from edge_sir.store.folding import fold, to_utf8
from edge_sir.store.values import StoredMessage

__all__ = ["add", "all_of", "broken_links", "copy_path", "drop_all", "first_said", "path_of", "reword", "take_back"]

_ROOT = bytes(32)
_COLUMNS = (
    "m.id, parent, m.conversation, m.conversation = s.conversation AND NOT taken_back, said, turn, role, text, number"
)
_FROM = "FROM messages m JOIN sessions s ON s.id = m.session WHERE m.session = ?"


def _hash(parent: bytes, role: str, text: str) -> bytes:
    return hashlib.sha256(b"\0".join((parent, role.encode(), text.encode()))).digest()


def _folded(text: str) -> str | None:
    return None if text.isascii() and "\0" not in text else fold(text)


def take_back(connection: sqlite3.Connection, session: int, conversation: int, n_kept: int) -> None:
    """The path keeps its first `n_kept` messages."""
    connection.execute(
        "UPDATE messages SET taken_back = 1 WHERE session = ? AND conversation = ? AND depth >= ? AND NOT taken_back",
        (session, conversation, n_kept),
    )


def add(
    connection: sqlite3.Connection,
    session: int,
    conversation: int,
    n_kept: int,
    messages: Iterable[Message],
    said: float,
) -> None:
    """Puts messages at the end of a path of `n_kept`. Raises ValueError if it is shorter."""
    parent, parent_hash = None, _ROOT
    if n_kept:
        last = connection.execute(
            "SELECT id, hash FROM messages WHERE session = ? AND conversation = ? AND depth = ? AND NOT taken_back",
            (session, conversation, n_kept - 1),
        ).fetchone()
        if last is None:
            raise ValueError(f"the path has no {n_kept} messages")
        parent, parent_hash = last
        if not isinstance(parent_hash, bytes):
            raise DamagedError(f"the database is damaged (row {parent} of messages)", VERIFY)
    new: list[tuple[int, str]] = []
    for depth, message in enumerate(messages, n_kept):
        role, text = to_utf8(message.role), to_utf8(message.text)
        parent_hash = _hash(parent_hash, role, text)
        row = (session, conversation, depth, parent, message.id, message.turn, role, said, parent_hash, text)
        parent = connection.execute(
            "INSERT INTO messages (session, conversation, depth, parent, number, turn, role, said, hash, text, folded)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, _folded(text)),
        ).lastrowid
        assert parent is not None
        new.append((parent, text))
    for id, text in new:  # last: any statement that may be undone alone would write the index once more
        _index(connection, id, text)


def copy_path(connection: sqlite3.Connection, source: int, target: int, last: int) -> None:
    """Copies the present path of a session, up to the message of that number, into one in which nothing was said."""
    found = connection.execute(
        f"SELECT m.conversation, depth, number, turn, role, said, hash, text, folded {_FROM}"
        " AND m.conversation = s.conversation AND NOT taken_back AND number <= ? ORDER BY depth",
        (source, last),
    ).fetchall()
    parent, new = None, []
    for conversation, depth, number, turn, role, said, hash, text, folded in found:
        parent = connection.execute(
            "INSERT INTO messages (session, conversation, depth, parent, number, turn, role, said, hash, text, folded)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (target, conversation, depth, parent, number, turn, role, said, hash, text, folded),
        ).lastrowid
        assert parent is not None
        new.append((parent, text))
    for id, text in new:
        _index(connection, id, text)


def _index(connection: sqlite3.Connection, row: int, text: str) -> None:
    folded = _folded(text)
    connection.execute(
        "INSERT INTO messages_fts (rowid, folded) VALUES (?, ?)", (row, text if folded is None else folded)
    )


def _unindex(connection: sqlite3.Connection, row: int, text: str, folded: str | None) -> None:
    connection.execute(
        "INSERT INTO messages_fts (messages_fts, rowid, folded) VALUES ('delete', ?, ?)",
        (row, text if folded is None else folded),
    )


def _scrub_index(connection: sqlite3.Connection) -> None:
    """A deletion is only noted in the index; merging all of it takes the letters out."""
    connection.execute("INSERT INTO messages_fts (messages_fts) VALUES ('optimize')")


# ---- reading -----------------------------------------------------------------------------------


def path_of(connection: sqlite3.Connection, session: int) -> tuple[StoredMessage, ...]:
    """The present path, from its beginning."""
    where = "AND m.conversation = s.conversation AND NOT taken_back ORDER BY depth"
    return tuple(map(_message, connection.execute(f"SELECT {_COLUMNS} {_FROM} {where}", (session,))))


def first_said(connection: sqlite3.Connection, session: int) -> str:
    """What the user said first on the present path, "" if nothing."""
    where = "AND m.conversation = s.conversation AND NOT taken_back AND role = 'user' ORDER BY depth LIMIT 1"
    row = connection.execute(f"SELECT text {_FROM} {where}", (session,)).fetchone()
    return "" if row is None else str(row[0])


def all_of(connection: sqlite3.Connection, session: int) -> list[StoredMessage]:
    """All rows, oldest first."""
    return [_message(row) for row in connection.execute(f"SELECT {_COLUMNS} {_FROM} ORDER BY m.id", (session,))]


def _message(row: tuple[int, int | None, int, int, float, int, str, str, int]) -> StoredMessage:
    id, parent, conversation, on_path, said, turn, role, text, number = row
    return StoredMessage(id, parent, conversation, bool(on_path), said, Message(turn, role, text, number))


def broken_links(connection: sqlite3.Connection, session: int) -> list[int]:
    """Rows whose hash is not what they and the one before them give, or that hang on none of this session."""
    hashes: dict[int | None, tuple[bytes, int, int]] = {}
    broken = []
    rows = "SELECT id, parent, conversation, depth, role, text, hash FROM messages WHERE session = ? ORDER BY id"
    for id, parent, conversation, depth, role, text, found in connection.execute(rows, (session,)):
        before, its_conversation, its_depth = hashes.get(parent, (b"", 0, 0))
        if parent is None:
            before, its_conversation, its_depth = _ROOT, conversation, -1
        if found != _hash(before, role, text) or (conversation, depth) != (its_conversation, its_depth + 1):
            broken.append(id)
        hashes[id] = found, conversation, depth
    return broken


# ---- removing ----------------------------------------------------------------------------------


def reword(connection: sqlite3.Connection, session: int, texts: Mapping[int, str]) -> list[int]:
    """Gives rows other texts; what hangs on them gets new hashes, since the old ones would give short texts away.

    Returns the rows that are none of this session's.
    """
    if not texts:
        return []
    changed: dict[int | None, bytes] = {}
    rows = "SELECT id, parent, role, text, folded, hash FROM messages WHERE session = ? ORDER BY id"
    hashes: dict[int | None, bytes] = {None: _ROOT}
    for id, parent, role, text, folded, found in connection.execute(rows, (session,)).fetchall():
        new = to_utf8(texts.get(id, text))
        hashes[id] = found
        if id in texts or parent in changed:
            hashes[id] = changed[id] = _hash(hashes[parent], role, new)
            connection.execute("UPDATE messages SET hash = ? WHERE id = ?", (changed[id], id))
        if id in texts:
            _unindex(connection, id, text, folded)
            connection.execute("UPDATE messages SET text = ?, folded = ? WHERE id = ?", (new, _folded(new), id))
            _index(connection, id, new)
    _scrub_index(connection)
    return sorted(set(texts) - set(changed))


def drop_all(connection: sqlite3.Connection, session: int) -> None:
    """Removes all messages of a session, from the index, too."""
    rows = connection.execute("SELECT id, text, folded FROM messages WHERE session = ?", (session,)).fetchall()
    for id, text, folded in rows:
        _unindex(connection, id, text, folded)
    connection.execute("DELETE FROM messages WHERE session = ?", (session,))
    _scrub_index(connection)
