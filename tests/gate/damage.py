"""GGUF headers damaged in ways that happen (a bad disk, a bad converter) and in ways that someone may try."""

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf

# What breaks integers and floats, as they are stored.
_WILD_INTS = (0, 1, 2, 3, 5, 7, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
_WILD_FLOATS = (0.0, -1.0, 1e-38, 1e38, float("inf"), float("-inf"), float("nan"))
_COUNTS = (0, 1, 2**20, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
_SCALINGS = (b"yarm", b"", b"dynamic", b"ntk", b"none ", b"\xff\xfe", b"linear\0", b"su" * 500)


@dataclass(frozen=True)
class Field:
    """Where a metadata entry lies in the file: its name, type and value, as byte ranges."""

    name: str
    name_at: slice
    type_at: slice
    value_at: slice
    is_array: bool


@dataclass(frozen=True)
class Original:
    """A sound file and the places in its header."""

    path: Path
    data: bytes
    fields: tuple[Field, ...]
    tensors_at: slice
    data_at: int

    @classmethod
    def read(cls, path: Path) -> "Original":
        reader = gguf.GGUFReader(path)
        fields = []
        for entry in reader.fields.values():
            if entry.name.startswith("GGUF."):
                continue
            sizes = [part.nbytes for part in entry.parts]
            start = entry.offset + sum(sizes[:2])
            name_at = slice(entry.offset, start)
            type_at = slice(start, start + 4)
            is_array = entry.types[0] == gguf.GGUFValueType.ARRAY
            value_at = slice(start + 4, entry.offset + sum(sizes))
            fields.append(Field(entry.name, name_at, type_at, value_at, is_array))
        infos = [tensor.field for tensor in reader.tensors]
        tensors_at = slice(infos[0].offset, infos[-1].offset + sum(int(part.nbytes) for part in infos[-1].parts))
        return cls(path, path.read_bytes(), tuple(fields), tensors_at, int(reader.data_offset))

    def hyperparameters(self) -> list[Field]:
        return [f for f in self.fields if not f.is_array and not f.name.startswith(("tokenizer.chat", "general.name"))]


def _with(data: bytes, at: slice, new: bytes) -> bytes:
    return data[: at.start] + new + data[at.stop :]


def _flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def flipped_anywhere(original: Original, rng: random.Random) -> bytes:
    return _flip(original.data, rng.randrange(original.tensors_at.stop), rng.randrange(8))


def flipped_hyperparameter(original: Original, rng: random.Random) -> bytes:
    field = rng.choice(original.hyperparameters())
    return _flip(original.data, rng.randrange(field.name_at.start, field.value_at.stop), rng.randrange(8))


def flipped_tensor_description(original: Original, rng: random.Random) -> bytes:
    at = original.tensors_at
    return _flip(original.data, rng.randrange(at.start, at.stop), rng.randrange(8))


def huge_count(original: Original, rng: random.Random) -> bytes:
    """Of tensors, of entries, of an array's elements, of a string's bytes."""
    places = [8, 16, *(f.value_at.start + 4 for f in original.fields if f.is_array)]
    places += [f.name_at.start for f in original.fields]
    at = rng.choice(places)
    return _with(original.data, slice(at, at + 8), struct.pack("<Q", rng.choice(_COUNTS)))


def wrong_type(original: Original, rng: random.Random) -> bytes:
    """A type code that is another one's, or nobody's."""
    field = rng.choice(original.fields)
    return _with(original.data, field.type_at, struct.pack("<I", rng.choice((*range(14), 255, 2**32 - 1))))


def wild_value(original: Original, rng: random.Random) -> bytes:
    """A number that no model has, in a field of four bytes; all else stays sound."""
    fields = [f for f in original.hyperparameters() if f.value_at.stop - f.value_at.start == 4]
    field = rng.choice(fields)
    is_float = original.data[field.type_at] == struct.pack("<I", gguf.GGUFValueType.FLOAT32)
    value = struct.pack("<f", rng.choice(_WILD_FLOATS)) if is_float else struct.pack("<I", rng.choice(_WILD_INTS))
    return _with(original.data, field.value_at, value)


def unknown_scaling(original: Original, rng: random.Random) -> bytes:
    """RoPE scaling of an unknown type or by a wild factor. The header grows, so it is padded again."""
    arch = next(original.data[f.value_at][8:] for f in original.fields if f.name == "general.architecture")
    if rng.random() < 0.5:
        value = rng.choice(_SCALINGS)
        entry = _entry(arch + b".rope.scaling.type", 8, struct.pack("<Q", len(value)) + value)
    else:
        entry = _entry(arch + b".rope.scaling.factor", 6, struct.pack("<f", rng.choice(_WILD_FLOATS)))
    n_kv = struct.pack("<Q", struct.unpack("<Q", original.data[16:24])[0] + 1)
    head = original.data[:16] + n_kv + entry + original.data[24 : original.tensors_at.stop]
    return head + bytes(-len(head) % 32) + original.data[original.data_at :]


def _entry(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def cut_short(original: Original, rng: random.Random) -> bytes:
    return original.data[: rng.randrange(len(original.data))]


KINDS: dict[str, tuple[Callable[[Original, random.Random], bytes], int]] = {
    "flipped anywhere": (flipped_anywhere, 70),
    "flipped hyperparameter": (flipped_hyperparameter, 200),
    "flipped tensor description": (flipped_tensor_description, 180),
    "huge count": (huge_count, 150),
    "wrong type": (wrong_type, 150),
    "wild value": (wild_value, 150),
    "unknown scaling": (unknown_scaling, 50),
    "cut short": (cut_short, 50),
}


def damaged(originals: list[Original], seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """A thousand damaged files, each with the name of its kind."""
    rng = random.Random(seed)
    for name, (make, n) in KINDS.items():
        for i in range(n):
            original = originals[i % len(originals)]
            data = make(original, rng)
            yield f"{name} of {original.path.stem}, {i}", data
