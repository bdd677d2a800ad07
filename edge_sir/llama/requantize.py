"""Rewrites a model's weights in another type, with llama.cpp's own quantizer."""

import ctypes
import os
from pathlib import Path

from edge_sir._shield import shield
from edge_sir.errors import LoadError
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.native import LOG, lib

__all__ = ["to_bf16", "to_f32"]

_FTYPE_ALL_F32, _FTYPE_MOSTLY_BF16 = 0, 32  # llama_ftype, llama.h


def to_f32(source: Path, target: Path, *, threads: int = 0) -> Path:
    """Writes the weights of `source` as 32-bit floats to `target` and returns that; nothing if it is there.

    They are the same weights, spelled out: llama.cpp no longer rounds activations to 8 bits to multiply them, and
    reading a long text on a CPU takes a third of the time. The file is several times larger. Raises LoadError
    where nothing can be written, and if llama.cpp refuses.
    """
    return _rewrite(source, target, _FTYPE_ALL_F32, threads)


def to_bf16(source: Path, target: Path, *, threads: int = 0) -> Path:
    """Writes the weights of `source` as bfloat16 to `target` and returns that; nothing if it is there.

    Each weight of a matrix, and each activation that it is multiplied with, is rounded to 8 bits of mantissa (by
    .4 % at most), which is less than what the quantizer of a 4-bit file did. A CPU that has instructions for bfloat16
    reads a text twice as fast, another one slower. Raises LoadError where nothing can be written, and if llama.cpp
    refuses.
    """
    return _rewrite(source, target, _FTYPE_MOSTLY_BF16, threads)


def _rewrite(source: Path, target: Path, ftype: int, threads: int) -> Path:
    if target.exists():
        return target
    check_model_file(source)
    if not (target.parent.is_dir() and os.access(target.parent, os.W_OK | os.X_OK)):
        raise LoadError(f"cannot write {target}: {target.parent} is no folder that can be written to")
    LOG.install()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = ftype, True, threads
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            failed = lib.llama_model_quantize(os.fsencode(source), os.fsencode(part), ctypes.byref(params))
        if failed:
            raise LoadError(f"llama.cpp could not rewrite the weights of {source}: {LOG.last_error()}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target
