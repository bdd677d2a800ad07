"""Arrays of whole numbers in few bytes, for what goes to flash every turn.

    version 1 | CRC-32 of the rest 4 | deflate( the heads of all arrays | the values of each )
    head: width 1, whether differences are kept 1, n 4, first 8

Values are kept in the least width that holds them, the lowest byte of all of them first; or the differences to the one
before, where those take less or are mostly the same: of what goes on steadily (positions, born numbers) little is left.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_sir.errors import StateError

__all__ = ["Ints", "bits_of", "from_bits", "from_lean", "to_lean"]

Ints = NDArray[np.int64]

_VERSION = 1
_FRAME = struct.Struct("<BI")
_HEAD = struct.Struct("<B?Iq")
_WIDTHS = (1, 2, 4, 8)
_RAW = -zlib.MAX_WBITS  # deflate alone: the checksum is ours


def to_lean(arrays: Sequence[Ints]) -> bytes:
    """`arrays` of int64, each [n] of its own, as bytes."""
    parts = [_part(array) for array in arrays]
    deflate = zlib.compressobj(9, zlib.DEFLATED, _RAW)
    packed = deflate.compress(b"".join((*(head for head, _ in parts), *(body for _, body in parts)))) + deflate.flush()
    return _FRAME.pack(_VERSION, zlib.crc32(packed)) + packed


def _part(array: Ints) -> tuple[bytes, bytes]:
    """The head and the bytes of one array."""
    first, steps = int(array[0]) if len(array) else 0, np.diff(array)
    is_steady = 2 * np.count_nonzero(np.diff(steps)) < len(steps)
    is_steps = _width(steps) < _width(array) + is_steady
    values = steps if is_steps else array
    width = _width(values)
    body = values.astype(f"<i{width}").view(np.uint8).reshape(-1, width).T.tobytes()
    return _HEAD.pack(width, is_steps, len(array), first), body


def _width(values: Ints) -> int:
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return next(w for w in _WIDTHS if -(1 << (8 * w - 1)) <= low and high < 1 << (8 * w - 1))


def from_lean(data: bytes, n_arrays: int) -> list[Ints]:
    """The arrays of `to_lean`, int64. Raises StateError for any other bytes, and another number of arrays."""
    try:
        version, checksum = _FRAME.unpack_from(data)
        if version != _VERSION:
            raise StateError("these bytes are no log of edge-sir, or of another version")
        packed = memoryview(data)[_FRAME.size :]
        if zlib.crc32(packed) != checksum:
            raise StateError("a log is damaged: its checksum is wrong")
        return _arrays(zlib.decompress(packed, _RAW), n_arrays)
    except (struct.error, zlib.error, ValueError, OverflowError) as error:
        raise StateError(f"these bytes are no log of edge-sir: {error}") from None


def _arrays(payload: bytes, n_arrays: int) -> list[Ints]:
    heads = [_HEAD.unpack_from(payload, i * _HEAD.size) for i in range(n_arrays)]
    at = n_arrays * _HEAD.size
    arrays = []
    for width, is_steps, n, first in heads:
        if width not in _WIDTHS:
            raise ValueError("an array is written in another way")
        if n == 0:  # most of a small log's are empty, and there are thousands of those
            arrays.append(np.empty(0, np.int64))
            continue
        n_values = n - 1 if is_steps else n
        planes = np.frombuffer(payload, np.uint8, n_values * width, at).reshape(width, n_values)
        values = np.ascontiguousarray(planes.T).view(f"<i{width}").reshape(n_values).astype(np.int64)
        arrays.append(np.cumsum(np.concatenate([[first], values])) if is_steps else values)
        at += n_values * width
    if at != len(payload):
        raise ValueError("it has another length")
    return arrays


def bits_of(column: NDArray[Any]) -> Ints:
    """A column [n] as int64 [n]. Of float32 the bits: it comes back as it was, whichever NaN it is."""
    return (np.ascontiguousarray(column).view(np.int32) if column.dtype.kind == "f" else column).astype(np.int64)


def from_bits(values: Ints, dtype: DTypeLike) -> NDArray[Any]:
    """The column that `bits_of` was given, [n]. Raises ValueError for numbers that this dtype does not hold."""
    kind = np.dtype(dtype)
    is_float = kind.kind == "f"
    bits: NDArray[Any] = values.astype(np.int32 if is_float else kind)
    if np.any(bits != values):
        raise ValueError(f"a number is too large for a column of {kind}")
    return bits.view(kind) if is_float else bits
