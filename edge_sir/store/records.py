"""A record: what one transaction adds to a session, and what a session is read from."""

import json
import sqlite3
from collections.abc import Sequence

from edge_sir.errors import ConfigError
from edge_sir.store import blobs, messages, snapshots
from edge_sir.store.database import Transaction
from edge_sir.store.failures import decoding
from edge_sir.store.layout import Layout
from edge_sir.store.packing import pack, unpack
from edge_sir.store.values import Forgotten, Record, Stored

__all__ = ["add", "changes_after", "drop_all", "missing_numbers", "note_unsent", "read"]


def add(transaction: Transaction, layout: Layout, session: int, record: Record, now: float) -> int:
    """Adds a record and returns its number. Raises ValueError for one that does not fit what is there."""
    connection = transaction.connection
    with decoding(layout.database):
        row = connection.execute("SELECT conversation, record FROM sessions WHERE id = ?", (session,)).fetchone()
        conversation, last = map(int, row)
    if record.cleared:
        if record.n_kept:
            raise ValueError("a conversation that begins keeps no messages")
        _clear(transaction, layout, session)
        conversation += 1
    connection.execute(
        "INSERT INTO records (session, number, conversation, made, changes, entries) VALUES (?, ?, ?, ?, ?, ?)",
        (session, last + 1, conversation, now, record.changes, pack(record.entries)),
    )
    _put_pieces(transaction, layout, session, record)
    messages.take_back(connection, session, conversation, record.n_kept)
    messages.add(connection, session, conversation, record.n_kept, record.messages, now)
    if record.forgotten is not None:
        _forget(transaction, layout, session, record.forgotten)
    state, unsent = json.dumps(dict(record.state)), json.dumps(list(record.unsent))
    connection.execute(
        "UPDATE sessions SET used = ?, n_turns = ?, conversation = ?, record = ?, state = ?, unsent = ? WHERE id = ?",
        (now, record.n_turns, conversation, last + 1, state, unsent, session),
    )
    return int(last) + 1


def _put_pieces(transaction: Transaction, layout: Layout, session: int, record: Record) -> None:
    transaction.connection.executemany(
        "INSERT OR REPLACE INTO pieces (session, key, body) VALUES (?, ?, ?)",
        [(session, key, body) for key, body in record.pieces.items()],
    )
    transaction.connection.executemany(
        "DELETE FROM pieces WHERE session = ? AND key = ?", [(session, key) for key in record.dropped]
    )
    blobs.drop(transaction, layout, session, (*record.dropped, *record.lost))


def _clear(transaction: Transaction, layout: Layout, session: int) -> None:
    """A conversation ends: its messages stay, what stood for its cells leaves."""
    for table in ("records", "pieces"):
        transaction.connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))
    blobs.drop(transaction, layout, session, None)
    snapshots.drop(transaction, layout, session)


def _forget(transaction: Transaction, layout: Layout, session: int, forgotten: Forgotten) -> None:
    connection = transaction.connection
    with decoding(layout.database):
        missing = messages.reword(connection, session, forgotten.texts)
    if missing:
        raise ValueError(f"no rows of this session: {missing}")
    rows = connection.execute("SELECT number, changes FROM records WHERE session = ? ORDER BY number", (session,))
    for number, changes in rows.fetchall():
        connection.execute(
            "UPDATE records SET changes = ?, entries = x'' WHERE session = ? AND number = ?",
            (forgotten.blank(changes), session, number),
        )
    connection.execute(
        "UPDATE records SET entries = ? WHERE session = ? AND number = ?", (pack(forgotten.entries), session, number)
    )
    snapshots.drop(transaction, layout, session)
    transaction.scrubs = True


def drop_all(transaction: Transaction, layout: Layout, session: int) -> None:
    """Removes all of a session."""
    _clear(transaction, layout, session)
    messages.drop_all(transaction.connection, session)
    transaction.connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
    transaction.scrubs = True


def read(connection: sqlite3.Connection, session: int) -> Stored:
    """What the session goes on from. Raises whatever a damaged value makes it raise."""
    row = connection.execute("SELECT state, unsent, record FROM sessions WHERE id = ?", (session,)).fetchone()
    if row is None:
        raise ConfigError("this session was removed; begin another")
    state, unsent, record = row
    packed = connection.execute("SELECT entries FROM records WHERE session = ? ORDER BY number", (session,))
    return Stored(
        path=messages.path_of(connection, session),
        entries=tuple(entry for (entries,) in packed for entry in unpack(entries)),
        pieces=dict(connection.execute("SELECT key, body FROM pieces WHERE session = ? ORDER BY key", (session,))),
        state=dict(json.loads(state)),
        unsent=tuple(map(str, json.loads(unsent))),
        record=record,
    )


def changes_after(connection: sqlite3.Connection, session: int, after: int) -> list[bytes]:
    """The changes of the records after that number, oldest first."""
    rows = "SELECT changes FROM records WHERE session = ? AND number > ? ORDER BY number"
    return [bytes(changes) for (changes,) in connection.execute(rows, (session, after))]


def missing_numbers(connection: sqlite3.Connection, session: int) -> list[int]:
    """Of records of the present conversation: they are numbered without a gap up to the session's last."""
    (last,) = connection.execute("SELECT record FROM sessions WHERE id = ?", (session,)).fetchone()
    numbers = {n for (n,) in connection.execute("SELECT number FROM records WHERE session = ?", (session,))}
    return sorted(set(range(min(numbers, default=last + 1), last + 1)) - numbers)


def note_unsent(connection: sqlite3.Connection, session: int, texts: Sequence[str]) -> None:
    """Keeps what got no reply yet."""
    connection.execute("UPDATE sessions SET unsent = ? WHERE id = ?", (json.dumps(list(texts)), session))
