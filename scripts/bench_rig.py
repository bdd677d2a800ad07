"""What the figures are measured with: bare llama.cpp, a clock, text to decode, the memory's speed."""

import mmap
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.engine import SamplingParams, TextCodec
from edge_sir.llama.engine import EngineOptions, flash_attention_type
from edge_sir.llama.native import NativeModel, lib
from edge_sir.llama.sampling import LlamaSampler

__all__ = [
    "Bare",
    "Chain",
    "Columns",
    "Setup",
    "Tokens",
    "clock_of",
    "copy_bytes_per_s",
    "parameters",
    "prose",
    "rss_mb",
    "say",
]

Tokens = NDArray[np.int32]
Columns = dict[str, NDArray[Any]]

_WORDS = (
    "river stone lamp garden winter letter bridge sailor morning copper window forest bread candle mountain doctor "
    "silver road kitchen horse tower music island paper shadow engine harbour orchard thunder violin market feather"
)
_VERBS = "found carried forgot painted repaired followed sold remembered opened borrowed"


@dataclass(frozen=True, slots=True)
class Setup:
    """How this run measures. clock: seconds, see `clock_of`."""

    model: str
    threads: int
    quick: bool
    clock: Callable[[], float]

    def pick(self, quick: int, full: int) -> int:
        """A number of repetitions."""
        return quick if self.quick else full


def clock_of(threads: int) -> Callable[[], float]:
    """With one thread the time it had on a core, which other processes disturb little; else the wall's."""
    return time.thread_time if threads == 1 else time.perf_counter


def say(text: str) -> None:
    """Progress, for people who wait."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bare:
    """llama_decode with nothing around it, in a context with the engine's own settings.

    `n` is how many tokens are resident; they lie at positions 0 to n-1.
    """

    def __init__(self, model: NativeModel, n_cells: int, n_batch: int, threads: int) -> None:
        params = lib.llama_context_default_params()
        params.n_ctx = n_cells
        params.n_batch = params.n_ubatch = n_batch
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = params.swa_full = params.no_perf = True
        params.flash_attn_type = flash_attention_type(EngineOptions())
        self.n, self.n_batch = 0, n_batch
        self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise MemoryError(f"llama.cpp could not make a context of {n_cells} cells")
        self._memory = lib.llama_get_memory(self._handle)
        self._batch = lib.llama_batch_init(n_batch, 0, 1)
        self._token = np.ctypeslib.as_array(self._batch.token, (n_batch,))
        self._pos = np.ctypeslib.as_array(self._batch.pos, (n_batch,))
        self._output = np.ctypeslib.as_array(self._batch.logits, (n_batch,))
        for i in range(n_batch):
            self._batch.n_seq_id[i] = 1
            self._batch.seq_id[i][0] = 0

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *_: object) -> None:
        lib.llama_batch_free(self._batch)
        lib.llama_free(self._handle)

    def decode(self, tokens: ArrayLike, *, last: bool = True, all_rows: bool = False) -> None:
        """One llama_decode at the end of what is resident; logits of the last row, of all or of none."""
        array = np.asarray(tokens, np.int32)
        n = len(array)
        self._token[:n] = array
        self._pos[:n] = np.arange(self.n, self.n + n)
        self._output[:n] = all_rows
        self._output[n - 1] = last or all_rows
        self._batch.n_tokens = n
        status = lib.llama_decode(self._handle, self._batch)
        lib.llama_synchronize(self._handle)
        if all_rows:
            lib.llama_get_logits(self._handle)
        if status != 0:
            raise RuntimeError(f"llama_decode failed with {status}")
        self.n += n

    def prefill(self, tokens: Tokens) -> None:
        """Decodes `tokens` in batches; logits of the very last row only."""
        for start in range(0, len(tokens), self.n_batch):
            stop = min(start + self.n_batch, len(tokens))
            self.decode(tokens[start:stop], last=stop == len(tokens))

    def rewind(self, n: int) -> None:
        """Drops everything from position `n` on."""
        lib.llama_memory_seq_rm(self._memory, 0, n, -1)
        self.n = min(self.n, n)

    def align(self, n: int, filler: Tokens) -> None:
        """Makes `n` tokens resident, the last one decoded just now so that there is a row to sample from."""
        self.rewind(n - 1)
        self.prefill(filler[: n - self.n])

    def generate(self, chain: "Chain", n: int) -> None:
        """The loop of every llama.cpp example: sample, decode, `n` times."""
        for _ in range(n):
            self.decode([chain.sample(self._handle)])

    def steps(self, n: int, token: int, clock: Callable[[], float]) -> float:
        """The median time of `n` decode steps of one token, taken back afterwards."""
        at, times = self.n, []
        for _ in range(n):
            started = clock()
            self.decode([token])
            times.append(clock() - started)
        self.rewind(at)
        return float(np.median(times))


class Chain(LlamaSampler):
    """The product's own sampler chain with llama.cpp's draw, applied to a row of the context by llama.cpp itself."""

    def __init__(self, params: SamplingParams, n_vocab: int) -> None:
        super().__init__(params, np.arange(n_vocab, dtype=np.int32))
        if params.temperature > 0:  # the product draws by itself
            lib.llama_sampler_chain_add(self._chain, lib.llama_sampler_init_dist(params.seed))

    def sample(self, context: object, row: int = -1) -> int:  # type: ignore[override]
        return int(lib.llama_sampler_sample(self._chain, context, row))


def prose(codec: TextCodec, n: int, *, seed: int = 0) -> Tokens:
    """`n` tokens of varied English sentences."""
    random = np.random.default_rng(seed)
    words, verbs = _WORDS.split(), _VERBS.split()
    parts: list[Tokens] = []
    while sum(map(len, parts)) < n:
        a, b, c = random.choice(words, 3)
        text = f" The {a} maker {random.choice(verbs)} {random.integers(2, 99)} {b}s near the {c}."
        parts.append(codec.encode(text, special=False))
    return np.concatenate(parts)[:n]


def parameters(model: NativeModel) -> tuple[int, int, int]:
    """Parameters of the layers, of the LM head, and bytes of weights that one decode step reads."""
    head = model.n_vocab * model.header.n_embd
    n_params, n_bytes = int(lib.llama_model_n_params(model.handle)), int(lib.llama_model_size(model.handle))
    # The name with its length in front, as the file's list of tensors has it; else the embedding is the head.
    name = (13).to_bytes(8, "little") + b"output.weight"
    with Path(model.header.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        tied = data.find(name) < 0
    if tied:
        return n_params - head, head, n_bytes
    return n_params - 2 * head, head, round(n_bytes * (1 - head / n_params))


def copy_bytes_per_s(threads: int, *, n_bytes: int = 1 << 26, repeats: int = 5) -> float:
    """The memory's speed: bytes read and written per second by `threads` copying at once; the best of some."""
    pairs = [(np.ones(n_bytes // 8), np.zeros(n_bytes // 8)) for _ in range(threads)]
    best = float("inf")
    for _ in range(repeats):
        workers = [threading.Thread(target=np.copyto, args=(to, source)) for source, to in pairs]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - started)
    return 2 * n_bytes * threads / best


def rss_mb() -> float:
    """Resident set size of this process; where /proc is missing its peak, which shows growth as well."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
