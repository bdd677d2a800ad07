"""One session's part of the store, open in this process."""

import time
from collections.abc import Callable, Mapping, Sequence

from edge_sir.errors import ConfigError
from edge_sir.store import blobs, messages, records, sessions, snapshots
from edge_sir.store.database import Database, Transaction
from edge_sir.store.failures import decoding
from edge_sir.store.locks import Lock
from edge_sir.store.orphans import remove_orphans
from edge_sir.store.values import Record, SessionInfo, Snapshot, SnapshotRow, Stored, StoredMessage

__all__ = ["SessionStore"]


class SessionStore:
    """Reads and writes one session. `StateFolder.open` and `create` make one. Safe for threads.

    All of it raises StoreError if the disk or the database fails, and SessionError after os.fork or
    `StateFolder.close`. What writes raises ConfigError if it was opened read-only.
    """

    def __init__(self, database: Database, id: int, lock: Lock | None) -> None:
        """lock: held by this process; without one the session is read-only."""
        self.read_only = lock is None
        self._database, self._id, self._lock = database, id, lock
        self._path = database.layout.database

    @property
    def info(self) -> SessionInfo:
        """As of the last record."""
        with self._database.reading() as connection, decoding(self._path):
            return sessions.by_id(connection, self._id)

    @property
    def conversation(self) -> int:
        """The number of the present one; `StoredMessage.conversation` counts the same."""
        with self._database.reading() as connection, decoding(self._path):
            return sessions.conversation(connection, self._id)

    # ---- reading -------------------------------------------------------------------------------

    def read(self) -> Stored:
        """All that a chat goes on from, resident rows aside."""
        with self._database.reading() as connection, decoding(self._path):
            return records.read(connection, self._id)

    def messages(self) -> list[StoredMessage]:
        """All rows of the session, taken back ones and earlier conversations included, oldest first."""
        with self._database.reading() as connection, decoding(self._path):
            return messages.all_of(connection, self._id)

    def changes(self, after: int = 0) -> list[bytes]:
        """The changes of the present conversation's records after that number, oldest first."""
        with self._database.reading() as connection, decoding(self._path):
            return records.changes_after(connection, self._id, after)

    # ---- writing -------------------------------------------------------------------------------

    def write(
        self,
        record: Record,
        snapshot: Snapshot | None = None,
        also: Callable[[Transaction], None] | None = None,
    ) -> int:
        """Adds a record, durable on return; its number. With `forgotten`, nothing of it stands on disk on return.

        snapshot: as of this record; the older ones leave with what is forgotten. also: writes more in the same
        transaction. Raises ValueError for a record that
        does not fit what is there; then, as after StoreError, nothing of it was added.
        """
        self._check_writable()
        layout, now = self._database.layout, time.time()
        with self._database.owner:
            if record.forgotten is not None:
                remove_orphans(self._database, self._id)  # a write that failed may have left a file with it
            number = None if snapshot is None else snapshots.put_file(self._database, self._id, snapshot)
            with self._database.writing() as transaction:
                n = records.add(transaction, layout, self._id, record, now)
                if snapshot is not None and number is not None:
                    if snapshot.record != n:
                        raise ValueError(f"the snapshot is of record {snapshot.record}, and this is {n}")
                    snapshots.add_row(transaction, layout, self._id, number, snapshot, now)
                if also is not None:
                    also(transaction)
        return n

    def note_unsent(self, texts: Sequence[str]) -> None:
        """Keeps what the user said and got no reply to yet; durable on return. The next `write` says it anew."""
        self._check_writable()
        with self._database.writing() as transaction:
            records.note_unsent(transaction.connection, self._id, texts)

    def scrub(self) -> None:
        """What left the rows leaves the database's file and its log, too."""
        self._check_writable()
        with self._database.writing() as transaction:
            transaction.scrubs = True

    def note_model(self, model: str, fingerprint: str) -> None:
        """Another model has read the session; durable on return."""
        self._check_writable()
        with self._database.writing() as transaction:
            sessions.note_model(transaction.connection, self._id, model, fingerprint)

    # ---- snapshots and blobs -------------------------------------------------------------------

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Writes one, durable on return, and keeps the last two. Raises ValueError if it is of no record."""
        self._check_writable()
        with self._database.owner:
            if not 0 <= snapshot.record <= self.info.record:
                raise ValueError(f"there is no record {snapshot.record}")
            number = snapshots.put_file(self._database, self._id, snapshot)
            with self._database.writing() as transaction:
                snapshots.add_row(transaction, self._database.layout, self._id, number, snapshot, time.time())

    def snapshots(self) -> list[SnapshotRow]:
        """Newest first."""
        with self._database.reading() as connection, decoding(self._path):
            return snapshots.rows(connection, self._id)

    def read_snapshot(self, row: SnapshotRow) -> tuple[bytes, ...]:
        """Its parts. Raises StoreError if it is missing or damaged."""
        return snapshots.read(self._database, self._id, row)

    def put_blobs(self, blobs_by_key: Mapping[int, bytes]) -> None:
        """Writes the cells of archived pieces, by key, durable on return, in place of earlier ones."""
        self._check_writable()
        with self._database.owner:
            blobs.put(self._database, self._id, blobs_by_key)

    def blob(self, key: int) -> bytes | None:
        """What `put_blobs` took; None if there is none or it is damaged."""
        with decoding(self._path):
            return blobs.read(self._database, self._id, key)

    def blob_keys(self) -> list[int]:
        """Of all blobs that ought to be on disk."""
        with self._database.reading() as connection:
            return blobs.keys(connection, self._id)

    # ---- the end -------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self._database.read_only or self._lock is None:
            raise ConfigError(f"the session {self.info.name!r} is open read-only; open it for writing")

    def close(self) -> None:
        """Gives up the session's lock; it can be read on, and not written. A second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> "SessionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
