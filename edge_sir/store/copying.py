"""Copies a session up to a message: rows are copied, files get a second name where the file system knows such."""

from edge_sir.store import messages
from edge_sir.store.database import Database, Transaction
from edge_sir.store.failures import reporting

__all__ = ["copy_into"]

_ROWS = {
    "records": "number, conversation, made, changes, entries",
    "pieces": "key, body",
    "snapshots": "number, record, fingerprint, made, n_bytes, parts",
    "blobs": "key, number, n_bytes, digest",
}


def copy_into(transaction: Transaction, database: Database, source: int, target: int, last: int) -> None:
    """The session `target`, in which nothing is, becomes as `source`, whose cells it has.

    Of the messages it has those of the present path up to the one of the number `last`: whoever goes on with it takes
    back what came later. Its files are durable before the rows that speak of them. A file that is missing stays so.
    """
    connection = transaction.connection
    for table, columns in _ROWS.items():
        connection.execute(
            f"INSERT INTO {table} (session, {columns}) SELECT ?, {columns} FROM {table} WHERE session = ?",
            (target, source),
        )
    messages.copy_path(connection, source, target, last)
    connection.execute(
        "UPDATE sessions SET (n_turns, conversation, record, next_file, state) ="
        " (SELECT n_turns, conversation, record, next_file, state FROM sessions WHERE id = ?) WHERE id = ?",
        (source, target),
    )
    layout = database.layout
    with reporting(layout.root):
        for table, place in (("snapshots", layout.snapshot), ("blobs", layout.blob)):
            numbers = connection.execute(f"SELECT number FROM {table} WHERE session = ?", (target,)).fetchall()
            database.files.link([(place(source, number), place(target, number)) for (number,) in numbers])
