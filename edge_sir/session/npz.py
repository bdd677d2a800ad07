"""Numbers, texts and arrays as bytes: an npz file in memory, without pickled objects."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_npz", "to_npz"]

_SCALARS = "scalars"


def to_npz(version: int, scalars: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """scalars: numbers, texts and lists, as JSON has them. version: of their meaning."""
    text = json.dumps({"format": version} | dict(scalars)).encode()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{_SCALARS: np.frombuffer(text, np.uint8), **arrays})
    return buffer.getvalue()


def from_npz(version: int, data: bytes | memoryview) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The scalars and arrays of `to_npz`.

    Raises ValueError for another version, and what numpy and zipfile raise for damaged bytes, which is a dozen kinds.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    scalars = json.loads(arrays.pop(_SCALARS).tobytes())
    if scalars.pop("format") != version:
        raise ValueError("it was written by another version")
    return scalars, arrays
