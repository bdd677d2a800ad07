"""What the store takes and gives: a session's record, its messages, its snapshots, what a search found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_sir.memory.transcript import Message

__all__ = [
    "EARLIER",
    "ON_DISK",
    "ON_PATH",
    "TAKEN_BACK",
    "Forgotten",
    "Found",
    "Problem",
    "Record",
    "SessionInfo",
    "Snapshot",
    "SnapshotRow",
    "Stored",
    "StoredMessage",
]

ON_PATH, TAKEN_BACK, EARLIER = "on the path", "taken back", "earlier conversation"
ON_DISK = "on disk only"
"""Where the text of a message is that a chat which only looks does not hold."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a list of sessions shows of one.

    created, used: unix seconds, used of the last record. model: its name; fingerprint: what it is compared by.
    options: as given to `create`. n_messages: on the present path. record: number of the last one, 0 for none.
    n_bytes: snapshots and blobs on disk, the rows of the database not counted.
    """

    id: int
    name: str
    created: float
    used: float
    model: str
    fingerprint: str
    options: Mapping[str, Any]
    n_turns: int
    n_messages: int
    record: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What must not stand on disk any more, anywhere.

    texts: new text by a message's ROW id, "" for none of it; any row's, also one taken back or of an earlier
    conversation.
    blank: applied to the changes of every record of the session. entries: all entries of the present conversation,
    in place of those stored.
    """

    texts: Mapping[int, str]
    blank: Callable[[bytes], bytes]
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What one transaction adds to a session.

    n_kept: how many messages of the present path stay, from its beginning; the others are taken back, and their rows
    stay. messages: said after those. changes: of the resident rows, opaque. state: scalars after it, as JSON has them.
    entries: of the eviction log, in order, opaque. pieces: those that the archive gained or replaced, by key, opaque.
    dropped: keys that left the archive; their pieces and their blobs leave the disk. lost: keys of pieces that stay and
    whose blobs leave. n_turns: of the conversation.
    cleared: a new conversation begins. Its path is empty before this record (n_kept is 0); the old messages stay as an
    earlier conversation; the old one's changes, entries, pieces, blobs and snapshots are removed. unsent: what the user
    said and got no reply to yet, in place of what was noted.
    Keys are whole numbers from 0 to 2**63 - 1.
    """

    n_kept: int
    messages: tuple[Message, ...]
    changes: bytes
    state: Mapping[str, Any]
    n_turns: int
    entries: tuple[bytes, ...] = ()
    pieces: Mapping[int, bytes] = field(default_factory=dict)
    dropped: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    cleared: bool = False
    forgotten: Forgotten | None = None
    unsent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a session's cells and arrays were after a record.

    record: its number; of one that `write` takes along, the number that this record will have, `info.record + 1`.
    fingerprint: of the model. parts: any bytes; those of `core.sealed.seal` are not hashed a second time when written.
    """

    record: int
    fingerprint: str
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot on disk, still unread. number: in the order they were written. n_bytes: of all parts."""

    number: int
    record: int
    fingerprint: str
    made: float
    n_bytes: int


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message and where it stands. row: its id in the database, for good. parent: row of the one before, or None.

    conversation: counts from 1; a cleared chat begins another. on_path: it belongs to the present path. said: unix
    seconds.
    """

    row: int
    parent: int | None
    conversation: int
    on_path: bool
    said: float
    message: Message


@dataclass(frozen=True, slots=True)
class Stored:
    """What a session is to go on from. path: the messages of the present path, in order. record: the last one's number.

    unsent: what the user said and got no reply to.
    """

    path: tuple[StoredMessage, ...]
    entries: tuple[bytes, ...]
    pieces: Mapping[int, bytes]
    state: Mapping[str, Any]
    unsent: tuple[str, ...]
    record: int


@dataclass(frozen=True, slots=True)
class Found:
    """A message that a search found. session: its name. row, number: as in StoredMessage.row and Message.id.

    state: ON_PATH, TAKEN_BACK or EARLIER. snippet: the text around the first word found, on one line. where: the store
    leaves it empty; a chat says whether the text is resident, archived or text only.
    """

    session: str
    row: int
    number: int
    turn: int
    role: str
    text: str
    said: float
    state: str
    snippet: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What `verify` found wrong. where: a session's name, or a path. what: one line, remedy included."""

    where: str
    what: str
