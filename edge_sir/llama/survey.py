"""What this machine and a model on it are capable of: devices, memory, speed. For `edge-sir doctor`."""

import ctypes
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import llama_cpp
import numpy as np
from llama_cpp._ggml import libggml

from edge_sir.engine import Slice, Tokens
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import LOG, NativeModel, lib
from edge_sir.llama.trial import trial_text

__all__ = ["Device", "MemoryNeed", "Speed", "devices", "measure_memory", "measure_speed", "system_info"]

_KINDS = ("cpu", "gpu", "integrated gpu", "accelerator", "meta")  # ggml-backend.h, ggml_backend_dev_type
_BUFFER = re.compile(r"(KV|compute) buffer size = +([\d.]+) MiB")
_SMALL, _LARGE = 256, 1024  # contexts between which buffers are measured


@dataclass(frozen=True, slots=True)
class Device:
    """One of llama.cpp's devices; memory in bytes, 0 where the backend does not tell."""

    name: str
    description: str
    kind: str
    backend: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a conversation takes: `fixed_bytes` + cells * `cell_bytes`, of which `kv_cell_bytes` are K and V.

    weights_bytes: of the fixed ones, the model itself.
    """

    weights_bytes: int
    fixed_bytes: int
    cell_bytes: float
    kv_cell_bytes: float

    def of(self, n_cells: int) -> int:
        """Bytes for a budget; llama.cpp rounds cells up to 256."""
        return round(self.fixed_bytes + -(-n_cells // 256) * 256 * self.cell_bytes)

    def largest_budget(self, limit_bytes: int, n_ctx_train: int) -> int:
        """The most cells that fit into `limit_bytes`, a multiple of 256 or the trained length; 0 for none."""
        n = max(0, int((limit_bytes - self.fixed_bytes) / self.cell_bytes)) // 256 * 256
        return min(n, n_ctx_train)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second when reading a prompt in chunks and when writing one by one."""

    read_per_s: float
    write_per_s: float


def devices() -> list[Device]:
    """All that llama.cpp was built for and found here."""
    LOG.install()
    for name, result in (("count", ctypes.c_size_t), ("get", ctypes.c_void_p), ("type", ctypes.c_int)):
        getattr(libggml, f"ggml_backend_dev_{name}").restype = result
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    return [_device(libggml.ggml_backend_dev_get(i)) for i in range(libggml.ggml_backend_dev_count())]


def _device(handle: int) -> Device:
    device = ctypes.c_void_p(handle)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    libggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    libggml.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
    registry = ctypes.c_void_p(libggml.ggml_backend_dev_backend_reg(device))
    kind = int(libggml.ggml_backend_dev_type(device))
    return Device(
        name=_text("ggml_backend_dev_name", device),
        description=_text("ggml_backend_dev_description", device),
        kind=_KINDS[kind] if kind < len(_KINDS) else "unknown",
        backend=_text("ggml_backend_reg_name", registry),
        free_bytes=free.value,
        total_bytes=total.value,
    )


def _text(function: str, handle: ctypes.c_void_p) -> str:
    call = getattr(libggml, function)
    call.restype = ctypes.c_char_p
    return (call(handle) or b"").decode("utf-8", "replace").strip()


def system_info() -> str:
    """llama-cpp-python's version and the instruction sets that llama.cpp uses."""
    LOG.install()
    used = lib.llama_print_system_info().decode("utf-8", "replace")
    return f"llama-cpp-python {llama_cpp.__version__}: {' '.join(used.split()).strip(' |')}"


def measure_memory(model: NativeModel, options: EngineOptions) -> MemoryNeed:
    """Makes a small and a larger context and reads off llama.cpp's log what each takes; between them it is linear."""
    small, large = (_buffers(model, n, options) for n in (_SMALL, _LARGE))
    per_cell = {kind: (large[kind] - small[kind]) / (_LARGE - _SMALL) for kind in small}
    weights = int(lib.llama_model_size(model.handle))
    logits = 4 * options.chunk * model.n_vocab
    compute = max(0.0, small["compute"] - _SMALL * per_cell["compute"])
    return MemoryNeed(
        weights_bytes=weights,
        fixed_bytes=round(weights + compute + logits),
        cell_bytes=per_cell["KV"] + max(0.0, per_cell["compute"]),
        kv_cell_bytes=per_cell["KV"],
    )


def _buffers(model: NativeModel, n_cells: int, options: EngineOptions) -> dict[str, float]:
    """Bytes of the K and V caches and of the compute buffers, of all devices together."""
    bytes_of = {"KV": 0.0, "compute": 0.0}
    with _log_lines() as lines:
        LlamaEngine(model, n_cells, options).close()
    for line in lines:
        if found := _BUFFER.search(line):
            bytes_of[found[1]] += float(found[2]) * 2**20
    return bytes_of


@contextmanager
def _log_lines() -> Iterator[list[str]]:
    """What llama.cpp logs in the block."""
    logger = logging.getLogger("llama.cpp")
    lines: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    before, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagates


def measure_speed(engine: LlamaEngine, seconds: float) -> Speed:
    """Reads for half of `seconds` and writes for the other half, at least once each; empties sequence 0."""
    chunk = np.resize(trial_text(engine), min(engine.spec.n_batch, engine.spec.n_ctx))
    read = _rate(engine, chunk, seconds / 2)
    return Speed(read_per_s=read, write_per_s=_rate(engine, chunk[:1], seconds / 2))


def _rate(engine: LlamaEngine, tokens: Tokens, seconds: float) -> float:
    p0 = n = 0
    engine.remove(0, 0, -1)
    started = time.perf_counter()
    while n == 0 or time.perf_counter() - started < seconds:
        if p0 + len(tokens) > engine.spec.n_ctx:
            engine.remove(0, 0, -1)
            p0 = 0
        engine.decode([Slice(0, tokens, p0, tokens, frozenset({"surprisal"}))])
        p0, n = p0 + len(tokens), n + len(tokens)
    elapsed = time.perf_counter() - started
    engine.remove(0, 0, -1)
    return n / elapsed
