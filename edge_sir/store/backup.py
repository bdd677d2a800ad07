"""A copy of a state folder that opens as one, taken while sessions are open."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from edge_sir.errors import ConfigError, DamagedError
from edge_sir.store.database import Database
from edge_sir.store.failures import reporting
from edge_sir.store.files import FILE_MODE, FOLDER_MODE, TEMPORARY
from edge_sir.store.layout import Layout

__all__ = ["back_up", "check_target"]


def back_up(database: Database, target: Path) -> Path:
    """Copies the database, then the files that its rows name; the database gets its name last. Returns the folder.

    Raises ConfigError if `target` holds anything, StoreError if it cannot be written; DamagedError, with nothing left
    in `target`, if the database cannot be read.
    """
    target = check_target(target)
    with reporting(target):
        layout, files = Layout(target), database.files
        for folder in (target, *layout.folders):
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        temporary = layout.database.with_name(layout.database.name + TEMPORARY)
        try:
            _copy_database(database, temporary)
        except DamagedError:
            files.remove([temporary])
            for folder in layout.folders:
                folder.rmdir()
            raise
        _mend_index(temporary)
        _copy_files(database, layout, temporary)
        files.rename(temporary, layout.database)
        files.sync_folder(target)
    return target


def check_target(target: Path) -> Path:
    """The folder's absolute path. Raises ConfigError if it holds anything."""
    with reporting(target):
        target = target.expanduser().absolute()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"{target} exists and is no empty folder; back up to a new one")
    return target


def _copy_database(database: Database, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))  # SQLite fills an empty file
    with database.reading() if database.read_only else database.alone() as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


def _mend_index(copy: Path) -> None:
    """The index of words is made anew if it does not fit the messages: those have all that is in it."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        command = "INSERT INTO messages_fts (messages_fts{}) VALUES ({})"
        try:
            connection.execute(command.format(", rank", "'integrity-check', 1"))
        except sqlite3.DatabaseError:
            connection.execute(command.format("", "'rebuild'"))


def _copy_files(database: Database, layout: Layout, copy: Path) -> None:
    """A file that was replaced since the rows were copied, or is missing, loses its row in the copy."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # nobody reads the copy yet
        for table, place in (("snapshots", Layout.snapshot), ("blobs", Layout.blob)):
            for session, number in connection.execute(f"SELECT session, number FROM {table}").fetchall():
                try:
                    data = database.files.read(place(database.layout, session, number))
                except FileNotFoundError:
                    connection.execute(f"DELETE FROM {table} WHERE session = ? AND number = ?", (session, number))
                else:
                    database.files.put(place(layout, session, number), (data,))
    database.files.sync_file(copy)
