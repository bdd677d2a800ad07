"""The lowest stratum: the library, its log, its status codes and the model handle."""

import ctypes
import logging
import os
import platform
import threading
from collections import deque
from functools import cached_property
from pathlib import Path
from typing import Any

# Before the library is loaded: an abort must not spend seconds on a debugger's backtrace.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")
# llama.cpp's threads meet a thousand times per decode, and on x86 libgomp has the first one spin there for
# milliseconds. That keeps the last one from the core that it waits for where another process is at work: beside one,
# 0.5B reads 12 tokens a second on two threads, and 52 with shorter spins. An idle machine shows no difference.
if platform.machine().lower() in ("x86_64", "amd64") and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from llama_cpp import llama_cpp as lib

from edge_sir._owner import Owner
from edge_sir.errors import AbortedError, BatchError, ComputeError, EngineError, ModelFileError, NoSlotError
from edge_sir.grammar.vocabulary import Vocabulary
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.gguf.header import GGUFHeader

__all__ = ["LOG", "NativeLog", "NativeModel", "decode_error", "default_threads", "lib"]

_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}  # ggml.h, ggml_log_level
_CONTINUED = 5


class NativeLog:
    """llama.cpp's log lines as Python log records of the logger `llama.cpp`.

    It replaces llama-cpp-python's own callback, whose level numbers are off by one so that errors are
    dropped. A failed K-shift is known from here alone: llama_decode still returns 0 then.
    """

    def __init__(self) -> None:
        self._kshift_failures = threading.local()  # a line has no context, but comes on the thread that decodes
        self.errors: deque[str] = deque(maxlen=4)
        self._logger = logging.getLogger("llama.cpp")
        self._level = logging.DEBUG
        self._callback = lib.llama_log_callback(self._receive)  # referenced for as long as llama.cpp may call it
        self._started: Owner | None = None
        self._lock = threading.Lock()

    def install(self) -> None:
        """Starts llama.cpp and takes over its log, once per process.

        Raises SessionError in a process that was forked off one in which it ran: its threads are not there.
        """
        if self._started is not None:
            self._started.check()
            return
        with self._lock:
            if self._started is None:
                lib.llama_log_set(self._callback, ctypes.c_void_p(0))
                lib.llama_backend_init()
                self._started = Owner("llama.cpp", shared=True)

    @property
    def kshift_failures(self) -> int:
        """How many K-shifts failed on this thread so far; the difference over one llama_decode is its context's."""
        return int(getattr(self._kshift_failures, "n", 0))

    def last_error(self) -> str:
        """What llama.cpp last complained of, for messages."""
        return self.errors[-1] if self.errors else "llama.cpp gave no reason"

    def _receive(self, level: int, text: bytes, _: Any) -> None:
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.DEBUG)
        line = text.decode("utf-8", "replace").strip()
        if not line:
            return
        if self._level == logging.ERROR:
            self.errors.append(line)
            if "K-shift" in line:
                self._kshift_failures.n = self.kshift_failures + 1
        self._logger.log(self._level, "%s", line)


LOG = NativeLog()


def default_threads() -> int:
    """The cores this process may use, at most 8; of many logical ones half, since pairs share a core."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, n if n <= 4 else n // 2)


def decode_error(status: int) -> EngineError:
    """The exception for a nonzero status of llama_decode (llama.h)."""
    if status == 1:
        return NoSlotError("llama_decode found no free cells for the batch")
    if status == 2:
        return AbortedError("llama_decode was aborted; the batch was rolled back")
    if status == -1:
        return BatchError(f"llama_decode refused the batch: {LOG.last_error()}")
    return ComputeError(f"llama_decode failed with {status}, the batch was rolled back: {LOG.last_error()}")


class NativeModel:
    """A loaded model, for several contexts and threads. owner: whoever is in keeps it from being freed.

    Raises ModelFileError for a file that is missing, damaged or cannot chat (checked before llama.cpp
    sees it) or that llama.cpp refuses. gpu_layers: layers to offload, -1 for all that fit. header: what
    `check_model_file` said of the file, if it was asked already.
    """

    def __init__(self, path: Path, *, gpu_layers: int = -1, header: GGUFHeader | None = None) -> None:
        self.header: GGUFHeader = header or check_model_file(path)
        LOG.install()
        LOG.errors.clear()
        self.owner = Owner("model", shared=True)
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 2**31 - 1
        self.handle = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            reason = LOG.errors[0] if LOG.errors else LOG.last_error()  # the later ones only say that it failed
            remedy = "download the file again or use another"
            if "unknown pre-tokenizer" in reason:
                remedy = "it needs a newer llama.cpp: update edge-sir (pip install -U edge-sir), or use another file"
            raise ModelFileError(f"llama.cpp could not load {path}: {reason}; {remedy}")
        if lib.llama_model_is_recurrent(self.handle) or lib.llama_model_is_hybrid(self.handle):
            self.close()
            raise ModelFileError(
                f"{path} keeps a recurrent state, from which nothing can be removed; use a model with attention alone"
            )
        self.vocab = lib.llama_model_get_vocab(self.handle)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocab))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Its tokens as texts; to ask for all of them takes a part of a second."""
        from edge_sir.llama.text import LlamaText

        text = LlamaText(self)
        return Vocabulary(text.pieces(), text.is_end)

    def close(self) -> None:
        """Frees the model, once its contexts are freed; a second call does nothing."""
        self.owner.close(self._free)

    def _free(self) -> None:
        lib.llama_model_free(self.handle)
        self.handle = None
