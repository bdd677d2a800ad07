"""Several byte strings in one: each after its length, four bytes, little-endian."""

from collections.abc import Iterable

from edge_sir.errors import StoreError

__all__ = ["pack", "unpack"]


def pack(items: Iterable[bytes]) -> bytes:
    """One byte string for all of them; empty for none."""
    return b"".join(part for item in items for part in (len(item).to_bytes(4, "little"), item))


def unpack(packed: bytes) -> list[bytes]:
    """What `pack` took. Raises StoreError for other bytes."""
    items, at = [], 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "little")
        if end > len(packed):
            raise StoreError("a record's entries are damaged")
        items.append(packed[at + 4 : end])
        at = end
    return items
