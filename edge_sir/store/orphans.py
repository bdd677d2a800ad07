"""Files that no row names: of writes that were cut short, and of removals."""

from pathlib import Path

from edge_sir.store.database import Database
from edge_sir.store.failures import reporting

__all__ = ["orphans", "remove_orphans"]


def orphans(database: Database, session: int | None = None) -> list[Path]:
    """Snapshots and blobs that no row names, of one session or all. Raises StoreError."""
    layout = database.layout
    with database.reading() as connection:
        named = {layout.snapshot(*row) for row in connection.execute("SELECT session, number FROM snapshots")}
        named |= {layout.blob(*row) for row in connection.execute("SELECT session, number FROM blobs")}
    with reporting(layout.root):
        return sorted(path for _, path in layout.files(session) if path not in named)


def remove_orphans(database: Database, session: int | None = None) -> None:
    """Removes those of a session that this process has locked, durably, or those of sessions that were removed.

    Raises StoreError.
    """
    if session is not None:
        database.files.remove(orphans(database, session), durably=True)
        return
    with reporting(database.layout.root):
        # Before the sessions, so that a new one's files are not taken for an old one's.
        found = list(database.layout.files())
    with database.reading() as connection:
        there = {id for (id,) in connection.execute("SELECT id FROM sessions")}
    database.files.remove(path for id, path in found if id not in there)
