"""The state of one sequence as llama.cpp writes it (llama_state_seq_get_data), and a choice of its cells.

    magic, sequence | n_stream, per stream: n_cells, 0 but in the sequence's own
                    | per cell: pos, 1, [12 bytes more], sequence
                    | v_trans, n_layer | per layer, K: type, row size, rows | per layer, V: the same,
                    | or transposed: type, element size, n_embd, [n_embd, n_cells] elements

All but the first two once more for the second cache of a model with sliding windows (llama_kv_cache_iswa). The layout
is that of llama_kv_cache::state_write. To have llama.cpp choose the cells, by restoring all and removing some, would
take free cells for all of them; a full cache has none to spare.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sir.errors import StateError

__all__ = ["CellState"]

Ints = NDArray[np.int64]

_HEAD = 12  # bytes before a layer's values
_EXTRA = (0, 12)  # bytes per cell beside pos and sequence: M-RoPE keeps x, y and the token (llama_kv_cell_ext)


@dataclass(frozen=True, slots=True)
class _Layers:
    """Neighbouring layers that are stored alike, each behind the same head.

    values: by cell, rows, uint8 [n_layers, n_cells, size], or transposed, uint8 [n_layers, n_embd, n_cells, size].
    """

    head: bytes
    values: NDArray[np.uint8]

    def chosen(self, cells: Ints) -> "_Layers":
        *more, _, size = self.values.shape
        whole = self.values.view(np.dtype((np.void, size)))[..., 0]  # a cell's bytes in one piece
        taken = np.empty((*more, len(cells)), whole.dtype)
        for layer, out in zip(whole, taken, strict=True):  # all at once, numpy would first copy what is not taken
            np.take(layer, cells, axis=-1, out=out, mode="clip")
        return _Layers(self.head, taken.view(np.uint8).reshape(*more, len(cells), size))

    def joined(self, other: "_Layers") -> "_Layers":
        if self.head != other.head or len(self.values) != len(other.values):
            raise StateError("cells of two kinds do not go together")
        return _Layers(self.head, np.concatenate([self.values, other.values], axis=-2))

    def in_bytes(self) -> bytes:
        n = len(self.values)
        heads = np.broadcast_to(np.frombuffer(self.head, np.uint8), (n, len(self.head)))
        return np.concatenate([heads, self.values.reshape(n, -1)], axis=1).tobytes()


@dataclass(frozen=True, slots=True)
class _Cache:
    """One cache's cells. meta: uint8 [n_cells, size], of which the first four bytes are the position.

    counts: v_trans and n_layer. layers: K of all layers, then V.
    """

    meta: NDArray[np.uint8]
    counts: bytes
    layers: tuple[_Layers, ...]

    @property
    def pos(self) -> NDArray[np.int32]:
        pos: NDArray[np.int32] = self.meta[:, :4].copy().view("<i4").ravel()
        return pos

    def chosen(self, pos: Ints) -> "_Cache":
        cells = np.flatnonzero(np.isin(self.pos, pos))
        if not len(cells):
            return _Cache(self.meta[:0], b"", ())
        return _Cache(self.meta[cells], self.counts, tuple(layers.chosen(cells) for layers in self.layers))

    def joined(self, other: "_Cache") -> "_Cache":
        if not (len(self.meta) and len(other.meta)):
            return self if len(self.meta) else other
        is_alike = self.counts == other.counts and len(self.layers) == len(other.layers)
        if not is_alike or self.meta.shape[1] != other.meta.shape[1]:
            raise StateError("cells of two kinds do not go together")
        layers = tuple(a.joined(b) for a, b in zip(self.layers, other.layers, strict=True))
        return _Cache(np.concatenate([self.meta, other.meta]), self.counts, layers)

    def parts(self, n_stream: int) -> list[bytes]:
        parts = [struct.pack("<II", n_stream, len(self.meta))]
        if len(self.meta):
            parts += [self.meta.tobytes(), self.counts, *(layers.in_bytes() for layers in self.layers)]
        return [*parts, bytes(4 * (n_stream - 1))]


class CellState:
    """A parsed state. Raises StateError for bytes of another layout, which a newer llama.cpp may have."""

    def __init__(self, state: "bytes | memoryview") -> None:
        self._state = memoryview(state)
        try:
            reader = _Reader(self._state)
            self._head = reader.take(8)
            self._n_stream, cache = reader.cache()
            self._caches = [cache]
            while reader.left:
                self._caches.append(reader.cache()[1])
        except (struct.error, ValueError) as error:
            raise StateError(f"llama.cpp wrote a state of an unknown layout: {error}") from None

    @property
    def pos(self) -> Ints:
        """The positions in it, sorted, int64 [n]. A sliding window's own cache may hold fewer of them."""
        return np.sort(self._caches[0].pos).astype(np.int64)

    def keys(self) -> list[NDArray[np.uint8]]:
        """K of each layer as it is stored, uint8 [n_cells, size], cells by position. Of the first cache alone."""
        cache = self._caches[0]
        n_layer = struct.unpack("<II", cache.counts)[1] if cache.counts else 0
        every = [rows for layers in cache.layers for rows in layers.values][:n_layer]
        return [rows[np.argsort(cache.pos)] for rows in every]

    def chosen(self, pos: Ints, *, n_stream: int = 1) -> bytes:
        """A state of the cells at `pos` alone, for llama_state_seq_set_data in a context of so many streams."""
        if len(pos) == len(self._caches[0].meta):
            return self._in_bytes(self._caches, n_stream)
        return self._in_bytes([cache.chosen(pos) for cache in self._caches], n_stream)

    def joined(self, other: "CellState", *, n_stream: int = 1) -> bytes:
        """A state of these cells and behind them those of `other`. Raises StateError if they are of two kinds."""
        if len(self._caches) != len(other._caches):
            raise StateError("cells of two kinds do not go together")
        pairs = zip(self._caches, other._caches, strict=True)
        return self._in_bytes([a.joined(b) for a, b in pairs], n_stream)

    def _in_bytes(self, caches: "list[_Cache]", n_stream: int) -> bytes:
        if caches is self._caches and n_stream == self._n_stream:
            return bytes(self._state)
        return b"".join([self._head, *(part for cache in caches for part in cache.parts(n_stream))])


class _Reader:
    def __init__(self, state: memoryview) -> None:
        self._state, self._at = state, 0

    @property
    def left(self) -> int:
        return len(self._state) - self._at

    def take(self, n: int) -> bytes:
        return bytes(self._view(n))

    def _view(self, n: int) -> memoryview:
        if not 0 <= n <= self.left:
            raise ValueError(f"{n} bytes were expected and {self.left} are left")
        self._at += n
        return self._state[self._at - n : self._at]

    def _array(self, *shape: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._view(math.prod(shape)), np.uint8).reshape(shape)

    def _peek(self, form: str) -> tuple[int, ...]:
        values: tuple[int, ...] = struct.unpack_from(form, self._state, self._at)
        return values

    def cache(self) -> tuple[int, _Cache]:
        """How many streams there are, and the cells of the one that has some."""
        [n_stream] = self._peek("<I")
        self.take(4)
        if not 0 < n_stream <= 256:
            raise ValueError(f"it has {n_stream} streams")
        found = _Cache(np.empty((0, 12), np.uint8), b"", ())
        for stream in range(n_stream):
            [n] = self._peek("<I")
            self.take(4)
            if n and len(found.meta):
                raise ValueError("two streams have cells of one sequence")
            if n:
                found = self._cells(n, n_behind=4 * (n_stream - 1 - stream))
        return n_stream, found

    def _cells(self, n: int, *, n_behind: int) -> _Cache:
        """n_behind: bytes that say that further streams have none."""
        meta = self._meta(n)
        v_trans, n_layer = self._peek("<II")
        counts = self.take(8)
        if v_trans > 1 or not 0 < n_layer <= 4096:
            raise ValueError(f"it has {n_layer} layers, V of kind {v_trans}")
        layers = self._layers(n, n_layer)
        if self.left > n_behind:
            layers += self._values(n, n_layer, transposed=bool(v_trans))
        return _Cache(meta, counts, tuple(layers))

    def _values(self, n: int, n_layer: int, *, transposed: bool) -> list[_Layers]:
        """V of all layers; none where the next cache follows at once, since MLA keeps no V."""
        at = self._at
        try:
            return self._layers(n, n_layer, transposed=transposed)
        except (struct.error, ValueError):
            self._at = at
            return []

    def _meta(self, n: int) -> NDArray[np.uint8]:
        at = self._at
        for extra in _EXTRA:
            self._at = at
            meta = self._array(n, 12 + extra)
            counts = meta[:, 4:8].copy().view("<u4")
            sequences = meta[:, 8 + extra :].copy().view("<i4")
            if (counts == 1).all() and (sequences == sequences[0]).all() and 0 <= sequences[0] < 256:
                return meta
        raise ValueError("its cells are described in another way")

    def _layers(self, n: int, n_layer: int, *, transposed: bool = False) -> list[_Layers]:
        """K or V of so many layers, of `n` cells."""
        found: list[_Layers] = []
        while n_layer:
            if transposed:
                _, size, n_embd = self._peek("<iII")
                found.append(self._alike(n_layer, n_embd, n, size))
            else:
                _, size = self._peek("<iQ")
                found.append(self._alike(n_layer, n, size))
            n_layer -= len(found[-1].values)
        return found

    def _alike(self, n_most: int, *shape: int) -> _Layers:
        """The next layer, of values of this shape, and those behind it that have the same head."""
        if not math.prod(shape):
            raise ValueError("its cells hold nothing")
        stride = _HEAD + math.prod(shape)
        n = min(n_most, self.left // stride)
        if not n:
            raise ValueError(f"{stride} bytes were expected and {self.left} are left")
        layers = np.frombuffer(self._state, np.uint8, n * stride, self._at).reshape(n, stride)
        differs = (layers[:, :_HEAD] != layers[0, :_HEAD]).any(axis=1)
        n = int(differs.argmax()) or n
        self._at += n * stride
        return _Layers(layers[0, :_HEAD].tobytes(), layers[:n, _HEAD:].reshape(n, *shape))
