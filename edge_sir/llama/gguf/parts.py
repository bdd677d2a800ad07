"""Models that were split into files NAME-00001-of-00003.gguf and so on; llama.cpp loads them from the first."""

import hashlib
from dataclasses import replace

from edge_sir.llama.gguf.header import AGAIN, GGUFHeader
from edge_sir.llama.gguf.reader import read_header

__all__ = ["whole"]

_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"
_MOST = 99_999  # llama_split_path writes five digits


def whole(header: GGUFHeader) -> GGUFHeader:
    """The header with what is in all parts counted: size_bytes, n_tensors, fingerprint; itself if there are no parts.

    Raises ModelFileError if this is not the first part, or if a part is missing, damaged or of another model.
    """
    n_parts = header.integer(_COUNT, 1)
    if n_parts <= 1:
        return header
    number = header.integer(_NUMBER)
    name = _prefix(header, number, n_parts)
    if number:
        remedy = f"give {_name(name, 0, n_parts)} instead" if name else "give the first part, whose name ends in -00001"
        raise header.error(f"is part {number + 1} of {n_parts} of a model", remedy)
    if not name:
        raise header.error(
            f"is the first of {n_parts} parts of a model but its name does not end in {_name('', 0, n_parts)}",
            "give all parts the names that they had",
        )
    parts = [header, *(_read(header, _name(name, i, n_parts), i, n_parts) for i in range(1, n_parts))]
    n_tensors = sum(part.n_tensors for part in parts)
    if header.integer(_TENSORS, n_tensors) != n_tensors:
        raise header.error(f"is the first of {n_parts} parts that hold {n_tensors} tensors in all, not those it names")
    digest = hashlib.sha256("".join(part.fingerprint for part in parts).encode())
    size_bytes = sum(part.size_bytes for part in parts)
    return replace(header, size_bytes=size_bytes, n_tensors=n_tensors, fingerprint=digest.hexdigest())


def _name(prefix: str, number: int, n_parts: int) -> str:
    """llama.cpp's name of a part, counted from 0 here and from 1 there (llama_split_path)."""
    return f"{prefix}-{number + 1:05d}-of-{n_parts:05d}.gguf"


def _prefix(header: GGUFHeader, number: int, n_parts: int) -> str:
    """What is before the number in the name of this part; "" if it is not named like one."""
    ending = _name("", number, n_parts)
    return header.path.name.removesuffix(ending) if header.path.name.endswith(ending) and n_parts <= _MOST else ""


def _read(first: GGUFHeader, name: str, number: int, n_parts: int) -> GGUFHeader:
    path = first.path.with_name(name)
    if not path.exists():
        raise first.error(
            f"is the first of {n_parts} parts of a model, but {name} is missing", "put it beside this file"
        )
    part = read_header(path)
    if part.metadata.get(_NUMBER) != number or part.metadata.get(_COUNT) != n_parts:
        raise part.error(f"is not part {number + 1} of {n_parts} of {first.path.name}", AGAIN)
    return part
