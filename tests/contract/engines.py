"""The engines that the contract holds for, and how closely their figures must agree."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from edge_sir.engine import Engine, Slice
from edge_sir.testing import ToyEngine

N_CTX = 256
N_BATCH = 64
N_SEQ_MAX = 4


@dataclass(frozen=True)
class Kind:
    """One engine under test, made by `make`.

    Root mean square differences of logits must stay below `same` if batches were cut otherwise, and
    below `moved` if positions differ too. The logits of all engines have a standard deviation of 3; those of
    SmolLM2 carry the noise of quantized activations, which depends on how a batch is cut.
    """

    name: str
    make: Callable[[], Engine]
    same: float
    moved: float


def param(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.model) if name == "smollm2" else name


_OF_LLAMA = ("tiny_llama", "tiny_gemma3", "tiny_gemma3_wide", "smollm2")
STREAMS = ["toy_streams", "tiny_llama_streams"]  # each sequence has cells of its own, as many as all have elsewhere
SHARING = [param(name) for name in ("toy", *_OF_LLAMA)]  # sequences share the cells
ALL = [*SHARING, *STREAMS]
SHARING_PACKING = [param(name) for name in ("toy", "tiny_llama", "tiny_gemma3_wide", "smollm2")]
PACKING = [*SHARING_PACKING, *STREAMS]
CHEAP = [name for name in ALL if isinstance(name, str)]  # for tests that fill the cache, or need exact figures
_TOLERANCES = {
    "toy": (1e-5, 1e-5),
    "toy_streams": (1e-5, 1e-5),
    "smollm2": (0.6, 0.6),
}  # random tokens; the cut of a batch moves its logits


def kind_of(request: pytest.FixtureRequest) -> Kind:
    """The kind that `request.param` names; only its model is loaded."""
    return kind_named(request.param, request)


def kind_named(name: str, request: pytest.FixtureRequest) -> Kind:
    """The kind of that name."""
    same, moved = _TOLERANCES.get(name, (0.01, 0.05))
    streams = name in STREAMS
    n_cells, terms = N_CTX * N_SEQ_MAX if streams else N_CTX, {"n_seq_max": N_SEQ_MAX, "streams": streams}
    if name.startswith("toy"):
        return Kind(name, lambda: ToyEngine(n_cells, n_batch=N_BATCH, **terms), same, moved)
    model = request.getfixturevalue(name.removesuffix("_streams"))
    make = request.getfixturevalue("make_llama_engine")
    return Kind(name, lambda: make(model, n_cells, threads=1, chunk=N_BATCH, **terms), same, moved)


def some_tokens(engine: Engine, n: int, seed: int = 0) -> NDArray[np.int32]:
    """Random tokens that are no control tokens in any of the vocabularies."""
    return np.random.default_rng(seed).integers(20, 250, n).astype(np.int32)


def piece(
    seq: int,
    tokens: ArrayLike,
    p0: int,
    *,
    targets: ArrayLike | None = None,
    needs: Collection[str] = (),
    logits: bool = True,
) -> Slice:
    array = np.asarray(tokens, np.int32)
    wanted = np.full(len(array), -1, np.int32) if targets is None else np.asarray(targets, np.int32)
    return Slice(seq, array, p0, wanted, frozenset(needs), logits)


def read(engine: Engine, seq: int, tokens: ArrayLike, p0: int | None = None) -> NDArray[np.float32]:
    """Decodes `tokens` behind what the sequence holds, and returns the last row's logits."""
    array = np.asarray(tokens, np.int32)
    at = engine.pos_range(seq)[1] + 1 if p0 is None else p0
    for start in range(0, len(array), N_BATCH):
        [result] = engine.decode([piece(seq, array[start : start + N_BATCH], at + start)])
    assert result.logits is not None
    return result.logits


def rows_of(engine: Engine, seq: int, tokens: ArrayLike) -> NDArray[np.float32]:
    """The logits after every token, decoded one by one, float32 [n, n_vocab]."""
    return np.stack([read(engine, seq, [token]) for token in np.asarray(tokens)])


def apart(a: ArrayLike, b: ArrayLike) -> float:
    """Root mean square difference."""
    return float(np.sqrt(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)))


def ranges(engine: Engine) -> list[tuple[int, int]]:
    return [engine.pos_range(seq) for seq in range(N_SEQ_MAX)]
