"""Snapshots: a file each, outside the database, and a row that says what must be in it."""

import json
import sqlite3
from collections.abc import Sequence

from edge_sir.errors import StoreError
from edge_sir.store.checksums import digest, is_intact
from edge_sir.store.database import Database, Transaction
from edge_sir.store.failures import decoding, reporting
from edge_sir.store.layout import Layout
from edge_sir.store.values import Snapshot, SnapshotRow

__all__ = ["ALL_THE_SAME", "add_row", "drop", "put_file", "read", "rows"]

ALL_THE_SAME = "the next chat goes on without it, from an older one or from the text"
"""What a person who hears of a snapshot that cannot be used has to do: nothing."""

_N_KEPT = 2


def put_file(database: Database, session: int, snapshot: Snapshot) -> int:
    """Writes the file, durable on return, and gives its number. Without a row it counts for nothing."""
    with database.reading() as connection:
        (number,) = connection.execute("SELECT next_file FROM sessions WHERE id = ?", (session,)).fetchone()
        path = database.layout.snapshot(session, number)
        with reporting(path):
            database.files.put(path, snapshot.parts)
    return int(number)


def add_row(
    transaction: Transaction, layout: Layout, session: int, number: int, snapshot: Snapshot, now: float
) -> None:
    """The file counts from now on; the last two are kept."""
    parts = [(len(part), digest(part).hex()) for part in snapshot.parts]
    n_bytes = sum(map(len, snapshot.parts))
    transaction.connection.execute(
        "INSERT INTO snapshots (session, number, record, fingerprint, made, n_bytes, parts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (session, number, snapshot.record, snapshot.fingerprint, now, n_bytes, json.dumps(parts)),
    )
    transaction.connection.execute("UPDATE sessions SET next_file = ? WHERE id = ?", (number + 1, session))
    drop(transaction, layout, session, _N_KEPT)


def drop(transaction: Transaction, layout: Layout, session: int, n_kept: int = 0) -> None:
    """Removes all but the newest `n_kept`."""
    numbers = "SELECT number FROM snapshots WHERE session = ? ORDER BY number DESC LIMIT -1 OFFSET ?"
    for (number,) in transaction.connection.execute(numbers, (session, n_kept)).fetchall():
        transaction.connection.execute("DELETE FROM snapshots WHERE session = ? AND number = ?", (session, number))
        transaction.doomed.append(layout.snapshot(session, number))


def rows(connection: sqlite3.Connection, session: int) -> list[SnapshotRow]:
    """Newest first."""
    columns = "number, record, fingerprint, made, n_bytes"
    found = connection.execute(f"SELECT {columns} FROM snapshots WHERE session = ? ORDER BY number DESC", (session,))
    return [SnapshotRow(*row) for row in found]


def read(database: Database, session: int, row: SnapshotRow) -> tuple[bytes, ...]:
    """A snapshot's parts. Raises StoreError if it is missing, damaged or none of this session's."""
    path = database.layout.snapshot(session, row.number)
    with database.reading() as connection, decoding(database.layout.database):
        found = connection.execute(
            "SELECT parts FROM snapshots WHERE session = ? AND number = ?", (session, row.number)
        ).fetchone()
        expected = [(int(size), bytes.fromhex(digest)) for size, digest in json.loads(found[0])] if found else None
    if expected is None:
        raise StoreError(f"{path} is no snapshot of this session any more; take a newer one")
    with reporting(path):
        data = database.files.read(path)
    return _checked(str(path), data, expected)


def _checked(path: str, data: bytes, expected: Sequence[tuple[int, bytes]]) -> tuple[bytes, ...]:
    view, parts, at = memoryview(data), [], 0
    for size, its_digest in expected:
        part = view[at : at + size]
        if len(part) != size or not is_intact(part, its_digest):
            raise StoreError(f"the snapshot {path} is damaged; {ALL_THE_SAME}")
        parts.append(bytes(part))
        at += size
    if at != len(data):
        raise StoreError(f"the snapshot {path} is damaged; {ALL_THE_SAME}")
    return tuple(parts)
