"""What edge-sir wants to know about a GGUF file before llama.cpp sees it.

llama.cpp guards its loader with assertions, so many damaged or unusual files end the whole process instead
of raising. `check_model_file` reads the header only and turns each such file into a `ModelFileError`.

The parsing is ours because `gguf.GGUFReader` makes a numpy view of every array element: it took 2.6 s for a
vocabulary of 49,152 tokens and 12.6 s for one of 262,144, where `check_model_file` takes 0.03 s and 0.13 s (one core).
"""

import hashlib
import math
import mmap
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import gguf

from edge_sir.errors import ModelFileError

__all__ = ["ArrayInfo", "GGUFHeader", "RopeScaling", "check_model_file", "read_header"]

Scalar = bool | int | float | str

_TOKENS = "tokenizer.ggml.tokens"
_LONGEST_KEPT_ARRAY = 1024  # twice the most layers llama.cpp allows: every per-layer list is kept
_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MAX_NAME_BYTES = 63  # GGML_MAX_NAME - 1
_TENSOR_ALIGNMENT = 32  # of ggml's CPU buffers, into which the file is mapped
_MAX_WIDTH = 1 << 20  # of an embedding or a head; no model comes near
_MAX_I32 = (1 << 31) - 1  # positions and token ids are int32 in llama.cpp

_SCALAR_TYPES = ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64", "FLOAT32", "FLOAT64", "BOOL")
_SCALAR_CODES = {int(gguf.GGUFValueType[t]): code for t, code in zip(_SCALAR_TYPES, "BbHhIiQqfd?", strict=True)}
_STRING, _ARRAY = int(gguf.GGUFValueType.STRING), int(gguf.GGUFValueType.ARRAY)
_U32, _U64 = int(gguf.GGUFValueType.UINT32), int(gguf.GGUFValueType.UINT64)

# Tensor type -> (elements, bytes) of a block; Q2_0 is newer than the gguf package.
_BLOCKS: dict[int, tuple[int, int]] = {42: (64, 18), **{int(t): b for t, b in gguf.GGML_QUANT_SIZES.items()}}
# llama.cpp stores lookup tables in these but has no matrix product for them: a weight like that is a segfault.
_NOT_WEIGHTS = frozenset(int(gguf.GGMLQuantizationType[t]) for t in ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"))
_LOOKUP_TABLES = ("tid2eid", "d2t")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Architectures of llama.cpp that the gguf package does not list yet.
_NEWER_ARCHS = _words(
    "bailingmoe3 cohere2moe deepseek32 deepseek4 dflash dots3note eagle3 gemma4-assistant glm5-next granite_swa "
    "graniteswitch hrm_text hy_v3 hy_v4 kimi-k3 laguna maple mellum minimax-01 minimax-m3 muse-glimmer nanbeige "
    "pockettts qwen3tts qwen4exp spark2_5 talkie"
)
_KNOWN_ARCHS = frozenset(gguf.MODEL_ARCH_NAMES.values()) | _NEWER_ARCHS
_WITHOUT_ATTENTION = _words("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7")
_WITHOUT_ROPE = _WITHOUT_ATTENTION | _words(
    "gpt2 gptj mpt refact bloom jamba jais nemotron_h nemotron_h_moe kimi-linear kimi-k3 glm5-next"
)
_CHAT_TOKENIZERS = _words("llama gpt2 gemma4 t5 plamo2 hybriddna whitespace")
_CANNOT_CHAT = {
    arch: kind
    for kind, archs in {
        "an embedding model": "bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 modern-bert neo-bert eurobert "
        "gemma-embedding llama-embed t5encoder",
        "an encoder-decoder model": "t5",
        "an image or audio projector": "clip",
        "an audio model": "wavtokenizer-dec qwen3tts pockettts",
        "a diffusion model": "dream llada llada-moe rnd1",
        "a draft model": "eagle3 dflash gemma4-assistant",
    }.items()
    for arch in _words(archs)
}
_TYPES_THAT_CANNOT_CHAT = {
    "adapter": "a LoRA adapter, not a model,",
    "imatrix": "an importance matrix, not a model,",
    "mmproj": "an image or audio projector",
}
_LOOKS_LIKE = {
    b"PK\x03\x04": "a zip archive such as a PyTorch checkpoint",
    b"\x80\x02": "a pickled PyTorch checkpoint",
    b"version https://git-lfs": "a git-lfs pointer instead of the file itself",
    b"<": "an HTML page, as a failed download leaves it",
    b"{": "a JSON text, as a failed download leaves it",
    b"tjgg": "a llama.cpp model from before GGUF",
    b"lmgg": "a llama.cpp model from before GGUF",
    b"\x1f\x8b": "a gzip archive",
}

_AGAIN = "download the file again"
_OTHER = "use a text-generating model in GGUF format"
_CONVERT = "convert the model again with a current llama.cpp, or use another file"


def _error(path: Path, problem: str, remedy: str) -> ModelFileError:
    line = f"{path}: {problem}; {remedy}"
    return ModelFileError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


class RopeScaling(NamedTuple):
    """How the positions were stretched in training: `kind` is none, linear, yarn or longrope."""

    kind: str
    factor: float


class ArrayInfo(NamedTuple):
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

    def error(self, problem: str, remedy: str = _CONVERT) -> ModelFileError:
        """A `ModelFileError` about this file, to be raised by the caller."""
        return _error(self.path, problem, remedy)

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
        if not isinstance(value, tuple) or isinstance(value, ArrayInfo):
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
        return self.integer(self.key("block_count"))

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
    def n_vocab(self) -> int:
        tokens = self.metadata.get(_TOKENS)
        if not isinstance(tokens, ArrayInfo):
            raise self.error(f"{_TOKENS} is {'missing' if tokens is None else 'not an array'}")
        return tokens.n

    def kv_bytes_per_cell(self, type_k_bytes: float, type_v_bytes: float) -> float:
        """Bytes one cell takes over all layers, for element sizes in bytes (f16 2.0, q8_0 34/32).

        An upper bound: layers that share their cache or keep a recurrent state instead are counted in full.
        """
        per_head = self.head_dim_k * type_k_bytes + self.head_dim_v * type_v_bytes
        return sum(self.n_head_kv) * per_head


class _Reader:
    """A little-endian cursor over the mapped file that cannot leave it."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def error(self, problem: str, remedy: str = _AGAIN) -> ModelFileError:
        return _error(self.path, problem, remedy)

    def ends_in(self, what: str) -> ModelFileError:
        return self.error(f"the file of {len(self.data)} bytes ends inside {what}: it is truncated or damaged")

    def scalars(self, kind: int, n: int, what: str) -> tuple[bool | int | float, ...]:
        layout = f"<{_SCALAR_CODES[kind]}"
        n_bytes = n * struct.calcsize(layout)
        if n_bytes > len(self.data) - self.at:
            raise self.ends_in(what)
        start, self.at = self.at, self.at + n_bytes
        return struct.unpack_from(f"<{n}{layout[1]}", self.data, start) if n <= _LONGEST_KEPT_ARRAY else ()

    def count(self, what: str, kind: int = _U64) -> int:
        return int(self.scalars(kind, 1, what)[0])

    def strings(self, n: int, what: str, keep: bool = True) -> list[bytes]:
        """The next `n` strings, or, skipping them twice as fast, none."""
        data, at, size = self.data, self.at, len(self.data)
        length_at = struct.Struct("<Q").unpack_from
        found = []
        for _ in range(n):
            if at + 8 > size:
                raise self.ends_in(what)
            start = at + 8
            at = start + length_at(data, at)[0]
            if at > size:
                raise self.ends_in(what)
            if keep:
                found.append(data[start:at])
        self.at = at
        return found

    def string(self, what: str) -> str:
        return self.strings(1, what)[0].decode("utf-8", "backslashreplace")


def _map_file(path: Path) -> mmap.mmap:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _error(path, "is a directory", "name the .gguf file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise _error(path, "is not a regular file", "name a .gguf file")
        if status.st_size == 0:
            raise _error(path, "is empty", _AGAIN)
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise _error(path, "does not exist", "check the path or download the model first") from None
    except (OSError, ValueError) as reason:
        text = getattr(reason, "strerror", None) or str(reason)
        raise _error(path, f"cannot be read ({text})", "check the path and its permissions") from None


def _check_magic(reader: _Reader) -> int:
    """The GGUF version, if the file is a GGUF file that this machine can read."""
    head = reader.data[:512]
    if head[:4] != b"GGUF":
        text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        kind = "a safetensors file" if head[8:10] == b'{"' else None
        kind = kind or next(
            (k for start, k in _LOOKS_LIKE.items() if head.startswith(start) or text.startswith(start)), None
        )
        raise reader.error(f"is not a GGUF file{f' but looks like {kind}' if kind else ''}", _OTHER)
    reader.at = 4
    version = reader.count("the version", _U32)
    if version and version & 0xFFFF == 0:
        raise reader.error("is a big-endian GGUF file", "use a little-endian file")
    if version not in (2, 3):
        raise reader.error(f"has GGUF version {version}, but only 2 and 3 can be read", _CONVERT)
    return version


def _read_array(reader: _Reader, key: str, tokens: list[bytes]) -> MetaValue:
    kind, n = reader.count(key, _U32), reader.count(key)
    keep = n <= _LONGEST_KEPT_ARRAY and not key.startswith("tokenizer.")
    values: tuple[Scalar, ...]
    if kind == _STRING:
        found = reader.strings(n, key, keep=keep or key == _TOKENS)
        if key == _TOKENS:
            tokens += found
        values = tuple(text.decode("utf-8", "backslashreplace") for text in found) if keep else ()
    elif kind in _SCALAR_CODES:
        values = reader.scalars(kind, n, key)
    else:
        raise reader.error(f"the array {key[:80]!r} has elements of the unknown type {kind}")
    return values if keep else ArrayInfo(kind, n)


def _read_metadata(reader: _Reader, n_kv: int, tokens: list[bytes]) -> dict[str, MetaValue]:
    metadata: dict[str, MetaValue] = {}
    for i in range(n_kv):
        key = reader.string(f"the name of metadata entry {i}")
        if key in metadata:
            raise reader.error(f"the metadata entry {key[:80]!r} occurs twice")
        kind = reader.count(key, _U32)
        if kind == _ARRAY:
            metadata[key] = _read_array(reader, key, tokens)
        elif kind == _STRING:
            metadata[key] = reader.string(key)
        elif kind in _SCALAR_CODES:
            metadata[key] = reader.scalars(kind, 1, key)[0]
        else:
            raise reader.error(f"the metadata entry {key[:80]!r} has the unknown type {kind}")
    return metadata


def _read_tensor(reader: _Reader, name: str, expected_offset: int) -> int:
    """The size in bytes of the next tensor, which must start at `expected_offset` of the data section."""
    n_dims = reader.count(name, _U32)
    if n_dims > 4:
        raise reader.error(f"the tensor {name!r} has {n_dims} dimensions, at most 4 are possible")
    dims = [reader.count(name) for _ in range(n_dims)]
    kind, offset = reader.count(name, _U32), reader.count(name)
    n_elements = math.prod(dims)
    if not 0 < n_elements < 1 << 60:
        raise reader.error(f"the tensor {name!r} has the impossible shape {dims}")
    if kind not in _BLOCKS:
        raise reader.error(f"the tensor {name!r} has the unknown type {kind}", _CONVERT)
    if kind in _NOT_WEIGHTS and n_dims > 1 and not any(table in name for table in _LOOKUP_TABLES):
        raise reader.error(f"the tensor {name!r} has a type ({kind}) that cannot be computed with", _CONVERT)
    n_per_block, n_block_bytes = _BLOCKS[kind]
    if (dims[0] if dims else 1) % n_per_block:
        raise reader.error(f"the rows of tensor {name!r} are not a multiple of {n_per_block} elements")
    if offset != expected_offset:
        raise reader.error(f"the tensor {name!r} starts at byte {offset} instead of {expected_offset}")
    return n_elements // n_per_block * n_block_bytes


def _read_tensors(reader: _Reader, n_tensors: int, alignment: int) -> None:
    """Check every tensor's description, and that the data of the last one is inside the file."""
    names: set[str] = set()
    offset = end = 0
    for i in range(n_tensors):
        name = reader.string(f"the name of tensor {i}")
        if name in names or not 0 < len(name) <= _MAX_NAME_BYTES:
            raise reader.error(f"tensor {i} has a bad or repeated name, {name[:80]!r}")
        names.add(name)
        end = offset + _read_tensor(reader, name, offset)
        offset = _pad(end, alignment)
    expected, present = _pad(reader.at, alignment) + end, len(reader.data)
    if n_tensors and expected > present:
        raise reader.error(f"is truncated: {expected} bytes are expected and {present} are present")


def _pad(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def _parse(path: Path, tokens: list[bytes]) -> GGUFHeader:
    with _map_file(path) as data:
        reader = _Reader(path, data)
        version = _check_magic(reader)
        n_tensors, n_kv = reader.count("the tensor count"), reader.count("the metadata count")
        if n_kv * 13 + n_tensors * 24 > len(data):
            raise reader.error(f"claims {n_kv} metadata entries and {n_tensors} tensors, more than fit into the file")
        metadata = _read_metadata(reader, n_kv, tokens)
        alignment = metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < _TENSOR_ALIGNMENT or alignment & (alignment - 1):
            raise reader.error(f"general.alignment should be a power of two from 32 on but is {alignment!r}")
        _read_tensors(reader, n_tensors, alignment)
        digest = hashlib.sha256(data[: reader.at])
        digest.update(len(data).to_bytes(8, "little"))
        return GGUFHeader(path, len(data), version, n_tensors, metadata, digest.hexdigest())


def read_header(path: str | os.PathLike[str]) -> GGUFHeader:
    """The header of any well-formed GGUF file, whatever is in it.

    Raises:
        ModelFileError: the file is missing, unreadable, not GGUF, truncated or damaged.
    """
    return _parse(Path(path), [])


def check_model_file(path: str | os.PathLike[str]) -> GGUFHeader:
    """The header of a model that edge-sir can chat with.

    Raises:
        ModelFileError: as `read_header`; or the file is no chat model (an embedding model, an adapter, a part
            of a split model, a bare vocabulary ...); or it has values on which llama.cpp would end the process.
    """
    tokens: list[bytes] = []
    header = _parse(Path(path), tokens)
    _check_purpose(header)
    _check_shape(header)
    _check_experts(header)
    _check_rope(header)
    _check_window(header)
    _check_vocabulary(header, tokens)
    return header


def _check_purpose(header: GGUFHeader) -> None:
    kind = _TYPES_THAT_CANNOT_CHAT.get(header.text("general.type", "")) or _CANNOT_CHAT.get(header.architecture)
    if kind is None and header.integer(header.key("pooling_type"), 0):
        kind = "an embedding model"
    if kind is None and header.metadata.get(header.key("attention.causal"), True) is not True:
        kind = "a model without causal attention"
    if kind:
        raise header.error(f"is {kind} and cannot chat", _OTHER)
    if header.architecture not in _KNOWN_ARCHS:
        raise header.error(f"has the unknown architecture {header.architecture[:80]!r}", "use another model")
    n_parts = header.integer("split.count", 1)
    if n_parts > 1:
        raise header.error(f"is one of {n_parts} parts of a split model", "merge the parts with llama-gguf-split")
    if header.n_tensors == 0:
        raise header.error("holds a vocabulary but no weights", _OTHER)


def _check_shape(header: GGUFHeader) -> None:
    """The numbers by which llama.cpp divides or which it asserts."""
    for key, value, most in (
        ("block_count", header.n_layer, _MAX_LAYERS),
        ("embedding_length", header.n_embd, _MAX_WIDTH),
        ("context_length", header.n_ctx_train, _MAX_I32),
    ):
        if not 1 <= value <= most:
            raise header.error(f"{header.key(key)} is {value}, outside 1..{most}")
    if header.integer(header.key("nextn_predict_layers"), 0) > header.n_layer:
        raise header.error(f"{header.key('nextn_predict_layers')} exceeds the number of layers")
    for key in ("full_attention_interval", "ssm.group_count", "ssm.time_step_rank", "wkv.head_size"):
        if header.integer(header.key(key), 1) == 0:
            raise header.error(f"{header.key(key)} is 0")
    for key in header.metadata:
        if key.startswith(header.architecture) and key.endswith("_epsilon") and header.number(key, 0.0) < 0:
            raise header.error(f"{key} is negative")
    if header.architecture not in _WITHOUT_ATTENTION:
        _check_heads(header)


def _check_heads(header: GGUFHeader) -> None:
    if not any(header.n_head) or not any(header.n_head_kv):
        raise header.error(f"{header.key('attention.head_count')} is missing or 0")
    for il, (n_head, n_head_kv) in enumerate(zip(header.n_head, header.n_head_kv, strict=True)):
        if n_head > header.n_embd or (n_head and n_head_kv and n_head % n_head_kv):
            raise header.error(f"layer {il} cannot share {n_head_kv} key/value heads among {n_head} heads")
    if not (1 <= header.head_dim_k <= _MAX_WIDTH and 1 <= header.head_dim_v <= _MAX_WIDTH):
        raise header.error(f"the heads are {header.head_dim_k} (keys) and {header.head_dim_v} (values) wide")


def _check_experts(header: GGUFHeader) -> None:
    n_expert = header.integer(header.key("expert_count"), 0)
    if header.architecture.startswith("hunyuan") and n_expert <= 1:
        return
    n_used = max(header.per_layer(header.key("expert_used_count"), 0))
    n_groups = header.integer(header.key("expert_group_count"), 0)
    n_groups_used = header.integer(header.key("expert_group_used_count"), 0)
    fits = n_expert <= _MAX_EXPERTS and (0 < n_used <= n_expert if n_expert else n_used == n_groups == 0)
    if fits and n_expert:
        fits = n_groups < n_expert
    if fits and n_groups > 1:
        fits = n_expert % n_groups == 0 and 0 < n_groups_used < n_groups
    if not fits:
        raise header.error(f"{n_used} of {n_expert} experts in {n_groups} groups cannot be routed")


def _check_rope(header: GGUFHeader) -> None:
    kind, factor = header.rope_scaling
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise header.error(f"{header.key('rope.scaling.type')} {kind[:80]!r} is unknown", "use another file")
    if factor <= 0:
        raise header.error(f"{header.key('rope.scaling.factor')} is {factor}")
    if header.number(header.key("rope.freq_base"), 1.0) <= 0:
        raise header.error(f"{header.key('rope.freq_base')} is not positive")
    if header.architecture in _WITHOUT_ROPE:
        return
    for suffix in ("", "_swa"):
        width = header.integer(header.key(f"attention.key_length{suffix}"), header.head_dim_k)
        rotated = header.integer(header.key(f"rope.dimension_count{suffix}"), header.rope_dim)
        if rotated % 2 or not 0 < rotated <= width:
            raise header.error(f"{rotated} of the {width} dimensions of a head cannot be rotated")


def _check_window(header: GGUFHeader) -> None:
    """llama.cpp keeps layers with and without a sliding window apart and asserts that there are both."""
    key = header.key("attention.sliding_window_pattern")
    if header.n_swa == 0 or key not in header.metadata:
        return
    pattern = header.metadata[key]
    if isinstance(pattern, tuple) and not isinstance(pattern, ArrayInfo):
        both = len(pattern) == header.n_layer and any(pattern) and not all(pattern)
    else:
        both = 2 <= header.integer(key) <= header.n_layer
    if not both:
        raise header.error(f"{key} does not mix layers with and without a sliding window")


def _check_vocabulary(header: GGUFHeader, tokens: list[bytes]) -> None:
    n_vocab = header.n_vocab
    if not 1 <= n_vocab <= _MAX_I32 or len(tokens) != n_vocab:
        raise header.error(f"{_TOKENS} is not a list of texts or is empty")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        array = header.metadata.get(key, ArrayInfo(0, n_vocab))
        if not isinstance(array, ArrayInfo) or array.n != n_vocab:
            raise header.error(f"{key} does not hold one value for each of the {n_vocab} tokens")
    for role in ("bos", "eos", "eot"):
        key = f"tokenizer.ggml.{role}_token_id"
        if header.integer(key, 0) >= n_vocab:
            raise header.error(f"{key} is {header.metadata[key]} but there are {n_vocab} tokens")
    # llama.cpp reads tokens as C strings, numbers the empty ones and asserts that all differ.
    texts = {token.partition(b"\0")[0] for token in tokens}
    n_empty = sum(1 for token in tokens if token[:1] in (b"", b"\0"))
    if len(texts) + max(n_empty - 1, 0) != n_vocab:
        raise header.error("several tokens of the vocabulary are the same")
    _check_tokenizer(header, texts)


def _check_tokenizer(header: GGUFHeader, texts: set[bytes]) -> None:
    model = header.tokenizer_model
    if model not in _CHAT_TOKENIZERS and not (model == "rwkv" and "rwkv" in header.architecture):
        raise header.error(f"tokenizer.ggml.model {model[:80]!r} is missing or cannot be used for a chat", _OTHER)
    if model == "llama":
        # Without a token for every byte, llama_tokenize ends the process on the first emoji.
        missing = [b for b in range(256) if b"<0x%02X>" % b not in texts and bytes([b]) not in texts]
        if missing:
            raise header.error(f"the vocabulary has no token for byte {missing[0]}")
