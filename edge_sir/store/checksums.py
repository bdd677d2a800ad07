"""Digests of parts of snapshots and of blobs. What is sealed carries its own, and is not hashed again to be written."""

import hashlib

__all__ = ["digest", "is_intact"]

_MAGIC = b"edgesir1"  # of core.sealed: the digest of all that follows stands in the 32 bytes after it
_BODY = len(_MAGIC) + 32


def digest(data: bytes | memoryview) -> bytes:
    """SHA-256: of sealed bytes the one they carry, of others their own."""
    if data[: len(_MAGIC)] == _MAGIC and len(data) >= _BODY:
        return bytes(data[len(_MAGIC) : _BODY])
    return hashlib.sha256(data).digest()


def is_intact(data: bytes | memoryview, expected: bytes) -> bool:
    """Whether these are the bytes that `digest` gave `expected` for."""
    if digest(data) != expected:
        return False
    return data[: len(_MAGIC)] != _MAGIC or len(data) < _BODY or hashlib.sha256(data[_BODY:]).digest() == expected
