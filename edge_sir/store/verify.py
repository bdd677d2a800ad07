"""Whether a state folder is what was written: the database, the chain of messages, the index, every file."""

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_sir.errors import ConfigError, DamagedError, StoreError
from edge_sir.store import blobs, messages, records, sessions, snapshots
from edge_sir.store.database import Database
from edge_sir.store.failures import decoding
from edge_sir.store.orphans import orphans
from edge_sir.store.rescue import rescue
from edge_sir.store.snapshots import ALL_THE_SAME
from edge_sir.store.values import Problem, SessionInfo

__all__ = ["problems", "unreadable"]

_BACKUP = "go on from a backup"
_RESCUE = "copy what can be read with 'edge-sir sessions backup DIR', and go on there with --state-dir DIR"
_EXPORT = "'edge-sir sessions export' writes what can be read of it, 'import' makes a session of that"
_HOLDS = {
    "sessions": "the list of sessions",
    "messages": "what was said",
    "records": "what happened to the cells",
    "pieces": "what was evicted",
    "snapshots": "the list of snapshots",
    "blobs": "the list of evicted cells",
    "messages_fts_data": "the index of words",
    "messages_fts_idx": "the index of words",
    "messages_fts_config": "the index of words",
}
"""What a person knows of the tables."""


def problems(database: Database, only: SessionInfo | None) -> list[Problem]:
    """All that is wrong with the folder, or with one session's part of it."""
    where = str(database.layout.database)
    damage = list(_run(where, _integrity(database)))
    checks = [] if damage else [(where, check(database)) for check in (_foreign_keys, _index)]
    checks += [(str(database.layout.root), _modes(database))]
    checks += [] if damage else [(where, _orphans(database, only))]
    found = [problem for where, check in checks for problem in _run(where, check)]
    if damage:  # each check of a session ends at the first damaged page: what can be read says more
        return [*damage, *found, *_run(where, _lost(database, only))]
    infos, failures = _infos(database, only)
    for info in infos:
        for of_session in (_chain, _record, _snapshots, _blobs):
            failures += _run(info.name, of_session(database, info), _EXPORT)
    return found + failures


def unreadable(error: DamagedError) -> StoreError:
    """The error for someone who asks what can be read of a database that cannot be opened at all."""
    return StoreError(f"{error.what}; nothing in it can be read; {_BACKUP}")


def _run(where: str, check: Iterable[Problem], remedy: str = _RESCUE) -> Iterator[Problem]:
    """A check's problems; one that cannot be made is a problem, too. remedy: for damage."""
    try:
        yield from check
    except (StoreError, ConfigError) as error:
        yield _problem(where, error, remedy)


def _problem(where: str, error: StoreError | ConfigError, remedy: str) -> Problem:
    return Problem(where, f"{error.what}; {remedy}" if isinstance(error, DamagedError) else str(error))


def _infos(database: Database, only: SessionInfo | None) -> tuple[list[SessionInfo], list[Problem]]:
    if only is not None:
        return [only], []
    try:
        with database.reading() as connection, decoding(database.layout.database):
            return sessions.all_of(connection), []
    except StoreError as error:
        return [], [_problem(str(database.layout.database), error, _RESCUE)]


# ---- the database as a whole -------------------------------------------------------------------


def _integrity(database: Database) -> Iterator[Problem]:
    with database.reading() as connection:
        lines = _integrity_lines(connection, "PRAGMA integrity_check")
        tables = [t for t in _HOLDS if lines and _integrity_lines(connection, f"PRAGMA integrity_check({t})")]
    if tables:
        lines = [f"it is damaged in {' and in '.join(dict.fromkeys(_HOLDS[table] for table in tables))}"]
    yield from (_in_database(database, line) for line in lines)


def _integrity_lines(connection: sqlite3.Connection, pragma: str) -> list[str]:
    """What SQLite complains of; of some damage only that there is some."""
    try:
        return [str(line) for (line,) in connection.execute(pragma) if line != "ok"]
    except sqlite3.DatabaseError as error:
        return [str(error)]


def _lost(database: Database, only: SessionInfo | None) -> Iterator[Problem]:
    for one in rescue(database, None if only is None else only.name):
        if one.n_lost:
            least = "at least " if one.is_least else ""
            n = one.n_messages
            yield Problem(one.name, f"{least}{one.n_lost} of its messages cannot be read, and {n} can; {_RESCUE}")


def _foreign_keys(database: Database) -> Iterator[Problem]:
    with database.reading() as connection:
        rows = connection.execute("PRAGMA foreign_key_check").fetchall()
    for table, row, *_ in rows:
        yield _in_database(database, f"row {row} of {table} belongs to a session that is missing")


def _index(database: Database) -> Iterator[Problem]:
    """The index, against the messages. The check counts as a write, so a read-only database goes without."""
    if database.read_only:
        return
    try:
        with database.writing() as transaction:
            transaction.connection.execute(
                "INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)"
            )
    except StoreError as error:
        if not isinstance(error.__cause__, sqlite3.DatabaseError):
            raise
        yield _in_database(database, "the index of words does not fit the messages")


def _in_database(database: Database, what: str) -> Problem:
    return Problem(str(database.layout.database), f"{what}; {_RESCUE}")


# ---- the files ---------------------------------------------------------------------------------


def _modes(database: Database) -> Iterator[Problem]:
    """Who else may read. Windows keeps no such bits."""
    if os.name == "nt":
        return
    layout = database.layout
    beside = layout.root.glob(f"{layout.database.name}*")
    files = (path for folder in layout.folders if folder.is_dir() for path in folder.iterdir())
    yield from _open_to_others((layout.root, *layout.folders), 0o700)
    yield from _open_to_others((*beside, *files), 0o600)


def _open_to_others(paths: Iterable[Path], mode: int) -> Iterator[Problem]:
    for path in paths:
        try:
            found = stat.S_IMODE(path.stat().st_mode)
        except OSError:  # removed meanwhile
            continue
        if found & 0o077:
            yield Problem(str(path), f"others may use it (mode {found:03o}); run chmod {mode:03o} on it")


def _orphans(database: Database, only: SessionInfo | None) -> Iterator[Problem]:
    for path in orphans(database, None if only is None else only.id):
        yield Problem(str(path), "no row names this file; it is removed when its session is opened next")


# ---- one session -------------------------------------------------------------------------------


def _chain(database: Database, info: SessionInfo) -> Iterator[Problem]:
    with database.reading() as connection, decoding(database.layout.database):
        broken = messages.broken_links(connection, info.id)
    for row in broken:
        yield Problem(info.name, f"message row {row} is not what was written; {_BACKUP}")


def _record(database: Database, info: SessionInfo) -> Iterator[Problem]:
    with database.reading() as connection, decoding(database.layout.database):
        records.read(connection, info.id)
        missing = records.missing_numbers(connection, info.id)
    for number in missing:
        yield Problem(info.name, f"record {number} is missing; {_BACKUP}")


def _snapshots(database: Database, info: SessionInfo) -> Iterator[Problem]:
    with database.reading() as connection, decoding(database.layout.database):
        rows = snapshots.rows(connection, info.id)
    for row in rows:
        try:
            snapshots.read(database, info.id, row)
        except StoreError as error:
            path = database.layout.snapshot(info.id, row.number)
            yield Problem(info.name, str(error) if path.exists() else f"the snapshot {path} is missing; {ALL_THE_SAME}")


def _blobs(database: Database, info: SessionInfo) -> Iterator[Problem]:
    with database.reading() as connection:
        keys = blobs.keys(connection, info.id)
    with decoding(database.layout.database):
        damaged = [key for key in keys if blobs.read(database, info.id, key) is None]
    for key in damaged:
        yield Problem(info.name, f"the cells of archived piece {key} are missing or damaged; its text is read instead")
