"""The figures about sessions on disk: a turn's record, a snapshot of a full context, and going on from one.

What goes to disk is beside the least that could: as many bytes written and synced with nothing around. Seconds are the
wall's here, also with one thread, since who waits for the disk is on no core. TMPDIR names the disk.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from bench_chat import chat_text
from bench_rig import Setup, prose, say
from bench_stats import Figure, bootstrap, paired

from edge_sir.core.budget import Budget
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.native import NativeModel
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.runtime import Model, ensure_model
from edge_sir.session import Session, SessionState
from edge_sir.store.files import Files
from edge_sir.store.folder import StateFolder
from edge_sir.store.layout import Layout
from edge_sir.store.session import SessionStore
from edge_sir.store.values import Record, Snapshot, Stored

__all__ = ["KEYS", "saving", "snapshots"]

KEYS = ("snapshot_over_raw", "resume_s", "state_bytes_over_kv")

_N_CELLS = 1024
_N_READ, _REPLY = 86, 24  # tokens of a turn: 110, without those of the template
_N_FILLING = 10  # turns until the cells are full


# ---- a turn's record -----------------------------------------------------------------------------


def saving(setup: Setup, n_turns: int, n_sessions: int, key: str = "save_turn_over_fsync") -> Figure:
    """A turn's record beside a bare write and fsync of as many bytes as SQLite's log grew by.

    Real turns of a full context are played once, and what they added is written again into `n_sessions` new sessions.
    """
    with tempfile.TemporaryDirectory(prefix="edge-sir-") as path:
        records = _played(setup, n_turns, Path(path) / "played")
        say(f"writing {n_sessions} x {n_turns} records")
        pairs, n_bytes, n_emptied, mean = _rewritten(records, n_sessions, Path(path))
    turn_s, bare_s = np.array(pairs).T
    detail = {
        "log_bytes": float(np.median(n_bytes)),
        "record_ms": 1e3 * float(np.median(turn_s)),
        "fsync_ms": 1e3 * float(np.median(bare_s)),
        "log_emptied": n_emptied,  # a checkpoint: such a write is in the mean alone
        "mean_ratio": mean,
    }
    return paired(key, turn_s, bare_s, detail=detail)


def _played(setup: Setup, n_turns: int, folder: Path) -> list[Record]:
    """What each of `n_turns` turns added to a session; the cells are full after the first 10."""
    options = Options(
        model=setup.model, threads=setup.threads, budget=_N_CELLS, max_tokens=_REPLY, session="bench",
        state_dir=folder, quiet=True,
    )  # fmt: skip
    with Model(ensure_model(setup.model, quiet=True), options) as model:
        chat = model.chat()
        pieces = chat_text(chat, n_turns * _N_READ).split(". ")
        with StateFolder(folder, read_only=True) as reader, reader.open("bench") as store:
            records, before = [], store.read()
            for i in range(n_turns):
                if i % 10 == 0:
                    say(f"turns to save, {i} of {n_turns}")
                chat.reply(". ".join(pieces[i * len(pieces) // n_turns : (i + 1) * len(pieces) // n_turns]) + ".")
                now = store.read()
                records.append(_added(store, before, now))
                before = now
    return records


def _added(store: SessionStore, before: Stored, now: Stored) -> Record:
    """The record between two readings, as it was written."""
    n = len(before.path)
    return Record(
        n_kept=n,
        messages=tuple(row.message for row in now.path[n:]),
        changes=b"".join(store.changes(before.record)),
        state=now.state,
        n_turns=store.info.n_turns,
        entries=now.entries[len(before.entries) :],
        pieces={key: body for key, body in now.pieces.items() if before.pieces.get(key) != body},
        dropped=tuple(before.pieces.keys() - now.pieces.keys()),
    )


def _rewritten(
    records: Sequence[Record], n_sessions: int, folder: Path
) -> tuple[list[tuple[float, float]], list[int], int, float]:
    """Seconds (record, bare) of each write, and bytes; how often the log was emptied; the ratio of the sums."""
    target = folder / "again"
    wal, files, bare = Layout(target).wal, Files(), os.open(folder / "bare", os.O_WRONLY | os.O_CREAT, 0o600)
    pairs, n_bytes, emptied_s = [], [], []
    try:
        with StateFolder(target) as again:
            for i in range(n_sessions):
                with again.create(f"bench {i}", model="bench", fingerprint="bench") as store:
                    for k, record in enumerate(records):
                        size = wal.stat().st_size
                        record_s = _seconds(lambda store=store, record=record: store.write(record))
                        grown = wal.stat().st_size - size
                        if k < _N_FILLING:
                            continue
                        if grown <= 0:
                            emptied_s.append(record_s)
                            continue
                        bare_s = _seconds(lambda grown=grown: _append(files, bare, folder / "bare", os.urandom(grown)))
                        pairs.append((record_s, bare_s))
                        n_bytes.append(grown)
    finally:
        os.close(bare)
    ours, theirs = np.array(pairs).sum(0)
    n = len(pairs)
    mean = (ours + sum(emptied_s)) / (theirs * (n + len(emptied_s)) / n)
    return pairs, n_bytes, len(emptied_s), float(mean)


def _append(files: Files, descriptor: int, path: Path, data: bytes) -> None:
    os.write(descriptor, data)
    files.sync(descriptor, path)


# ---- snapshots -----------------------------------------------------------------------------------


def snapshots(model: NativeModel, setup: Setup, n_rounds: int, keys: Sequence[str] = KEYS) -> list[Figure]:
    """What writing a snapshot takes beside the bare file, going on from it beside reading it, and its size."""
    say(f"snapshots of {model.header.path.name}, {n_rounds} rounds")
    engine = LlamaEngine(model, _N_CELLS, EngineOptions(threads=setup.threads))
    try:
        session = _filled(engine)
        with (
            tempfile.TemporaryDirectory(prefix="edge-sir-") as path,
            StateFolder(Path(path) / "state") as folder,
            folder.create("bench", model=engine.spec.model, fingerprint=engine.spec.fingerprint) as store,
        ):
            rounds = []
            for i in range(n_rounds + 1):
                taken, session = _one_round(session, store, folder.path, first=i % 2)
                rounds.append(taken)
            n_bytes = store.snapshots()[0].n_bytes
        resident = len(session.ledger)
    finally:
        engine.close()
    written, raw, resumed, read, made = np.array(rounds[1:]).T
    kv_bytes = engine.spec.kv_bytes * resident / engine.spec.n_ctx
    low, high = bootstrap(n_rounds, lambda i: float(np.median(resumed[i])))
    return [
        paired(
            keys[0],
            written,
            raw,
            detail={"write_ms": _ms(written), "raw_ms": _ms(raw), "made_ms": _ms(made), "bytes": n_bytes},
        ),
        Figure(
            keys[1],
            float(np.median(resumed)),
            low,
            high,
            f"95 % of {n_rounds} times",
            limit=float(np.median(read)),
            limit_is=f"reading the {n_bytes / 1e6:.0f} MB alone, {_HOW_READ}",
            detail={"resident": resident},
        ),
        Figure(keys[2], n_bytes / kv_bytes, detail={"bytes": n_bytes, "kv_bytes": kv_bytes, "resident": resident}),
    ]


_HOW_READ = "from the disk" if hasattr(os, "posix_fadvise") else "perhaps from memory"


def _ms(seconds: np.ndarray) -> float:
    return 1e3 * float(np.median(seconds))


def _filled(engine: LlamaEngine) -> Session:
    """A session that has evicted, with every cell of its budget in use."""
    session = Session(engine, from_spec(Options().policy), Budget(_N_CELLS))
    tokens = prose(engine.text, 2 * _N_CELLS)
    at = 0
    for n in (_N_CELLS - 64, 128, 128):
        _read(session, tokens[at : at + n])
        at += n
    _read(session, tokens[at : at + _N_CELLS - len(session.ledger)])
    if len(session.ledger) != _N_CELLS or not session.stats.evictions:
        raise RuntimeError(f"{len(session.ledger)} of {_N_CELLS} cells are in use, {session.stats.evictions} evictions")
    return session


def _read(session: Session, tokens: np.ndarray) -> None:
    session.begin_turn()
    session.start_message()
    session.feed(tokens, "user")
    while session.step():
        pass


def _one_round(session: Session, store: SessionStore, folder: Path, *, first: int) -> tuple[list[float], Session]:
    """Seconds: a snapshot written, the bare file, a session that goes on, its bytes read, a snapshot made."""
    files, spec = Files(), session.engine.spec
    started = time.perf_counter()
    state, cells = session.snapshot()
    snapshot = Snapshot(0, spec.fingerprint, (state.dump(), cells))
    made_s = time.perf_counter() - started
    bare, raw = folder / "bare", os.urandom(sum(map(len, snapshot.parts)))
    written_s, raw_s = _in_turn(lambda: store.write_snapshot(snapshot), lambda: files.put(bare, [raw]), first=first)
    for path in (bare, *(folder / "snapshots").iterdir()):
        _leave_memory(path)
    found: list[Session] = []
    resumed_s, read_s = _in_turn(lambda: found.append(_resumed(session, store)), bare.read_bytes, first=first)
    return [written_s, raw_s, resumed_s, read_s, made_s], found[0]


def _resumed(session: Session, store: SessionStore) -> Session:
    """As a new process goes on, whose engine is open and empty; this one's cells are removed first."""
    engine = session.engine
    head, cells = store.read_snapshot(store.snapshots()[0])
    state = SessionState.load(head)
    engine.load(session.seq, cells)
    return Session.from_state(state, engine, session.policy, session.budget, seq=session.seq)


def _leave_memory(path: Path) -> None:
    """The next reading is from the disk, as after a power cut, where the system can be asked for that."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _in_turn(one: Callable[[], object], other: Callable[[], object], *, first: int) -> tuple[float, float]:
    """Seconds of both; `other` goes first every second time, since who follows finds the disk busy."""
    if first:
        other_s = _seconds(other)
        return _seconds(one), other_s
    return _seconds(one), _seconds(other)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
