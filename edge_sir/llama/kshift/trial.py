"""Does moving keys leave this model's logits alone? Tried on a loaded model; run it where the process may end.

A text is read once at positions 0.. and once moved by +64, -64, +64, -64, +64: five K-shifts, so that a small
harm grows. What a move may change at most is measured on the model itself, as the difference between attention
with and without the flash kernel, which add up the same products in another order.

Another trial saves cells, removes them, lets a second sequence take and leave what they held, and puts them back.
What that may change at most is measured as well, with the same tokens read into cells of another order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_sir.engine import Slice, Tokens
from edge_sir.errors import LoadError
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.gguf.header import AGAIN
from edge_sir.llama.kshift.gate import RestoreTest, ShiftTest, Verdict
from edge_sir.llama.native import NativeModel

__all__ = [
    "MOVES",
    "N_CELLS",
    "move_keys",
    "read_plainly",
    "restore_test",
    "shift_test",
    "trial_engine",
    "trial_options",
    "trial_text",
]

N_CELLS = 256
_N_READ, _N_SCORED = 48, 8  # small, because a large model on a CPU reads some ten tokens a second
MOVES = (64, -64, 64, -64, 64)
_PASSAGE = (8, 40)  # positions saved of those read
_OTHER_ORDERS = (24, 5)  # more than one: where a value is rounded to the next step, or not, is a matter of luck
_CHUNK = 64
_TEXT = (
    "The lighthouse keeper wrote down every ship that passed, its colours, its course and the hour. "
    "One evening, 12 March 1887, he saw two lanterns where there should have been three, and he asked himself: "
    "what has happened out there, and who would believe me if I told them?\n"
)

Rows = NDArray[np.float64]


def trial_text(engine: LlamaEngine) -> Tokens:
    """The tokens of a trial, int32 [_N_READ + _N_SCORED]."""
    tokens = engine.text.encode(_TEXT, special=False)
    if not len(tokens):  # a vocabulary that cannot write this text
        tokens = np.arange(engine.spec.n_vocab, dtype=np.int32)
    return np.resize(tokens, _N_READ + _N_SCORED).astype(np.int32)


@contextmanager
def trial_engine(model: NativeModel, options: EngineOptions) -> Iterator[LlamaEngine]:
    """An engine that moves keys and restores cells whatever the gate would say."""
    engine = LlamaEngine(model, N_CELLS, options, verdict=Verdict(True, "on trial"))
    try:
        yield engine
    finally:
        engine.close()


def trial_options(threads: int) -> EngineOptions:
    """The context of a trial. Said expressly, since `auto` depends on the backend."""
    return EngineOptions(threads=threads, chunk=_CHUNK, flash_attn="off")


def read_plainly(model: NativeModel, options: EngineOptions) -> tuple[Rows, bool]:
    """The logits of the text's last tokens, float64 [8, n_vocab], and whether llama.cpp says that keys can move.

    Raises ModelFileError if the logits are no numbers.
    """
    with trial_engine(model, options) as engine:
        rows, can_shift = _read(engine), engine.can_shift
    if not np.isfinite(rows).all() or rows.std() == 0:
        raise model.header.error("computes no sensible numbers: it is damaged", AGAIN)
    return rows, can_shift


def shift_test(model: NativeModel, plain: Rows, options: EngineOptions, moves: Sequence[int] = MOVES) -> ShiftTest:
    """Moves keys and compares with `plain`, of `read_plainly`. Where keys cannot be moved llama.cpp aborts."""
    try:
        with trial_engine(model, replace(options, flash_attn="on")) as engine:
            rounding = _distance(plain, _read(engine))
    except LoadError:  # a model that excludes the flash kernel gets the least tolerance
        rounding = 0.0
    with trial_engine(model, options) as engine:
        moved = _distance(plain, _read(engine, moves))
    return ShiftTest(moved=moved, rounding=rounding)


def restore_test(model: NativeModel, options: EngineOptions, *, restore: bool = True) -> RestoreTest:
    """Saves and restores cells in a context of `options`. restore: False leaves them out, which must show.

    Raises CapabilityError or LoadError where there is no such context.
    """
    options = replace(options, n_seq_max=2)
    plain = _read_in_halves(model, options)
    others = [_distance(plain, _read_in_halves(model, options, n_late=n)) for n in _OTHER_ORDERS]
    restored = _read_in_halves(model, options, lose=True, restore=restore)
    return RestoreTest(moved=_distance(plain, restored), rounding=max(others))


def _read_in_halves(
    model: NativeModel,
    options: EngineOptions,
    *,
    n_late: int = 0,
    lose: bool = False,
    restore: bool = False,
) -> Rows:
    """As `_read`. n_late: so many tokens of the second half lie in cells before those of the first."""
    with trial_engine(model, options) as engine:
        tokens, half = trial_text(engine), _N_READ // 2
        if n_late:
            _decode(engine, tokens[:n_late], 0, seq=1)
        _decode(engine, tokens[:half], 0)
        engine.remove(1, 0, -1)
        _decode(engine, tokens[half:_N_READ], half)
        if lose:
            _lose(engine, tokens, restore=restore)
        return _score(engine, tokens, _N_READ)


def _lose(engine: LlamaEngine, tokens: Tokens, *, restore: bool) -> None:
    """Removes words from a passage, and has a second sequence take cells and leave some of them."""
    lost = [p for p in range(*_PASSAGE) if p % 3]
    saved = engine.save(0, *_PASSAGE)
    for p in lost:
        engine.remove(0, p, p + 1)
    n_other = len(lost) - 4
    _decode(engine, tokens[:n_other], 0, seq=1)
    engine.remove(1, n_other // 2, -1)
    if restore:
        engine.restore(0, saved, lost)


def move_keys(engine: LlamaEngine, moves: Sequence[int]) -> int:
    """Moves all cells of sequence 0 by each of `moves`, one K-shift each; returns their sum."""
    for delta in moves:
        engine.shift(0, 0, -1, delta)
        engine.flush(0)
    return sum(moves)


def _read(engine: LlamaEngine, moves: Sequence[int] = ()) -> Rows:
    tokens = trial_text(engine)
    _decode(engine, tokens[:_N_READ], 0)
    return _score(engine, tokens, _N_READ + move_keys(engine, moves))


def _score(engine: LlamaEngine, tokens: Tokens, p0: int) -> Rows:
    """The logits of the last tokens, from position `p0` on. One by one: a row of a batch is rounded as its neighbours
    want it.
    """
    rows = [_decode(engine, tokens[i : i + 1], p0 + i - _N_READ) for i in range(_N_READ, len(tokens))]
    return np.stack(rows).astype(np.float64)


def _decode(engine: LlamaEngine, tokens: Tokens, p0: int, *, seq: int = 0) -> NDArray[np.float32]:
    [result] = engine.decode([Slice(seq, tokens, p0, np.full(len(tokens), -1, np.int32))])
    assert result.logits is not None
    return result.logits


def _distance(a: Rows, b: Rows) -> float:
    """Root mean square difference in standard deviations of `a`."""
    return float(np.sqrt(np.mean((a - b) ** 2)) / a.std())
