"""What an archive keeps of a conversation, in which memory, and what it does with what is said twice."""

from typing import Any

import numpy as np
import pytest
from driving import drain, make_session, say, words

from edge_sir.core.ledger import COLUMNS
from edge_sir.core.plan import EvictionPlan
from edge_sir.recall.archive import Archive
from edge_sir.recall.piece import Piece, piece_from_bytes
from edge_sir.recall.rows import PackedRows, row_from_bits
from edge_sir.recall.store import ByteStore
from edge_sir.session import Session
from edge_sir.testing import ToyEngine


def archived(bound: int = 10**9, **options: Any) -> tuple[Session, Archive]:
    """A session of five messages of 20 tokens, and its archive."""
    session = make_session("streaming", 256, **options)
    archive = Archive(session, ByteStore(bound))
    for turn in range(5):
        say(session, words(20, turn))
    return session, archive


def evict(session: Session, rows: Any, why: str = "room") -> None:
    session.evict(EvictionPlan(np.asarray(rows), session.ledger.epoch, why))


def pieces_of(archive: Archive, turn: int) -> list[tuple[Piece, bool]]:
    return [(piece, archive.cells_of(piece) is not None) for piece in archive.of_turn(turn)]


@pytest.mark.parametrize(("bound", "engine"), [(0, {}), (10**9, {"can_restore": False})], ids=["no bytes", "no cells"])
def test_without_cells_the_rows_are_kept(bound: int, engine: dict[str, Any]) -> None:
    session, archive = archived(bound, engine=ToyEngine(**engine))
    session.engine.save = None  # type: ignore[method-assign, assignment]  # nothing asks the engine
    evict(session, range(25, 50, 2))
    assert list(archive.turns()) == [2, 3]
    [(second, has_cells)] = pieces_of(archive, 2)
    assert not has_cells and second.rows["token"].tolist() == words(20, 1).tolist()
    assert second.saved.columns["born"].tolist() == list(range(20, 40))
    assert 0 < archive.n_bytes < 40 * 60
    archive.forget(np.array([41]))
    [(third, has_cells)] = pieces_of(archive, 3)
    assert not has_cells and third.born.tolist() == [40, *range(42, 60)]
    archive.forget(np.arange(40, 60))
    assert list(archive.turns()) == [2]


def test_cells_that_hold_what_is_forgotten_are_not_kept() -> None:
    session, archive = archived()
    evict(session, range(25, 50, 2))
    [(whole, has_cells)] = pieces_of(archive, 2)
    assert has_cells and 30 in whole.born
    archive.forget(np.array([30]))
    [(rest, has_cells)] = pieces_of(archive, 2)
    assert not has_cells and rest.born.tolist() == [*range(20, 30), *range(31, 40)]
    assert pieces_of(archive, 3)[0][1]


def test_what_was_recalled_least_recently_leaves_first() -> None:
    session, archive = archived()
    store = archive._store
    for first in (0, 20, 40):
        evict(session, session.ledger["born"].searchsorted([first]))
    first, second, third = (archive.of_turn(turn)[0] for turn in (1, 2, 3))
    assert archive.cells_of(first) is not None
    # neither counting nor looking at the rows is a use
    assert archive.n_bytes > 0 and second.saved.cells == b"" and store.size(second.key) > 0
    store.bound = store.n_bytes - 1
    assert [archive.cells_of(piece) is not None for piece in (second, first, third)] == [False, True, True]
    store.bound = store.n_bytes - 1
    assert [archive.cells_of(piece) is not None for piece in (first, third)] == [False, True]
    assert archive.turns() == {1, 2, 3}, "the rows stay"


def test_rows_take_little_memory_and_lose_nothing() -> None:
    session, _ = archived()
    columns = {name: column[30:40].copy() for name, column in session.ledger.columns().items()}
    columns["surprisal"][3] = np.nan
    packed = PackedRows(columns)
    for name, kind in COLUMNS:
        assert packed[name].dtype == kind
        np.testing.assert_array_equal(packed[name], columns[name], err_msg=name)
    assert len(packed) == 10
    wide, narrow = (PackedRows({n: np.tile(c, k) for n, c in columns.items()}).n_bytes for k in (101, 1))
    assert (wide - narrow) / 1000 < 40 < sum(c.dtype.itemsize for c in columns.values())


def test_rows_that_come_back_from_bytes_take_as_little_memory() -> None:
    session, _ = archived()
    columns = {name: column[30:40].copy() for name, column in session.ledger.columns().items()}
    columns["surprisal"][:] = np.nan
    piece = Piece(1, 1, PackedRows(columns), 0, 1, int(columns["born"][0]))
    rows = piece_from_bytes(piece.dump(), 1).rows
    assert rows.n_bytes == piece.rows.n_bytes
    for name, kind in COLUMNS:
        assert rows[name].dtype == kind
        np.testing.assert_array_equal(rows[name], columns[name], err_msg=name)


@pytest.mark.parametrize(("name", "value"), [("role", 128), ("pinned", 2), ("turn", 1 << 31), ("pos", -(1 << 31) - 1)])
def test_a_row_of_numbers_that_its_columns_do_not_hold_is_refused(name: str, value: int) -> None:
    values = dict.fromkeys((name for name, _ in COLUMNS), 1)
    assert row_from_bits(list(values.values()))[name][0] == 1
    with pytest.raises(ValueError, match="too large"):
        row_from_bits(list((values | {name: value}).values()))


def test_tokens_that_became_neighbours_are_kept_apart() -> None:
    """Else a piece would be longer in the stream than it is searched for, and its tokens saved a second time."""
    session = make_session("streaming", 512, ToyEngine(512))
    archive = Archive(session, ByteStore(10**9))
    say(session, words(300))
    evict(session, range(10, 281))
    archive._store.bound = 0
    archive._store.bound = 10**9
    evict(session, [9, 10])
    for saved, rows in archive.passages(np.array([9, 281])):
        assert session.restore(saved, rows) == 1
    evict(session, [9, 10])
    born = np.concatenate([piece.born for piece in archive])
    assert sorted(born.tolist()) == list(range(300)) and archive.holds(np.array([9, 281])).all()


# ---- what is said again --------------------------------------------------------------------------


def test_what_is_said_again_keeps_its_cells_once() -> None:
    session, archive = archived()
    say(session, words(20, 1))
    evict(session, [22])
    n_bytes = archive._store.n_bytes
    session.begin_turn()
    evict(session, session.ledger["born"].searchsorted([105]))
    [(older, older_has_cells)], [(newer, newer_has_cells)] = pieces_of(archive, 2), pieces_of(archive, 6)
    assert newer_has_cells and not older_has_cells
    assert older.rows["token"].tolist() == newer.rows["token"].tolist()
    assert archive._store.n_bytes == n_bytes


def test_one_more_word_is_nearly_the_same_and_another_word_is_not() -> None:
    session, archive = archived()
    longer, other = np.insert(words(20, 1), 7, 65), words(20, 2)
    other[7] = 0
    for message in (longer, other):
        say(session, message)
    evict(session, [22, 42])
    session.begin_turn()
    evict(session, session.ledger["born"].searchsorted([105, 125]))
    assert [has_cells for turn in (2, 6, 3, 7) for _, has_cells in pieces_of(archive, turn)] == [
        False,
        True,
        True,
        True,
    ]


def test_what_lost_cells_in_the_running_turn_keeps_its_cells_for_an_undo() -> None:
    session, archive = archived()
    say(session, words(20, 1))
    evict(session, [22, 105])
    assert [has_cells for turn in (2, 6) for _, has_cells in pieces_of(archive, turn)] == [True, True]


def test_a_message_that_repeats_itself_is_kept_whole() -> None:
    session, archive = archived()
    session.begin_turn()
    session.start_message()
    session.feed(np.tile(words(128, 9), 1), "user")
    drain(session)
    session.feed(words(128, 9)[:28], "user")
    drain(session)
    evict(session, session.ledger["born"].searchsorted([110]))
    assert all(has_cells for _, has_cells in pieces_of(archive, 6)) and len(pieces_of(archive, 6)) == 2


def test_a_repetition_that_is_taken_back_leaves_the_text_of_the_first() -> None:
    session, archive = archived()
    say(session, words(20, 1))
    evict(session, [22])
    session.begin_turn()
    evict(session, session.ledger["born"].searchsorted([105]))
    archive.truncate(6)
    [(older, has_cells)] = pieces_of(archive, 2)
    assert not has_cells and older.rows["token"].tolist() == words(20, 1).tolist()
    say(session, words(20, 1))
    session.begin_turn()
    evict(session, [len(session.ledger) - 1])
    assert pieces_of(archive, session.turn - 1)[0][1]
