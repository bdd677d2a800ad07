"""Rewrites a model's weights in another type, with llama.cpp's own quantizer."""

import ctypes
import os
from pathlib import Path

from edge_sir._shield import shield
from edge_sir.errors import LoadError
from edge_sir.llama.gguf_check import check_model_file
from edge_sir.llama.native import LOG, lib

__all__ = ["to_q8_0"]

_FTYPE_Q8_0 = 7  # llama_ftype, llama.h


def to_q8_0(source: Path, target: Path, *, threads: int = 0) -> Path:
    """Writes the weights of `source` as Q8_0 to `target` and returns that; nothing if it is there.

    8-bit blocks hold what 4-bit blocks say almost exactly, and many processors multiply them faster: reading
    a long text takes half the time, while the file grows by half. Raises LoadError if llama.cpp refuses.
    """
    if target.exists():
        return target
    check_model_file(source)
    LOG.install()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = _FTYPE_Q8_0, True, threads
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            failed = lib.llama_model_quantize(os.fsencode(source), os.fsencode(part), ctypes.byref(params))
        if failed:
            raise LoadError(f"llama.cpp could not rewrite {source} as Q8_0: {LOG.last_error()}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target
