"""What this machine and a model on it are capable of: devices and speed. For `edge-sir doctor`."""

import ctypes
import re
import time
from dataclasses import dataclass

import llama_cpp
import numpy as np
from llama_cpp._ggml import libggml

from edge_sir.engine import Slice, Tokens
from edge_sir.llama.engine import LlamaEngine
from edge_sir.llama.kshift.trial import trial_text
from edge_sir.llama.native import LOG, lib

__all__ = ["Device", "Speed", "devices", "measure_speed", "system_info"]

_KINDS = ("cpu", "gpu", "integrated gpu", "accelerator", "meta")  # ggml-backend.h, ggml_backend_dev_type


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
    """llama-cpp-python's version and what llama.cpp was built to use: instruction sets, libraries."""
    LOG.install()
    listed = lib.llama_print_system_info().decode("utf-8", "replace")  # "CPU : SSE3 = 1 | AVX = 1 | ..."
    used = re.sub(r" = 1\b", "", re.sub(r"\w+ = 0\b", "", listed)).replace("|", " ")
    return f"llama-cpp-python {llama_cpp.__version__}: {' '.join(used.split()).replace(' :', ':')}"


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
