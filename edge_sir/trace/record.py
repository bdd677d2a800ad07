"""A record of what came and what was evicted: JSON lines, from which any policy can be run again with no model.

The file's records, one a line, are objects with a `kind`:

    start     the policy, the budget, its low-water mark (`kept_percent` and `least_batch`; 85 and 0 where they are
              missing), which scores were computed, the names of the roles
    eviction  one per eviction: why, which tokens (their born numbers), and the `ops` since the record before
    end       the `ops` after the last eviction; missing if the process was killed

A conversation that was cleared ends, and the next one starts in the same file: a part from start to end for each.

`ops` are what happened to the ledger in order: append, redo (a token decoded again after a rewind), restore (rows that
had left are back; why: "undo", "budget", "pin" or "recall" by hand), update, rewind, ask (room was asked for and
nothing came of it), policy and budget (changed by the user). recall says which rows are back for one turn: what comes
and goes is recorded as if they were not. Columns go by name and hold
raw facts only: scores are not decayed, and positions, which depend on what was evicted, are left out. What the user has
forgotten on request is still counted, but which tokens it was is not kept: token is -1 there.
"""

import contextlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.budget import KEPT_PERCENT, LEAST_BATCH
from edge_sir.core.ledger import COLUMNS, ROLES
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import ConfigError

__all__ = ["TRACED", "Trace", "columns_of", "read_trace"]

TRACED = tuple(name for name, _ in COLUMNS if name != "pos")
"""Columns in a trace; a policy that looks at `pos` looks at what it did itself."""

_FORMAT = 1
_LOG = logging.getLogger(__name__)

Op = dict[str, Any]


class Trace:
    """Writes a trace; give it to a `Chat`, or as `journal` to a `Session` from its very beginning.

    path: a new file. Raises ConfigError if it exists or cannot be written; a disk that fills up later
    ends the trace (with an error in the log), never the conversation.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: TextIO | None = None
        self._ops: list[Op] = []
        self._ask: tuple[int, int, int | None] | None = None  # asked for, and nothing appended yet
        self._told = False  # whether an eviction's record holds that question already
        self._evicting: dict[str, Any] | None = None
        self._restoring: dict[str, Any] = {"why": "", "turn": 0}
        self._terms: dict[str, Any] = {}  # what a start record says, as it is now
        try:
            self._file = self.path.expanduser().open("x", encoding="utf-8")
        except FileExistsError:
            raise ConfigError(f"{self.path} exists; give --trace the name of a new file") from None
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot write a trace to {self.path} ({reason}); give --trace another file") from None

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, *, policy: str, budget: int, model: str, scores: frozenset[str]) -> None:
        """Writes the first record. policy: a specification. scores: the columns that will be filled."""
        facts = {"format": _FORMAT, "policy": policy, "budget": budget, "model": model, "scores": sorted(scores)}
        self._terms = facts | {"kept_percent": KEPT_PERCENT, "least_batch": LEAST_BATCH, "roles": list(ROLES)}
        self._write({"kind": "start", **self._terms})

    def close(self) -> None:
        """Writes the last record; a second call does nothing."""
        if self._file is not None:
            self._end()
        if self._file is not None:
            self._file.close()
            self._file = None

    # ---- core.ledger.Journal -------------------------------------------------------------------

    def asked(self, n: int, turn_now: int, n_whole_turn: int | None) -> None:
        self._settle()
        self._ask, self._told = (n, turn_now, n_whole_turn), False

    def evicting(self, why: str, turn_now: int, n_resident: int) -> None:
        self._evicting = {"why": why, "turn": turn_now, "n_resident": n_resident}

    def changed(self, what: str, value: str | int, turn_now: int) -> None:
        # The turn: after an undo the running one is lower than that of the last eviction.
        self._push({"op": what, "value": value, "turn": turn_now})
        self._terms[what] = value

    def cleared(self) -> None:
        self._end()
        self._write({"kind": "start", **self._terms})

    def appended(self, rows: Mapping[str, NDArray[Any]]) -> None:
        columns = {name: _plain(rows[name]) for name in TRACED}
        if self._ask is None:
            self._push({"op": "redo", "columns": columns})
            return
        (n, turn, whole), told = self._ask, self._told
        self._ask = None
        last = self._ops[-1] if self._ops else {}
        if last.get("op") == "append" and last["turn"] == turn and whole is None and not told:
            last["slices"].append(n)
            for name, values in columns.items():
                last["columns"][name] += values
            return
        op = {"op": "append", "turn": turn, "whole": whole, "asked": told, "slices": [n], "columns": columns}
        self._ops.append(op)

    def restoring(self, why: str, turn_now: int) -> None:
        self._settle()
        self._restoring = {"why": why, "turn": turn_now}

    def restored(self, rows: Mapping[str, NDArray[Any]]) -> None:
        columns = {name: _plain(rows[name]) for name in TRACED}
        self._ops.append({"op": "restore", **self._restoring, "columns": columns})

    def recalled(self, born: NDArray[Any], turn_now: int) -> None:
        self._push({"op": "recall", "turn": turn_now, "born": born.tolist()})

    def updated(self, name: str, born: NDArray[Any], value: ArrayLike) -> None:
        values = np.broadcast_to(np.asarray(value), np.shape(born)).astype(dict(COLUMNS)[name])
        self._push({"op": "update", "name": name, "born": born.tolist(), "values": _plain(values)})

    def dropped(self, born: NDArray[Any]) -> None:
        if self._evicting is None:
            if len(born):
                self._push({"op": "rewind", "born": int(born.min())})
            return
        record: dict[str, Any] = {"kind": "eviction", **self._evicting, "born": born.tolist()}
        self._evicting = None
        if record["why"] == "room" and self._ask is not None and not self._told:
            record["ask"], self._told = self._ask, True
        else:
            self._settle()
        self._write({**record, "ops": self._ops})
        self._ops = []

    def forgotten(self, born: NDArray[Any]) -> None:
        numbers = frozenset(born.tolist())
        _blank(self._ops, numbers)
        if self._file is None or not numbers:
            return
        path = self.path.expanduser()
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with path.open(encoding="utf-8") as old, part.open("x", encoding="utf-8") as new:
                for line in old:
                    record = json.loads(line)
                    _blank(record.get("ops", ()), numbers)
                    new.write(_line(record))
            self._file.close()
            part.replace(path)
            self._file = path.open("a", encoding="utf-8")
        except (OSError, ValueError) as error:
            self._give_up(f"what was forgotten is still in it: cannot rewrite {self.path} ({error})")
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    # ---- writing -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """A question that nothing was appended for (its decode failed) is an event of its own."""
        if self._ask is not None and not self._told:
            n, turn, whole = self._ask
            self._ops.append({"op": "ask", "n": n, "turn": turn, "whole": whole})
        self._ask = None

    def _push(self, op: Op) -> None:
        # An update between question and answer (the released code's score) leaves the question open.
        if op["op"] != "update":
            self._settle()
        self._ops.append(op)

    def _end(self) -> None:
        self._settle()
        self._write({"kind": "end", "ops": self._ops})
        self._ops = []

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(_line(record))
            self._file.flush()
        except (OSError, ValueError) as error:
            self._give_up(f"cannot write to {self.path} ({error})")

    def _give_up(self, why: str) -> None:
        _LOG.error("the trace ends here: %s", why)
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _blank(ops: Iterable[Op], born: Collection[int]) -> None:
    """Takes out of `ops` which tokens those with these born numbers were."""
    for columns in (op["columns"] for op in ops if "columns" in op):
        columns["token"] = [-1 if b in born else t for t, b in zip(columns["token"], columns["born"], strict=True)]


def _plain(column: NDArray[Any]) -> list[Any]:
    """JSON values that give the same column back: the shortest decimals of a float32, null for NaN."""
    if column.dtype.kind != "f":
        return list(column.tolist())
    return [None if value != value else float(str(value)) for value in column]


def read_trace(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a trace: a start record, and another one for every conversation after the first.

    A last line that a kill cut short is left out. Raises ConfigError for a file that is no trace.
    """
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            starts = True
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                except ValueError:
                    if number > 1 and not line.endswith("\n"):
                        return
                    raise ConfigError(f"{path}, line {number}: this is no trace of edge-sir") from None
                if not isinstance(record, dict) or (record.get("kind") == "start") != starts:
                    raise ConfigError(f"{path}, line {number}: this is no trace of edge-sir")
                if starts and record.get("format") != _FORMAT:
                    raise ConfigError(f"{path} has format {record.get('format')}; this edge-sir reads {_FORMAT}")
                starts = record.get("kind") == "end"
                yield record
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from None


def columns_of(op: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """An op's columns as arrays of the ledger's types; absent ones are NaN (scores) or zero."""
    n = len(op["columns"]["token"])
    out: dict[str, NDArray[Any]] = {}
    for name, dtype in COLUMNS:
        values = op["columns"].get(name)
        if values is None and name == "word":
            values = op["columns"]["born"]  # a trace from before words were numbered: each token is one
        elif values is None:
            values = np.full(n, np.nan) if name in SCORE_NAMES else np.zeros(n)
        elif name in SCORE_NAMES:
            values = [np.nan if v is None else v for v in values]
        out[name] = np.asarray(values).astype(dtype)
    return out
