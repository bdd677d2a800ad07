"""The connection to a state folder's database: how it is opened, written and brought up to date."""

import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_sir._owner import Owner
from edge_sir._shield import shield
from edge_sir.errors import ConfigError, StoreError
from edge_sir.store.failures import reporting
from edge_sir.store.files import FILE_MODE, Files
from edge_sir.store.layout import Layout
from edge_sir.store.locks import Lock
from edge_sir.store.migrations import APPLICATION, MIGRATIONS, migrate

__all__ = ["Database", "Transaction", "sqlite_warning"]

_OLDEST = (3, 37, 0)  # strict tables
_MENDED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))  # the bug of a write beside a checkpoint, by branch
_WAIT_S = 60.0  # for other processes' writes: a backup of a large database takes a while
_CHECKPOINT_BYTES = 4 << 20

# Durable at every commit. Temporary tables, which may hold what was said, never go to a file. Checkpoints are our own.
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",
    "checkpoint_fullfsync = ON",
    "wal_autocheckpoint = 0",
    "secure_delete = ON",
)
_PRAGMAS_OF_ALL = (
    "busy_timeout = 5000",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)


def sqlite_warning(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """What is to be said about Python's SQLite, "" for nothing."""
    number = ".".join(map(str, version))
    if version < _OLDEST:
        return f"SQLite {number} cannot hold sessions; use a Python with SQLite 3.37 or newer"
    if version >= _MENDED[0] or any(version[:2] == fixed[:2] and version >= fixed for fixed in _MENDED):
        return ""
    return (
        f"SQLite {number} may damage a database that two programs write at once; edge-sir lets one write at a time, "
        "so open its database in other programs for reading only"
    )


@dataclass(slots=True)
class Transaction:
    """What is written at once. doomed: files to remove once it is durable. scrubs: what was removed leaves the log."""

    connection: sqlite3.Connection
    doomed: list[Path] = field(default_factory=list)
    scrubs: bool = False


class Database:
    """One connection, for all threads of this process, one at a time; never used after os.fork.

    Writes and checkpoints of all processes take turns by a lock of the folder, see `sqlite_warning`.
    """

    def __init__(self, layout: Layout, files: Files, *, read_only: bool) -> None:
        """Opens it. Raises ConfigError for a database that is another program's or a newer edge-sir's; StoreError."""
        self.layout, self.files, self.read_only = layout, files, read_only
        self.owner = Owner("state folder", wait_s=threading.TIMEOUT_MAX)
        self._lock = Lock(layout.writer_lock)
        self._doomed: list[Path] = []
        self._must_scrub = False
        self._checkpoint_at = _CHECKPOINT_BYTES
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ConfigError(sqlite_warning())
        with reporting(layout.database):
            if read_only:
                self._connection = _connect_to_read(layout)
            else:
                self._open_to_write()
        _open.add(self)

    def _open_to_write(self) -> None:
        _make_file(self.layout.database, self.files)
        with self._alone():
            self._connection = _connect(self.layout.database, "mode=rw")
            try:
                _check_kind(self._connection, self.layout.database)
                for pragma in _PRAGMAS:
                    self._connection.execute(f"PRAGMA {pragma}").fetchall()
                migrate(self._connection)
                self._must_scrub = self.layout.wal.exists()  # of a process that was killed, perhaps while it forgot
                self._checkpoint(self._must_scrub)
            except BaseException:
                self._connection.close()
                raise

    # ---- using it ------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For statements that change nothing."""
        with self._entered(), reporting(self.layout.database):
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """All of it or nothing, durable at the end of the block. Raises StoreError; ConfigError if opened read-only."""
        if self.read_only:
            raise ConfigError(f"{self.layout.root} is open read-only; open it for writing")
        with self._entered(), shield(), reporting(self.layout.database), self._alone():
            transaction = Transaction(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield transaction
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                raise
            self._tidy(transaction)

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """For what no other process may write beside, and is no transaction."""
        with self._entered(), reporting(self.layout.database), self._alone():
            yield self._connection

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self.owner:
            self.owner.check()  # closed?
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(_WAIT_S):
            raise StoreError(
                f"another process has been writing {self.layout.database} for {_WAIT_S:.0f} s; end it, then go on"
            )
        try:
            yield
        finally:
            self._lock.release()

    # ---- after a write -------------------------------------------------------------------------

    def _tidy(self, transaction: Transaction) -> None:
        """What was written is durable: nothing in here fails; what cannot be done now is tried after the next write."""
        self._must_scrub |= transaction.scrubs
        self._doomed = self.files.remove([*self._doomed, *transaction.doomed], durably=self._must_scrub)
        with suppress(sqlite3.Error, OSError):
            self._checkpoint(self._must_scrub)

    def _checkpoint(self, now: bool) -> None:
        """Moves the log into the database once it is large, or `now`, and empties it; readers may be in the way."""
        size = self.layout.wal.stat().st_size if self.layout.wal.exists() else 0
        if not now and size < self._checkpoint_at:
            return
        self._connection.execute(f"PRAGMA busy_timeout = {1000 if now else 0}")
        try:
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute("PRAGMA busy_timeout = 5000")
        if now and not busy:
            self.files.sync_file(self.layout.wal)  # SQLite leaves its new length to the system
        self._must_scrub = self._must_scrub and bool(busy)
        self._checkpoint_at = size + _CHECKPOINT_BYTES // 4 if busy else _CHECKPOINT_BYTES

    def close(self) -> None:
        """Closes the connection; the last one of all processes empties the log. A second call does nothing."""
        self.owner.close(self._close)

    def _close(self) -> None:
        if self.read_only:
            self._connection.close()
            return
        self.files.remove(self._doomed)
        try:
            with self._alone():
                with suppress(sqlite3.Error, OSError):
                    self._checkpoint(True)
                self._connection.close()
        except (OSError, StoreError):  # the folder was removed, say: what was written is durable or lost already
            self._connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_connection") and not self.owner.is_forked:
            self.close()

    def leave_to_parent(self) -> None:
        """In a forked child: the connection is never closed, since that would release its parent's locks."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))


_open: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for database in list(_open):
        database.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def _make_file(path: Path, files: Files) -> None:
    """SQLite would make it readable for all; what it makes beside it gets the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        return
    files.sync_folder(path.parent)


def _connect(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS_OF_ALL:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(layout: Layout) -> sqlite3.Connection:
    connection = _connect(layout.database, "mode=ro")
    try:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError:
            # Where nothing may be written beside the database, SQLite cannot make the log's index; it needs none if
            # there is no log, but then it does not notice what others write meanwhile.
            if layout.wal.exists() and layout.wal.stat().st_size:
                raise
            connection.close()
            connection = _connect(layout.database, "immutable=1")
        if _check_kind(connection, layout.database) < len(MIGRATIONS):
            raise ConfigError(f"{layout.database} is of an older edge-sir; open it once for writing")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_kind(connection: sqlite3.Connection, path: Path) -> int:
    """The database's version. Raises ConfigError if it is not ours or from the future."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION and (application or version or n_tables):
        raise ConfigError(f"{path} is a database of another program; choose another state folder")
    if version > len(MIGRATIONS):
        raise ConfigError(f"{path} was written by a newer edge-sir (version {version}); update edge-sir")
    return int(version)
