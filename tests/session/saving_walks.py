"""Random walks of a chat that recalls (`recall_walks`), which keeps beside it what a record on disk would hold.

After each step the archive's pieces, their cells and the entries of the log are what the changes so far come to, and
what a process that begins anew makes of them is what this one has. Cells that the store pushed out come from the disk.
"""

import random
import signal
from collections import Counter
from typing import Any

import numpy as np
from chatting import ToyHost, make_chat
from driving import make_session
from recall_walks import PoisonedWalkError, RecallWalk
from walks import POLICIES

from edge_sir.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.memory.entries import entry_from_bytes, entry_to_bytes
from edge_sir.memory.evictions import Entry, Evicted, EvictionLog, Forgotten
from edge_sir.recall.archive import Archive
from edge_sir.recall.piece import Piece
from edge_sir.recall.store import ByteStore
from edge_sir.testing import ToyEngine

__all__ = ["SavingWalk", "ShakyDisk", "same_entries", "same_piece", "walk_saving"]


class ShakyDisk(dict[int, bytes]):
    """Cells by number, of which some are damaged."""

    def __init__(self, dice: random.Random, share: float = 0.0) -> None:
        super().__init__()
        self.dice, self.share = dice, share
        self.n_read = 0

    def get(self, number: int, default: Any = None) -> Any:
        self.n_read += 1
        return default if self.dice.random() < self.share else super().get(number, default)


def same_piece(left: Piece, right: Piece) -> None:
    """All of it but the key."""
    for name in ("number", "turn", "epoch", "first", "is_text"):
        assert getattr(left, name) == getattr(right, name), name
    for name, column in left.rows.columns().items():
        other = right.rows[name]
        assert column.dtype == other.dtype and np.ascontiguousarray(column).tobytes() == other.tobytes(), name


def same_entries(left: Entry, right: Entry) -> None:
    if isinstance(left, Evicted):
        assert isinstance(right, Evicted)
        assert (left.why, left.turn_now, left.losses) == (right.why, right.turn_now, right.losses)
        assert all(np.array_equal(column, right.columns[name]) for name, column in left.columns.items())
    elif hasattr(left, "born"):
        assert left.why == right.why and np.array_equal(left.born, right.born)  # type: ignore[union-attr]
    else:
        assert left == right


class SavingWalk(RecallWalk):
    """One walk. counts: what was seen."""

    def __init__(self, seed: int, chat: Chat, system: str | None, store: ByteStore) -> None:
        super().__init__(seed, chat, system, store)
        self.counts: Counter[str] = Counter()
        self.dice = random.Random(seed + 1)  # of its own, so that the walk is the one of its seed
        self.disk = ShakyDisk(self.dice, self.dice.choice((0.0, 0.0, 0.2)))
        self.pieces: dict[int, bytes] = {piece.number: piece.dump() for piece in self.archive}
        self.entries: list[bytes] = []
        self.n_cleared = self.n_entries = 0
        self.began: dict[int, int] = {}
        self.archive.disk = self.disk
        self.archive.watch()
        self.note_beginnings()

    def note_beginnings(self) -> None:
        """At the time, of each turn the number of the entry that came first in it."""
        begin_turn, begin_anew = self.chat._begin_turn, self.chat._begin_anew

        def noted_turn(*args: Any) -> None:
            self.began[self.chat.session.turn + 1] = len(self.chat.evictions)
            begin_turn(*args)

        def noted_anew() -> None:
            self.began.clear()
            begin_anew()

        self.chat._begin_turn, self.chat._begin_anew = noted_turn, noted_anew  # type: ignore[method-assign]

    def check(self) -> None:
        super().check()
        self.save_pieces()
        self.save_entries()
        self.check_beginnings()
        if self.dice.random() < 0.3:
            self.check_loaded()

    # ---- what a record would hold --------------------------------------------------------------------

    def save_pieces(self) -> None:
        archive, changes = self.archive, self.archive.take_changes()
        assert not set(changes.new_cells) & set(self.disk) and set(changes.new_cells) <= changes.pieces.keys()
        assert set(changes.lost_cells) <= changes.pieces.keys() & self.pieces.keys()
        assert set(changes.dropped) <= self.pieces.keys() and not set(changes.dropped) & changes.pieces.keys()
        for number in (*changes.dropped, *changes.lost_cells):
            self.counts["cells dropped"] += self.disk.pop(number, None) is not None
        for number in changes.dropped:
            del self.pieces[number]
        for number in changes.new_cells:
            if (cells := archive.cells(number)) is not None:
                self.disk[number] = cells
        for number, piece in changes.pieces.items():
            self.counts["replaced"] += number in self.pieces
            self.pieces[number] = piece.dump()
        self.counts["lost cells"] += len(changes.lost_cells)
        self.counts["dropped"] += len(changes.dropped)
        assert {piece.number: piece.dump() for piece in archive} == self.pieces
        assert all(not piece.is_text for piece in archive if piece.number in self.disk)
        assert not archive.take_changes()

    def save_entries(self) -> None:
        log = self.chat.evictions
        if (n_cleared := len(log) - len(list(log))) != self.n_cleared:
            self.n_cleared, self.n_entries, self.entries = n_cleared, n_cleared, []
        new = log.since(self.n_entries)
        if any(isinstance(entry, Forgotten) for entry in new):  # as `store.Forgotten.entries`
            self.entries, new = [], list(log)
        self.entries += [entry_to_bytes(entry) for entry in new]
        self.n_entries = len(log)

    # ---- what another process makes of it ------------------------------------------------------------

    def check_beginnings(self) -> None:
        log = self.chat.evictions
        for turn in range(1, self.chat.session.turn + 1):
            noted, found = self.began[turn], log.first_of(turn)
            assert log.lost_since(found) == log.lost_since(noted), turn
            ours, theirs = log.away(found), log.away(noted)
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours), turn
            self.counts["beginnings"] += len(ours["born"]) > 0

    def check_loaded(self) -> None:
        log, other = self.chat.evictions, EvictionLog()
        other.load(entry_from_bytes(data) for data in self.entries)
        for entry, loaded in zip(log, other, strict=True):
            same_entries(entry, loaded)
        assert other.n_evicted == log.n_evicted
        engine, spec = ToyEngine(640, can_restore=self.chat.engine.spec.can_restore), self.chat.engine.spec
        assert engine.spec.n_vocab == spec.n_vocab
        steady, n_read = ShakyDisk(self.dice), self.disk.n_read
        steady.update(self.disk)
        archive = Archive(
            make_session(engine=engine), ByteStore(self.store.bound), cells=self.archive._cells, disk=steady
        )
        archive.load(self.pieces)
        by_number = {piece.number: piece for piece in archive}
        assert archive.turns() == self.archive.turns() and len(by_number) == len(self.pieces)
        for piece in self.archive:
            loaded = by_number[piece.number]
            same_piece(piece, loaded)
            assert (steady.n_read == 0) and archive._has_cells(loaded) == archive._is_on_disk(loaded)
            if archive._has_cells(loaded):
                assert archive.holds(piece.born).all()
        for piece in self.archive:
            loaded = by_number[piece.number]
            if (cells := self.store._blobs.get(piece.key)) is not None and piece.number in self.disk:
                saved = archive.cells_of(loaded)
                assert saved is not None and saved.cells == cells
                self.counts["read"] += 1
        assert self.disk.n_read == n_read, "what is asked in between reads no file"
        self.check_next(archive)

    def check_next(self, archive: Archive) -> None:
        """What of the resident rows would be saved next, and under which number."""
        ledger, ours, theirs = self.chat.session.ledger, self.archive._until, archive._until
        for message in np.unique(ledger["message"]).tolist():
            born = ledger["born"][ledger["message"] == message]
            assert np.array_equal(born > ours.get(message, -1), born > theirs.get(message, -1)), message
        assert archive._next_number() > max(self.pieces, default=0)


def walk_saving(seed: int) -> Counter[str]:
    """One walk on the toy, in the main thread, where signals arrive; returns what was seen."""
    rng = random.Random(seed)
    system = rng.choice((None, "Be kind to Ada."))
    host = ToyHost()
    host.release = lambda engine: None  # type: ignore[method-assign]
    options = {"policy": rng.choice(POLICIES), "budget": rng.choice((64, 96, 160, 240)), "system": system}
    options |= {"positions": rng.choice(("packed", "gaps")), "recall": rng.choice(("cells", "cells", "cells", "text"))}
    engine = ToyEngine(512, n_ctx_train=rng.choice((700, 4096)), can_restore=rng.random() < 0.9)
    store = ByteStore(rng.choice((5_000, 5_000, 1 << 30)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with make_chat(engine=engine, host=host, sampling=SamplingParams(seed=seed), **options) as chat:
            assert chat._recall is not None
            chat._recall.archive._store = store
            walk = SavingWalk(seed, chat, system, store)
            try:
                walk.run(20)
            except AssertionError as error:
                if not isinstance(error.__cause__, PoisonedWalkError):
                    raise
            walk.counts["fetched"] += walk.disk.n_read
    finally:
        signal.signal(signal.SIGINT, before)
    return walk.counts
