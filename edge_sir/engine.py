"""The only seam to a model: what edge-sir asks of an inference engine and of its tokenizer.

`edge_sir.llama` puts llama.cpp behind it, `edge_sir.testing` a toy with llama.cpp's rules in numpy;
one contract suite (tests/contract) runs on both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.plan import Move, Run
from edge_sir.errors import ConfigError
from edge_sir.grammar.guide import Grammar

__all__ = [
    "THINK_TAGS",
    "Engine",
    "EngineSpec",
    "EngineTimes",
    "Sampler",
    "SamplingParams",
    "Slice",
    "SliceResult",
    "TextCodec",
]

THINK_TAGS = ("<think>", "</think>")
"""What surrounds the thought part of a reasoning model's reply."""

_MOST_LOOKED_BACK = 2**20
_MOST_BIAS = 1000.0

Tokens = NDArray[np.int32]
Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a loaded model and its context are.

    n_ctx: cells. n_ctx_seq: the most of them that one sequence can have. n_batch: most tokens in one decode. n_slice:
    most of one sequence in it, so that what a session makes room for at once does not depend on who else is in the
    decode. n_ctx_train: the trained length in positions, 0 if unknown. n_swa: sliding window, 0 for none. can_pack:
    whether moving cells to other positions is known to be right, and `why`. can_restore: whether cells can be saved and
    put back, and `why_restore`. kv_bytes: size of the K and V caches. fingerprint: of the model file. cell_terms: what
    the bytes of a saved cell depend on (the model, the build, the types of K and V), in short: cells saved under others
    are refused.
    """

    model: str
    n_ctx: int
    n_ctx_seq: int
    n_batch: int
    n_slice: int
    n_ctx_train: int
    n_vocab: int
    n_seq_max: int
    n_swa: int
    can_pack: bool
    why: str
    can_restore: bool
    why_restore: str
    kv_bytes: int
    fingerprint: str
    cell_terms: str


@dataclass(frozen=True, slots=True)
class Slice:
    """Tokens of one sequence to decode at positions p0, p0+1, ...

    targets: the token that follows each row, int32 [n], -1 where unknown; it is what `surprisal` scores.
    needs: score columns wanted per row. logits: whether the last row is wanted as a copy.
    """

    seq: int
    tokens: Tokens
    p0: int
    targets: Tokens
    needs: frozenset[str] = frozenset()
    logits: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """What came back for one slice.

    scores: by name, float32 [n], row t as in `core.scores` (NaN where the target is unknown).
    logits: the last row, float32 [n_vocab], the caller's to keep; None if it was not asked for.
    """

    scores: Mapping[str, Row]
    logits: Row | None


@dataclass(slots=True)
class EngineTimes:
    """Seconds spent so far, by what for."""

    decode_s: float = 0.0
    score_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is drawn from logits, in llama.cpp's terms; temperature 0 is greedy.

    A value that leaves a step without effect (top_k 0, top_p 1, min_p 0, repeat_penalty 1, the other penalties 0)
    skips it. The penalties look back at the last `repeat_last_n` tokens that were drawn. These are the project's only
    defaults of sampling. logit_bias: what is added to a token's logit before all else, by token; a mapping becomes
    pairs. grammar: what the drawn tokens must spell: others are left out before top-k, and an end is drawn only where
    the grammar lets the text end.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int = 0
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        self._normalize()
        numbers = [value for value in asdict(self).values() if isinstance(value, int | float)]
        if not all(math.isfinite(value) and abs(value) < 2**32 for value in numbers) or self.top_k >= 2**31:
            raise ConfigError(f"a sampling parameter is no number, or too large: {self}")
        if self.repeat_last_n > _MOST_LOOKED_BACK:  # llama.cpp takes memory for all of them
            raise ConfigError(f"repeat_last_n {self.repeat_last_n} is more than {_MOST_LOOKED_BACK}")
        if min(self.seed, self.repeat_last_n) < 0 or not self.temperature >= 0 or not self.repeat_penalty > 0:
            raise ConfigError(
                f"seed {self.seed}, repeat_last_n {self.repeat_last_n}, temperature {self.temperature} and "
                f"repeat_penalty {self.repeat_penalty}: the first three must not be negative, the last must be positive"
            )

    def _normalize(self) -> None:
        """The grammar and the biases as they are kept, whether they come from a caller or out of JSON."""
        if isinstance(self.grammar, Mapping):
            object.__setattr__(self, "grammar", Grammar(**self.grammar))
        given: Any = self.logit_bias
        try:
            pairs = given.items() if isinstance(given, Mapping) else given
            biases = tuple((int(token), float(bias)) for token, bias in pairs)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError("logit_bias gives tokens, by their numbers, a number each") from None
        if not all(0 <= token < 2**31 and abs(bias) <= _MOST_BIAS for token, bias in biases):
            raise ConfigError(f"logit_bias: tokens are not negative, and a bias is at most {_MOST_BIAS:g}")
        object.__setattr__(self, "logit_bias", biases)

    def biased(self, logits: Row) -> Row:
        """`logits` float32 [n_vocab] with what is added to some; a copy where that is anything."""
        if self.logit_bias:
            logits = logits.copy()
            for token, bias in dict(self.logit_bias).items():
                logits[token] += bias
        return logits

    def check_vocabulary(self, n_vocab: int) -> None:
        """Raises ConfigError for a bias of a token that is none of `n_vocab`, and for a grammar that is wrong."""
        over = [token for token in dict(self.logit_bias) if token >= n_vocab]
        if over:
            raise ConfigError(f"logit_bias names token {over[0]}; the last of this model is {n_vocab - 1}")
        if self.grammar is not None:
            self.grammar.check()


class Sampler(Protocol):
    """A sampler chain with its state; one per turn."""

    def sample(self, logits: Row) -> int:
        """Draws a token from `logits` [n_vocab] and counts it as drawn (for the penalties, and for the grammar).

        Raises ConfigError where the grammar leaves nothing that could come.
        """

    def state(self) -> dict[str, Any]:
        """`params` (the fields of SamplingParams) and `drawn` (all tokens so far), for another one to go on from."""

    def close(self) -> None:
        """Frees the chain; a second call does nothing."""


class Engine(Protocol):
    """A model with a KV cache of `spec.n_ctx` cells for `spec.n_seq_max` sequences.

    They share the cells, or each has `spec.n_ctx_seq` of its own (a stream).

    Ranges of positions are half-open [p0, p1); p1 = -1 means to the end. All raise EngineError and
    its subclasses; after a failed `decode` the cache holds what it held before.
    """

    @property
    def spec(self) -> EngineSpec: ...

    @property
    def times(self) -> EngineTimes: ...

    def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
        """Decodes up to `spec.n_batch` tokens of different sequences in one step.

        Each slice starts at its sequence's largest position + 1 (any start if the sequence is empty).
        Raises BatchError, NoSlotError, AbortedError, ComputeError or ShiftError.
        """

    def claim(self, seq: int, n_cells: int) -> None:
        """From now on `n_cells` cells are this sequence's, 0 for none, in place of those that it had claimed.

        A session claims its budget: so none of several finds the cells taken by another in mid-conversation. Raises
        BudgetError, with nothing changed, if all sequences together claim more than there are, or one more than
        `spec.n_ctx_seq`.
        """

    def remove(self, seq: int, p0: int, p1: int) -> None:
        """Removes the cells with positions [p0, p1)."""

    def shift(self, seq: int, p0: int, p1: int, delta: int) -> None:
        """Adds `delta` to the positions in [p0, p1); keys follow at the next decode.

        Raises CapabilityError where that would be wrong: `spec.can_pack` is false, or cells are shared.
        """

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        """Empties `dst` and makes it share the cells of `src` at [p0, p1), which then cannot be shifted in either.

        Where each sequence has cells of its own, they are copied, and nothing is shared.
        """

    def shared_until(self, seq: int) -> int:
        """The position from which on no cell of `seq` is shared with another sequence; 0 if none is."""

    def pos_range(self, seq: int) -> tuple[int, int]:
        """Smallest and largest position of the sequence, (-1, -1) if it is empty.

        With a sliding window the smallest is the window's; the session asks for the largest alone.
        """

    def flush(self, seq: int) -> None:
        """Applies pending shifts, so that keys agree with positions."""

    def dump(self, seq: int) -> bytes:
        """The sequence's state, flushed first, with a checksum; llama.cpp's with what it depends on, as `save`."""

    def load(self, seq: int, state: bytes) -> None:
        """Replaces the sequence by a dumped one; raises StateError and leaves it empty if refused."""

    def save(self, seq: int, p0: int, p1: int, *more: Run) -> bytes:
        """The cells with positions [p0, p1), flushed first, with a checksum and what they depend on; for `restore`.

        more: further ranges (p0, p1), ascending, for one blob of them all. Raises CapabilityError where
        `spec.can_restore` is false, StateError if there are no such cells.
        """

    def restore(
        self, seq: int, blob: bytes, pos: ArrayLike, to: ArrayLike | None = None, moves: Sequence[Move] = ()
    ) -> None:
        """Puts saved cells back into the sequence, with no decode.

        pos: which of the saved cells, by the positions they were saved at, int [n], ascending. to: the positions that
        they get, int [n], ascending; None for those. moves: shifts of the sequence's own cells that make place, applied
        in this order; the caller sees to it that `to` is free then. Where anything moves, keys follow at the next
        decode. Raises StateError for a blob that is damaged, of another model or context, or lacks these cells, and
        where there are not as many free cells; CapabilityError as `save` and `shift`. Then nothing has changed.
        """

    def sampler(self, params: SamplingParams, drawn: Sequence[int] = ()) -> Sampler:
        """A new sampler chain, which has drawn the tokens `drawn` already: it goes on as one that really did.

        Raises ConfigError as `SamplingParams.check_vocabulary`.
        """

    def close(self) -> None:
        """Frees everything; a second call does nothing."""


class TextCodec(Protocol):
    """Text to tokens and back."""

    @property
    def bos_text(self) -> str: ...

    @property
    def eos_text(self) -> str: ...

    @property
    def bos(self) -> int:
        """The token a stream must begin with, -1 for none."""

    def encode(self, text: str, *, special: bool) -> Tokens:
        """Tokens of `text`, nothing added. Without `special`, no text can become a control token."""

    def split(self, text: str) -> list[str]:
        """`text` cut at its control tokens: what is between them at even places, they at odd ones.

        Only what is between them is tokenized; put together, the parts are the text.
        """

    def piece(self, token: int) -> bytes:
        """The bytes of one token, empty for a control token. A character may span tokens."""

    def is_end(self, token: int) -> bool:
        """Whether the token ends a generation."""
