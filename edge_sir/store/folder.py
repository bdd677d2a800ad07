"""The state folder: all sessions of one user on one machine."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_sir.errors import ConfigError, SessionBusyError
from edge_sir.store import messages, records, search, sessions, verify
from edge_sir.store.backup import back_up, check_target
from edge_sir.store.copying import copy_into
from edge_sir.store.database import Database, Transaction
from edge_sir.store.failures import decoding, reporting
from edge_sir.store.files import FOLDER_MODE, Files
from edge_sir.store.layout import Layout
from edge_sir.store.locks import Lock, holder
from edge_sir.store.orphans import remove_orphans
from edge_sir.store.rescue import Rescued, rescue
from edge_sir.store.session import SessionStore
from edge_sir.store.values import Found, Problem, Record, SessionInfo, StoredMessage

__all__ = ["StateFolder"]


class StateFolder:
    """A folder (0700) with the database `edge-sir.db` and, beside it, snapshots, blobs and locks (0600).

    Safe for threads; not usable after os.fork (SessionError). Closed like a file, also by `with`. All of it raises
    StoreError if the disk or the database fails, and what writes ConfigError if it is open read-only.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False, files: Files | None = None) -> None:
        """Opens the folder; makes it, its database and what newer versions added to that, unless read_only.

        Raises ConfigError if there is nothing to read, the path is no folder, or the database is another program's or
        a newer edge-sir's; StoreError if the disk or the database fails. files: how snapshots and blobs are written.
        """
        self.path, self.read_only = Path(path).absolute(), read_only
        self._layout, files = Layout(self.path), files or Files()
        with reporting(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise ConfigError(f"{path} is no folder; choose another state folder")
            if read_only and not self._layout.database.is_file():
                raise ConfigError(f"{path} holds no sessions; choose another state folder")
            if not read_only:
                _make_folders(self._layout, files)
        self._database = Database(self._layout, files, read_only=read_only)
        if not read_only:
            remove_orphans(self._database)

    # ---- sessions ------------------------------------------------------------------------------

    def sessions(self) -> list[SessionInfo]:
        """All sessions, last used first."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return sessions.all_of(connection)

    def names(self) -> list[str]:
        """Of all sessions, last used first."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return sessions.names(connection)

    def find(self, name: str) -> SessionInfo | None:
        """The session of that name, as names are compared."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return sessions.by_name(connection, name)

    def create(
        self, name: str, *, model: str, fingerprint: str, options: Mapping[str, Any] | None = None
    ) -> SessionStore:
        """A new session, open. Raises ConfigError if the name is taken or none."""
        packed = json.dumps(dict(options or {}))
        with self._database.writing() as transaction, decoding(self._layout.database):
            info = sessions.add(transaction.connection, name, model, fingerprint, packed)
            lock = self._locked(info)  # before others can see it
        return SessionStore(self._database, info.id, lock)

    def copy(
        self, name: str, new: str, *, last: int, also: Callable[[Transaction, int], None] | None = None
    ) -> SessionInfo:
        """A session of the name `new` with the cells of another one, and its messages up to the one of that number.

        What its cells hold of later messages is taken back by whoever opens it (`Chat.go_back`). The other may be open.
        also: gets the transaction and the new session's id. Raises ConfigError if there is none, or `new` is taken.
        """
        source = self._get(name)
        store = self.create(new, model=source.model, fingerprint=source.fingerprint, options=source.options)
        try:
            # Its row comes first: files of a session that has none are removed by whoever opens the folder.
            with store, self._database.writing() as transaction:
                with decoding(self._layout.database):
                    copy_into(transaction, self._database, source.id, store.info.id, last)
                if also is not None:
                    also(transaction, store.info.id)
        except BaseException:
            self.remove(new)
            raise
        return self._get(new)

    def held(self, id: int) -> list[tuple[int, str]]:
        """Number and role of each message on the present path of the session with that id."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return [(row.message.id, row.message.role) for row in messages.path_of(connection, id)]

    def messages(self, id: int) -> list[StoredMessage]:
        """All messages of the session with that id, oldest first, as `SessionStore.messages`."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return messages.all_of(connection, id)

    def first_said(self, id: int) -> str:
        """What the user said first in the session with that id, "" if nothing."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return messages.first_said(connection, id)

    def info(self, id: int) -> SessionInfo:
        """The session with that id. Raises ConfigError if there is none."""
        with self._database.reading() as connection, decoding(self._layout.database):
            return sessions.by_id(connection, id)

    @property
    def database(self) -> Database:
        """For those who keep more in it, in tables of their own."""
        return self._database

    def open(self, name: str, *, read_only: bool = False) -> SessionStore:
        """Opens a session. Raises ConfigError if there is none; SessionBusyError if it is open, in any process."""
        info = self._get(name)
        if read_only or self.read_only:
            return SessionStore(self._database, info.id, None)
        lock = self._locked(info)
        try:
            self._get(name)  # it may have been removed until it was locked
            remove_orphans(self._database, info.id)
        except BaseException:
            lock.release()
            raise
        return SessionStore(self._database, info.id, lock)

    def _get(self, name: str) -> SessionInfo:
        info = self.find(name)
        if info is None:
            raise ConfigError(f"there is no session {name[:80]!r}; 'edge-sir sessions list' shows those there are")
        return info

    def _locked(self, info: SessionInfo, remedy: str = "close it there, or only look at it: --read-only") -> Lock:
        path = self._layout.session_lock(info.id)
        lock = Lock(path, names_holder=True)
        with reporting(path):
            if lock.acquire():
                return lock
        pid = holder(path)
        who = "this process" if pid == os.getpid() else f"process {pid}" if pid else "another process"
        raise SessionBusyError(f"the session {info.name!r} is open in {who}; {remedy}")

    def rename(self, old: str, new: str) -> None:
        """Raises ConfigError if there is no `old`, or `new` is taken or no name."""
        info = self._get(old)
        with self._database.writing() as transaction, decoding(self._layout.database):
            sessions.rename(transaction.connection, info.id, new)

    def remove(self, name: str) -> None:
        """Removes all of a session; nothing of it stands on disk afterwards. Raises SessionBusyError if it is open."""
        info = self._get(name)
        lock = self._locked(info, "close it there first")
        try:
            with self._database.writing() as transaction, decoding(self._layout.database):
                records.drop_all(transaction, self._layout, info.id)
                transaction.doomed += [path for _, path in self._layout.files(info.id)]
                transaction.doomed.append(self._layout.session_lock(info.id))
        finally:
            lock.release()

    # ---- all of them ---------------------------------------------------------------------------

    def search(self, words: str, *, session: str | None = None, limit: int = 50) -> list[Found]:
        """Messages that hold all words, newest first; "several words" in quotes are one.

        Words are found inside others; case and accents are ignored. Raises ConfigError for no words and no session.
        """
        only = None if session is None else self._get(session).id
        with self._database.reading() as connection, decoding(self._layout.database):
            return search.search(connection, words, only, limit)

    def verify(self, name: str | None = None) -> list[Problem]:
        """All that is wrong with the folder, or with one session in it."""
        return verify.problems(self._database, None if name is None else self._get(name))

    def backup(self, target: str | Path) -> Path:
        """A copy in a new folder, which opens as a state folder. Raises ConfigError if `target` holds anything."""
        return back_up(self._database, Path(target))

    def rescue(self, name: str | None = None) -> list[Rescued]:
        """What can be read of a damaged database: all sessions, or that of this name. Raises ConfigError for none."""
        found = rescue(self._database, name)
        if name is not None and not found:
            those = "'edge-sir sessions verify --json' names those there are"
            raise ConfigError(f"there is no session {name[:80]!r} that can be read; {those}")
        return found

    def rescue_to(self, target: str | Path) -> list[Rescued]:
        """Copies the text that can be read into a new state folder, and returns what that was.

        The copies are as imported: no model has read them yet. Raises ConfigError if `target` holds anything.
        """
        check_target(Path(target))
        found = self.rescue()
        with StateFolder(target) as copy:
            for session in found:
                with copy.create(session.name, model="", fingerprint="") as store:
                    for i, said in enumerate(session.conversations):
                        n_turns = max((message.turn for message in said), default=0)
                        store.write(Record(0, said, b"", {}, n_turns, cleared=i > 0))
        return found

    def close(self) -> None:
        """Closes the database. Sessions that are still open cannot be used afterwards, and stay locked until closed."""
        self._database.close()

    def __enter__(self) -> "StateFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_folders(layout: Layout, files: Files) -> None:
    """The modes of a folder that was there stay: it may be used for other things; `verify` reports them."""
    if not layout.root.is_dir():
        layout.root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        files.sync_folder(layout.root.parent)
    for folder in layout.folders:
        if not folder.is_dir():
            folder.mkdir(FOLDER_MODE, exist_ok=True)
            files.sync_folder(layout.root)
