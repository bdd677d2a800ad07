"""A lock between processes: a file that the system unlocks when its holder ends, however it ends.

filelock's would empty the file that names the holder, and a forked child would unlock its parent's.
"""

import os
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path

from edge_sir.store.files import FILE_MODE

__all__ = ["Lock", "holder"]

_PAUSE_S = 0.005
_LOCKED_AT = 1 << 30  # Windows locks bytes, and what it locks cannot be read: some far behind the pid

if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_AT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Lock:
    """Held between `acquire` and `release`, also against others of this process. Not counted, not for two threads."""

    def __init__(self, path: Path, *, names_holder: bool = False) -> None:
        """names_holder: the file says which process holds it, see `holder`."""
        self._path, self._names_holder = path, names_holder
        self._descriptor: int | None = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Tries for so many seconds. Raises OSError if the file cannot be opened."""
        end = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE_S)
        return True

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            if not _try(descriptor) or not self._is_named(descriptor):
                os.close(descriptor)
                return False
            if self._names_holder:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        return True

    def _is_named(self, descriptor: int) -> bool:
        """Whether the file still has its name: its session may have been removed since it was opened."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Does nothing if it is not held."""
        _held.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _release_in_child() -> None:
    """A forked child shares its parent's locks; it closes its end and unlocks nothing."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


def holder(path: Path) -> int | None:
    """The process that a lock's file names, if any."""
    try:
        return int(path.read_bytes()[:20])
    except (OSError, ValueError):
        return None
