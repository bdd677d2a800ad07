"""Chats on the toy engine that are saved, what must agree of two of them, and what a process that died leaves."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from chatting import CODEC, TEMPLATE

from edge_sir.chat import Chat
from edge_sir.chat.conversation import scores_of
from edge_sir.chat.saving import Saver
from edge_sir.engine import Engine
from edge_sir.memory.evictions import Evicted, Forgotten, Restored, Rewound
from edge_sir.policies import from_spec
from edge_sir.recall.piece import Piece
from edge_sir.store.folder import StateFolder
from edge_sir.testing import ToyEngine

__all__ = ["NAME", "copied", "die", "open_kept", "picture", "same_picture"]

NAME = "ada"


def open_kept(
    path: Path,
    engine: Engine | None = None,
    *,
    read_only: bool = False,
    resume_s: float = 1e9,
    on_disk: bool = False,
    policy: str = "sir",
    budget: int = 256,
    **options: Any,
) -> Chat:
    """A chat that is saved in the session `NAME` of the folder at `path`, and goes on from it if it is there.

    resume_s: by default no snapshot is ever due.
    """
    engine = engine or ToyEngine(640)
    folder = StateFolder(path, read_only=read_only)
    if folder.find(NAME) is None:
        store = folder.create(NAME, model="toy", fingerprint=engine.spec.fingerprint)
    else:
        store = folder.open(NAME, read_only=read_only)
    saver = Saver(folder, store, terms={}, resume_s=resume_s, on_disk=on_disk)
    saver.resume(engine, CODEC, scores_of(None))
    return Chat(engine, CODEC, TEMPLATE, from_spec(policy), budget, saver=saver, **options)


def die(chat: Chat) -> None:
    """What the end of its process does to a chat: its lock is free, and nothing is written."""
    saver = chat._saver
    assert saver is not None
    chat.owner.before_leaving = None
    chat.session.ledger.watcher = None
    chat._memory.listener = None
    saver.store.close()
    saver._folder._database._connection.close()
    saver._folder._database.owner.over = "its process has ended"


def picture(chat: Chat) -> dict[str, Any]:
    """All that must be as it was after a chat went on, as plain values."""
    session, memory = chat.session, chat._memory
    pieces = [] if chat._archive is None else sorted(chat._archive, key=lambda piece: piece.number)
    stats = asdict(chat.stats())
    for name in ("n_ctx", "kv_bytes", "archive_bytes"):  # of the engine, and of the memory
        del stats[name]
    return {
        "said": [(m.turn, m.role, m.text, m.id) for m in chat.transcript],
        "ledger": {name: column.copy() for name, column in session.ledger.columns().items()},
        "log": [_plain(entry) for entry in memory.evictions],
        "losses": memory.evictions.losses(),
        "forgotten": memory.evictions.forgotten(),
        "away": {name: column.tolist() for name, column in memory.evictions.away().items()},
        "n_evicted": memory.evictions.n_evicted,
        "pieces": [_plain_piece(piece) for piece in pieces],
        "held": [] if chat._archive is None else [bool(chat._archive.holds(piece.born).all()) for piece in pieces],
        "system": (chat.system, chat.system_turn),
        "terms": (session.turn, session.policy.spec, session.budget.n_cells, session.mode, chat._tries, chat._spoken),
        "unsent": list(chat._unsent),
        "stats": stats,
        "scalars": session.scalars(),
    }


def _plain_piece(piece: Piece) -> tuple[Any, ...]:
    columns = tuple(column.tobytes() for column in piece.rows.columns().values())
    return piece.number, piece.turn, piece.first, piece.epoch, piece.is_text, columns


def _plain(entry: Any) -> tuple[Any, ...]:
    match entry:
        case Evicted():
            columns = {name: column.tolist() for name, column in entry.columns.items()}
            return ("evicted", entry.why, entry.turn_now, entry.losses, columns)
        case Rewound():
            return ("rewound", entry.turn)
        case Forgotten():
            return ("forgotten", entry.turn, entry.turn_now, entry.n_sentences, entry.undone)
        case Restored():
            return ("restored", entry.why, entry.born.tolist())
    raise AssertionError(entry)


def same_picture(now: dict[str, Any], then: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Raises AssertionError that names the first difference. but: what need not agree."""
    assert now.keys() == then.keys()
    for name, value in then.items():
        if name in but:
            continue
        if name == "ledger":
            for column in value:
                if f"ledger.{column}" not in but:
                    np.testing.assert_array_equal(now[name][column], value[column], err_msg=f"ledger.{column}")
        else:
            assert repr(now[name]) == repr(value), f"{name}: {now[name]}\n!= {value}"


def copied(path: Path, target: Path) -> Path:
    """A copy of a state folder as it stands, locks aside."""
    return shutil.copytree(path, target, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
