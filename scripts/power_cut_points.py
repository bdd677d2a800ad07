"""The points at which a process that talks kills itself: what it does is a row of events, and one is its last.

An event is an SQL statement, a step of a snapshot's or a blob's file, a call of the engine or of the archive, or a
record that is written; it comes in a call on the chat ("open", "say", "forget", ...). A point takes some of them.
"""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sir.llama.engine import LlamaEngine
from edge_sir.recall.archive import Archive
from edge_sir.store import database
from edge_sir.store.files import Files
from edge_sir.store.session import SessionStore

__all__ = ["AT_ITS_END", "AT_RANDOM", "BLOBS", "COMMANDS", "POINTS", "RESUMING", "Cut", "Point", "die", "tell"]

AT_RANDOM, AT_ITS_END, BLOBS, RESUMING = "a random moment", "its end", "while blobs are written", "while it resumes"

COMMANDS = ("undo", "regen", "pin", "unpin", "budget", "recall", "system", "clear")


@dataclass(frozen=True)
class Point:
    """takes: of an event's call, kind and detail. most: events that are counted at most. calls: in which calls it is.

    delay_s: the process dies up to so long after the event, while SQLite works.
    """

    takes: Callable[[str, str, str], bool]
    most: int
    calls: tuple[str, ...] = ()
    delay_s: float = 0.0


POINTS = {
    AT_RANDOM: Point(lambda *_: False, 1),
    AT_ITS_END: Point(lambda *_: False, 1, ("close",)),
    "before the acknowledgement": Point(lambda call, kind, what: kind == "returned", 4),
    "between the last token and the record": Point(lambda call, kind, what: kind == "record", 6),
    "between two writes": Point(lambda call, kind, what: kind == "write", 16),
    "in a transaction": Point(lambda call, kind, what: kind == "statement" and call != "open", 60),
    "in a commit": Point(lambda call, kind, what: what == "COMMIT", 8, delay_s=0.003),
    "in a checkpoint": Point(lambda call, kind, what: "wal_checkpoint" in what, 2, ("forget",), delay_s=0.01),
    "in a migration": Point(lambda call, kind, what: call == "migrate", 16),
    "in a snapshot": Point(lambda call, kind, what: what == "snapshots", 10, ("snapshot",)),
    BLOBS: Point(lambda call, kind, what: what == "blobs", 24),
    "in an eviction": Point(lambda call, kind, what: kind in ("remove", "save") and call != "open", 40),
    "in a decode": Point(lambda call, kind, what: kind == "decode" and call != "open", 80),
    "in a forget": Point(lambda call, kind, what: call == "forget", 110, ("forget",)),
    "in another command": Point(lambda call, kind, what: call in COMMANDS, 40, COMMANDS),
    RESUMING: Point(lambda call, kind, what: call == "open", 160, ("open",)),
    "while it closes": Point(lambda call, kind, what: call == "close", 24, ("close",)),
}


class Cut:
    """Kills the process at the `number`th event that the point takes. call: what is done at present.

    is_armed: whether events count.
    """

    def __init__(self, name: str, number: int, delay_s: float) -> None:
        self._point, self._left, self._delay_s = POINTS[name], number, delay_s
        self.call = "open"
        self.is_armed = True

    def event(self, kind: str, what: str = "") -> None:
        """It came to this."""
        if self.is_armed and self._point.takes(self.call, kind, what):
            self._left -= 1
            if self._left == 0:
                self.die()

    def die(self) -> None:
        """It has come to its point."""
        tell(reached=self.call)
        if self._delay_s:
            threading.Thread(target=lambda: (time.sleep(self._delay_s), die())).start()
        else:
            die()

    def watch(self) -> None:
        """From now on the process comes to its events."""
        self._around(LlamaEngine, "decode", "remove", "shift", "load", "dump", "save", "restore")
        self._around(Archive, "save")
        self._around(SessionStore, "write", kind="record")
        self._around(SessionStore, "note_unsent", "write_snapshot", "put_blobs", kind="write")
        self._watch_database()
        self._watch_files()

    def _around(self, owner: Any, *names: str, kind: str = "") -> None:
        """An event before and after each call of these methods."""
        for name in names:
            setattr(owner, name, self._with_events(getattr(owner, name), kind or name))

    def _with_events(self, method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.event(kind)
            result = method(*args, **named)
            self.event(kind)
            return result

        return call

    def _watch_database(self) -> None:
        connect, migrate = database._connect, database.migrate

        def connected(*args: Any) -> sqlite3.Connection:
            connection = connect(*args)
            connection.set_trace_callback(lambda statement: self.event("statement", statement))
            return connection

        def migrated(connection: sqlite3.Connection) -> None:
            self.call = "migrate"
            migrate(connection)
            self.call = "open"

        database._connect, database.migrate = connected, migrated

    def _watch_files(self) -> None:
        cut, write = self, Files.write

        def written(files: Files, path: Path, chunks: Iterable[bytes]) -> None:
            data = b"".join(chunks)
            cut.event("file", path.parent.name)
            write(files, path, (data[: len(data) // 2],))
            cut.event("file", path.parent.name)
            write(files, path, (data,))

        Files.write = written  # type: ignore[method-assign]
        for name in ("rename", "unlink", "sync_folder"):
            setattr(Files, name, self._with_path(getattr(Files, name), name))

    def _with_path(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(files: Files, path: Path, *more: Path) -> Any:
            folder = path.name if name == "sync_folder" else path.parent.name
            self.event("file", folder)
            result = method(files, path, *more)
            self.event("file", folder)
            return result

        return call


def tell(**fields: Any) -> None:
    """A line for the parent."""
    os.write(1, (json.dumps(fields) + "\n").encode())


def die() -> None:
    """As by a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)
