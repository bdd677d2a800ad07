"""llama.cpp behind the Engine protocol."""

import ctypes
import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir._owner import Owner, owned
from edge_sir.core.claims import Claims
from edge_sir.core.plan import Move, Run, check_places, moves_between
from edge_sir.core.scores import reduce_rows
from edge_sir.core.sealed import seal, unseal
from edge_sir.core.sharing import Sharing
from edge_sir.engine import EngineSpec, EngineTimes, SamplingParams, Slice, SliceResult
from edge_sir.errors import (
    BatchError,
    BudgetError,
    CapabilityError,
    ComputeError,
    LoadError,
    NoSlotError,
    ShiftError,
    StateError,
)
from edge_sir.llama.batch import Batch
from edge_sir.llama.kshift.admission import build_id
from edge_sir.llama.kshift.gate import (
    KV_TYPES,
    KVType,
    Trials,
    Verdict,
    check_kv_types,
    packing_verdict,
    restore_verdict,
)
from edge_sir.llama.kshift.verdicts import digest
from edge_sir.llama.native import LOG, NativeModel, decode_error, default_threads, lib
from edge_sir.llama.ram import check_memory
from edge_sir.llama.sampling import LlamaSampler
from edge_sir.llama.state import CellState
from edge_sir.llama.text import LlamaText

__all__ = [
    "EngineOptions",
    "LlamaEngine",
    "cells_of",
    "chunk_for",
    "context_params",
    "flash_attention_type",
    "make_context",
]

_CELLS = "passage of llama.cpp's cells"
_SEQUENCE = "sequence of llama.cpp's cells"
_PAD = 256  # llama.cpp rounds the cells of a context up to this (llama-context.cpp)
_MOST = 2**31 - 1  # llama_pos is an int32
_MOST_BATCH, _MOST_THREADS = 65_536, 512  # GGML_MAX_N_THREADS
_MANY_RANGES = 8  # so many, of a sequence of at most _SPARSE times their cells, are picked out of its whole state
_SPARSE = 8
_MOST_SEQ = 256  # LLAMA_MAX_SEQ
_FLASH = {"auto": -1, "off": 0, "on": 1}
# llama.cpp holds the logits of a chunk twice. With a vocabulary of 151,936 a chunk of 128 takes 156 MB for them and
# reads 143 tokens a second (0.5B, two threads), 64 take 78 MB and read 135, 32 take 39 MB and read 124, 16 take 19 MB
# and read 109. Only with 16 do they and llama.cpp's vocabulary stay below 80 MB. With 49,152 all from 64 on read alike.
_LEAST_CHUNK, _MOST_CHUNK, _LOGITS_BYTES = 16, 128, 16 * 2**20


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a context is made.

    chunk: most tokens of a sequence per llama_decode, 0 for `chunk_for` the model. n_batch: most tokens of all of them,
    0 for chunk. threads: 0 for `default_threads`. kv_k, kv_v: types of the caches; quantized keys exclude packing,
    because moving them ruins them. streams: each sequence has an equal part of
    the cells as its own and attends to no others, so that a step costs what each of them holds, not what all hold
    together. Not for sliding windows.
    """

    threads: int = 0
    kv_k: KVType = "f16"
    kv_v: KVType = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    chunk: int = 0
    n_batch: int = 0
    n_seq_max: int = 1
    streams: bool = False

    def n_ctx(self, n_cells: int) -> int:
        """The cells of a context that has at least `n_cells`, or with streams its share of them in each."""
        n = self.n_seq_max if self.streams else 1
        return n * (-(-n_cells // (n * _PAD)) * _PAD)

    def on(self, n_vocab: int) -> "EngineOptions":
        """The same for a model with a vocabulary of `n_vocab`: what is 0 of chunk and n_batch is chosen."""
        n_least = 1 if self.n_batch else self.n_seq_max
        chunk = self.chunk or chunk_for(n_vocab, n_least, gpu=bool(lib.llama_supports_gpu_offload()))
        return replace(self, chunk=chunk, n_batch=self.n_batch or chunk)


def cells_of(blob: bytes) -> CellState:
    """What `LlamaEngine.save` gave, to be looked into. Raises StateError if it is damaged or something else."""
    return CellState(unseal(blob, _CELLS, {}))


@owned(alone=("close",))
class LlamaEngine:
    """One llama_context on a model. Two threads cannot be at work in it: the second waits for the step of the first.

    n_cells is rounded up to 256. owns_model: free the model with the engine. trials: what the trials of
    this file found. verdict: instead of the gate's; for trials, which must do what is not proven yet.
    Raises CapabilityError for options that exclude each other, BudgetError where memory does not suffice, LoadError
    if llama.cpp cannot make the context.
    """

    def __init__(
        self,
        model: NativeModel,
        n_cells: int,
        options: EngineOptions | None = None,
        *,
        owns_model: bool = False,
        trials: Trials | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        options = (options or EngineOptions()).on(model.n_vocab)
        check_memory(model.header, n_cells, options)
        self.owner = Owner("engine", wait_s=math.inf)  # no call is longer than a step, and none calls back
        self._closing = ExitStack()  # last in, first out: the context before its model
        if owns_model:
            self._closing.callback(model.close)
        try:
            model.owner.enter()  # the model is not freed before its contexts are
            self._closing.callback(model.owner.leave)
            self._handle = make_context(model, context_params(model, n_cells, options))
        except BaseException:
            self.close()
            raise
        self._closing.callback(lib.llama_free, self._handle)
        self.model = model
        self.text = LlamaText(model)
        self.times = EngineTimes()
        self._memory = lib.llama_get_memory(self._handle)
        self.can_shift = bool(lib.llama_memory_can_shift(self._memory))  # llama.cpp's word, not the gate's
        self._batch = Batch(int(lib.llama_n_batch(self._handle)))  # never more than there are cells
        self._ids = np.arange(model.n_vocab, dtype=np.int32)
        self._sharing = Sharing()
        self._n_stream = options.n_seq_max if options.streams else 1
        self._n_each = int(lib.llama_n_ctx_seq(self._handle))
        self._claims = Claims(int(lib.llama_n_ctx(self._handle)), self._n_each if options.streams else 0)
        self._saved_size: tuple[int, int] | None = None  # a number of cells, and the bytes of their state
        self._shift_pending = False
        self._wrong_keys = ""  # why the cache is wrong, once it is
        self._streams = options.streams
        self._scratch = options.n_seq_max  # a sequence beyond those that callers see, empty between calls
        self._terms = _terms(model, options)
        self.spec = self._spec(options, trials or Trials(), verdict)

    def _spec(self, options: EngineOptions, trials: Trials, verdict: Verdict | None) -> EngineSpec:
        header, n_ctx = self.model.header, int(lib.llama_n_ctx(self._handle))
        n_swa = int(lib.llama_model_n_swa(self.model.handle))
        restore = verdict or restore_verdict(header, trials.restore)
        if not (options.streams or _has_scratch(options)):
            restore = Verdict(
                False, f"a chunk of {options.n_batch} leaves no sequence beside the {options.n_seq_max} in use"
            )
        pack = verdict or packing_verdict(header, n_ctx, n_swa, self.can_shift, kv_k=options.kv_k, test=trials.shift)
        return EngineSpec(
            model=header.path.name,
            n_ctx=n_ctx,
            n_ctx_seq=self._n_each,
            n_batch=(n_batch := int(lib.llama_n_batch(self._handle))),
            n_slice=min(options.chunk, n_batch, self._n_each),
            n_ctx_train=int(lib.llama_model_n_ctx_train(self.model.handle)),
            n_vocab=self.model.n_vocab,
            n_seq_max=options.n_seq_max,
            n_swa=n_swa,
            can_pack=pack.allowed,
            why=pack.why,
            can_restore=restore.allowed,
            why_restore=restore.why,
            kv_bytes=round(n_ctx * header.kv_bytes_per_cell(KV_TYPES[options.kv_k][1], KV_TYPES[options.kv_v][1])),
            fingerprint=header.fingerprint,
            cell_terms=digest(json.dumps(self._terms, sort_keys=True)),
        )

    # ---- decoding ------------------------------------------------------------------------------

    def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
        self._check_open()
        self._refuse_wrong_keys()
        rows = self._batch.fill(slices, self.spec.n_vocab, self.spec.n_seq_max)
        started = time.perf_counter()
        n_failures = LOG.kshift_failures
        status = lib.llama_decode(self._handle, self._batch.struct)
        lib.llama_synchronize(self._handle)
        decoded = time.perf_counter()
        self.times.decode_s += decoded - started
        if LOG.kshift_failures > n_failures:
            self._wrong_keys = LOG.last_error()
        self._refuse_wrong_keys()
        if status != 0:
            # After 1 and -1 the cache is as it was; after the others finished parts of the batch remain.
            if status not in (1, -1):
                for piece in slices:
                    self.remove(piece.seq, piece.p0, -1)
            raise decode_error(status)
        self._shift_pending = False
        logits = self._logits(rows[-1].stop)
        results = [self._reduce(piece, logits[at]) for piece, at in zip(slices, rows, strict=True)]
        self.times.score_s += time.perf_counter() - decoded
        return results

    def _logits(self, n_rows: int) -> NDArray[np.float32]:
        """The output rows, float32 [n_rows, n_vocab]: llama.cpp's own buffer, overwritten by the next decode."""
        if n_rows == 0:
            return np.empty((0, self.spec.n_vocab), np.float32)
        rows = lib.llama_get_logits(self._handle)
        if not rows:
            raise ComputeError("llama.cpp gave no logits")
        return np.ctypeslib.as_array(rows, shape=(n_rows, self.spec.n_vocab))

    @staticmethod
    def _reduce(piece: Slice, logits: NDArray[np.float32]) -> SliceResult:
        scores = reduce_rows(logits, piece.tokens, piece.targets, piece.needs)
        return SliceResult(scores, logits[-1].copy() if piece.logits else None)

    def _refuse_wrong_keys(self) -> None:
        if self._wrong_keys:
            raise ShiftError(f"a K-shift failed, the cache is wrong: {self._wrong_keys}; start a new session")

    # ---- memory --------------------------------------------------------------------------------

    def claim(self, seq: int, n_cells: int) -> None:
        self._check_seq(seq)
        self._claims.claim(seq, n_cells)

    def remove(self, seq: int, p0: int, p1: int) -> None:
        self._check_seq(seq)
        _check_positions(p0, p1)
        if not lib.llama_memory_seq_rm(self._memory, seq, p0, p1):
            raise ComputeError(f"llama.cpp cannot remove positions {p0} to {p1} from this kind of cache")
        self._sharing.remove(seq, p0, p1)

    def shift(self, seq: int, p0: int, p1: int, delta: int) -> None:
        self._check_seq(seq)
        self._check_may_move(seq, [(p0, p1, delta)])
        self._add(seq, [(p0, p1, delta)])

    def _check_may_move(self, seq: int, moves: Sequence[Move]) -> None:
        if not self.spec.can_pack:
            raise CapabilityError(f"{self.spec.model} cannot pack: {self.spec.why}; use --positions gaps")
        low, high = self.pos_range(seq)
        for p0, p1, delta in moves:
            _check_positions(p0, p1)
            first, last = max(p0, low) + delta, min(p1 - 1 if p1 >= 0 else high, high) + delta
            if low >= 0 and first <= last and not (first >= 0 and last <= _MOST):
                raise BatchError(f"positions {p0} to {p1} cannot move by {delta}")
            self._sharing.check_may_shift(seq, p0, p1)

    def _add(self, seq: int, moves: Sequence[Move]) -> None:
        for p0, p1, delta in moves:
            lib.llama_memory_seq_add(self._memory, seq, p0, p1, delta)
            self._shift_pending = True

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        self._check_seq(src)
        self._check_seq(dst)
        if src == dst:
            return
        self.remove(dst, 0, -1)
        _check_positions(p0, p1)
        last = self.pos_range(src)[1]
        stop = last + 1 if p1 < 0 else min(p1, last + 1)
        if p0 < stop and self._streams:
            self._copy_to_stream(src, dst, p0, stop)
        elif p0 < stop:
            lib.llama_memory_seq_cp(self._memory, src, dst, p0, stop)
            self._sharing.link(src, dst, p0, stop)

    def _copy_to_stream(self, src: int, dst: int, p0: int, p1: int) -> None:
        """Through saved state: llama_memory_seq_cp would take all, and end the process for a part."""
        self.flush(src)
        state = CellState(self._get_state(src))
        wanted = state.pos[(p0 <= state.pos) & (state.pos < p1)]
        if len(wanted) and not self._set_state(dst, state.chosen(wanted, n_stream=self._n_stream)):
            self.remove(dst, 0, -1)
            raise StateError(f"llama.cpp did not copy {len(wanted)} cells: {LOG.last_error()}")

    def shared_until(self, seq: int) -> int:
        self._check_seq(seq)
        return self._sharing.shared_until(seq)

    def pos_range(self, seq: int) -> tuple[int, int]:
        self._check_seq(seq)
        low = lib.llama_memory_seq_pos_min(self._memory, seq)
        return int(low), int(lib.llama_memory_seq_pos_max(self._memory, seq))

    def flush(self, seq: int) -> None:
        self._check_seq(seq)
        # No call forces a K-shift: it runs inside the next llama_decode, even if that finds no slot.
        if not self._shift_pending:
            return
        p0 = self.pos_range(seq)[1] + 1
        nothing = np.zeros(1, np.int32)
        try:
            self.decode([Slice(seq, nothing, p0, nothing - 1, logits=False)])
        except NoSlotError:
            self._shift_pending = False
        self.remove(seq, p0, -1)

    def dump(self, seq: int) -> bytes:
        self._check_seq(seq)
        self.flush(seq)
        state: bytes | memoryview = self._get_state(seq)
        if self._n_stream > 1:  # written as a context without streams has it, for any to load
            parsed = CellState(state)
            state = parsed.chosen(parsed.pos)
        return seal(_SEQUENCE, self._terms, state)

    def load(self, seq: int, state: bytes) -> None:
        self._check_seq(seq)
        self.remove(seq, 0, -1)
        # llama.cpp takes positions and values for what they seem to be, and cannot remove those below 0 again.
        found = unseal(state, _SEQUENCE, self._terms)
        if self._n_stream > 1:
            parsed = CellState(found)
            found = memoryview(parsed.chosen(parsed.pos, n_stream=self._n_stream))
        if not self._set_state(seq, found):
            self.remove(seq, 0, -1)  # it may have been restored in part
            raise StateError(f"llama.cpp refused the saved state: {LOG.last_error()}")

    def _get_state(self, seq: int, n_most: int = 0) -> memoryview:
        """n_most: cells that it has at most, 0 if unknown. To ask llama.cpp for the size takes as long as the state."""
        if n_most and self._saved_size is not None:
            n_cells, size = self._saved_size
            if n := len(state := self._get_data(seq, size * -(-n_most // n_cells))):
                return state[:n]
        size = lib.llama_state_seq_get_size(self._handle, seq)
        if n_most and not self.spec.n_swa:  # the cache of a sliding window may hold fewer cells than another time
            self._saved_size = n_most, size
        return self._get_data(seq, size)

    def _get_data(self, seq: int, size: int) -> memoryview:
        """The state, in a buffer of `size` bytes; nothing where that is too small."""
        buffer = np.empty(size, np.uint8)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return buffer.data[: lib.llama_state_seq_get_data(self._handle, pointer, size, seq)]

    def _set_state(self, seq: int, state: bytes | memoryview) -> bool:
        pointer = np.frombuffer(state, np.uint8).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))  # not copied
        return bool(lib.llama_state_seq_set_data(self._handle, pointer, len(state), seq))

    # ---- saving and restoring cells --------------------------------------------------------------

    def save(self, seq: int, p0: int, p1: int, *more: Run) -> bytes:
        """As the protocol says: llama_memory_seq_cp to the scratch sequence, llama_state_seq_get_data of that one.

        The flush comes first, since llama.cpp would store new positions with old keys.
        """
        self._check_seq(seq)
        self._check_can_restore()
        for run in (ranges := ((p0, p1), *more)):
            _check_positions(*run)
        self.flush(seq)
        self._refuse_wrong_keys()
        n, n_all = _n_most(ranges), min(self.pos_range(seq)[1] + 1, self.spec.n_ctx_seq)
        if self._streams or (len(ranges) >= _MANY_RANGES and n_all <= _SPARSE * n):
            return seal(_CELLS, self._terms, self._picked(seq, ranges, n_all))
        try:
            for run in ranges:
                lib.llama_memory_seq_cp(self._memory, seq, self._scratch, *run)
            if not self.spec.n_swa and lib.llama_memory_seq_pos_max(self._memory, self._scratch) < 0:
                raise StateError(f"sequence {seq} has no cells at positions {p0} to {p1}")
            state = self._get_state(self._scratch, min(n, self.spec.n_ctx))
        finally:
            self._clear_scratch()
        if self.spec.n_swa and not len(CellState(state).pos):
            raise StateError(f"sequence {seq} has no cells at positions {p0} to {p1}")
        return seal(_CELLS, self._terms, state)

    def _picked(self, seq: int, ranges: Sequence[Run], n_most: int) -> bytes:
        """The cells of these ranges, out of the whole sequence's state.

        llama.cpp copies V that lies value by value range by range of cells: 310 cells in 120 ranges took 50 ms on
        SmolLM2-135M, all 1,000 of the sequence 5.
        """
        state = CellState(self._get_state(seq, n_most))
        here = state.pos
        wanted = here[np.any([(p0 <= here) & ((here < p1) | (p1 < 0)) for p0, p1 in ranges], axis=0)]
        if not len(wanted):
            raise StateError(f"sequence {seq} has no cells at positions {ranges[0][0]} to {ranges[-1][1]}")
        return state.chosen(wanted)

    def restore(
        self, seq: int, blob: bytes, pos: ArrayLike, to: ArrayLike | None = None, moves: Sequence[Move] = ()
    ) -> None:
        """As the protocol says: llama_state_seq_set_data into the scratch sequence, which alone can fail, is first.

        Then llama_memory_seq_add for what moves, llama_memory_seq_cp into the sequence and llama_memory_seq_rm of the
        scratch one. Its cells are nobody else's, so that they may be shifted.
        """
        self._check_seq(seq)
        self._check_can_restore()
        saved = CellState(unseal(blob, _CELLS, self._terms))
        wanted = np.asarray(pos, np.int64)
        places = wanted if to is None else np.asarray(to, np.int64)
        check_places(saved.pos, wanted, places)
        own_moves = moves_between(wanted, places)
        if own_moves or moves:
            self._check_may_move(seq, moves)
        if self._streams:
            self._restore_in_stream(seq, saved.chosen(wanted), own_moves, moves)
            return
        try:
            if not self._set_state(self._scratch, saved.chosen(wanted)):
                raise StateError(f"llama.cpp did not restore {len(wanted)} cells: {LOG.last_error()}")
            self._add(self._scratch, own_moves)
            self._add(seq, moves)
            lib.llama_memory_seq_cp(self._memory, self._scratch, seq, -1, -1)
        finally:
            self._clear_scratch()

    def _restore_in_stream(self, seq: int, cells: bytes, own_moves: Sequence[Move], moves: Sequence[Move]) -> None:
        """The whole sequence is written anew, its own cells and `cells` behind them.

        No scratch sequence has a part in its stream. Where `cells` move, they are alone in it for that.
        """
        self.flush(seq)
        self._refuse_wrong_keys()
        before, added = CellState(self._get_state(seq)), CellState(cells)
        n_wanted, n_free = len(added.pos), self.spec.n_ctx_seq - len(before.pos)
        if n_wanted > n_free:
            raise StateError(f"{n_wanted} cells are to be restored, {n_free} are free")
        try:
            own = before
            if moves:
                own = self._moved(seq, moves)
            if own_moves:
                self._put(seq, added)
                added = self._moved(seq, own_moves)
            self._put(seq, own, added)
        except StateError:
            self._put(seq, before)
            raise

    def _moved(self, seq: int, moves: Sequence[Move]) -> CellState:
        self._add(seq, moves)
        self.flush(seq)
        return CellState(self._get_state(seq))

    def _put(self, seq: int, *parts: CellState) -> None:
        """Replaces the sequence by one or two states."""
        first, *more = parts
        n_stream = self._n_stream
        state = first.joined(more[0], n_stream=n_stream) if more else first.chosen(first.pos, n_stream=n_stream)
        lib.llama_memory_seq_rm(self._memory, seq, -1, -1)
        if any(len(part.pos) for part in parts) and not self._set_state(seq, state):
            raise StateError(f"llama.cpp did not restore the cells of sequence {seq}: {LOG.last_error()}")

    def _check_can_restore(self) -> None:
        if not self.spec.can_restore:
            raise CapabilityError(f"cells of {self.spec.model} cannot be restored: {self.spec.why_restore}")

    def _clear_scratch(self) -> None:
        lib.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)

    def _check_seq(self, seq: int) -> None:
        self._check_open()
        if not 0 <= seq < self.spec.n_seq_max:  # llama.cpp would end the process
            raise BatchError(f"sequence {seq} is not one of {self.spec.n_seq_max}")

    def sampler(self, params: SamplingParams, drawn: Sequence[int] = ()) -> LlamaSampler:
        self._check_open()
        return LlamaSampler(params, self._ids, drawn, lambda: self.model.vocabulary)

    def close(self) -> None:
        self.owner.close(self._closing.close)

    def _check_open(self) -> None:
        self.owner.check()  # llama.cpp would read what was freed


def chunk_for(n_vocab: int, n_seq_max: int = 1, *, gpu: bool = False) -> int:
    """Tokens per llama_decode for a vocabulary: 16 to 128, a power of two, whose logits take at most 16 MiB.

    Beyond a vocabulary of 262,144 the least chunk takes more. There are never fewer tokens than sequences. On a `gpu`
    it is the most for all, since small chunks leave it idle.
    """
    n = _MOST_CHUNK if gpu else _LOGITS_BYTES // (4 * n_vocab)
    return max(n_seq_max, _LEAST_CHUNK, min(_MOST_CHUNK, 1 << max(0, n.bit_length() - 1)))


def flash_attention_type(options: EngineOptions) -> int:
    """llama.cpp's number for the option. `auto` leaves it off on a CPU.

    There reading 55 tokens behind 1,000 cells takes twice as long with it (SmolLM2, AVX-512).
    """
    if options.flash_attn == "auto" and options.kv_v == "f16" and not lib.llama_supports_gpu_offload():
        return _FLASH["off"]
    return _FLASH[options.flash_attn]


def context_params(model: NativeModel, n_cells: int, options: EngineOptions) -> Any:
    """llama.cpp's parameters of a context (llama_context_params). Raises CapabilityError as `LlamaEngine`."""
    options = options.on(model.n_vocab)
    n_least, n_most = sorted((options.chunk, options.n_batch))
    can_decode = n_least > 0 and n_most <= _MOST_BATCH
    if not (0 < n_cells <= _MOST - _PAD and can_decode and 0 <= options.threads <= _MOST_THREADS):
        raise CapabilityError(
            f"{n_cells} cells, chunks of {n_most} tokens, {options.threads} threads: give at least one cell and "
            f"one token, at most {_MOST_BATCH} tokens and {_MOST_THREADS} threads"
        )
    if options.streams and lib.llama_model_n_swa(model.handle):  # what is behind the window is not in a saved state
        raise CapabilityError(f"{model.header.path.name} has a sliding window; its sequences cannot have streams")
    check_kv_types(model.header, options.kv_k, options.kv_v, options.flash_attn)
    if not 0 < options.n_seq_max <= min(options.n_batch, _MOST_SEQ):  # llama.cpp would end the process
        raise CapabilityError(f"{options.n_seq_max} sequences need a chunk of as many tokens, at most 256")
    params = lib.llama_context_default_params()
    params.n_ctx = options.n_ctx(n_cells)
    params.n_batch = params.n_ubatch = options.n_batch
    params.n_seq_max = options.n_seq_max + (not options.streams and _has_scratch(options))
    params.n_threads = params.n_threads_batch = options.threads or default_threads()
    params.flash_attn_type = flash_attention_type(options)
    params.type_k, params.type_v = KV_TYPES[options.kv_k][0], KV_TYPES[options.kv_v][0]
    params.kv_unified, params.swa_full = not options.streams, True  # no cell that llama.cpp reuses by itself
    params.no_perf = True
    return params


def _check_positions(p0: int, p1: int) -> None:
    """ctypes would cut a larger number to another position."""
    if not (-1 <= p0 <= _MOST and -1 <= p1 <= _MOST):
        raise BatchError(f"positions {p0} to {p1} are out of range")


def _n_most(ranges: Sequence[Run]) -> int:
    """Cells that the ranges hold at most, 0 if one has no end."""
    return 0 if any(p1 < 0 for _, p1 in ranges) else sum(p1 - max(0, p0) for p0, p1 in ranges)


def _has_scratch(options: EngineOptions) -> bool:
    """Whether there is room for one more sequence; llama.cpp wants a token of the chunk for each."""
    return options.n_seq_max < min(options.n_batch, _MOST_SEQ)


def _terms(model: NativeModel, options: EngineOptions) -> dict[str, object]:
    """What the bytes of a cell depend on, by names that go into a message."""
    return {
        "model": model.header.fingerprint,
        "build of llama.cpp": build_id(),
        "type of K": options.kv_k,
        "type of V": options.kv_v,
        "flash-attention setting": flash_attention_type(options),
        "LLAMA_ATTN_ROT_DISABLE": os.environ.get("LLAMA_ATTN_ROT_DISABLE", ""),
    }


def make_context(model: NativeModel, params: Any) -> Any:
    """A context, to be freed by llama_free.

    Raises LoadError if llama.cpp cannot make it, BudgetError if that is for lack of memory.
    """
    LOG.errors.clear()
    with model.owner:
        handle = lib.llama_init_from_model(model.handle, params)
    if not handle and any("alloc" in line for line in LOG.errors):
        raise BudgetError(f"there is not enough memory for a context of {params.n_ctx} cells; take a smaller budget")
    if not handle:
        raise LoadError(f"llama.cpp could not make a context of {params.n_ctx} cells: {LOG.last_error()}")
    return handle
