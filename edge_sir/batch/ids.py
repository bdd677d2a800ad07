"""A number for each of millions of ids, in few bytes: the ids themselves are not kept, 16 bytes stand for each."""

from array import array

__all__ = ["IdTable"]

_BYTES = 16
_FULL = (2, 3)  # most of the slots that are in use: above that, a search looks at too many


class IdTable:
    """Numbers from 1 to 2**32 - 1 by digest of 16 bytes; 0 stands for one that is not there.

    Open addressing over two arrays: 20 bytes a slot, which is 30 to 60 bytes an id, and 1.5 times that while it grows.
    """

    def __init__(self) -> None:
        self._n = 0
        self._make(1 << 10)

    def __len__(self) -> int:
        return self._n

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return len(self._digests) + self._values.itemsize * len(self._values)

    def get(self, digest: bytes) -> int:
        """The digest's number, 0 for none."""
        return self._values[self._slot(digest)]

    def set(self, digest: bytes, value: int) -> None:
        """Gives the digest a number from 1 on, in place of an earlier one."""
        slot = self._slot(digest)
        if not self._values[slot]:
            if _FULL[1] * (self._n + 1) > _FULL[0] * len(self._values):
                self._grow()
                slot = self._slot(digest)
            self._digests[_BYTES * slot : _BYTES * (slot + 1)] = digest
            self._n += 1
        self._values[slot] = value

    def _make(self, n_slots: int) -> None:
        self._mask = n_slots - 1
        self._digests = bytearray(_BYTES * n_slots)
        self._values = array("I", bytes(array("I").itemsize * n_slots))

    def _slot(self, digest: bytes) -> int:
        """Where the digest is, or where it would be put."""
        slot = int.from_bytes(digest[:8], "little") & self._mask
        while self._values[slot] and self._digests[_BYTES * slot : _BYTES * (slot + 1)] != digest:
            slot = (slot + 1) & self._mask
        return slot

    def _grow(self) -> None:
        digests, values = self._digests, self._values
        self._make(2 * len(values))
        for i, value in enumerate(values):
            if value:
                digest = bytes(digests[_BYTES * i : _BYTES * (i + 1)])
                slot = self._slot(digest)
                self._digests[_BYTES * slot : _BYTES * (slot + 1)] = digest
                self._values[slot] = value
