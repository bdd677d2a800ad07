"""Looks for what was forgotten in every file of a state folder: as letters, as token ids, and inside what is packed."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.memory.entries import entry_from_bytes
from edge_sir.memory.evictions import Evicted
from edge_sir.recall.piece import piece_from_bytes
from edge_sir.session import SessionState
from edge_sir.session.changes import Appended, Inserted, parse
from edge_sir.store.packing import unpack

__all__ = ["traces"]


def traces(path: Path, words: str, tokens: Sequence[int]) -> list[str]:
    """Where in the folder the words stand, or this run of tokens. words: as said; case does not matter."""
    ids = np.asarray(tokens)
    needles = {words.encode(), words.lower().encode(), json.dumps(words)[1:-1].encode(), words.encode("utf-16-le")}
    needles |= {ids.astype(kind).tobytes() for kind in ("<i4", "<i8", ">i4", ">i8", "<f4", "<f8")}
    found = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and any(needle in file.read_bytes() for needle in needles):
            found.append(f"in {file.relative_to(path)}")
    database = sqlite3.connect(f"file:{path / 'edge-sir.db'}?mode=ro", uri=True)
    try:
        found += [where for where, array in token_arrays(database) if _runs_in(ids, array)]
        found += [where for where, text in texts(database) if words.lower() in text.lower()]
        found += [f"index: {term}" for term in terms(database) if term in words.lower()]
    finally:
        database.close()
    for file in sorted((path / "snapshots").iterdir()):
        if any(_runs_in(ids, array) for array in of_snapshot(file.read_bytes())):
            found.append(f"arrays of {file.name}")
    return found


def _runs_in(ids: NDArray[Any], array: NDArray[Any]) -> bool:
    n = len(ids)
    return len(array) >= n and bool((np.lib.stride_tricks.sliding_window_view(array, n) == ids).all(axis=1).any())


def token_arrays(database: sqlite3.Connection) -> Iterator[tuple[str, NDArray[Any]]]:
    """All token ids in what is packed: log by log in the order of birth, too, and so for entries and pieces."""
    logs: list[NDArray[Any]] = []
    for number, changes, entries in database.execute("SELECT number, changes, entries FROM records ORDER BY number"):
        for change in parse(changes):
            if isinstance(change, Appended | Inserted):
                yield f"log {number}", change.rows["token"]
                logs.append(change.rows[["born", "token"]])
        for entry in map(entry_from_bytes, unpack(entries)):
            if isinstance(entry, Evicted):
                yield f"entry of {number}", entry.columns["token"]
                logs.append(_pairs(entry.columns["born"], entry.columns["token"]))
    for key, body in database.execute("SELECT key, body FROM pieces"):
        rows = piece_from_bytes(body, key).rows
        yield f"piece {key}", np.array(rows["token"])
        logs.append(_pairs(rows["born"], rows["token"]))
    if logs:
        all_of = np.concatenate([_pairs(part["born"], part["token"]) for part in logs])
        known = all_of[all_of["token"] >= 0]
        yield "all of them together", known["token"][np.unique(known["born"], return_index=True)[1]]


def _pairs(born: Any, token: Any) -> NDArray[np.void]:
    pairs = np.empty(len(born), [("born", "<i8"), ("token", "<i4")])
    pairs["born"], pairs["token"] = born, token
    return pairs


def texts(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Every text in any table."""
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in tables:
        for row in database.execute(f'SELECT * FROM "{table}"'):
            yield from ((f"table {table}", value) for value in row if isinstance(value, str))
            yield from ((f"table {table}", value) for value in map(_spelled, row) if value)


def _spelled(value: Any) -> str:
    """Text that is JSON, with its escapes read."""
    try:
        return json.dumps(json.loads(value), ensure_ascii=False) if isinstance(value, str) else ""
    except ValueError:
        return ""


def terms(database: sqlite3.Connection) -> Iterable[str]:
    """The letters in the index of what was said."""
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab('main', 'messages_fts', 'row')")
    return [term for (term,) in database.execute("SELECT term FROM temp.terms")]


def of_snapshot(data: bytes) -> Iterator[NDArray[Any]]:
    """The whole numbers in the first part of a snapshot, array by array."""
    for end in (i for i in range(len(data), 0, -1) if data[i - 4 : i] == b"PK\x05\x06"):
        state = SessionState.load(data[: end + 18])
        yield from (array for array in state.arrays.values() if array.dtype.kind in "iu")
        return
    raise AssertionError("this is no snapshot")
