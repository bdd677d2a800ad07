"""What the header of a GGUF file says, and how a bad one is reported."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge_sir.errors import ModelFileError

__all__ = [
    "AGAIN",
    "CONVERT",
    "OTHER",
    "TOKENS",
    "ArrayInfo",
    "GGUFHeader",
    "MetaValue",
    "RopeScaling",
    "Scalar",
    "file_error",
]

Scalar = bool | int | float | str

TOKENS = "tokenizer.ggml.tokens"
_LONGEST_PROBLEM = 300  # characters, because names and values from a damaged file can be megabytes
_PREDICATES = ("is ", "does ", "cannot ", "has ", "holds ", "claims ", "was ", "computes ")
_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS

AGAIN = "download the file again"
OTHER = "use a text-generating model in GGUF format"
CONVERT = "convert the model again with a current llama.cpp, or use another file"


def file_error(path: Path, problem: str, remedy: str) -> ModelFileError:
    """`<path> <problem>; <remedy>`, one printable line whatever the file holds.

    A problem that is a sentence of its own, not what the file is or does, follows a colon.
    """
    colon = "" if problem.startswith(_PREDICATES) else ":"
    line = f"{path}{colon} {problem[:_LONGEST_PROBLEM]}; {remedy}"
    return ModelFileError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


class RopeScaling(NamedTuple):
    """How the positions were stretched in training: `kind` is none, linear, yarn or longrope."""

    kind: str
    factor: float


@dataclass(frozen=True)
class ArrayInfo:
    """Stands for an array that is too long to keep: its element type (a GGUFValueType) and its length."""

    element_type: int
    n: int


MetaValue = Scalar | tuple[Scalar, ...] | ArrayInfo


@dataclass(frozen=True)
class GGUFHeader:
    """The header of one GGUF file.

    `metadata` holds scalars, strings and arrays of up to 1024 elements (as tuples); longer arrays and all of
    the tokenizer's are `ArrayInfo`. `fingerprint` is the hex SHA-256 of the header bytes and the file size.
    The properties read `metadata` and raise `ModelFileError` where a value is missing or of the wrong type;
    none does after `check_model_file`.
    """

    path: Path
    size_bytes: int
    version: int
    n_tensors: int
    metadata: Mapping[str, MetaValue] = field(repr=False)
    fingerprint: str

    def error(self, problem: str, remedy: str = CONVERT) -> ModelFileError:
        """A `ModelFileError` about this file, to be raised by the caller."""
        return file_error(self.path, problem, remedy)

    def key(self, name: str) -> str:
        """The metadata key of a hyperparameter, e.g. block_count -> llama.block_count."""
        return f"{self.architecture}.{name}"

    def integer(self, key: str, default: int | None = None) -> int:
        """The non-negative integer stored under `key`; without `default` the key must exist."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(f"{key} should be a whole number but is {'missing' if value is None else repr(value)}")
        return value

    def number(self, key: str, default: float) -> float:
        """The finite number stored under `key`."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"{key} should be a finite number but is {value!r}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """The string stored under `key`."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self.error(f"{key} should be a text")
        return value

    def per_layer(self, key: str, default: int | None = None) -> tuple[int, ...]:
        """The integer or integers under `key`, one for each layer."""
        value = self.metadata.get(key)
        if not isinstance(value, tuple):
            return (self.integer(key, default),) * self.n_layer
        whole = [v for v in value if isinstance(v, int) and v >= 0]
        if len(whole) != len(value) or len(value) != self.n_layer:
            raise self.error(f"{key} should hold {self.n_layer} whole numbers, one per layer")
        return tuple(whole)

    @property
    def architecture(self) -> str:
        return self.text("general.architecture", "")

    @property
    def name(self) -> str:
        return self.text("general.name", self.path.stem)

    @property
    def file_type(self) -> int | None:
        """The llama_ftype number of the main quantization, if the file tells it."""
        key = "general.file_type"
        return self.integer(key) if key in self.metadata else None

    @property
    def n_layer(self) -> int:
        n = self.integer(self.key("block_count"))
        if not 1 <= n <= _MAX_LAYERS:
            raise self.error(f"{self.key('block_count')} is {n}, outside 1..{_MAX_LAYERS}")
        return n

    @property
    def n_ctx_train(self) -> int:
        return self.integer(self.key("context_length"))

    @property
    def n_embd(self) -> int:
        return self.integer(self.key("embedding_length"))

    @property
    def n_head(self) -> tuple[int, ...]:
        """Query heads per layer; 0 where a layer has no attention."""
        return self.per_layer(self.key("attention.head_count"), 0)

    @property
    def n_head_kv(self) -> tuple[int, ...]:
        """Key/value heads per layer; 0 where a layer has no attention."""
        key = self.key("attention.head_count_kv")
        return self.per_layer(key) if key in self.metadata else self.n_head

    @property
    def head_dim_k(self) -> int:
        return self.integer(self.key("attention.key_length"), self._default_head_dim)

    @property
    def head_dim_v(self) -> int:
        return self.integer(self.key("attention.value_length"), self._default_head_dim)

    @property
    def _default_head_dim(self) -> int:
        n_head = next((n for n in self.n_head if n), 0)
        return self.n_embd // n_head if n_head else 0

    @property
    def n_swa(self) -> int:
        """The sliding window in tokens, 0 if the file names none."""
        return self.integer(self.key("attention.sliding_window"), 0)

    @property
    def rope_dim(self) -> int:
        """How many dimensions of each head are rotated."""
        return self.integer(self.key("rope.dimension_count"), self.head_dim_k)

    @property
    def rope_scaling(self) -> RopeScaling:
        factor = self.number(self.key("rope.scaling.factor"), self.number(self.key("rope.scale_linear"), 0.0)) or 1.0
        return RopeScaling(self.text(self.key("rope.scaling.type"), "none" if factor == 1.0 else "linear"), factor)

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template", "") or None

    @property
    def tokenizer_model(self) -> str:
        return self.text("tokenizer.ggml.model", "")

    @property
    def warning(self) -> str:
        """What is doubtful about the file though it works; empty if nothing is."""
        if self.tokenizer_model != "gpt2" or self.text("tokenizer.ggml.pre", ""):
            return ""
        return (
            "does not say how texts are split before they become tokens (tokenizer.ggml.pre): llama.cpp splits them as "
            "for GPT-2, and the model may read other tokens than it was trained on; a newer conversion would say it"
        )

    @property
    def n_vocab(self) -> int:
        tokens = self.metadata.get(TOKENS)
        if not isinstance(tokens, ArrayInfo):
            raise self.error(f"{TOKENS} is {'missing' if tokens is None else 'not an array'}")
        return tokens.n

    def kv_bytes_per_cell(self, type_k_bytes: float, type_v_bytes: float) -> float:
        """Bytes one cell takes over all layers, for element sizes in bytes (f16 2.0, q8_0 34/32).

        An upper bound: layers that share their cache or keep a recurrent state instead are counted in full.
        """
        per_head = self.head_dim_k * type_k_bytes + self.head_dim_v * type_v_bytes
        return sum(self.n_head_kv) * per_head
