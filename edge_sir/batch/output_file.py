"""A job's output on disk: lines are appended whole or not at all, by one process at a time."""

import json
import os
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_sir.batch.output import ID_PREFIX, digest_of
from edge_sir.errors import ConfigError, StoreError
from edge_sir.store.files import Files
from edge_sir.store.locks import Lock, holder

__all__ = ["Entry", "OutputFile", "entries"]

_SYNC_EVERY_S = 5.0
_BEGINNING = b'{"id": "' + ID_PREFIX.encode()
_NOWHERE = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the output: for which request, by its digest, and the code of its error, if it is one."""

    digest: bytes
    error: str | None


class OutputFile:
    """Open from `open` to `close`, and locked; use it in a `with` block. All raise StoreError where the disk fails.

    What is appended is in the system's hands at once and on the medium a few seconds later, or after `sync`.
    """

    def __init__(self, path: Path, *, files: Files | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = _resolved(path)
        self._files, self._clock = files or Files(), clock
        self._lock_path = self.path.with_name(f".{self.path.name}.lock")
        self._lock = Lock(self._lock_path, names_holder=True)
        self._sorted = self.path.with_name(f".{self.path.name}.sorted")
        self._file: BinaryIO | None = None
        self._end = 0
        self._synced = 0.0

    # ---- open and closed -----------------------------------------------------------------------

    def open(self) -> Iterator[Entry]:
        """Locks the file, makes it if it is not there, cuts off a torn last line, and gives what it holds.

        Exhaust the iterator before the first `append`. Raises ConfigError if another process writes it, or if it is no
        output of a job.
        """
        self._acquire()
        try:
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            self._end = self._file.seek(0, os.SEEK_END)
            if is_new:
                self._files.sync_folder(self.path.parent)
        except OSError as error:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._release()
            raise ConfigError(f"cannot write {self.path} ({error.strerror}); choose another file with -o") from None
        self._synced = self._clock()
        return self._recover()

    def close(self) -> None:
        """Syncs, closes and unlocks it; a second call does nothing."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                self._file.close()
                self._file = None
                self._release()

    def __enter__(self) -> "OutputFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- lines ---------------------------------------------------------------------------------

    def append(self, line: bytes) -> None:
        """Adds a line, its line break included. One that could not be written whole is taken out again."""
        file = self._opened
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) or 0 :]
        except BaseException as error:
            with suppress(OSError):
                file.truncate(self._end)
                file.seek(self._end)
            if isinstance(error, OSError):
                raise self._failure(error) from None
            raise
        self._end += len(line)
        if self._clock() - self._synced >= _SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """Brings all lines to the medium."""
        try:
            self._files.sync(self._opened.fileno(), self.path)
        except OSError as error:
            raise self._failure(error) from None
        self._synced = self._clock()

    def sort(self, number: Callable[[bytes], int]) -> None:
        """Puts the lines in the order of their numbers, by digest; lines of number 0 come last, as they stood.

        Takes 8 bytes of memory a line, and once more the file's size on disk. A kill leaves the file as it was.
        """
        order, in_order = self._order(number)
        if in_order:
            return
        try:
            self._files.write(self._sorted, self._lines_at(order))
            self._sorted.chmod(self.path.stat().st_mode)
            self._opened.close()  # Windows renames over no open file
            try:
                self._files.rename(self._sorted, self.path)
            finally:
                self._file = self.path.open("r+b", buffering=0)
                self._end = self._file.seek(0, os.SEEK_END)
            self._files.sync_folder(self.path.parent)
        except BaseException as error:
            with suppress(OSError):
                self._sorted.unlink()
            if isinstance(error, OSError):
                raise self._failure(error) from None
            raise

    # ---- helpers -------------------------------------------------------------------------------

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise StoreError(f"{self.path} is closed")
        return self._file

    def _acquire(self) -> None:
        try:
            free = self._lock.acquire()
        except OSError as error:
            raise ConfigError(f"cannot write {self.path} ({error.strerror}); choose another file with -o") from None
        if not free:
            who = holder(self._lock_path)
            by = "another process" if who is None else f"process {who}"
            raise ConfigError(f"{self.path} is written by {by}; wait until that ends, or choose another file with -o")

    def _release(self) -> None:
        with suppress(OSError):
            self._lock_path.unlink()
        self._lock.release()

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write {self.path} ({error.strerror}); mend that and run the same command again: it goes on"
        )

    def _recover(self) -> Iterator[Entry]:
        with suppress(OSError):
            self._sorted.unlink()
        n_entries, end = 0, 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    self._check_torn(line, n_entries)
                    break
                end += len(line)
                if (entry := _entry(line)) is not None:
                    n_entries += 1
                    yield entry
                elif not n_entries:
                    raise ConfigError(f"{self.path} is there and holds no results; choose another file with -o")
        self._end = end
        self._opened.truncate(end)
        self._opened.seek(end)

    def _check_torn(self, tail: bytes, n_entries: int) -> None:
        """What is cut off must be ours: in a file of results, the beginning of one, or blocks not written."""
        ours = tail.startswith(_BEGINNING) or _BEGINNING.startswith(tail) or not tail.strip(b"\0")
        if not n_entries and not ours:
            raise ConfigError(f"{self.path} is there and holds no results; choose another file with -o")

    def _order(self, number: Callable[[bytes], int]) -> "tuple[array[int], bool]":
        """Where the lines begin, in the order of their numbers, and whether they stand in it already."""
        places, rest, last, at, in_order = array("Q"), array("Q"), 0, 0, True
        with self.path.open("rb") as file:
            for line in file:
                entry = _entry(line)
                n = 0 if entry is None else number(entry.digest)
                if n > len(places):
                    places.extend([_NOWHERE] * (n - len(places)))
                if n and places[n - 1] == _NOWHERE:
                    in_order = in_order and n > last and not rest
                    places[n - 1], last = at, n
                else:
                    rest.append(at)
                at += len(line)
        return array("Q", (place for place in places if place != _NOWHERE)) + rest, in_order

    def _lines_at(self, places: "array[int]") -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for place in places:
                file.seek(place)
                yield file.readline()


def entries(path: Path) -> Iterator[Entry]:
    """What an output holds, read without a lock; nothing if it is not there. Raises ConfigError as `OutputFile`."""
    path = _resolved(path)
    if path.exists():
        with path.open("rb") as file:
            yield from filter(None, map(_entry, file))


def _resolved(path: Path) -> Path:
    try:
        found = path.expanduser().resolve()  # two names of one file have one lock
        if found.exists() and not found.is_file():
            raise ConfigError(f"{path} is no file; results go to a file, since a run that was killed goes on from it")
        if not found.parent.is_dir():
            raise ConfigError(f"there is no folder {found.parent}; make it, or choose another file with -o")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot write {path} ({getattr(error, 'strerror', None) or error})") from None
    return found


def _entry(line: bytes) -> Entry | None:
    """What a line of an output says of itself; None for what is none."""
    try:
        document = json.loads(line)
        custom_id, error = document["custom_id"], document["error"]
        digest = bytes.fromhex(document["id"].removeprefix(ID_PREFIX)) if custom_id is None else digest_of(custom_id)
        return Entry(digest, None if error is None else str(error["code"])) if len(digest) == 16 else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
