"""A toy engine with llama.cpp's rules in numpy, and a byte tokenizer: tests in milliseconds, no model.

Public and shipped, so that whoever writes a policy can test it. What the toy keeps of llama.cpp:
positions must be consecutive per sequence, holes are legal, cells are finite, a shift moves
positions at once and keys only at the next decode, and logits depend on relative positions alone.
"""

import io
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.chance import Chance, pick
from edge_sir.core.claims import Claims
from edge_sir.core.plan import Move, Run, check_places
from edge_sir.core.scores import reduce_rows
from edge_sir.core.sealed import seal, unseal
from edge_sir.core.sharing import Sharing
from edge_sir.engine import EngineSpec, EngineTimes, Row, SamplingParams, Slice, SliceResult, Tokens
from edge_sir.errors import BatchError, CapabilityError, NoSlotError, StateError
from edge_sir.grammar.guide import Guide
from edge_sir.grammar.vocabulary import Vocabulary

__all__ = ["ByteTokenizer", "ToyEngine", "ToySampler"]

_FEATURES = 8


class ByteTokenizer:
    """Tokens 0-255 are bytes; above them come BOS, the control tokens of a ChatML template and think tags."""

    SPECIALS = ("<s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
    CHAT_TEMPLATE = (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )

    n_vocab = 256 + len(SPECIALS)
    bos_text = SPECIALS[0]
    eos_text = SPECIALS[2]
    bos = 256

    def encode(self, text: str, *, special: bool) -> Tokens:
        out: list[int] = []
        while text:
            hits = [(text.find(s), i) for i, s in enumerate(self.SPECIALS) if s in text] if special else []
            at, index = min(hits, default=(len(text), -1))
            out += text[:at].encode(errors="replace")
            if index >= 0:
                out.append(256 + index)
                at += len(self.SPECIALS[index])
            text = text[at:]
        return np.array(out, np.int32)

    def split(self, text: str) -> list[str]:
        return re.split(f"({'|'.join(map(re.escape, self.SPECIALS))})", text)

    def piece(self, token: int) -> bytes:
        if token < 256:
            return bytes([token])
        name = self.SPECIALS[token - 256]
        return name.encode() if "think" in name else b""

    def is_end(self, token: int) -> bool:
        return token == 256 + self.SPECIALS.index("<|im_end|>")


class ToyEngine:
    """Logits of a row are a fixed random mixture of the visible tokens, weighted by relative position.

    n_slice: 0 for n_batch. streams: each sequence has an equal part of the cells as its own. script: tokens that every
    sampler yields first, in order, so that a test can say what the model says; those that a grammar does not allow are
    passed over. build: stands for llama.cpp's: what was saved by one is refused by all others.
    """

    def __init__(
        self,
        n_ctx: int = 256,
        *,
        n_batch: int = 64,
        n_slice: int = 0,
        n_vocab: int = ByteTokenizer.n_vocab,
        n_seq_max: int = 4,
        n_ctx_train: int = 4096,
        can_pack: bool = True,
        can_restore: bool = True,
        streams: bool = False,
        seed: int = 0,
        script: Sequence[int] = (),
        build: str = "toy",
    ) -> None:
        fingerprint = f"toy-{n_vocab}-{seed}"
        self._terms = {"model": fingerprint, "build": build}
        self._streams = streams
        n_each = n_ctx // n_seq_max if streams else n_ctx
        self.spec = EngineSpec(
            model="toy",
            n_ctx=n_ctx,
            n_ctx_seq=n_each,
            n_batch=n_batch,
            n_slice=min(n_slice or n_batch, n_each),
            n_ctx_train=n_ctx_train,
            n_vocab=n_vocab,
            n_seq_max=n_seq_max,
            n_swa=0,
            can_pack=can_pack,
            why="the toy's logits depend on relative positions alone" if can_pack else "switched off",
            can_restore=can_restore,
            why_restore="the toy's cells are plain numbers" if can_restore else "switched off",
            kv_bytes=n_ctx * _FEATURES * 8,
            fingerprint=fingerprint,
            cell_terms=f"{fingerprint}-{build}",
        )
        self.times = EngineTimes()
        self.script = list(script)
        self.fail_next: Exception | None = None
        """Raised by the next decode or restore, which then changes nothing."""
        self._sharing = Sharing()
        self._claims = Claims(n_ctx, n_each if streams else 0)
        rng = np.random.default_rng(seed)
        self._embed = rng.normal(size=(n_vocab, _FEATURES))
        self._head = rng.normal(size=(_FEATURES, n_vocab))
        self._token = np.zeros(n_ctx, np.int32)
        self._pos = np.zeros(n_ctx, np.int64)
        self._key_pos = np.zeros(n_ctx, np.int64)  # what the key was rotated to; a pending shift lags here
        self._member = np.zeros((n_ctx, n_seq_max), bool)

    def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
        self._fail()
        started = time.perf_counter()
        self._check(slices)
        self._key_pos[:] = self._pos
        results = []
        for piece in slices:
            cells = self._free(piece.seq)[: len(piece.tokens)]
            self._token[cells] = piece.tokens
            self._pos[cells] = self._key_pos[cells] = piece.p0 + np.arange(len(piece.tokens))
            self._member[cells, piece.seq] = True
            results.append(self._evaluate(piece))
        self.times.decode_s += time.perf_counter() - started
        return results

    def _fail(self) -> None:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error

    def _check(self, slices: Sequence[Slice]) -> None:
        n_tokens = sum(len(s.tokens) for s in slices)
        if not 0 < n_tokens <= self.spec.n_batch or any(len(s.tokens) == 0 for s in slices):
            raise BatchError(f"a batch holds 1 to {self.spec.n_batch} tokens and no empty slice, not {n_tokens}")
        if len({s.seq for s in slices}) < len(slices):
            raise BatchError("one slice per sequence and batch")
        for piece in slices:
            last = self.pos_range(piece.seq)[1]
            if piece.p0 < 0 or (last >= 0 and piece.p0 != last + 1):
                raise BatchError(f"sequence {piece.seq} continues at {last + 1}, not {piece.p0}")
            if piece.tokens.min() < 0 or max(piece.tokens.max(), piece.targets.max()) >= self.spec.n_vocab:
                raise BatchError("a token or target is outside the vocabulary")
        for seq, n in [(s.seq, len(s.tokens)) for s in slices] if self._streams else [(slices[0].seq, n_tokens)]:
            if n > (n_free := len(self._free(seq))):
                raise NoSlotError(f"{n} tokens do not fit the {n_free} free cells of {self.spec.n_ctx_seq}")

    def _free(self, seq: int) -> NDArray[np.intp]:
        """The free cells that the sequence can have."""
        first = seq * self.spec.n_ctx_seq if self._streams else 0
        return first + np.flatnonzero(~self._member[first : first + self.spec.n_ctx_seq].any(axis=1))

    def _evaluate(self, piece: Slice) -> SliceResult:
        mine = self._member[:, piece.seq]
        key_pos, values = self._key_pos[mine], self._embed[self._token[mine]]
        distance = (piece.p0 + np.arange(len(piece.tokens)))[:, None] - key_pos[None, :]
        weight = np.where(distance >= 0, np.cos(0.3 * distance) + 1.5, 0.0) / (1.0 + np.abs(distance))
        logits = ((weight @ values) @ self._head).astype(np.float32)
        scores = reduce_rows(logits, piece.tokens, piece.targets, piece.needs)
        return SliceResult(scores, logits[-1].copy() if piece.logits else None)

    def _cells(self, seq: int, p0: int, p1: int) -> NDArray[np.bool_]:
        if not 0 <= seq < self.spec.n_seq_max:
            raise BatchError(f"sequence {seq} is not one of {self.spec.n_seq_max}")
        stop = np.iinfo(np.int64).max if p1 < 0 else p1
        return self._member[:, seq] & (self._pos >= p0) & (self._pos < stop)

    def claim(self, seq: int, n_cells: int) -> None:
        self._cells(seq, 0, 0)
        self._claims.claim(seq, n_cells)

    def remove(self, seq: int, p0: int, p1: int) -> None:
        self._member[self._cells(seq, p0, p1), seq] = False
        self._sharing.remove(seq, p0, p1)

    def shift(self, seq: int, p0: int, p1: int, delta: int) -> None:
        self._check_may_move(seq, [(p0, p1, delta)])
        self._pos[self._cells(seq, p0, p1)] += delta

    def _check_may_move(self, seq: int, moves: Sequence[Move]) -> None:
        if not self.spec.can_pack:
            raise CapabilityError(f"this model cannot move cells: {self.spec.why}")
        for p0, p1, _ in moves:
            self._sharing.check_may_shift(seq, p0, p1)

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        cells = self._cells(src, p0, p1)
        if src == dst:
            return
        self.remove(dst, 0, -1)
        if self._streams:
            self.flush(src)
            places = self._free(dst)[: cells.sum()]
            self._token[places], self._member[places, dst] = self._token[cells], True
            self._pos[places] = self._key_pos[places] = self._pos[cells]
            return
        self._member[:, dst] = cells
        if cells.any():
            self._sharing.link(src, dst, int(self._pos[cells].min()), int(self._pos[cells].max()) + 1)

    def shared_until(self, seq: int) -> int:
        self._cells(seq, 0, 0)
        return self._sharing.shared_until(seq)

    def pos_range(self, seq: int) -> tuple[int, int]:
        mine = self._pos[self._cells(seq, 0, -1)]
        return (int(mine.min()), int(mine.max())) if len(mine) else (-1, -1)

    def flush(self, seq: int) -> None:
        self._key_pos[:] = self._pos

    def dump(self, seq: int) -> bytes:
        self.flush(seq)
        mine = self._cells(seq, 0, -1)
        buffer = io.BytesIO()
        np.save(buffer, np.stack([self._token[mine].astype(np.int64), self._pos[mine]]), allow_pickle=False)
        return seal("toy's sequence", self._terms, buffer.getvalue())

    def load(self, seq: int, state: bytes) -> None:
        self.remove(seq, 0, -1)
        payload = unseal(state, "toy's sequence", self._terms)
        try:
            token, pos = np.load(io.BytesIO(payload), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise StateError(f"the saved state is damaged: {error}") from None
        cells = self._free(seq)[: len(pos)]
        if len(cells) < len(pos):
            raise StateError(f"the saved state needs {len(pos)} cells, {len(cells)} are free")
        self._token[cells] = token
        self._pos[cells] = self._key_pos[cells] = pos
        self._member[cells, seq] = True

    def save(self, seq: int, p0: int, p1: int, *more: Run) -> bytes:
        cells = np.flatnonzero(np.any([self._cells(seq, *run) for run in ((p0, p1), *more)], axis=0))
        self._check_can_restore()
        if not len(cells):
            raise StateError(f"sequence {seq} has no cells at positions {p0} to {p1}")
        self.flush(seq)
        cells = cells[np.argsort(self._pos[cells])]
        saved = np.stack([self._token[cells].astype(np.int64), self._pos[cells]])
        return seal("toy's cells", self._terms, saved.astype("<i8").tobytes())

    def restore(
        self, seq: int, blob: bytes, pos: ArrayLike, to: ArrayLike | None = None, moves: Sequence[Move] = ()
    ) -> None:
        self._cells(seq, 0, 0)
        self._check_can_restore()
        payload = unseal(blob, "toy's cells", self._terms)
        token, saved_at = np.frombuffer(payload, "<i8").reshape(2, -1)
        wanted = np.asarray(pos, np.int64)
        places = wanted if to is None else np.asarray(to, np.int64)
        check_places(saved_at, wanted, places)
        if moves or not np.array_equal(wanted, places):
            self._check_may_move(seq, moves)
        cells = self._free(seq)[: len(wanted)]
        if len(cells) < len(wanted):
            raise StateError(f"{len(wanted)} cells are to be restored, {len(cells)} are free")
        self._fail()
        for p0, p1, delta in moves:
            self.shift(seq, p0, p1, delta)
        self._token[cells] = token[np.searchsorted(saved_at, wanted)]
        self._pos[cells], self._key_pos[cells] = places, wanted
        self._member[cells, seq] = True

    def _check_can_restore(self) -> None:
        if not self.spec.can_restore:
            raise CapabilityError(f"cells of this model cannot be restored: {self.spec.why_restore}")

    def sampler(self, params: SamplingParams, drawn: Sequence[int] = ()) -> "ToySampler":
        return ToySampler(params, self.script, drawn, self.spec.n_vocab)

    def close(self) -> None:
        self._member[:] = False


class ToySampler:
    """Yields the script while it lasts, then greedy or temperature sampling with the repetition penalty.

    n_vocab: tokens that can be drawn; those beyond the byte tokenizer's have no text.
    """

    def __init__(
        self,
        params: SamplingParams,
        script: list[int],
        drawn: Sequence[int] = (),
        n_vocab: int = ByteTokenizer.n_vocab,
    ) -> None:
        params.check_vocabulary(n_vocab)
        self._params = params
        self._guide: Guide | None = None
        if params.grammar is not None:
            codec = ByteTokenizer()
            pieces = [codec.piece(token) if token < codec.n_vocab else b"" for token in range(n_vocab)]
            self._guide = Guide(params.grammar, Vocabulary(pieces, codec.is_end), drawn)
        self._script = script
        self._chance = Chance(params.seed, len(drawn))
        self._drawn = [int(token) for token in drawn]

    def sample(self, logits: Row) -> int:
        u = self._chance.next()
        token = self._scripted()
        if token is None:
            token = self._draw(self._fitting(self._params.biased(logits)).astype(np.float64), u)
        self._drawn.append(token)
        if self._guide is not None:
            self._guide.accept(token)
        return token

    def _scripted(self) -> int | None:
        while self._script:
            token = self._script.pop(0)
            if self._guide is None or self._guide.allows(token):
                return token
        return None

    def _fitting(self, logits: Row) -> Row:
        """The logits, and minus infinity for tokens that the grammar does not allow."""
        if self._guide is None or self._guide.is_waiting:
            return logits
        allowed = self._guide.best(logits, len(logits))
        fitting = np.full_like(logits, -np.inf)
        fitting[allowed] = logits[allowed]
        return fitting

    def _draw(self, logits: NDArray[np.float64], u: float) -> int:
        params = self._params
        past = self._drawn[max(0, len(self._drawn) - params.repeat_last_n) :]
        recent, counts = np.unique(np.array(past, np.intp), return_counts=True)
        penalty = params.repeat_penalty
        logits[recent] = np.where(logits[recent] > 0, logits[recent] / penalty, logits[recent] * penalty)
        logits[recent] -= counts * params.frequency_penalty + params.presence_penalty
        if params.temperature <= 0:
            return int(logits.argmax())
        with np.errstate(over="ignore"):  # a temperature next to nothing leaves the likeliest alone
            return pick(np.exp((logits - logits.max()) / params.temperature), u)

    def state(self) -> dict[str, Any]:
        return {"params": asdict(self._params), "drawn": list(self._drawn)}

    def close(self) -> None:
        pass
