"""What memory a model and a conversation on it take: read off llama.cpp's own log, and off the system."""

import ctypes
import gc
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_sir.llama.engine import EngineOptions, context_params, make_context
from edge_sir.llama.gguf.header import GGUFHeader
from edge_sir.llama.native import NativeModel, lib

__all__ = ["LoadedBytes", "MemoryNeed", "buffers", "load_measured", "measure_memory", "private_bytes"]

_MIB = 2**20
_CONTEXT = re.compile(r"(KV|compute) buffer size = +([\d.]+) MiB")
_MODEL = re.compile(r"(\S+) model buffer size = +([\d.]+) MiB")
_SMALL = 256  # cells; there the logits are the most of the compute buffer
_LONG = (2048, 4096)  # cells; there attention takes more of it than anything but the logits
_ROW_BYTES = 28  # of edge-sir, per token of the vocabulary: a sampler's ids and candidates, two rows of logits, a block


@dataclass(frozen=True, slots=True)
class LoadedBytes:
    """What a process took when it had loaded a model and no context yet.

    weights_bytes: the model's tensors. repacked_bytes: of them what lies in memory of the process, not in the mapped
    file: copies that llama.cpp laid out anew for this processor. python_bytes: the process before that;
    vocabulary_bytes: what else the model added. Both are 0 where the system does not tell.
    """

    weights_bytes: int
    repacked_bytes: int
    python_bytes: int
    vocabulary_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a process with one conversation takes at its peak.

    cell_bytes: K and V of one cell. logits_bytes: llama.cpp's output buffer, one row of logits per token of a chunk.
    graph_bytes: its compute buffer in a short context, where the same rows lie once more. In a long one attention
    takes more of it: attention_bytes, and attention_cell_bytes for each cell. rows_bytes: edge-sir's own rows of
    logits and candidates.
    """

    loaded: LoadedBytes
    chunk: int
    cell_bytes: float
    logits_bytes: int
    graph_bytes: int
    attention_bytes: float
    attention_cell_bytes: float
    rows_bytes: int

    def cells(self, n_cells: int) -> int:
        """K and V for a budget; llama.cpp rounds cells up to 256."""
        return round(_padded(n_cells) * self.cell_bytes)

    def buffers(self, n_cells: int) -> int:
        """What decoding and scoring a chunk takes beside the cells of a budget."""
        attention = self.attention_bytes + _padded(n_cells) * self.attention_cell_bytes
        return round(self.logits_bytes + max(self.graph_bytes, attention) + self.rows_bytes)

    def beside(self, n_cells: int) -> int:
        """All that is neither weights nor cells: buffers, the vocabulary, Python."""
        return self.buffers(n_cells) + self.loaded.vocabulary_bytes + self.loaded.python_bytes

    def of(self, n_cells: int) -> int:
        """All of it for a budget."""
        return self.loaded.weights_bytes + self.cells(n_cells) + self.beside(n_cells)

    def largest_budget(self, limit_bytes: int, n_ctx_train: int) -> int:
        """The most cells that fit into `limit_bytes`, a multiple of 256 or the trained length; 0 for none."""
        fixed = self.of(0) - max(self.graph_bytes, round(self.attention_bytes))
        short = (limit_bytes - fixed - self.graph_bytes) / self.cell_bytes
        long = (limit_bytes - fixed - self.attention_bytes) / (self.cell_bytes + self.attention_cell_bytes)
        return min(max(0, int(min(short, long))) // 256 * 256, n_ctx_train)


def _padded(n_cells: int) -> int:
    return -(-n_cells // 256) * 256


def private_bytes() -> int:
    """Memory of this process that no file stands behind (Linux: RssAnon), 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _give_back() -> None:
    """Returns freed memory to the system (glibc), or what a file's check left behind would count as in use."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def load_measured(path: Path, *, gpu_layers: int, header: GGUFHeader) -> tuple[NativeModel, LoadedBytes]:
    """Loads a model as `NativeModel` does and says what that took."""
    _give_back()
    before = private_bytes()
    with _log_lines() as lines:
        model = NativeModel(path, gpu_layers=gpu_layers, header=header)
    sizes = [(found[1], round(float(found[2]) * _MIB)) for line in lines if (found := _MODEL.search(line))]
    repacked = sum(size for name, size in sizes if name.startswith(("CPU", "AMX")) and not name.endswith("Mapped"))
    return model, LoadedBytes(
        weights_bytes=sum(size for _, size in sizes) or int(lib.llama_model_size(model.handle)),
        repacked_bytes=repacked,
        python_bytes=before,
        vocabulary_bytes=max(0, private_bytes() - before - repacked),
    )


def measure_memory(model: NativeModel, loaded: LoadedBytes, options: EngineOptions) -> MemoryNeed:
    """Makes contexts of some sizes and reads off llama.cpp's log what each takes.

    A compute buffer is as large as the graph's largest moment: that of the logits, which does not grow with the
    context, or that of attention, which does. With few output rows only the latter is left to be seen.
    """
    options = options.on(model.n_vocab)
    graph = buffers(model, _SMALL, options)["compute"]
    first, second = (buffers(model, n, options, n_outputs=1) for n in _LONG)
    step = _LONG[1] - _LONG[0]
    slope = (second["compute"] - first["compute"]) / step
    return MemoryNeed(
        loaded,
        chunk=options.chunk,
        cell_bytes=(second["KV"] - first["KV"]) / step,
        logits_bytes=4 * options.n_batch * model.n_vocab,
        graph_bytes=round(graph),
        attention_bytes=first["compute"] - _LONG[0] * slope,
        attention_cell_bytes=slope,
        rows_bytes=_ROW_BYTES * model.n_vocab,
    )


def buffers(model: NativeModel, n_cells: int, options: EngineOptions, *, n_outputs: int = 0) -> dict[str, float]:
    """Bytes of the K and V caches ("KV") and of the compute buffers ("compute"), of all devices together.

    n_outputs: the most rows of logits of a decode, 0 for all; one for each sequence at least. Raises LoadError if there
    is not enough memory.
    """
    params = context_params(model, n_cells, options)
    params.n_outputs_max = max(n_outputs, params.n_seq_max) if n_outputs else 0  # fewer would end the process
    sizes = {"KV": 0.0, "compute": 0.0}
    with _log_lines() as lines:
        lib.llama_free(make_context(model, params))
    for line in lines:
        if found := _CONTEXT.search(line):
            sizes[found[1]] += float(found[2]) * _MIB
    return sizes


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
