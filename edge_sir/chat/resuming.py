"""Goes on from what is on disk: the newest snapshot that can be used, and what came after it done again.

snapshot of the last record                      exact
older snapshot ── redo of the later records      replayed
no snapshot that this engine can take            rebuilt: what is resident is decoded again from its tokens
no tokens that can be decoded                    StateError: only the text is left
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edge_sir.chat.resumed import How
from edge_sir.core.budget import Budget
from edge_sir.engine import Engine, TextCodec
from edge_sir.errors import CapabilityError, StateError, StoreError
from edge_sir.memory.entries import entry_from_bytes
from edge_sir.memory.evictions import Entry
from edge_sir.policies import from_spec
from edge_sir.recall.piece import Piece, piece_if_whole
from edge_sir.session import SavedPassage, Session, SessionState
from edge_sir.session.changes import Changes, fold
from edge_sir.session.lean import Ints
from edge_sir.store.session import SessionStore
from edge_sir.store.values import SnapshotRow, Stored
from edge_sir.text.boundaries import TextBorders

__all__ = ["Resumption", "resume"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Resumption:
    """What a chat goes on from.

    entries: of its eviction log. n_replayed: turns that were decoded again. n_left_out: tokens recalled in them whose
    cells are nowhere. replayed_s: seconds of decoding that took. snapshot_of: the record of the snapshot, -1 for none.
    """

    session: Session
    stored: Stored
    entries: tuple[Entry, ...]
    how: How
    n_replayed: int = 0
    n_left_out: int = 0
    replayed_s: float = 0.0
    snapshot_of: int = -1

    @property
    def chat(self) -> Mapping[str, Any]:
        """What `Saver` saved of the chat beside its session."""
        found: Mapping[str, Any] = self.stored.state["chat"]
        return found

    @property
    def takes_cells(self) -> bool:
        """As `_takes_cells`, of the engine that the chat goes on with."""
        return _takes_cells(self.session.engine, self.stored)


def _takes_cells(engine: Engine, stored: Stored) -> bool:
    """Whether cells of archived pieces that are on disk can be put back here.

    After each record all of them are of one model, build of llama.cpp and type.
    """
    return bool(stored.state.get("cell_terms") == engine.spec.cell_terms)


def resume(
    store: SessionStore,
    engine: Engine,
    codec: TextCodec,
    changes: Changes,
    also_score: frozenset[str],
    most_s: float,
) -> Resumption | None:
    """What the session goes on from, in sequence 0 of `engine`; None if nothing was said in it.

    changes: hears of what is rebuilt. most_s: with no snapshot at all, all of it is replayed if that took no longer.
    Raises StateError if only the text is left, BudgetError if the engine has too few cells.
    """
    stored = store.read()
    if not stored.state:
        return None
    return _Resume(store, stored, engine, codec, changes, also_score).run(most_s)


class _Resume:
    def __init__(
        self,
        store: SessionStore,
        stored: Stored,
        engine: Engine,
        codec: TextCodec,
        changes: Changes,
        also_score: frozenset[str],
    ) -> None:
        self._store, self._stored, self._engine, self._changes = store, stored, engine, changes
        self._scalars: dict[str, Any] = stored.state["session"]
        self._entries = tuple(map(entry_from_bytes, stored.entries))
        self._policy = from_spec(self._scalars["policy"])
        # Scores that a policy asked for before this one go on being computed.
        scores = also_score | frozenset(self._scalars["needs"])
        self._options: dict[str, Any] = {"borders": TextBorders(codec), "also_score": scores}

    def run(self, most_s: float) -> Resumption:
        if self._engine.spec.fingerprint != self._scalars["fingerprint"]:
            raise StateError(f"{self._engine.spec.model} is not the model that this session was saved with")
        rows = self._store.snapshots()
        for row in rows:
            try:
                return self._from_snapshot(row)
            except (StoreError, StateError, CapabilityError) as error:
                _log.info("a snapshot cannot be used: %s", error)
        if not rows and self._stored.state["chat"]["decode_s"] <= most_s:
            try:
                return self._from_nothing()
            except (StateError, CapabilityError) as error:
                _log.info("what was logged cannot be done again: %s", error)
        return self._rebuilt()

    def _from_snapshot(self, row: SnapshotRow) -> Resumption:
        if row.fingerprint != self._engine.spec.fingerprint:
            raise StateError("it is of another model")
        head, cells = self._store.read_snapshot(row)
        state = SessionState.load(head)
        self._engine.load(0, cells)
        # The budget may have been lowered since, and the engine opened for that.
        budget = Budget(min(state.scalars["budget"], self._engine.spec.n_ctx))
        session = Session.from_state(state, self._engine, self._policy, budget, **self._options)
        return self._redone(session, row.record)

    def _from_nothing(self) -> Resumption:
        self._engine.remove(0, 0, -1)
        budget, positions = Budget(self._scalars["budget"]), self._scalars["positions"]
        session = Session(self._engine, self._policy, budget, positions=positions, **self._options)
        return self._redone(session, -1)

    def _redone(self, session: Session, record: int) -> Resumption:
        """The session as of the last record, from what it was as of this one."""
        began, turn = time.monotonic(), session.turn
        logs = self._store.changes(max(0, record))
        is_exact = record == self._stored.record
        n_left_out = 0 if is_exact else session.redo(logs, self._scalars, self._saved)
        return Resumption(
            session,
            self._stored,
            self._entries,
            "exact" if is_exact else "replayed",
            n_replayed=0 if is_exact else max(1, self._scalars["turn"] - turn),
            n_left_out=n_left_out,
            replayed_s=0.0 if is_exact else time.monotonic() - began,
            snapshot_of=record,
        )

    def _saved(self, born: Ints) -> Sequence[SavedPassage]:
        """The archived rows with these born numbers whose cells are on disk."""
        passages = []
        all_born, pieces = self._rows_on_disk
        for index in np.unique(pieces[np.isin(all_born, born)]).tolist():
            piece = self._pieces[index]
            if (cells := self._store.blob(piece.number)) is not None:
                passages.append((piece.with_cells(cells), np.flatnonzero(np.isin(piece.born, born))))
        return passages

    @cached_property
    def _rows_on_disk(self) -> tuple[Ints, Ints]:
        """Of all rows of `_pieces`: the born number, and which piece it is. A replay asks for some in each turn."""
        born = np.concatenate([np.empty(0, np.int64), *(piece.born for piece in self._pieces)])
        return born, np.repeat(np.arange(len(self._pieces)), [len(piece.born) for piece in self._pieces])

    @cached_property
    def _pieces(self) -> list[Piece]:
        """The archived pieces whose cells are on disk and can be put back here, without those that are damaged."""
        if not _takes_cells(self._engine, self._stored):
            return []
        keys, pieces = set(self._store.blob_keys()), self._stored.pieces
        found = (piece_if_whole(pieces[number], number) for number in sorted(keys & pieces.keys()))
        return [piece for piece in found if piece is not None]

    def _rebuilt(self) -> Resumption:
        self._engine.remove(0, 0, -1)
        columns = fold(self._store.changes())
        state = SessionState({f"ledger.{name}": column for name, column in columns.items()}, self._scalars)
        session = Session.rebuilt(
            state,
            self._engine,
            self._policy,
            Budget(self._scalars["budget"]),
            watcher=self._changes,
            **self._options,
        )
        return Resumption(session, self._stored, self._entries, "rebuilt")
