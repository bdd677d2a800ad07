"""Figures about conversations: speed of generation, and whether the five-hundredth turn is like the fiftieth."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_rig import Bare, Chain, Setup, parameters, prose, rss_mb, say
from bench_stats import Figure, bootstrap, growth, paired
from numpy.typing import NDArray

from edge_sir import open_chat
from edge_sir.chat import Chat
from edge_sir.options import Options

__all__ = ["generation", "turns"]

Floats = NDArray[np.float64]

_RESIDENT = 512  # tokens in a cache of the default 1024 when generation starts
_BLOCK = 16  # generated tokens timed at once
_REPLY = 100
_STORY = "Tell me a very long story about the sailor, the lamp maker and the copper bridge. Leave nothing out."

_N_TURNS = 525
_EARLY, _LATE = range(25, 75), range(475, 525)  # 50 turns around turn 50 and turn 500
_SMALL_BUDGET = 256


# ---- speed of generation -------------------------------------------------------------------------


def generation(setup: Setup, n_rounds: int, copy_speed: float, *, key: str = "decode_vs_bare") -> Figure:
    """Generation through Chat beside a bare loop with the same sampler chain at the same residency."""
    options = Options(model=setup.model, threads=setup.threads, max_tokens=_REPLY, quiet=True)
    pairs: list[tuple[float, float]] = []
    with open_chat(options) as chat:
        model = chat.engine.model  # type: ignore[attr-defined]
        filler = prose(chat.codec, options.budget)
        chat.add("user", chat_text(chat, _RESIDENT))
        chain = Chain(chat.sampling, chat.engine.spec.n_vocab)
        with Bare(model, chat.engine.spec.n_ctx, chat.engine.spec.n_batch, setup.threads) as bare:
            for i in range(n_rounds):
                say(f"generation of {model.header.path.name}, round {i + 1} of {n_rounds}")
                pairs += _one_reply(setup, chat, bare, chain, filler)
                chat.truncate(chat.session.turn)
        chain.close()
        _, _, step_bytes = parameters(model)
    if not pairs:
        return Figure(key, None, note=f"the model's replies end within {_BLOCK} tokens")
    ours, bares = np.array(pairs).T
    return paired(
        key,
        bares,
        ours,
        limit=float(np.median(bares) / (step_bytes / copy_speed)),
        limit_is=f"reading {step_bytes / 1e6:.0f} MB of weights per token at the speed of memory copies",
        detail={"chat_tokens_per_s": 1 / np.median(ours), "bare_tokens_per_s": 1 / np.median(bares)},
    )


def chat_text(chat: Chat, n: int) -> str:
    """About `n` tokens of text for a user message."""
    return b"".join(chat.codec.piece(int(token)) for token in prose(chat.codec, n)).decode("utf-8", "replace")


def _one_reply(
    setup: Setup, chat: Chat, bare: Bare, chain: Chain, filler: NDArray[np.int32]
) -> list[tuple[float, float]]:
    """Seconds per token (chat, bare) for each block of one reply, the two taking turns."""
    pairs = []
    stream = chat.stream(_STORY)
    if _advance(setup, chat, stream, 2) is None:  # the prompt is read here
        return []
    while True:
        bare.align(len(chat.session.ledger), filler)
        first = len(pairs) % 2
        bare_s = _bare_block(setup, bare, chain) if first else 0.0
        ours_s = _advance(setup, chat, stream, _BLOCK)
        if ours_s is None:
            return pairs
        pairs.append((ours_s, bare_s or _bare_block(setup, bare, chain)))


def _bare_block(setup: Setup, bare: Bare, chain: Chain) -> float:
    started = setup.clock()
    bare.generate(chain, _BLOCK)
    return (setup.clock() - started) / _BLOCK


def _advance(setup: Setup, chat: Chat, stream: Generator[Any, None, None], n: int) -> float | None:
    """Seconds per token for the next `n` or a few more, None if the reply ended before."""
    stats = chat.session.stats
    before = stats.tokens_out
    started = setup.clock()
    while stats.tokens_out < before + n:
        if next(stream, None) is None:
            return None
    return (setup.clock() - started) / (stats.tokens_out - before)


# ---- many turns ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """Per turn: seconds, seconds of a bare step beside it (NaN where not timed), reply tokens, memory."""

    turn_s: Floats
    bare_s: Floats
    n_reply: Floats
    rss: Floats
    full_at: int
    evictions: int
    kshifts: int


def turns(setup: Setup, n_reply: int) -> list[Figure]:
    """Hundreds of short turns in a small cache: their speed late and early, and what memory does."""
    options = Options(
        model=setup.model, threads=setup.threads, budget=_SMALL_BUDGET, max_tokens=n_reply, temperature=0, quiet=True
    )
    with open_chat(options) as chat:
        model, spec = chat.engine.model, chat.engine.spec  # type: ignore[attr-defined]
        with Bare(model, spec.n_ctx, spec.n_batch, setup.threads) as bare:
            bare.prefill(prose(chat.codec, _SMALL_BUDGET - 16))
            run = _run_turns(setup, chat, bare, n_reply)
    return [_speed(run, n_reply), _memory(run)]


def _run_turns(setup: Setup, chat: Chat, bare: Bare, n_reply: int) -> _Run:
    columns = np.full((4, _N_TURNS), np.nan)
    full_at = _N_TURNS
    for i in range(_N_TURNS):
        if i % 50 == 0:
            say(f"turns, {i} of {_N_TURNS}")
        started = setup.clock()
        reply = chat.reply("Go on")
        columns[0, i] = setup.clock() - started
        if i in _EARLY or i in _LATE:
            columns[1, i] = bare.steps(4, 1, setup.clock)
        columns[2, i] = reply.n_generated
        columns[3, i] = rss_mb()
        if reply.evicted and full_at == _N_TURNS:
            full_at = i
    stats = chat.session.stats
    return _Run(*columns, full_at, stats.evictions, stats.kshifts)


def _speed(run: _Run, n_reply: int) -> Figure:
    key = "late_vs_early_turn_speed"
    windows = []
    for window in (_EARLY, _LATE):
        index = np.array([i for i in window if run.n_reply[i] == n_reply], int)
        windows.append(run.turn_s[index] / run.bare_s[index])
    early, late = windows
    if min(len(early), len(late)) < 10:
        return Figure(key, None, note=f"too few replies of {n_reply} tokens to compare")
    n = min(len(early), len(late))
    low, high = bootstrap(n, lambda i: float(np.median(early[i]) / np.median(late[i])))
    return Figure(
        key,
        float(np.median(early) / np.median(late)),
        low,
        high,
        f"95 % of {n} turns early and late",
        detail={
            "early_turn_in_bare_steps": np.median(early),
            "late_turn_in_bare_steps": np.median(late),
            "turns": len(run.turn_s),
            "evictions_per_turn": run.evictions / len(run.turn_s),
            "kshifts_per_turn": run.kshifts / len(run.turn_s),
        },
    )


def _memory(run: _Run) -> Figure:
    return growth("rss_growth_mb_per_1000_turns", run.rss[max(run.full_at, _EARLY.start) :])
