"""The figures about sessions on disk: what a turn, a snapshot, going on and a search take, beside the bare file system.

A bare write is of as many bytes as the store wrote, in the same folder: for a turn at the end of an open file that is
synced, for a snapshot as a new file whose bytes and name are.
"""

import os
import random
import tempfile
from collections.abc import Callable, Sequence
from io import RawIOBase
from pathlib import Path
from time import perf_counter

import numpy as np
from bench_rig import Setup, prose, say
from bench_stats import Figure, Floats, paired

from edge_sir.core.budget import Budget
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel
from edge_sir.memory.transcript import Message
from edge_sir.policies import from_spec
from edge_sir.session import Session, SessionState
from edge_sir.session.changes import Changes
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore
from edge_sir.store.values import Record, Snapshot

__all__ = ["KEYS", "STORE_KEYS", "resuming", "storing"]

STORE_KEYS = ("save_turn_over_fsync", "search_ms_100k")
KEYS = ("snapshot_over_raw", "resume_s", "state_bytes_over_kv")

_N_CELLS, _N_TURN, _N_MESSAGES = 1024, 110, 100_000
_WORDS = ("harbour", "lantern", "orchard", "copper", "violin", "granite", "meadow", "thistle", "anchor", "saffron")


# ---- a turn, a search: no model ------------------------------------------------------------------


def storing(n_rounds: int, n_messages: int = _N_MESSAGES) -> list[Figure]:
    """A turn's record beside a bare write and sync of as many bytes; a search over many messages, in ms."""
    say(f"a turn on disk, {n_rounds} rounds")
    with tempfile.TemporaryDirectory() as name, StateFolder(Path(name)) as folder:
        with folder.create("bench", model="", fingerprint="") as store:
            turns, bare, n_bytes = _turns(store, Path(name), n_rounds)
            saved = paired(STORE_KEYS[0], turns, bare, detail={"bytes": n_bytes, "turn_ms": 1e3 * np.median(turns)})
            say(f"a search over {n_messages:,} messages")
            _tell(store, n_messages)
        return [saved, _searches(folder, n_rounds, n_messages)]


def _turns(store: SessionStore, folder: Path, n_rounds: int) -> tuple[Floats, Floats, float]:
    """Seconds of each record and of each bare write; bytes of a record in the log of the database."""
    rng, changes = random.Random(0), os.urandom(_N_TURN * 18)
    log, seconds, sizes = folder / "edge-sir.db-wal", [], []
    with (folder / "bare").open("wb", buffering=0) as bare:
        for i in range(n_rounds + 1):
            record, before = _record(rng, i, changes), log.stat().st_size
            taken = _seconds(lambda record=record: store.write(record))
            size = log.stat().st_size - before
            if size <= 0:  # the log began anew
                continue
            part = os.urandom(size)
            sizes.append(size)
            seconds.append((taken, _seconds(lambda part=part: _append(bare, part))))
    rounds = np.array(seconds[1:])
    return rounds[:, 0], rounds[:, 1], float(np.median(sizes))


def _record(rng: random.Random, i: int, changes: bytes) -> Record:
    said = tuple(Message(i + 1, role, _text(rng, 40), 2 * i + j + 1) for j, role in enumerate(("user", "assistant")))
    return Record(n_kept=2 * i, messages=said, changes=changes, state={"session": {"turn": i}}, n_turns=i + 1)


def _text(rng: random.Random, n_words: int) -> str:
    return " ".join(f"{rng.choice(_WORDS)}{rng.randrange(1000)}" for _ in range(n_words))


def _tell(store: SessionStore, n_messages: int) -> None:
    rng, n_kept = random.Random(1), len(store.read().path)
    for start in range(0, n_messages, 1000):
        said = tuple(Message(1, "user", _text(rng, 20), 10**6 + start + i) for i in range(1000))
        store.write(Record(n_kept=n_kept + start, messages=said, changes=b"", state={}, n_turns=1))


def _searches(folder: StateFolder, n_rounds: int, n_messages: int) -> Figure:
    rng = random.Random(2)
    wanted = [f"{rng.choice(_WORDS)}{rng.randrange(1000)}" for _ in range(n_rounds)]
    long = [_seconds(lambda words=words: folder.search(words)) for words in wanted]
    short = [_seconds(lambda words=words: folder.search(words[:2])) for words in wanted]
    detail = {"messages": n_messages, "n": n_rounds, "two_characters_ms": 1e3 * float(np.median(short))}
    return Figure(STORE_KEYS[1], 1e3 * float(np.median(long)), detail=detail)


# ---- snapshots -----------------------------------------------------------------------------------


def resuming(model: NativeModel, setup: Setup, n_rounds: int, keys: Sequence[str] = KEYS) -> list[Figure]:
    """A snapshot of a full session beside a bare file; going on from it, in s; its bytes beside the cells'."""
    say(f"snapshots of {_N_CELLS} cells, {n_rounds} rounds")
    engine = LlamaEngine(model, _N_CELLS, EngineOptions(threads=setup.threads))
    try:
        with (
            tempfile.TemporaryDirectory() as name,
            StateFolder(Path(name)) as folder,
            folder.create("bench", model="", fingerprint="") as store,
        ):
            return _snapshots(engine, store, Path(name), n_rounds, keys)
    finally:
        engine.close()


def _snapshots(
    engine: LlamaEngine, store: SessionStore, folder: Path, n_rounds: int, keys: Sequence[str]
) -> list[Figure]:
    session = _full_session(engine)
    store.write(Record(n_kept=0, messages=(), changes=b"", state={}, n_turns=1))
    seconds = []
    for _ in range(n_rounds + 1):
        state, cells = session.snapshot()
        parts = (state.dump(), cells)
        written = _seconds(lambda parts=parts: store.write_snapshot(Snapshot(1, "", parts)))
        bare = _seconds(lambda parts=parts: _write(folder / "bare", parts))
        resumed = _seconds(lambda: _resume(engine, store))
        read = _seconds(lambda: (folder / "bare").read_bytes())
        seconds.append((written, bare, resumed, read))
    written, bare, resumed, read = np.array(seconds[1:]).T
    n_bytes = sum(map(len, parts))
    kv = engine.spec.kv_bytes * len(session.ledger) / engine.spec.n_ctx
    detail = {"bytes": n_bytes, "ms": 1e3 * np.median(written), "bare_ms": 1e3 * np.median(bare)}
    over_reading = float(np.median(resumed / read))
    return [
        paired(keys[0], written, bare, detail=detail),
        Figure(keys[1], float(np.median(resumed)), detail={"cells": len(session.ledger), "over_reading": over_reading}),
        Figure(keys[2], n_bytes / kv, detail={"bytes": n_bytes, "kv_bytes": kv}),
    ]


def _full_session(engine: LlamaEngine) -> Session:
    session = Session(engine, from_spec("sir"), Budget(_N_CELLS))
    session.ledger.watcher = Changes()
    session.begin_turn()
    session.start_message()
    session.feed(prose(engine.text, _N_CELLS - 1), "user")
    while session.step():
        pass
    return session


def _resume(engine: LlamaEngine, store: SessionStore) -> None:
    """From the open engine to a session that can go on."""
    head, cells = store.read_snapshot(store.snapshots()[0])
    state = SessionState.load(head)
    engine.load(0, cells)
    Session.from_state(state, engine, from_spec("sir"), Budget(_N_CELLS))


# ---- the bare file system ------------------------------------------------------------------------


def _append(file: RawIOBase, part: bytes) -> None:
    file.write(part)
    os.fsync(file.fileno())


def _write(path: Path, parts: Sequence[bytes]) -> None:
    """A new file, its bytes and its name synced."""
    temporary = path.with_name("bare.tmp")
    with temporary.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seconds(call: Callable[[], object]) -> float:
    """Of the wall: a disk is waited for."""
    started = perf_counter()
    call()
    return perf_counter() - started
