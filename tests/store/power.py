"""What a disk holds after a power cut: everything that was done to files is noted, and replayed with syncs or without.

The notes come from two places: edge_sir.store.files, and SQLite itself, whose file layer (VFS) is watched in memory.
"""

import ctypes
import ctypes.util
import pickle
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_sir.store.files import Files

Step = tuple[
    Any, ...
]  # ("create", path), ("write", path, offset, bytes), ("truncate", path, size), ("sync", path), ...
_P, _I = ctypes.c_void_p, ctypes.c_int
_VFS = [("version", _I), ("size", _I), ("longest", _I), ("next", _P), ("name", ctypes.c_char_p), ("data", _P)]
_VFS_CALLS = ("open", "delete", "access", "full_path")
_FILE_CALLS = ("close", "read", "write", "truncate", "sync", *(f"other{n}" for n in range(13)))
_OPEN = ctypes.CFUNCTYPE(_I, _P, _P, _P, _I, _P)  # SQLite keeps the name's address as long as the file is open
_DELETE = ctypes.CFUNCTYPE(_I, _P, ctypes.c_char_p, _I)
_WRITE = ctypes.CFUNCTYPE(_I, _P, _P, _I, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(_I, _P, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(_I, _P, _I)


class Vfs(ctypes.Structure):
    _fields_ = [*_VFS, *((name, _P) for name in _VFS_CALLS)]


class Calls(ctypes.Structure):
    _fields_ = [("version", _I), *((name, _P) for name in _FILE_CALLS)]


class File(ctypes.Structure):
    _fields_ = [("calls", ctypes.POINTER(Calls))]


steps: list[Step] = []
_there: set[str] = set()  # files that are noted as made
_kept: list[object] = []  # callbacks and tables that SQLite points to
_paths: dict[int, str] = {}
_synced: set[int] = set()  # open files that were synced before
_watched: dict[int, Calls] = {}


def _create(path: str) -> None:
    if path not in _there:
        _there.add(path)
        steps.append(("create", path))


def _unlink(path: str) -> None:
    _there.discard(path)
    steps.append(("unlink", path))


def watch_sqlite() -> None:
    """From now on everything that SQLite does to files in this process is noted."""
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    open_, delete = _OPEN(vfs.open), _DELETE(vfs.delete)

    def opened(self: int, name: int | None, file: int, flags: int, out: int) -> int:
        result = open_(self, name, file, flags, out)
        if result == 0 and name:
            path = _paths[file] = ctypes.string_at(name).decode()
            _synced.discard(file)
            _create(path)
            _watch_file(File.from_address(file))
        return result

    def deleted(self: int, name: bytes, durably: int) -> int:
        _unlink(name.decode())
        if durably:
            steps.append(("sync folder", str(Path(name.decode()).parent)))
        return delete(self, name, durably)

    callbacks = _OPEN(opened), _DELETE(deleted)
    _kept.extend((open_, delete, *callbacks))
    vfs.open, vfs.delete = (ctypes.cast(callback, _P).value for callback in callbacks)


def _watch_file(file: File) -> None:
    original = ctypes.addressof(file.calls.contents)
    if original not in _watched:
        calls = Calls.from_buffer_copy(file.calls.contents)
        write, truncate, sync = _WRITE(calls.write), _TRUNCATE(calls.truncate), _SYNC(calls.sync)

        def written(file: int, data: int, size: int, offset: int) -> int:
            steps.append(("write", _paths[file], offset, ctypes.string_at(data, size)))
            return write(file, data, size, offset)

        def truncated(file: int, size: int) -> int:
            steps.append(("truncate", _paths[file], size))
            return truncate(file, size)

        def synced(file: int, flags: int) -> int:
            result = sync(file, flags)
            steps.append(("sync", _paths[file]))
            if _paths[file].endswith(("-wal", "-journal")) and file not in _synced:
                steps.append(("sync folder", str(Path(_paths[file]).parent)))  # SQLite's own, after a log's first sync
                _synced.add(file)
            return result

        callbacks = _WRITE(written), _TRUNCATE(truncated), _SYNC(synced)
        _kept.extend((write, truncate, sync, *callbacks))
        calls.write, calls.truncate, calls.sync = (ctypes.cast(callback, _P).value for callback in callbacks)
        _watched[original] = calls
    file.calls = ctypes.pointer(_watched[original])


class NotedFiles(Files):
    """Files whose steps are noted."""

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        _create(str(path))
        steps.extend((("truncate", str(path), 0), ("write", str(path), 0, data)))
        super().write(path, [data])

    def sync(self, descriptor: int, path: Path) -> None:
        super().sync(descriptor, path)
        if not path.is_dir():
            steps.append(("sync", str(path)))
            return
        for file in path.iterdir():  # made with no note
            if file.is_file():
                _create(str(file))
        steps.append(("sync folder", str(path)))

    def rename(self, source: Path, target: Path) -> None:
        _there.discard(str(source))
        _there.add(str(target))
        steps.append(("rename", str(source), str(target)))
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        _unlink(str(path))


def note(*what: object) -> None:
    """Notes something that is no step on files."""
    steps.append(("note", *what))


def save(path: str) -> None:
    """Writes all notes to a file."""
    Path(path).write_bytes(pickle.dumps(steps))


class Inode:
    """A file's content: as programs see it, and as it is on the medium."""

    def __init__(self) -> None:
        self.seen, self.durable = bytearray(), bytearray()
        self.pending: list[Step] = []

    def apply(self, content: bytearray, step: Step) -> None:
        if step[0] == "truncate":
            del content[step[2] :]
            content.extend(bytes(step[2] - len(content)))
            return
        _, _, offset, data = step
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def after_cut(self, random_: random.Random | None) -> bytes:
        """On the medium; with `random_` some of what was not synced is there, too, a write perhaps in part."""
        content = bytearray(self.durable)
        for step in self.pending if random_ else ():
            if random_.random() < 0.5:
                if step[0] == "write" and random_.random() < 0.3:
                    step = (*step[:3], step[3][: random_.randrange(len(step[3]) // 512 + 1) * 512])
                self.apply(content, step)
        return bytes(content)


class Disk:
    """A disk that steps are applied to, and whose power can be cut."""

    def __init__(self) -> None:
        self.seen: dict[str, Inode] = {}
        self.durable: dict[str, Inode] = {}
        self.pending: dict[str, list[Step]] = {}  # of a folder's names

    def step(self, step: Step) -> bool:
        """Applies a step; whether something became durable."""
        kind, path = step[0], str(step[1])
        if kind in ("write", "truncate"):
            self.seen[path].apply(self.seen[path].seen, step)
            self.seen[path].pending.append(step)
        elif kind == "sync":
            if path in self.seen:
                inode = self.seen[path]
                inode.durable, inode.pending = bytearray(inode.seen), []
        elif kind == "sync folder":
            for pending in self.pending.pop(path, []):
                self._name(self.durable, pending)
        elif kind != "note":
            bound = (*step, self.seen.get(path) or Inode())
            self._name(self.seen, bound)
            self.pending.setdefault(str(Path(path).parent), []).append(bound)
        return kind.startswith("sync")

    def _name(self, names: dict[str, Inode], step: Step) -> None:
        if step[0] == "create":
            names.setdefault(step[1], step[-1])
        elif step[0] == "unlink":
            names.pop(step[1], None)
        else:
            names.pop(step[1], None)
            names[step[2]] = step[-1]

    def cut(self, random_: random.Random | None = None) -> dict[str, bytes]:
        """The files after a power cut. random_: some of what was not synced has reached the medium, names in order."""
        names = dict(self.durable)
        for pending in self.pending.values() if random_ else ():
            for step in pending[: random_.randrange(len(pending) + 1)]:
                self._name(names, step)
        return {path: inode.after_cut(random_) for path, inode in names.items()}


if sys.platform == "win32":
    raise ImportError("SQLite's file layer is another one on Windows")
