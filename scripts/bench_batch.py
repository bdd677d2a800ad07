"""Figures about many dialogues at once: how much faster than one after another, and what is lost beside bare llama.cpp.

The shape is fixed: 16 dialogues of 8 turns, about 60 tokens read and 40 written in each, a budget of 256 cells. Each
round holds them one after another, then as `--parallel auto` chooses, then 16 at once if that is another way; and does
the same decodes again with nothing around them.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from batch_equal import requests
from bench_rig import Chain, Setup, Tokens, prose, say
from bench_stats import Figure, bootstrap

import edge_sir
from edge_sir.batch.request import BatchRequest
from edge_sir.engine import Slice, SliceResult
from edge_sir.llama.engine import EngineOptions, LlamaEngine, flash_attention_type
from edge_sir.llama.native import NativeModel, lib
from edge_sir.llama.sampling import LlamaSampler
from edge_sir.memory.transcript import Message

__all__ = ["KEYS", "batches"]

KEYS = ("batch_speedup", "batch_decode_speedup", "batch_vs_bare", "scheduler_share", "shared_prefix_saved")

_DIALOGUES, _TURNS, _BUDGET, _REPLY, _MORE_WORDS = 16, 8, 256, 40, 20
_SYSTEM = "You answer letters for a small shipping office. Be brief, name the place, and never promise a date."


@dataclass(slots=True)
class _Decodes:
    """The decodes of one engine: of which sequence so many tokens, and the seconds between two of them."""

    steps: list[tuple[tuple[int, int], ...]] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """One way to hold all dialogues. of: its decodes, by engine. engine_s, draw_s: in all engines, scores included.

    cells_s: in which they saved cells and put them back.
    """

    wall_s: float = 0.0
    engine_s: float = 0.0
    draw_s: float = 0.0
    cells_s: float = 0.0
    of: dict[int, _Decodes] = field(default_factory=dict)
    n_read: int = 0
    n_written: int = 0
    n_recalled: int = 0
    n_evicted: int = 0

    @property
    def own_s(self) -> float:
        """Outside of what the engines do: decodes with their scores, draws, cells saved and put back."""
        return self.wall_s * len(self.of) - self.engine_s - self.draw_s - self.cells_s

    def writing(self, n: int) -> list[float]:
        """Seconds per token of each step in which `n` dialogues wrote a token, and nothing else was decoded."""
        seconds = []
        for one in self.of.values():
            for i in range(1, len(one.steps)):
                is_writing = len(one.steps[i]) == n and all(n_tokens == 1 for _, n_tokens in one.steps[i])
                if is_writing:
                    seconds.append((one.ended[i] - one.ended[i - 1]) / n)
        return seconds


def batches(setup: Setup, n_rounds: int, keys: Sequence[str] = KEYS) -> list[Figure]:
    """The figures for one model; keys: their names, in the order of `KEYS`."""
    asked = requests(_DIALOGUES, _TURNS, n_words=_MORE_WORDS)
    terms = {"budget": _BUDGET, "max_tokens": _REPLY}
    ones, autos, fulls, bares, scored = [], [], [], [], []
    with edge_sir.load(setup.model, threads=setup.threads, quiet=True) as model:
        list(model.batch(requests(_DIALOGUES, 1), parallel="auto", budget=_BUDGET, max_tokens=1))  # it measures here
        for i in range(n_rounds):
            say(f"batches of {model.path.name}, round {i + 1} of {n_rounds}")
            ones.append(_held(model, asked, 1, setup, terms))
            autos.append(_held(model, asked, "auto", setup, terms))
            fulls.append(autos[-1] if _is_full(autos[-1]) else _held(model, asked, _DIALOGUES, setup, terms))
            bares.append(_bare_seconds(model.native, (ones[-1], autos[-1], fulls[-1]), setup))
            scored.append(_again(model.native, fulls[-1], setup, all_rows=True))
        saved = _prefix_saved(model)
    return [
        _speedup(keys[0], ones, autos, bares),
        _writing(keys[1], ones, fulls),
        _over_bare(keys[2], fulls, [bare[2] for bare in bares], scored),
        _own(keys[3], fulls),
        replace(saved, key=keys[4]),
    ]


def _is_full(run: _Run) -> bool:
    """Whether all dialogues were in one context at once."""
    return len(run.of) == 1 and any(len(step) == _DIALOGUES for one in run.of.values() for step in one.steps)


# ---- figures -----------------------------------------------------------------------------------


def _speedup(key: str, ones: Sequence[_Run], autos: Sequence[_Run], bares: Sequence[Sequence[float]]) -> Figure:
    auto = autos[0]
    widths = [len(step) for one in auto.of.values() for step in one.steps]
    return _of_rounds(
        key,
        [one.wall_s / auto.wall_s for one, auto in zip(ones, autos, strict=True)],
        limit=float(np.median([one / auto for one, auto, _ in bares])),
        limit_is="the same decodes with nothing around them, one after another and together",
        detail=_shape(auto)
        | {"one_s": ones[0].wall_s, "auto_s": auto.wall_s, "contexts": len(auto.of), "most_at_once": max(widths)},
    )


def _writing(key: str, ones: Sequence[_Run], fulls: Sequence[_Run]) -> Figure:
    one = np.array([s for run in ones for s in run.writing(1)])
    many = np.array([s for run in fulls for s in run.writing(_DIALOGUES)])
    if min(len(one), len(many)) < 10:
        return Figure(key, None, note=f"too few steps in which all {_DIALOGUES} dialogues wrote")
    value = float(np.median(one) / np.median(many))
    low, high = bootstrap(len(many), lambda i: float(np.median(one) / np.median(many[i])), block=20)
    detail = {"one_tokens_per_s": 1 / np.median(one), "many_tokens_per_s": 1 / np.median(many)}
    return Figure(key, value, low, high, f"95 % of {len(many)} steps", detail=detail)


def _over_bare(key: str, fulls: Sequence[_Run], bares: Sequence[float], scored: Sequence[float]) -> Figure:
    return _of_rounds(
        key,
        [bare / full.wall_s for bare, full in zip(bares, fulls, strict=True)],
        limit=float(np.median(np.array(bares) / np.array(scored))),
        limit_is="the same decodes with a row of logits for each token, which its score is computed from",
        detail=_shape(fulls[0])
        | {"batch_s": fulls[0].wall_s, "bare_s": bares[0]}
        | {"over_bare_with_all_rows": np.median([s / full.wall_s for s, full in zip(scored, fulls, strict=True)])},
        note="bare: the same decodes with the last row of logits, and a draw for each token written",
    )


def _own(key: str, fulls: Sequence[_Run]) -> Figure:
    def shares(seconds: Callable[[_Run], float]) -> list[float]:
        return [seconds(run) / (run.wall_s * len(run.of)) for run in fulls]

    engine, draws = shares(lambda run: run.engine_s), shares(lambda run: run.draw_s)
    cells = shares(lambda run: run.cells_s)
    detail = {"engine_share": np.median(engine), "draw_share": np.median(draws), "cells_share": np.median(cells)}
    return _of_rounds(key, shares(lambda run: run.own_s), detail=detail)


def _shape(run: _Run) -> dict[str, Any]:
    n_turns = _DIALOGUES * _TURNS
    return {
        "dialogues": _DIALOGUES,
        "turns": _TURNS,
        "budget": _BUDGET,
        "read_per_turn": run.n_read / n_turns,
        "written_per_turn": run.n_written / n_turns,
        "evicted": run.n_evicted,
        "recalled": run.n_recalled,
    }


def _of_rounds(key: str, values: Sequence[float], **rest: Any) -> Figure:
    spread = f"lowest and highest of {len(values)} rounds"
    return Figure(key, float(np.median(values)), min(values), max(values), spread, **rest)


# ---- held by edge-sir --------------------------------------------------------------------------


def _held(
    model: edge_sir.Model, asked: Sequence[BatchRequest], parallel: Any, setup: Setup, terms: dict[str, Any]
) -> _Run:
    run = _Run()
    with _watched(run, setup.clock):
        started = setup.clock()
        results = list(model.batch(asked, parallel=parallel, **terms))
        run.wall_s = setup.clock() - started
    if failed := [one.error for one in results if one.error]:
        raise RuntimeError(str(failed[0]))
    for result in results:
        run.n_read += result.edge_sir["read"]
        run.n_written += result.edge_sir["written"]
        run.n_evicted += result.edge_sir["evicted"]
        run.n_recalled += result.edge_sir["recalled"]
    return run


@contextmanager
def _watched(run: _Run, clock: Callable[[], float]) -> Iterator[None]:
    """While it is open, what each engine decodes and how long that takes is noted in `run`."""
    real = LlamaEngine.decode, LlamaSampler.sample, LlamaEngine.save, LlamaEngine.restore
    lock = threading.Lock()

    def moving(method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(self: LlamaEngine, *args: Any, **named: Any) -> Any:
            started = clock()
            try:
                return method(self, *args, **named)
            finally:
                with lock:
                    run.cells_s += clock() - started

        return timed

    def decode(self: LlamaEngine, slices: Sequence[Slice]) -> list[SliceResult]:
        started = clock()
        results = real[0](self, slices)
        ended = clock()
        with lock:
            of = run.of.setdefault(id(self), _Decodes())
            of.steps.append(tuple((one.seq, len(one.tokens)) for one in slices))
            of.ended.append(ended)
            run.engine_s += ended - started
        return results

    def sample(self: LlamaSampler, logits: Any) -> int:
        started = clock()
        token = real[1](self, logits)
        with lock:
            run.draw_s += clock() - started
        return token

    LlamaEngine.decode, LlamaSampler.sample = decode, sample  # type: ignore[method-assign,assignment]
    LlamaEngine.save, LlamaEngine.restore = map(moving, real[2:])  # type: ignore[method-assign]
    try:
        yield
    finally:
        LlamaEngine.decode, LlamaSampler.sample, LlamaEngine.save, LlamaEngine.restore = real  # type: ignore[method-assign]


def _prefix_saved(model: edge_sir.Model) -> Figure:
    """Of the tokens that all dialogues but the first have in common with it, how many were not read again."""
    asked = [
        replace(one, messages=(Message(0, "system", _SYSTEM),)) for one in requests(_DIALOGUES, 1, n_words=_MORE_WORDS)
    ]
    results = list(model.batch(asked, parallel=_DIALOGUES, budget=_BUDGET, max_tokens=2))
    shared = [result.edge_sir["shared"] for result in results]
    n_opening = max(shared)
    saved = sum(shared) / (n_opening * (_DIALOGUES - 1)) if n_opening else 0.0
    return Figure(KEYS[4], saved, detail={"opening_tokens": n_opening, "dialogues": _DIALOGUES})


# ---- the same decodes, bare --------------------------------------------------------------------


def _bare_seconds(model: NativeModel, runs: Sequence[_Run], setup: Setup) -> list[float]:
    """Of each run; of one that is there twice once."""
    seconds = {id(run): _again(model, run, setup) for run in runs}
    return [seconds[id(run)] for run in runs]


def _again(model: NativeModel, run: _Run, setup: Setup, *, all_rows: bool = False) -> float:
    """Seconds in which bare llama.cpp does the decodes of `run`, one context for each of its engines, at once.

    all_rows: it gives logits of each token, not of the last one of a slice alone.
    """
    threads = setup.threads if len(run.of) == 1 else 1
    with ExitStack() as opened:
        bares = [opened.enter_context(_BareMany(model, of, threads, all_rows)) for of in run.of.values()]
        started = setup.clock()
        if len(bares) == 1:
            bares[0].run()
        else:
            at_work = [threading.Thread(target=bare.run) for bare in bares]
            for thread in at_work:
                thread.start()
            for thread in at_work:
                thread.join()
        return setup.clock() - started


class _BareMany:
    """llama_decode in a loop over recorded steps; each sequence keeps the last tokens that fit into its budget."""

    def __init__(self, model: NativeModel, of: _Decodes, threads: int, all_rows: bool) -> None:
        self._steps, self._all_rows = of.steps, all_rows
        n_seq = 1 + max(seq for step in of.steps for seq, _ in step)
        n_batch = max(128, max(sum(n for _, n in step) for step in of.steps))
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = n_seq * _BUDGET, n_seq, n_seq == 1
        params.n_batch = params.n_ubatch = n_batch
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = params.no_perf = True
        params.flash_attn_type = flash_attention_type(EngineOptions())
        self._handle = lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise MemoryError(f"llama.cpp could not make a context of {n_seq} sequences")
        self._memory = lib.llama_get_memory(self._handle)
        self._batch = lib.llama_batch_init(n_batch, 0, 1)
        self._text = _text(model)
        self._first, self._next = [0] * n_seq, [0] * n_seq
        self._chains = [Chain(edge_sir.SamplingParams(), model.n_vocab) for _ in range(n_seq)]

    def __enter__(self) -> "_BareMany":
        return self

    def __exit__(self, *_: object) -> None:
        for chain in self._chains:
            chain.close()
        lib.llama_batch_free(self._batch)
        lib.llama_free(self._handle)

    def run(self) -> None:
        """Decodes all steps, and draws a token wherever one was written."""
        for step in self._steps:
            outputs = [self._put(seq, n) for seq, n in self._placed(step)]
            if lib.llama_decode(self._handle, self._batch) != 0:
                raise RuntimeError("llama_decode failed")
            for seq, output, n in outputs:
                if n == 1:
                    self._chains[seq].sample(self._handle, output)
        lib.llama_synchronize(self._handle)

    def _placed(self, step: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """The step, once there is room for it. A dialogue that ended leaves its sequence to another: nobody minds."""
        self._batch.n_tokens = 0
        for seq, n in step:
            first = self._next[seq] + n - _BUDGET
            if first > self._first[seq]:
                lib.llama_memory_seq_rm(self._memory, seq, self._first[seq], first)
                self._first[seq] = first
        return step

    def _put(self, seq: int, n: int) -> tuple[int, int, int]:
        batch, at = self._batch, self._batch.n_tokens
        for i in range(n):
            batch.token[at + i] = int(self._text[(self._next[seq] + i) % len(self._text)])
            batch.pos[at + i] = self._next[seq] + i
            batch.n_seq_id[at + i], batch.seq_id[at + i][0] = 1, seq
            batch.logits[at + i] = self._all_rows or i == n - 1
        batch.n_tokens = at + n
        self._next[seq] += n
        return seq, at + n - 1, n


def _text(model: NativeModel) -> Tokens:
    from edge_sir.llama.text import LlamaText

    return prose(LlamaText(model), 512)
