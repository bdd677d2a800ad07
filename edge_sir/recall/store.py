"""Bytes kept outside the cells, under one bound for the whole process: what was used least recently leaves first."""

import functools
import threading
from collections import OrderedDict

import psutil

__all__ = ["ByteStore", "default_bound", "process_store"]

_SHARE = 4  # a quarter of the memory that is free


def default_bound() -> int:
    """A quarter of the memory that is free now, in bytes."""
    return int(psutil.virtual_memory().available) // _SHARE


class ByteStore:
    """Blobs by key. `bound`: the most bytes kept, of all its users together; 0 keeps none.

    Safe to use from several threads. Who asks for a blob that has left gets None, and must do without.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._blobs: OrderedDict[int, bytes] = OrderedDict()  # the least recently used first
        self._n_bytes = 0
        self._next = 0
        self._lock = threading.RLock()  # a signal's handler may close a chat in the middle of another one's call

    @property
    def bound(self) -> int:
        """The most bytes kept."""
        return self._bound

    @bound.setter
    def bound(self, n_bytes: int) -> None:
        with self._lock:
            self._bound = n_bytes
            self._make_room()

    @property
    def n_bytes(self) -> int:
        """Bytes kept at present."""
        return self._n_bytes

    def put(self, blob: bytes, key: int | None = None) -> int:
        """Keeps a blob and returns its key; one that is larger than the bound leaves at once, an empty one is none.

        key: the one that it had before it left; by default it gets a new one.
        """
        with self._lock:
            if key is None:
                self._next += 1
                key = self._next
            if not blob or key in self._blobs:
                return key
            self._blobs[key] = blob
            self._n_bytes += len(blob)
            self._make_room()
            return key

    def get(self, key: int) -> bytes | None:
        """The blob, which counts as used now; None if it has left."""
        with self._lock:
            if key in self._blobs:
                self._blobs.move_to_end(key)
            return self._blobs.get(key)

    def size(self, key: int) -> int:
        """Bytes of the blob, 0 if it has left."""
        return len(self._blobs.get(key, b""))

    def __contains__(self, key: int) -> bool:
        return key in self._blobs

    def discard(self, key: int) -> None:
        """Takes the blob out, if it is there."""
        with self._lock:
            self._n_bytes -= len(self._blobs.pop(key, b""))

    def _make_room(self) -> None:
        while self._n_bytes > self._bound:
            _, blob = self._blobs.popitem(last=False)
            self._n_bytes -= len(blob)


_first_use = threading.Lock()


def process_store() -> ByteStore:
    """The one that all conversations of the process share. Its bound is taken when the first of them asks for it.

    Memory is the process's, so the bound is, too: `--archive` of any chat sets it for all, and the last one counts.
    """
    with _first_use:  # two threads would make one each
        return _process_store()


@functools.cache
def _process_store() -> ByteStore:
    return ByteStore(default_bound())
