"""The engines that the contract holds for, and how closely their figures must agree."""

from collections.abc import Callable, Sequence
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
    """One engine under test. tolerance: of logits and scores that were computed in batches of other sizes."""

    name: str
    tolerance: float
    make: Callable[[], Engine]


def make_kind(request: pytest.FixtureRequest) -> Kind:
    """The kind that `request.param` names; models are loaded only when asked for."""
    name = request.param
    if name == "toy":
        return Kind(name, 1e-4, lambda: ToyEngine(N_CTX, n_batch=N_BATCH, n_seq_max=N_SEQ_MAX))
    model = request.getfixturevalue(name)
    make = request.getfixturevalue("make_llama_engine")
    # Quantized weights make SmolLM2's kernels round differently for every batch size.
    tolerance = 0.25 if name == "smollm2" else 0.02
    return Kind(name, tolerance, lambda: make(model, N_CTX, chunk=N_BATCH, n_seq_max=N_SEQ_MAX))


def some_tokens(engine: Engine, n: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(3, min(engine.spec.n_vocab, 250), n).astype(np.int32)


def piece(
    seq: int,
    tokens: ArrayLike,
    p0: int,
    *,
    targets: ArrayLike | None = None,
    needs: Sequence[str] = (),
    logits: bool = True,
) -> Slice:
    array = np.asarray(tokens, np.int32)
    wanted = np.full(len(array), -1, np.int32) if targets is None else np.asarray(targets, np.int32)
    return Slice(seq, array, p0, wanted, frozenset(needs), logits)


def read(engine: Engine, seq: int, tokens: ArrayLike, p0: int | None = None) -> NDArray[Any]:
    """Decodes `tokens` behind what the sequence holds, and returns the last row's logits."""
    array = np.asarray(tokens, np.int32)
    at = engine.pos_range(seq)[1] + 1 if p0 is None else p0
    last = None
    for start in range(0, len(array), N_BATCH):
        part = array[start : start + N_BATCH]
        [result] = engine.decode([piece(seq, part, at + start)])
        last = result.logits
    assert last is not None
    return last


def apart(a: ArrayLike, b: ArrayLike) -> float:
    """The largest difference."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())
