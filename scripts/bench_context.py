"""Figures about the context: reading it in with scores, letting a quarter of it go."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from bench_rig import Bare, Columns, Setup, Tokens, parameters, prose, say
from bench_stats import Figure, Floats, bootstrap, head_flop_ratio, paired, robust_line
from numpy.typing import NDArray

from edge_sir.core.budget import Budget
from edge_sir.core.plan import runs_of
from edge_sir.core.policy import LedgerView
from edge_sir.core.scores import reduce_rows
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel
from edge_sir.policies import from_spec
from edge_sir.session import Session
from edge_sir.text.boundaries import TextBorders

__all__ = ["Prefill", "overflow", "prefill", "prefill_figure"]

_N_STEPS = 8  # normal decode steps beside each eviction
_N_SINGLE = 4  # tokens decoded one by one before each, as in a reply
_TURN = 64  # tokens per turn of the conversation that fills the cache
_LARGE = 512  # the other batch size of re-reading


@dataclass(frozen=True, slots=True)
class Prefill:
    """Seconds per chunk. Its last session's ledger and cache are the full conversation for `overflow`.

    ways: [3, n_reps, n_chunks], through the session, bare, bare with the logits of all rows (NaN where not
    measured). reduce_s: time to reduce one chunk's logits to scores. large: bare with n_batch 512 over the
    first tokens against the chunk that a chat has over the same.
    """

    ways: Floats
    reduce_s: float
    large: float
    chunk: int
    columns: Columns
    state: bytes

    @property
    def n_tokens(self) -> int:
        """How many were read."""
        return len(self.columns["token"]) + _N_SINGLE

    @property
    def bare_s(self) -> float:
        """Bare prefill of all tokens, by the better of the two batch sizes."""
        return float(robust_line(self.ways[1]).sum()) * min(1.0, self.large)


# ---- reading in with scores ----------------------------------------------------------------------


def prefill(model: NativeModel, setup: Setup, n_tokens: int, n_reps: int) -> Prefill:
    """Reads `n_tokens` through a session and through bare llama_decode, chunk beside chunk."""
    ways = []
    with ExitStack() as closing:
        engine = LlamaEngine(model, n_tokens, EngineOptions(threads=setup.threads))
        closing.callback(engine.close)
        bare = closing.enter_context(Bare(model, n_tokens, engine.spec.n_batch, setup.threads))
        tokens = prose(engine.text, n_tokens)
        bare.prefill(tokens[: bare.n_batch])  # warm
        for rep in range(n_reps):
            say(f"prefill of {model.header.path.name}, repetition {rep + 1} of {n_reps}")
            engine.remove(0, 0, -1)
            bare.rewind(0)
            session = Session(engine, from_spec("sir"), Budget(n_tokens), borders=TextBorders(engine.text))
            ways.append(_read_in(setup, session, bare, tokens, rep))
        large = [_large_against_small(model, setup, bare, tokens[: n_tokens // 2]) for _ in range(setup.pick(1, 3))]
        engine.remove(0, n_tokens - _N_SINGLE, -1)
        columns = {name: column[:-_N_SINGLE].copy() for name, column in session.ledger.columns().items()}
        state = engine.dump(0)
    return Prefill(
        np.array(ways).swapaxes(0, 1),
        _reduce_s(setup, bare.n_batch, model.n_vocab),
        float(np.median(large)),
        bare.n_batch,
        columns,
        state,
    )


def _read_in(setup: Setup, session: Session, bare: Bare, tokens: Tokens, rep: int) -> Floats:
    """Seconds [3, n_chunks]: the session, bare, bare with all logits."""
    clock, size = setup.clock, bare.n_batch
    started = clock()
    session.begin_turn()
    session.start_message()
    session.feed(tokens, "user")
    n_chunks = -(-len(tokens) // size)
    fed_s = (clock() - started) / n_chunks
    times = np.full((3, n_chunks), np.nan)
    for i in range(n_chunks):
        part, at = tokens[i * size : (i + 1) * size], bare.n
        for way in np.roll(np.arange(3), i + rep):
            if way == 2 and setup.quick and i % 3:
                continue
            bare.rewind(at)
            started = clock()
            if way == 0:
                session.step()
            else:
                bare.decode(part, last=i == n_chunks - 1, all_rows=way == 2)
            times[way, i] = clock() - started
        if bare.n == at:
            bare.decode(part, last=False)
    times[0] += fed_s
    return times


def _reduce_s(setup: Setup, n_rows: int, n_vocab: int) -> float:
    """Time to reduce the logits of one chunk to the scores that policy `sir` needs."""
    logits = np.random.default_rng(0).normal(0, 4, (n_rows, n_vocab)).astype(np.float32)
    index = np.arange(n_rows)
    times = []
    for _ in range(5):
        started = setup.clock()
        reduce_rows(logits, index, index, {"surprisal"})
        times.append(setup.clock() - started)
    return float(np.median(times))


def _large_against_small(model: NativeModel, setup: Setup, small: Bare, tokens: Tokens) -> float:
    """Time of bare prefill in batches of 512 over that of the default, part beside part."""
    totals = np.zeros(2)
    small.rewind(0)
    with Bare(model, 2 * len(tokens), _LARGE, setup.threads) as large:
        large.prefill(tokens[:_LARGE])  # warm
        large.rewind(0)
        for start in range(0, len(tokens), _LARGE):
            for i, bare in enumerate((large, small)):
                started = setup.clock()
                bare.prefill(tokens[start : start + _LARGE])
                totals[i] += setup.clock() - started
    return float(totals[0] / totals[1])


def prefill_figure(key: str, model: NativeModel, taken: Prefill) -> Figure:
    """How many times as long as bare llama_decode the scored prefill takes."""
    _, n_reps, n_chunks = taken.ways.shape
    n_tokens = taken.n_tokens
    every = np.arange(n_reps * n_chunks)
    bare_line = robust_line(taken.ways[1])

    def ratio(chosen: NDArray[np.intp], way: int = 0) -> float:
        pairs = taken.ways[way] / taken.ways[1]
        return float(np.average(robust_line(pairs, chosen), weights=bare_line))

    low, high = bootstrap(n_reps * n_chunks, ratio, n_draws=300)
    n_body, n_head, _ = parameters(model)
    return Figure(
        key,
        ratio(every),
        low,
        high,
        f"95 % of {n_reps * n_chunks} chunk pairs",
        limit=head_flop_ratio(n_body, n_head),
        limit_is=f"parameters with over without the LM head ({n_body + n_head:,} / {n_body:,}), attention not counted",
        detail={
            "unscored_all_logits_ratio": ratio(every, 2),
            "ratio_to_bare_512": ratio(every) / taken.large,
            "reduce_share_of_bare": taken.reduce_s / bare_line.mean(),
            "chunk": taken.chunk,
            "tokens": n_tokens,
            "session_tokens_per_s": n_tokens / bare_line.sum() / ratio(every),
            "bare_tokens_per_s": n_tokens / bare_line.sum(),
        },
    )


# ---- letting go ----------------------------------------------------------------------------------


def overflow(model: NativeModel, setup: Setup, taken: Prefill, n_reps: int, copy_speed: float) -> list[Figure]:
    """What a full cache costs when a quarter of it goes, in decode steps, and what re-reading it would cost."""
    keys = ("overflow_decode_steps", "reread_over_overflow")
    engine = LlamaEngine(model, taken.n_tokens, EngineOptions(threads=setup.threads))
    try:
        if not engine.spec.can_pack:
            return [Figure(key, None, note=f"no packing: {engine.spec.why}") for key in keys]
        say(f"overflow, {n_reps} repetitions")
        samples = np.array([_one_overflow(setup, _full_session(engine, taken)) for _ in range(n_reps)])
        cells_bytes = 2 * model.header.kv_bytes_per_cell(2.0, 0.0) * engine.spec.n_ctx
    finally:
        engine.close()
    steps, overflow_s = _steps_figure(keys[0], samples, cells_bytes / copy_speed)
    low, high = bootstrap(n_reps, lambda i: taken.bare_s / float(np.median(overflow_s[i])))
    reread = Figure(
        keys[1],
        taken.bare_s / float(np.median(overflow_s)),
        low,
        high,
        f"95 % of {n_reps} overflows",
        detail={
            "reread_s": taken.bare_s,
            "reread_512_over_chunk": taken.large,
            "overflow_ms": 1e3 * np.median(overflow_s),
        },
    )
    return [steps, reread]


def _full_session(engine: LlamaEngine, taken: Prefill) -> Session:
    """The conversation that `prefill` left, in turns of `_TURN` tokens, with its last tokens generated."""
    engine.load(0, taken.state)
    session = Session(engine, from_spec("sirllm"), Budget(taken.n_tokens), positions="packed")
    columns = dict(taken.columns)
    token = columns.pop("token")
    session.ledger.append(token, columns | {"turn": 1 + np.arange(len(token)) // _TURN})
    session.turn = 1 + len(token) // _TURN
    for t in token[:_N_SINGLE]:
        session.feed([t], "assistant")
        session.step(n_generated=1)
    return session


def _one_overflow(setup: Setup, session: Session) -> list[float]:
    """Seconds [plan and calls, plan alone, step with the K-shift, normal step], runs, seconds of `sir`'s plan."""
    clock, n_tokens, tokens = setup.clock, session.budget.n_cells, session.ledger["token"][:100].copy()
    n_evicted = n_tokens // 4
    assert len(session.ledger) == n_tokens
    pos = session.ledger["pos"].copy()
    sir_s = _plan_of_sir(clock, session, n_evicted)
    started = clock()
    plan = session.room.plan(1, session.turn + 1, n_evicted)  # pure: the session makes the same one below
    plan_s = clock() - started
    assert plan is not None and len(plan) == n_evicted
    session.begin_turn(n_reply=n_evicted - 1)  # `sirllm` makes all this room at the turn's first token
    session.feed(tokens[:1], "user")
    started = clock()
    piece = session.next_slice()
    room_s = clock() - started
    assert piece is not None and len(session.ledger) == n_tokens - n_evicted
    times = []
    for token in tokens[: 1 + _N_STEPS]:
        if piece is None:
            session.feed([token], "assistant")
            piece = session.next_slice()
        assert piece is not None
        started = clock()
        result = session.engine.decode([piece])[0]
        times.append(clock() - started)
        session.commit(result)
        piece = None
    return [room_s, plan_s, times[0], float(np.median(times[1:])), len(runs_of(plan.rows, pos)), sir_s]


def _plan_of_sir(clock: Callable[[], float], session: Session, n: int) -> float:
    ledger = session.ledger
    view = LedgerView(ledger.columns(), session.turn, ledger.epoch, n)
    started = clock()
    from_spec("sir").plan(view, n, session.room.fixed())
    return clock() - started


def _steps_figure(key: str, samples: Floats, limit_s: float) -> tuple[Figure, Floats]:
    room_s, plan_s, shift_s, normal_s, runs, sir_s = samples.T
    overflow_s = room_s + np.maximum(0.0, shift_s - normal_s)
    normal = float(np.median(normal_s))
    figure = paired(
        key,
        overflow_s,
        normal_s,
        limit=limit_s / normal,
        limit_is="reading and writing the K of all cells once, at the speed of memory copies",
        detail={
            "plan_ms": 1e3 * np.median(plan_s),
            "calls_ms": 1e3 * np.median(room_s - plan_s),
            "kshift_ms": 1e3 * np.median(shift_s - normal_s),
            "decode_step_ms": 1e3 * normal,
            "runs": int(np.median(runs)),
            "sir_plan_ms": 1e3 * np.median(sir_s),
        },
    )
    return figure, overflow_s
