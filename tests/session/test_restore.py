"""Evicted rows come back to their place: in the ledger, in the cache, and for what comes after."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from driving import agrees, cached, columns, drain, logits_of, make_session, say, words
from numpy.typing import NDArray

from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import Slice
from edge_sir.errors import CapabilityError, ComputeError, EdgeSirError, SessionError, StateError
from edge_sir.session import SavedRows, Session, SessionState
from edge_sir.testing import ToyEngine

MODES = ["packed", "gaps"]


def evict(session: Session, rows: Any) -> None:
    session.evict(EvictionPlan(np.asarray(rows), session.ledger.epoch, "room"))


def filled(budget: int = 256, n_turns: int = 5, **options: Any) -> Session:
    session = make_session("sirllm", budget, **options)
    for turn in range(n_turns):
        say(session, words(20, turn))
    return session


def everything(session: Session) -> dict[str, NDArray[Any]]:
    return {name: column.copy() for name, column in session.ledger.columns().items()}


def probe(session: Session) -> NDArray[np.float32]:
    """The logits after one more token, which is taken out again."""
    at, one = session.ledger.next_pos, np.array([77], np.int32)
    [result] = session.engine.decode([Slice(session.seq, one, at, one)])
    session.engine.remove(session.seq, at, -1)
    assert result.logits is not None
    return result.logits


@pytest.mark.parametrize("positions", MODES)
@pytest.mark.parametrize("lost", [range(25, 55), range(30), range(90, 100), [26, 27, 31, 40, 41, 54]], ids=str)
def test_what_was_evicted_is_resident_as_if_it_had_never_left(positions: str, lost: Any) -> None:
    session = filled(positions=positions)
    before, row = everything(session), probe(session)
    saved = session.save_rows(range(min(lost), max(lost) + 1))
    evict(session, list(lost))
    assert session.restore(saved) == len(lost)
    for name, column in before.items():
        np.testing.assert_array_equal(session.ledger[name], column, err_msg=name)
    np.testing.assert_allclose(probe(session), row, rtol=1e-5, atol=1e-5)
    assert agrees(session) and session.stats.restored == len(lost)
    assert session.restore(saved) == 0  # nothing is missing


@pytest.mark.parametrize("positions", MODES)
def test_it_comes_back_among_what_was_said_since(positions: str) -> None:
    session = filled(positions=positions)
    saved = session.save_rows(range(20, 60))
    evict(session, range(22, 58))
    for turn in range(5, 8):
        say(session, words(20, turn))
    if positions == "gaps":
        old = session.ledger["pos"].copy()
    assert session.restore(saved, range(5, 25)) == 20
    born = session.ledger["born"]
    assert np.all(np.diff(born) > 0) and set(range(25, 45)) <= set(born.tolist())
    assert agrees(session)
    if positions == "gaps":
        assert session.ledger["pos"].tolist() == born.tolist() and np.isin(old, session.ledger["pos"]).all()
        assert session.stats.kshifts == 0
    else:
        assert session.ledger["pos"].tolist() == list(range(len(session.ledger)))
        np.testing.assert_allclose(probe(session), logits_of([*session.ledger["token"], 77])[-1], rtol=1e-4, atol=1e-4)
    for turn in (8, 9):
        say(session, words(20, turn))
    assert session.ledger["born"][-1] == 199 and agrees(session)


@pytest.mark.parametrize("positions", MODES)
def test_truncate_and_rewind_mean_what_they_did(positions: str) -> None:
    session = filled(positions=positions)
    saved = session.save_rows(range(30, 50))
    evict(session, range(30, 50))
    say(session, words(20, 7))
    session.restore(saved)
    assert session.truncate(6) == 20
    assert session.ledger["born"].tolist() == list(range(100))
    session.rewind(60)
    assert session.ledger["born"].tolist() == list(range(40)) and agrees(session)


def test_right_before_the_message_it_belongs_to_the_running_turn() -> None:
    for positions in MODES:
        session = filled(positions=positions)
        saved = session.save_rows(range(20, 40))
        evict(session, range(20, 40))
        session.begin_turn()
        session.start_message()
        session.feed(words(6, 9), "user")
        assert session.restore(saved, range(4, 14), place="last") == 10
        drain(session)
        ledger = columns(session, "token", "turn", "born", "pos")
        assert ledger["token"][-16:] == [*words(20, 1)[4:14], *words(6, 9)]
        assert ledger["turn"][-17:] == [5] + [6] * 16
        assert ledger["born"][-16:] == list(range(100, 116)) and session.n_born == 116
        assert np.all(np.diff(ledger["pos"]) > 0) and agrees(session)
        assert session.truncate(6) == 16 and session.turn == 5


def test_a_turn_of_the_published_policy_knows_its_first_token() -> None:
    session = make_session("sirllm-published", 256)
    say(session, words(30, 1))
    saved = session.save_rows(range(5, 25))
    evict(session, range(5, 25))
    session.begin_turn()
    session.feed(words(20, 2), "user")
    session.restore(saved, place="last")
    drain(session, 7)
    first = int(np.flatnonzero(session.ledger["token"] == words(20, 2)[0])[-1])
    assert session.ledger["born"][first] == 50
    rows = session.ledger["self_repeat"][first:]
    assert rows[0] == rows.max()


# ---- positions that belong to others -------------------------------------------------------------


def renumbered(session: Session) -> None:
    while session.stats.packs + session.stats.rereads == 0:
        say(session, words(20, session.turn))


def rewound(session: Session) -> None:
    """Turn 4 and 5 are taken back; what is said next stands where the rest of turn 3 was."""
    session.truncate(4)
    for turn in (11, 12):
        say(session, words(25, turn))


def newest_left(session: Session) -> None:
    say(session, words(40, 11))


GIVEN_AWAY = {renumbered: range(30, 45), rewound: range(40, 60), newest_left: range(70, 100)}


@pytest.mark.parametrize("can_pack", [True, False])
@pytest.mark.parametrize("happens", GIVEN_AWAY, ids=lambda f: f.__name__)
def test_positions_that_were_given_away_are_not_used(happens: Callable[[Session], None], can_pack: bool) -> None:
    """Where keys can move they do, behind the row before them; else the text must be read."""
    lost = GIVEN_AWAY[happens]
    engine = ToyEngine(n_ctx_train=180, can_pack=can_pack)
    session = make_session("streaming", 150, engine, positions="gaps")
    for turn in range(5):
        say(session, words(20, turn))
    early, late = session.save_rows(range(4, 14)), session.save_rows(lost)
    evict(session, [*range(4, 14), *lost])
    happens(session)
    if happens is not renumbered:  # what lies before all that was given away is still at home
        assert session.restore(early) == 10
        assert session.stats.kshifts == 0 and session.ledger["pos"][:14].tolist() == list(range(14))
    evict(session, range(len(session.ledger) - 35, len(session.ledger) - 5))
    before, cells = everything(session), cached(engine)
    if can_pack:
        assert session.restore(late) == len(lost)
        assert np.all(np.diff(session.ledger["born"]) > 0) and set(lost) <= set(session.ledger["born"].tolist())
        assert session.stats.kshifts == 1 + session.stats.packs
    else:
        with pytest.raises(StateError, match="read their text again"):
            session.restore(late)
        np.testing.assert_equal(everything(session), before)
        assert cached(engine) == cells
    say(session, words(10, 99))
    assert agrees(session) and session.ledger.next_pos <= 180


def test_what_moved_cells_made_place_for_is_given_away_too() -> None:
    session = filled(positions="gaps")
    one, other = session.save_rows(range(40, 50)), session.save_rows(range(60, 70))
    evict(session, [*range(40, 50), *range(60, 70)])
    session._epochs.give(40, session.ledger.next_pos)
    assert session.restore(one) == 10 and session.restore(other) == 10
    assert session.ledger["born"].tolist() == list(range(100)) and agrees(session)
    np.testing.assert_allclose(probe(session), logits_of([*session.ledger["token"], 77])[-1], rtol=1e-4, atol=1e-4)


def test_at_the_trained_length_all_close_up() -> None:
    session = make_session("streaming", 101, ToyEngine(n_ctx_train=101), positions="gaps")
    for turn in range(5):
        say(session, words(20, turn))
    saved = session.save_rows(range(40, 60))
    evict(session, range(40, 60))
    session._epochs.give(10, session.ledger.next_pos)  # the hole is another's by now
    evict(session, range(4, 10))
    assert session.restore(saved) == 20
    assert session.ledger.next_pos <= 101 and agrees(session)


# ---- failures ------------------------------------------------------------------------------------


def unchanged(session: Session, call: Callable[[], object], error: type[Exception], match: str) -> None:
    assert isinstance(session.engine, ToyEngine)
    before, cells, stats = everything(session), cached(session.engine), session.stats.restored
    with pytest.raises(error, match=match):
        call()
    np.testing.assert_equal(everything(session), before)
    assert cached(session.engine) == cells and session.stats.restored == stats and agrees(session)


@pytest.mark.parametrize("positions", MODES)
@pytest.mark.parametrize("error", [StateError("no cells"), CapabilityError("no"), ComputeError("made up")], ids=repr)
def test_a_failure_leaves_ledger_and_cache_as_they_were(positions: str, error: EdgeSirError) -> None:
    session = filled(positions=positions)
    assert isinstance(session.engine, ToyEngine)
    saved = session.save_rows(range(30, 50))
    evict(session, range(30, 50, 2))
    say(session, words(5, 8))
    session.engine.fail_next = error
    unchanged(session, lambda: session.restore(saved), type(error), str(error))
    assert session.restore(saved) == 10
    say(session, words(20, 9))
    assert agrees(session)


@pytest.mark.parametrize("positions", MODES)
def test_without_free_cells_nothing_changes(positions: str) -> None:
    engine = ToyEngine(128)
    session = make_session("sirllm", 128, engine, positions=positions)
    for turn in range(5):
        say(session, words(20, turn))
    saved = session.save_rows(range(30, 50))
    evict(session, range(30, 50))
    engine.decode([Slice(2, words(40, 3), 0, np.full(40, -1, np.int32))])  # 120 of 128 cells are taken, by no session
    unchanged(session, lambda: session.restore(saved), StateError, "20 cells are to be restored, 8 are free")
    assert session.restore(saved, range(8)) == 8
    assert agrees(session) and engine.pos_range(2) == (0, 39)


def test_beyond_the_budget_nothing_comes_back() -> None:
    session = filled(100)
    saved = session.save_rows(range(30, 50))
    evict(session, range(30, 50))
    say(session, words(15, 8))
    unchanged(session, lambda: session.restore(saved), SessionError, "evict 15 first")
    assert session.restore(saved, range(5)) == 5


@pytest.mark.parametrize("positions", MODES)
def test_a_shared_beginning_stands_still(positions: str) -> None:
    engine = ToyEngine(512)
    first = filled(engine=engine, positions=positions)
    engine.copy(0, 1, 0, 40)
    early, late = first.save_rows(range(10, 20)), first.save_rows(range(60, 80))
    evict(first, [*range(10, 20), *range(60, 80)])
    assert first.restore(late) == 20
    if positions == "packed":
        unchanged(first, lambda: first.restore(early), StateError, "another sequence shares")
    else:
        assert first.restore(early) == 10
    assert engine.pos_range(1) == (0, 39) and agrees(first)
    say(first, words(20, 8))
    assert agrees(first)


def test_where_cells_cannot_be_saved_that_is_said() -> None:
    session = filled(engine=ToyEngine(can_restore=False))
    with pytest.raises(CapabilityError, match="switched off"):
        session.save_rows(range(5))


@pytest.mark.parametrize("rows", [[], [5, 3], [3, 3], [-1, 0], range(99, 101)], ids=str)
def test_only_rows_of_the_ledger_in_order_are_a_passage(rows: Any) -> None:
    with pytest.raises(SessionError, match="no passage"):
        filled().save_rows(rows)


@pytest.mark.parametrize("positions", MODES)
def test_rows_far_apart_are_one_passage(positions: str) -> None:
    session = filled(positions=positions)
    before, row = everything(session), probe(session)
    lost = [3, 4, 20, 41, 42, 43, 90]
    saved = session.save_rows(lost)
    assert len(saved) == 7 and len(saved.cells) < len(session.save_rows(range(20)).cells)
    evict(session, lost)
    assert session.restore(saved, [0, 1, 2]) == 3 and session.restore(saved) == 4
    for name, column in before.items():
        np.testing.assert_array_equal(session.ledger[name], column, err_msg=name)
    np.testing.assert_allclose(probe(session), row, rtol=1e-5, atol=1e-5)
    assert agrees(session)


def test_rows_without_cells_are_kept_and_cannot_be_restored() -> None:
    session = filled(engine=ToyEngine(can_restore=False))
    saved = session.save_rows(range(30, 50), cells=False)
    assert saved.columns["token"].tolist() == session.ledger["token"][30:50].tolist() and saved.cells == b""
    evict(session, range(30, 50))
    with pytest.raises(StateError, match="read their text"):
        session.restore(saved)
    assert len(session.ledger) == 80 and agrees(session)


def test_an_uncommitted_slice_is_undone_first() -> None:
    session = filled(positions="packed")
    saved = session.save_rows(range(30, 50))
    evict(session, range(30, 50))
    session.begin_turn()
    session.feed(words(8, 9), "user")
    piece = session.next_slice()
    assert piece is not None
    session.engine.decode([piece])
    assert session.restore(saved) == 20
    drain(session)
    assert session.ledger["born"].tolist() == list(range(108)) and agrees(session)


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", MODES)
def test_saved_rows_go_through_bytes_and_into_a_fork(positions: str) -> None:
    session = filled(positions=positions)
    session.rewind(7)
    say(session, words(20, 8))
    data = session.save_rows(range(30, 50)).dump()
    evict(session, range(30, 50))
    engine = ToyEngine()
    engine.load(0, session.engine.dump(0))
    state = SessionState.load(session.state().dump())
    other = Session.from_state(state, engine, session.policy, session.budget)
    for one in (session, other):
        assert one.restore(SavedRows.load(data)) == 20
        say(one, words(10, 9))
    for name, column in session.ledger.columns().items():
        np.testing.assert_array_equal(other.ledger[name], column, err_msg=name)
    assert agrees(other)


def test_damaged_bytes_are_no_passage() -> None:
    data = filled().save_rows(range(5)).dump()
    for damaged in (b"", data[:-1], data[:200], data[:300] + bytes([data[300] ^ 1]) + data[301:]):
        with pytest.raises(StateError):
            SavedRows.load(damaged)
    with pytest.raises(StateError):
        SavedRows.load(filled().save_rows(range(5)).cells)


def test_it_says_what_memory_it_takes() -> None:
    saved = filled().save_rows(range(5))
    assert len(saved) == 5 and len(saved.cells) < saved.n_bytes <= len(saved.dump()) * 2
