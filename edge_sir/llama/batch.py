"""One reused llama_batch over numpy memory: filled without a Python loop per token, never reallocated."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.engine import Slice
from edge_sir.errors import BatchError
from edge_sir.llama.native import lib

__all__ = ["Batch"]

_MOST = 2**31 - 1  # llama_pos is an int32


class Batch:
    """Up to `n_batch` tokens. llama.cpp writes past a batch that is too small without a word, so `fill` checks."""

    def __init__(self, n_batch: int) -> None:
        self._token = np.zeros(n_batch, np.int32)
        self._pos = np.zeros(n_batch, np.int32)
        self._seq = np.zeros(n_batch, np.int32)
        self._n_seq = np.ones(n_batch, np.int32)
        self._output = np.zeros(n_batch, np.int8)
        # llama_batch wants a pointer per token to its sequence ids; each has one id.
        self._seq_pointers = (self._seq.ctypes.data + np.arange(n_batch) * self._seq.itemsize).astype(np.uintp)
        self.struct = lib.llama_batch()
        self.struct.token = _pointer(self._token, lib.llama_token)
        self.struct.pos = _pointer(self._pos, lib.llama_pos)
        self.struct.n_seq_id = _pointer(self._n_seq, ctypes.c_int32)
        self.struct.seq_id = _pointer(self._seq_pointers, ctypes.POINTER(lib.llama_seq_id))
        self.struct.logits = _pointer(self._output, ctypes.c_int8)

    def fill(self, slices: Sequence[Slice], n_vocab: int, n_seq_max: int) -> list[slice]:
        """Writes the slices and returns, for each, its rows in the output logits (packed, in batch order).

        A slice with scores to compute outputs all its rows, else its last one if wanted. Raises
        BatchError for whatever llama.cpp would answer with a wrong result or the end of the process.
        """
        sizes = [len(s.tokens) for s in slices]
        if not sizes or min(sizes) == 0 or sum(sizes) > len(self._token):
            raise BatchError(f"a batch holds 1 to {len(self._token)} tokens and no empty slice, not {sizes}")
        seqs = [s.seq for s in slices]
        if len(set(seqs)) < len(seqs) or min(seqs) < 0 or max(seqs) >= n_seq_max:
            raise BatchError(f"one slice per sequence, of sequences 0 to {n_seq_max - 1}, not {seqs}")
        n, n_outputs = 0, 0
        rows = []
        for piece, size in zip(slices, sizes, strict=True):
            at = slice(n, n + size)
            if (
                not 0 <= piece.p0 <= _MOST - size
                or piece.tokens.min() < 0
                or max(piece.tokens.max(), piece.targets.max()) >= n_vocab
            ):
                raise BatchError(f"sequence {piece.seq}: a token, target or position is out of range")
            self._token[at] = piece.tokens
            self._pos[at] = np.arange(piece.p0, piece.p0 + size)
            self._seq[at] = piece.seq
            self._output[at] = bool(piece.needs)
            self._output[n + size - 1] = bool(piece.needs) or piece.logits
            n_rows = size if piece.needs else int(piece.logits)
            rows.append(slice(n_outputs, n_outputs + n_rows))
            n, n_outputs = n + size, n_outputs + n_rows
        self.struct.n_tokens = n
        return rows


def _pointer(array: NDArray[Any], ctype: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(ctype))
