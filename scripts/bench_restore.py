"""The figures about what comes back: restoring saved cells beside reading their text again, and what saving takes.

The case is the usual one: a full context, of which words are evicted all over, so that the cells that come back go into
free cells far apart; the survivors are packed, so that the next decode pays a K-shift of the whole context.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from bench_rig import Setup, prose, say
from bench_stats import Figure, Floats, paired

from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import Engine, Slice, Tokens
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel
from edge_sir.policies import from_spec
from edge_sir.session import SavedRows, Session

__all__ = ["KEYS", "restoring"]

KEYS = ("restore_vs_reread", "archive_bytes_per_token")

_N_CELLS, _N_PASSAGE = 1024, 64
_N_STEPS = 3  # normal decode steps beside each restore


def restoring(model: NativeModel, setup: Setup, n_rounds: int, keys: Sequence[str] = KEYS) -> list[Figure]:
    """How many times as long re-reading a passage takes, and what a saved token takes, in bytes."""
    off, n_bytes, why = _measure(model, setup, n_rounds, "off")
    if off is None:
        return [Figure(key, None, note=why) for key in keys]
    on, _, _ = _measure(model, setup, n_rounds, "on")
    restore_s, shift_s, save_s, reread_s, step_s = off.T
    detail = {
        "tokens": _N_PASSAGE,
        "cells": _N_CELLS,
        "restore_ms": 1e3 * np.median(restore_s),
        "kshift_ms": 1e3 * np.median(shift_s),
        "save_ms": 1e3 * np.median(save_s),
        "reread_ms": 1e3 * np.median(reread_s),
        "decode_step_ms": 1e3 * np.median(step_s),
    }
    if on is not None:  # where V lies cell by cell and not value by value
        detail |= {
            "restore_ms_flash": 1e3 * np.median(on[:, 0]),
            "save_ms_flash": 1e3 * np.median(on[:, 2]),
            "reread_ms_flash": 1e3 * np.median(on[:, 3]),
            "decode_step_ms_flash": 1e3 * np.median(on[:, 4]),
            "ratio_flash": float(np.median(on[:, 3] / (on[:, 0] + on[:, 1]))),
        }
    ratio = paired(keys[0], reread_s, restore_s + shift_s, detail=detail)
    return [ratio, Figure(keys[1], n_bytes / _N_PASSAGE, detail={"bytes": n_bytes, "cell_bytes": _cell_bytes(model)})]


def _cell_bytes(model: NativeModel) -> float:
    return model.header.kv_bytes_per_cell(2.0, 2.0)


def _measure(
    model: NativeModel, setup: Setup, n_rounds: int, flash_attn: Literal["on", "off"]
) -> tuple[Floats | None, int, str]:
    """Seconds [n_rounds, 5]: restoring, its K-shift, saving, re-reading, a decode step. Bytes saved. Why not, if so."""
    engine = LlamaEngine(model, _N_CELLS, EngineOptions(threads=setup.threads, flash_attn=flash_attn))
    try:
        if not engine.spec.can_restore or not engine.spec.can_pack:
            return None, 0, engine.spec.why if engine.spec.can_restore else engine.spec.why_restore
        say(f"restoring, flash attention {flash_attn}, {n_rounds} rounds")
        session, saved = _full_session(engine)
        rounds = [_one_round(setup, session, saved) for _ in range(n_rounds + 1)]
        return np.array(rounds[1:]), saved.n_bytes, ""
    finally:
        engine.close()


def _full_session(engine: LlamaEngine) -> tuple[Session, SavedRows]:
    """A packed session with room for the passage, in cells that are 12 apart; and the passage."""
    session = Session(engine, from_spec("streaming"), Budget(_N_CELLS), positions="packed")
    tokens = prose(engine.text, _N_CELLS + _N_PASSAGE)
    _read(session, tokens[: _N_CELLS - _N_PASSAGE])
    passage = np.arange(300, 300 + _N_PASSAGE)
    saved = session.save_rows(passage)
    _evict(session, passage)
    _read(session, tokens[_N_CELLS:])  # takes the passage's own cells
    _evict(session, np.arange(100, 100 + 12 * _N_PASSAGE, 12))
    return session, saved


def _one_round(setup: Setup, session: Session, saved: SavedRows) -> list[float]:
    """Restores the passage, and takes it out again; re-reads it, and takes that out."""
    clock, engine = setup.clock, session.engine
    normal = float(np.median([_step(setup, session) for _ in range(_N_STEPS)]))
    started = clock()
    assert session.restore(saved) == _N_PASSAGE
    restore_s = clock() - started
    shift_s = max(0.0, _step(setup, session) - normal)
    rows = np.flatnonzero(np.isin(session.ledger["born"], saved.columns["born"]))
    started = clock()
    session.save_rows(rows)
    save_s = clock() - started
    _evict(session, rows)
    engine.flush(session.seq)
    started = clock()
    at = session.ledger.next_pos
    _decode(engine, session.seq, saved.columns["token"], at)
    reread_s = clock() - started
    engine.remove(session.seq, at, -1)
    return [restore_s, shift_s, save_s, reread_s, normal]


def _step(setup: Setup, session: Session) -> float:
    """Seconds of one decode step, taken back."""
    at = session.ledger.next_pos
    started = setup.clock()
    _decode(session.engine, session.seq, session.ledger["token"][:1], at)
    seconds = setup.clock() - started
    session.engine.remove(session.seq, at, -1)
    return seconds


def _decode(engine: Engine, seq: int, tokens: Tokens, p0: int) -> None:
    """Reads in the engine's own batches; logits of the last row, as for what comes next."""
    n = engine.spec.n_batch
    for start in range(0, len(tokens), n):
        part = tokens[start : start + n].copy()
        piece = Slice(seq, part, p0 + start, np.full(len(part), -1, np.int32))
        engine.decode([replace(piece, logits=start + n >= len(tokens))])


def _read(session: Session, tokens: Tokens) -> None:
    session.begin_turn()
    session.start_message()
    session.feed(tokens, "user")
    while session.step():
        pass


def _evict(session: Session, rows: np.ndarray) -> None:
    session.evict(EvictionPlan(rows, session.ledger.epoch, "room"))
