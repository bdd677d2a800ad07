"""What a record on disk holds of archive and log, and what another process makes of it: walks, sizes, damage."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from chatting import evict, fill, make_chat
from driving import make_session, say, words
from saving_walks import same_entries, same_piece, walk_saving

from edge_sir.core.ledger import COLUMNS
from edge_sir.core.plan import EvictionPlan
from edge_sir.errors import SessionError, StateError
from edge_sir.memory.entries import entry_from_bytes, entry_to_bytes
from edge_sir.memory.evictions import Entry, Evicted, EvictionLog, Forgotten, Restored, Rewound
from edge_sir.recall.archive import Archive
from edge_sir.recall.piece import Piece, piece_from_bytes
from edge_sir.recall.store import ByteStore
from edge_sir.session import Session
from edge_sir.session.lean import from_lean, to_lean
from edge_sir.testing import ToyEngine

N_DAMAGED = 10_000
_PARTS = 4


@pytest.mark.parametrize("part", range(_PARTS))
def test_walks_that_are_saved(part: int, request: pytest.FixtureRequest) -> None:
    """The whole of them: `--toy-walks 10000`."""
    n, first = request.config.getoption("--toy-walks") // 10, request.config.getoption("--walk-seed")
    counts: Counter[str] = Counter()
    for seed in range(first + part, first + n, _PARTS):
        counts += walk_saving(seed)
    assert min(counts[what] for what in ("beginnings", "read", "dropped", "replaced", "lost cells", "fetched")) > 0


# ---- entries of the log --------------------------------------------------------------------------


def entries() -> list[Entry]:
    """Of every kind."""
    chat = make_chat(["<think>Well.</think>Hello."], budget=200, policy="sir", recall="cells")
    fill(chat, 12)
    chat.undo()
    chat.forget("fine")
    return [*chat.evictions, Forgotten(3, 4, 2, undone=True)]


def test_entries_of_every_kind_come_back() -> None:
    kinds = Counter[str]()
    for entry in entries():
        same_entries(entry, entry_from_bytes(entry_to_bytes(entry)))
        kinds[type(entry).__name__] += 1
    assert kinds.keys() == {"Evicted", "Rewound", "Forgotten", "Restored"}


def test_what_its_losses_have_in_common_is_written_once() -> None:
    entry = max((e for e in entries() if isinstance(e, Evicted)), key=lambda e: len(e.losses))
    n_rows = len(entry.columns["born"])
    assert len(entry.losses) > 2 and len({loss.policy for loss in entry.losses}) == 1
    assert len(entry_to_bytes(entry)) < 250 + 12 * len(entry.losses) + 3 * n_rows


def test_damaged_entries_raise_one_error() -> None:
    damaged([entry_to_bytes(entry) for entry in entries()], entry_from_bytes)


def damaged(whole: list[bytes], read: Any) -> None:
    """Bytes that were cut, flipped or exchanged; and well-formed ones with other numbers in them."""
    dice = np.random.default_rng(0)
    for i in range(N_DAMAGED):
        data = bytearray(whole[i % len(whole)])
        match i % 4:
            case 0:
                data[int(dice.integers(len(data)))] ^= 1 << int(dice.integers(8))
            case 1:
                del data[int(dice.integers(len(data))) :]
            case 2:
                data += dice.bytes(1 + int(dice.integers(4)))
            case _:
                data[int(dice.integers(len(data))) :] = dice.bytes(int(dice.integers(1, 20)))
        if bytes(data) != whole[i % len(whole)]:
            with pytest.raises(StateError):
                read(bytes(data))


@pytest.mark.parametrize("n_arrays", [7, 1 + len(COLUMNS)])
def test_well_formed_bytes_of_something_else_raise_it_too(n_arrays: int) -> None:
    dice = np.random.default_rng(1)
    heads = [b"[]", b"{}", b"3", b"[[", b'["evicted"]', b'["rewound","x"]', b'["restored",1]', b'["none",1]', b"\xff"]
    heads += [b'["evicted","room",1' + b",[1]" * 16 + b"]", b'["forgotten",1,1,1,1]', b'["rewound",true]', b"[" * 9999]
    for head in heads:
        first = np.frombuffer(head, np.uint8).astype(np.int64)
        for n in (0, 1, 3):
            rest = [dice.integers(-9, 9, n) for _ in range(n_arrays - 1)]
            for read in (entry_from_bytes, lambda data: piece_from_bytes(data, 1)):
                with pytest.raises(StateError):
                    read(to_lean([first, *rest]))


def test_numbers_in_an_entry_are_checked() -> None:
    """Whatever stands in its JSON and its columns: an entry, or the one error."""
    dice, n_refused = np.random.default_rng(2), 0
    data = [entry_to_bytes(entry) for entry in entries()]
    for i in range(2000):
        arrays = from_lean(data[i % len(data)], 7)
        array = arrays[int(dice.integers(7))] if i % 2 else arrays[0]
        if len(array):
            array[int(dice.integers(len(array)))] = int(dice.integers(-3, 128))
        try:
            assert isinstance(entry_from_bytes(to_lean(arrays)), Evicted | Rewound | Forgotten | Restored)
        except StateError:
            n_refused += 1
    assert 500 < n_refused < 2000


def test_a_log_is_loaded_once() -> None:
    log, other = entries(), EvictionLog()
    other.load(log)
    assert len(other) == len(log) and other.n_evicted > 0
    with pytest.raises(SessionError, match="has entries"):
        other.load(log)


def test_what_came_first_in_a_turn_is_counted_over_conversations() -> None:
    chat = make_chat(["Fine."] * 9, budget=160)
    fill(chat, 6)
    chat.clear()
    n_cleared = len(chat.evictions)
    assert n_cleared > 0 and chat.evictions.first_of(1) == n_cleared
    chat.reply("Hello there.")
    chat.reply("And you?")
    evict(chat, chat.session.ledger["turn"] == 1)
    assert [chat.evictions.first_of(turn) for turn in (1, 2, 3)] == [n_cleared, n_cleared, n_cleared + 1]
    chat.undo()
    assert chat.evictions.first_of(2) == len(chat.evictions) == n_cleared + 2


# ---- pieces of the archive -----------------------------------------------------------------------


def archived(n_turns: int = 5) -> tuple[Session, Archive]:
    """A session that evicted a token of every message, and its archive, which is watched."""
    session = make_session("streaming", 512, ToyEngine(512))
    archive = Archive(session, ByteStore(10**9))
    archive.watch()
    for turn in range(n_turns):
        say(session, words(20, turn))
    born = np.arange(5, 20 * n_turns, 20)
    session.evict(EvictionPlan(session.ledger["born"].searchsorted(born), session.ledger.epoch, "room"))
    return session, archive


def test_pieces_come_back_to_the_bit() -> None:
    _, archive = archived()
    for i, piece in enumerate(archive):
        columns = {name: column.copy() for name, column in piece.rows.columns().items()}
        columns["surprisal"][:4] = [np.nan, -np.nan, -0.0, np.inf]
        columns["surprisal"].view(np.int32)[4] = 0x7FC01234  # another NaN
        odd = Piece(i + 1, piece.turn, type(piece.rows)(columns), 3, 0, piece.first, is_text=i % 2 > 0)
        for whole in (piece, odd):
            same_piece(whole, piece_from_bytes(whole.dump(), whole.number))


def test_pieces_are_small() -> None:
    session = make_session("streaming", 512, ToyEngine(512))
    archive = Archive(session, ByteStore(10**9))
    say(session, words(128))
    say(session, words(20))
    session.evict(EvictionPlan(np.array([5, 130]), session.ledger.epoch, "room"))
    long, short = archive
    assert len(long.dump()) < 8 * 128 and len(short.dump()) < 120 + 8 * 20


def test_damaged_pieces_raise_one_error() -> None:
    _, archive = archived()
    damaged([piece.dump() for piece in archive], lambda data: piece_from_bytes(data, 1))


def test_numbers_in_a_piece_are_checked() -> None:
    _, archive = archived()
    data, dice, n_refused = [piece.dump() for piece in archive], np.random.default_rng(2), 0
    for i in range(2000):
        arrays = from_lean(data[i % len(data)], 1 + len(COLUMNS))
        array = arrays[int(dice.integers(len(arrays)))] if i % 2 else arrays[0]
        if len(array):
            array[int(dice.integers(len(array)))] = int(dice.choice([-1, 0, 3, 200, 2**31, 2**62]))
        try:
            assert len(piece_from_bytes(to_lean(arrays), 1).rows) > 0
        except StateError:
            n_refused += 1
    assert 500 < n_refused < 2000


def test_numbers_are_given_once() -> None:
    session, archive = archived()
    assert [piece.number for piece in archive] == [1, 2, 3, 4, 5]
    archive.truncate(5)
    archive.clear()
    say(session, words(20, 9))
    session.evict(EvictionPlan(np.array([len(session.ledger) - 2]), session.ledger.epoch, "room"))
    assert [piece.number for piece in archive] == [6]


def test_cells_whose_piece_never_got_to_the_disk_are_no_other_piece_s() -> None:
    session, archive = archived()
    pieces = {piece.number: piece.dump() for piece in archive}
    other = Archive(make_session("streaming", 512, ToyEngine(512)), ByteStore(10**9), disk={6: b"x", 7: b"y"})
    other.load(pieces)
    say(other._session, words(20))
    other._session.evict(EvictionPlan(np.array([5]), other._session.ledger.epoch, "room"))
    assert [piece.number for piece in other][-1:] == [5] and max(piece.number for piece in other) == 8
    assert session is not other._session


def test_a_watch_says_what_came_left_and_lost_its_cells() -> None:
    session, archive = archived()
    changes = archive.take_changes()
    assert changes and list(changes.pieces) == list(changes.new_cells) == [1, 2, 3, 4, 5]
    assert all(archive.cells(number) for number in changes.new_cells) and archive.cells(99) is None
    assert not archive.take_changes()
    archive.forget(np.arange(20, 41))  # all of the second, one of the third
    archive.truncate(5)
    changes = archive.take_changes()
    assert changes.dropped == (2, 5) and changes.lost_cells == (3,) and not changes.new_cells
    assert list(changes.pieces) == [3] and changes.pieces[3].is_text and len(changes.pieces[3].born) == 19
    archive._store.bound = 0
    assert not archive.take_changes(), "what the store pushes out is no change"
    archive._store.bound = 10**9
    say(session, words(20, 9))
    session.evict(EvictionPlan(np.array([len(session.ledger) - 2]), session.ledger.epoch, "room"))
    archive.truncate(session.turn)
    assert not archive.take_changes(), "it came and left in between"


def test_an_archive_that_nobody_watches_says_nothing() -> None:
    session = make_session("streaming", 256)
    archive = Archive(session, ByteStore(10**9))
    with pytest.raises(SessionError, match="watch"):
        archive.take_changes()


def test_what_cannot_be_loaded_changes_nothing() -> None:
    _, archive = archived()
    pieces = {piece.number: piece.dump() for piece in archive}
    with pytest.raises(SessionError, match="holds something"):
        archive.load(pieces)
    empty = Archive(make_session("streaming", 512, ToyEngine(512)), ByteStore(10**9))
    with pytest.raises(StateError):
        empty.load(pieces | {4: b"nothing of this"})
    foreign = piece_from_bytes(pieces[4], 4)
    columns = {name: column.copy() for name, column in foreign.rows.columns().items()}
    columns["token"][3] = 99_999
    with pytest.raises(StateError, match="vocabulary"):
        empty.load(pieces | {4: Piece(4, 4, type(foreign.rows)(columns), 0, 0, foreign.first).dump()})
    assert not list(empty) and not empty.turns()
    empty.load(pieces)
    assert len(list(empty)) == 5
