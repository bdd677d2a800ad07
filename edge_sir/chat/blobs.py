"""The cells of archived pieces on disk: where an archive finds what has left memory, or never was in it."""

from collections.abc import Iterable, Mapping

from edge_sir.errors import StoreError
from edge_sir.store.session import SessionStore

__all__ = ["Blobs"]


class Blobs:
    """An archive's `Disk`, in one session of the store. Pieces go by their numbers."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._numbers = set(store.blob_keys())

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, number: int) -> bytes | None:
        """The cells of a piece; None if they are missing or damaged."""
        try:
            return self._store.blob(number)
        except StoreError:
            return None

    def put(self, cells: Mapping[int, bytes]) -> None:
        """Writes cells, durable on return. Raises StoreError."""
        if cells:
            self._store.put_blobs(cells)
            self._numbers |= cells.keys()

    def note_dropped(self, numbers: Iterable[int]) -> None:
        """The store has removed these with a record."""
        self._numbers.difference_update(numbers)
