"""How much memory is left, and whether a context fits: llama.cpp ends the process where an allocation fails late.

What a model really takes, measured, is footprint.py; what a conversation remembers is edge_sir/memory.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from edge_sir.errors import BudgetError
from edge_sir.llama.gguf.header import GGUFHeader
from edge_sir.llama.kshift.gate import KV_TYPES
from edge_sir.llama.native import lib

if TYPE_CHECKING:
    from edge_sir.llama.engine import EngineOptions

__all__ = ["available_bytes", "check_memory", "context_bytes"]

_PAD = 256  # llama.cpp rounds the cells of a context up to this (llama-context.cpp)
_SPARE = 32 * 2**20  # for Python itself and for the system
_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """What this process may still take: of the machine, of its control group and of its address space."""
    limits = [int(psutil.virtual_memory().available)]
    with contextlib.suppress(OSError, ValueError, KeyError):  # "max" is no number, and then there is no limit
        limit = int((_GROUP / "memory.max").read_text())
        taken = int((_GROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        # Files in the page cache count as taken and are given back when memory is asked for.
        limits.append(limit - taken + int(stat["active_file"]) + int(stat["inactive_file"]))
    with contextlib.suppress(ImportError, OSError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft - psutil.Process().memory_info().vms)
    return max(0, min(limits))


def context_bytes(header: GGUFHeader, n_cells: int, options: "EngineOptions") -> int:
    """The K and V caches of `n_cells` cells, and the rows of logits of one chunk. llama.cpp's buffers come on top."""
    options = options.on(header.n_vocab)
    cells = options.n_ctx(n_cells)
    per_cell = header.kv_bytes_per_cell(KV_TYPES[options.kv_k][1], KV_TYPES[options.kv_v][1])
    return round(cells * per_cell) + 4 * options.n_batch * header.n_vocab


def check_memory(header: GGUFHeader, n_cells: int, options: "EngineOptions") -> None:
    """Raises BudgetError where a context of `n_cells` cells cannot fit; a GPU's memory is llama.cpp's to judge."""
    if lib.llama_supports_gpu_offload():
        return
    needed, free = context_bytes(header, n_cells, options) + _SPARE, available_bytes()
    if needed > free:
        per_cell = header.kv_bytes_per_cell(KV_TYPES[options.kv_k][1], KV_TYPES[options.kv_v][1])
        largest = max(0, n_cells - int((needed - free) / per_cell) - _PAD) // _PAD * _PAD
        remedy = f"take a budget of {largest} or less" if largest else "take a smaller model or close other programs"
        raise BudgetError(
            f"a context of {n_cells} cells takes {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; {remedy}"
        )
