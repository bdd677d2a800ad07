"""Cells of archived pieces on disk: a file each, and a row that says what must be in it."""

import sqlite3
from collections.abc import Iterable, Mapping

from edge_sir.store.checksums import digest, is_intact
from edge_sir.store.database import Database, Transaction
from edge_sir.store.failures import reporting
from edge_sir.store.layout import Layout

__all__ = ["drop", "keys", "put", "read"]


def put(database: Database, session: int, blobs: Mapping[int, bytes]) -> None:
    """Writes blobs, durable on return, in place of earlier ones."""
    layout = database.layout
    with database.reading() as connection:
        (first,) = connection.execute("SELECT next_file FROM sessions WHERE id = ?", (session,)).fetchone()
        for number, blob in enumerate(blobs.values(), first):
            with reporting(layout.blob(session, number)):
                database.files.put(layout.blob(session, number), (blob,))
    with database.writing() as transaction:
        drop(transaction, layout, session, blobs)
        transaction.connection.executemany(
            "INSERT INTO blobs (session, key, number, n_bytes, digest) VALUES (?, ?, ?, ?, ?)",
            [(session, key, n, len(blob), digest(blob)) for n, (key, blob) in enumerate(blobs.items(), first)],
        )
        transaction.connection.execute("UPDATE sessions SET next_file = ? WHERE id = ?", (first + len(blobs), session))


def drop(transaction: Transaction, layout: Layout, session: int, keys: Iterable[int] | None) -> None:
    """Removes those of these keys, or with None all."""
    connection = transaction.connection
    if keys is None:
        numbers = connection.execute("SELECT number FROM blobs WHERE session = ?", (session,)).fetchall()
        connection.execute("DELETE FROM blobs WHERE session = ?", (session,))
    else:
        numbers = []
        for key in keys:
            where = "session = ? AND key = ?"
            numbers += connection.execute(f"SELECT number FROM blobs WHERE {where}", (session, key)).fetchall()
            connection.execute(f"DELETE FROM blobs WHERE {where}", (session, key))
    transaction.doomed += [layout.blob(session, number) for (number,) in numbers]


def keys(connection: sqlite3.Connection, session: int) -> list[int]:
    """Of all blobs."""
    return [key for (key,) in connection.execute("SELECT key FROM blobs WHERE session = ? ORDER BY key", (session,))]


def read(database: Database, session: int, key: int) -> bytes | None:
    """A blob, or None if there is none or it is damaged."""
    with database.reading() as connection:
        row = connection.execute(
            "SELECT number, n_bytes, digest FROM blobs WHERE session = ? AND key = ?", (session, key)
        ).fetchone()
        if row is None:
            return None
        number, size, expected = row
        try:
            blob = database.files.read(database.layout.blob(session, number))
        except OSError:
            return None
    return blob if len(blob) == size and is_intact(blob, expected) else None
