"""What can still be read of a damaged database: row by row, since one damaged page ends any other way to read it."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.store.database import Database
from edge_sir.store.names import checked_name, name_key

__all__ = ["Rescued", "rescue"]

_ROWS_PER_PAGE = 64  # more than fit: a row's hash alone takes 32 bytes
_MOST_SESSIONS = 1000  # that are tried where their table cannot be read to its end
_ROLES = ("system", "user", "assistant", "tool")
_SESSION = "SELECT name, conversation, n_turns, state FROM sessions NOT INDEXED WHERE id = ?"
_MESSAGE = """
SELECT session, conversation, depth, taken_back, number, turn, role, CAST(text AS BLOB)
FROM messages NOT INDEXED WHERE id = ?
"""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A session of a damaged database. conversations: what was said, oldest first; the last is the present one.

    n_lost: messages that cannot be read. is_least: there may be more of them.
    """

    name: str
    conversations: tuple[tuple[Message, ...], ...]
    n_turns: int
    n_lost: int
    is_least: bool

    @property
    def n_messages(self) -> int:
        """Those that can be read."""
        return sum(map(len, self.conversations))


@dataclass(frozen=True, slots=True)
class _Row:
    """A message that was read. depth: its place in its conversation."""

    session: int
    conversation: int
    depth: int
    taken_back: bool
    message: Message


@dataclass(frozen=True, slots=True)
class _Session:
    """A session; the numbers are 0 where its row cannot be read, and the name is made up then."""

    id: int
    name: str
    conversation: int = 0
    n_turns: int = 0
    unsaid: frozenset[int] = frozenset()


def rescue(database: Database, name: str | None = None) -> list[Rescued]:
    """All sessions, or those of that name, as names are compared; one whose name cannot be read is `session NUMBER`."""
    with database.reading() as connection:
        most = _number(connection, "PRAGMA page_count", 0) * _ROWS_PER_PAGE
        rows, lost, is_least = _messages(connection, most)
        found = _sessions(connection, {row.session for row in rows} | lost.keys(), most)
    said = defaultdict[int, list[_Row]](list)
    for row in rows:
        said[row.session].append(row)
    wanted = [one for one in found if name is None or name_key(one.name) == name_key(name)]
    return [_rescued(one, said[one.id], lost.get(one.id, 0), is_least) for one in wanted]


def _rescued(session: _Session, rows: Sequence[_Row], n_lost: int, is_least: bool) -> Rescued:
    by_conversation = defaultdict[int, dict[int, Message]](dict)
    for row in rows:
        if not row.taken_back:
            by_conversation[row.conversation][row.depth] = row.message
    present = session.conversation or max(by_conversation, default=1)
    by_conversation.setdefault(present, {})
    conversations = []
    n_gaps = 0
    for number, path in sorted(by_conversation.items()):
        n_gaps += max(path, default=-1) + 1 - len(path)
        unsaid = session.unsaid if number == present else frozenset()
        kept = tuple(m for _, m in sorted(path.items()) if m.id not in unsaid and (m.text or m.role == "assistant"))
        if kept or number == present:
            conversations.append(kept)
    last = max((message.turn for message in by_conversation[present].values()), default=0)
    n_missing = max(0, session.n_turns - last) if is_least else 0  # the end of the path, which no later row shows
    return Rescued(session.name, tuple(conversations), last, max(n_lost, n_gaps + n_missing), is_least)


# ---- rows ----------------------------------------------------------------------------------------


def _sessions(connection: sqlite3.Connection, with_messages: Set[int], most: int) -> list[_Session]:
    """Those whose row can be read, and those of which only messages are left."""
    ids, is_complete = _ids(connection, "SELECT id, id FROM sessions NOT INDEXED")
    tried = with_messages | ids.keys() | (set() if is_complete else set(range(1, _MOST_SESSIONS + 1)))
    found = []
    for id in sorted(tried):
        try:
            row = connection.execute(_SESSION, (id,)).fetchone()
            found += [] if row is None and id not in with_messages else [_session(id, row, most)]
        except sqlite3.DatabaseError as error:
            _raise_if_bug(error)
            found += [_session(id, None, most)] if id in with_messages else []
    return _with_names(found)


def _session(id: int, row: tuple[Any, ...] | None, most: int) -> _Session:
    """With all of its row that can be what was written; most: no number in it is larger."""
    name, conversation, n_turns, state = row or ("", 0, 0, "")
    try:
        unsaid = frozenset(json.loads(state)["chat"]["unsaid"])
    except (ValueError, TypeError, KeyError, RecursionError):  # damaged, or no model has read it yet
        unsaid = frozenset()
    conversation, n_turns = (n if isinstance(n, int) and 0 <= n <= most else 0 for n in (conversation, n_turns))
    return _Session(id, name if isinstance(name, str) else "", conversation, n_turns, unsaid)


def _with_names(sessions: Sequence[_Session]) -> list[_Session]:
    """Each with a name that a session can have, and no other has."""
    named = dict[str, _Session]()
    for session in sessions:
        name = session.name
        while not _is_name(name) or name_key(name) in named:
            name = f"{name}_" if _is_name(name) and len(name) < 60 else f"session {session.id}"
        named[name_key(name)] = replace(session, name=name)
    return list(named.values())


def _is_name(name: str) -> bool:
    try:
        checked_name(name)
    except ConfigError:
        return False
    return True


def _messages(connection: sqlite3.Connection, most: int) -> tuple[list[_Row], dict[int, int], bool]:
    """All that can be read; how many of each session cannot; whether there may be more of these."""
    by_path, is_complete = _ids(connection, "SELECT id, session FROM messages INDEXED BY messages_path")
    by_table, also_complete = _ids(connection, "SELECT id, session FROM messages NOT INDEXED")
    ids, is_complete = by_table | by_path, is_complete or also_complete
    last = 0 if is_complete else _number(connection, "SELECT max(id) FROM messages NOT INDEXED", most)
    rows = list[_Row]()
    lost = defaultdict[int, int](int)
    for id in sorted(ids.keys() | set(range(1, min(last, most) + 1))):
        try:
            found = connection.execute(_MESSAGE, (id,)).fetchone()
            rows += [] if found is None else [_row(most, *found)]
        except (sqlite3.DatabaseError, ValueError) as error:
            _raise_if_bug(error)
            if id in ids:
                lost[ids[id]] += 1
    return rows, dict(lost), not is_complete


def _row(most: int, *values: Any) -> _Row:
    """Raises ValueError for values that cannot be what was written."""
    *numbers, role, text = values
    if not all(isinstance(n, int) and 0 <= n <= most for n in numbers) or role not in _ROLES:
        raise ValueError("a damaged row")
    session, conversation, depth, taken_back, number, turn = numbers
    return _Row(session, conversation, depth, bool(taken_back), Message(turn, role, _text(text), number))


def _text(text: Any) -> str:
    if not isinstance(text, bytes):
        raise ValueError("a damaged row")
    return text.decode("utf-8", "replace")


def _ids(connection: sqlite3.Connection, query: str) -> tuple[dict[int, int], bool]:
    """Ids, each with its session, as far as they can be read; whether that is to the end."""
    ids = dict[int, int]()
    try:
        for id, session in connection.execute(query):
            if not isinstance(session, int):
                raise ValueError("a damaged row")
            ids[id] = session
    except (sqlite3.DatabaseError, ValueError) as error:
        _raise_if_bug(error)
        return ids, False
    return ids, True


def _number(connection: sqlite3.Connection, query: str, otherwise: int) -> int:
    try:
        (number,) = connection.execute(query).fetchone()
    except sqlite3.DatabaseError as error:
        _raise_if_bug(error)
        return otherwise
    return number if isinstance(number, int) else 0


def _raise_if_bug(error: Exception) -> None:
    """A mistake in the use of SQLite is no damage."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        raise error
