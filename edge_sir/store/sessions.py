"""The table of sessions."""

import json
import sqlite3
import time
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.store.folding import to_utf8
from edge_sir.store.names import checked_name, name_key
from edge_sir.store.values import SessionInfo

__all__ = ["add", "all_of", "by_id", "by_name", "conversation", "names", "note_model", "rename"]

_SELECT = """
SELECT id, name, created, used, model, fingerprint, options, n_turns,
    (SELECT count(*) FROM messages m WHERE m.session = s.id AND m.conversation = s.conversation AND NOT taken_back),
    record,
    (SELECT coalesce(sum(n_bytes), 0) FROM snapshots WHERE session = s.id)
    + (SELECT coalesce(sum(n_bytes), 0) FROM blobs WHERE session = s.id)
FROM sessions s
"""


def _info(row: tuple[Any, ...]) -> SessionInfo:
    id, name, created, used, model, fingerprint, options, *counts = row
    return SessionInfo(id, name, created, used, model, fingerprint, dict(json.loads(options)), *counts)


def all_of(connection: sqlite3.Connection) -> list[SessionInfo]:
    """All sessions, last used first."""
    return [_info(row) for row in connection.execute(f"{_SELECT} ORDER BY used DESC, id DESC")]


def names(connection: sqlite3.Connection) -> list[str]:
    """Of all sessions, last used first."""
    return [str(name) for (name,) in connection.execute("SELECT name FROM sessions ORDER BY used DESC, id DESC")]


def by_name(connection: sqlite3.Connection, name: str) -> SessionInfo | None:
    """The session of that name, as names are compared."""
    row = connection.execute(f"{_SELECT} WHERE key = ?", (name_key(to_utf8(name)),)).fetchone()
    return None if row is None else _info(row)


def by_id(connection: sqlite3.Connection, id: int) -> SessionInfo:
    """Raises ConfigError if the session was removed."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise ConfigError("this session was removed; begin another")
    return _info(row)


def conversation(connection: sqlite3.Connection, id: int) -> int:
    """The number of a session's present conversation. Raises ConfigError if the session was removed."""
    row = connection.execute("SELECT conversation FROM sessions WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise ConfigError("this session was removed; begin another")
    return int(row[0])


def add(connection: sqlite3.Connection, name: str, model: str, fingerprint: str, options: str) -> SessionInfo:
    """A new row. options: as JSON. Raises ConfigError if the name is taken or none."""
    name, now = checked_name(name), time.time()
    _check_free(connection, name, None)
    id = connection.execute(
        "INSERT INTO sessions (name, key, created, used, model, fingerprint, options) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, name_key(name), now, now, to_utf8(model), fingerprint, options),
    ).lastrowid
    assert id is not None
    return by_id(connection, id)


def rename(connection: sqlite3.Connection, id: int, name: str) -> None:
    """Raises ConfigError if the name is taken or none."""
    name = checked_name(name)
    _check_free(connection, name, id)
    connection.execute("UPDATE sessions SET name = ?, key = ? WHERE id = ?", (name, name_key(name), id))


def note_model(connection: sqlite3.Connection, id: int, model: str, fingerprint: str) -> None:
    """Another model has read the session."""
    connection.execute("UPDATE sessions SET model = ?, fingerprint = ? WHERE id = ?", (model, fingerprint, id))


def _check_free(connection: sqlite3.Connection, name: str, id: int | None) -> None:
    other = by_name(connection, name)
    if other is not None and other.id != id:
        raise ConfigError(f"there is a session {other.name!r} already; choose another name")
