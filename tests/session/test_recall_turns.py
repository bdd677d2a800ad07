"""Recalled for a turn: what makes room is displaced and returns, and what is evicted is what would be without it.

With policies that go by no score: what is recalled changes how much the model expects the turn's own words.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from driving import agrees
from numpy.typing import ArrayLike

from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.policies import from_spec
from edge_sir.session import SavedRows, Session
from edge_sir.testing import ToyEngine

BUDGET = 96


def session_of(policy: str, positions: str = "packed") -> Session:
    return Session(ToyEngine(256, n_ctx_train=100_000), from_spec(policy), Budget(BUDGET), positions=positions)


def read(session: Session, random: np.random.Generator, n: int) -> None:
    session.start_message()
    session.feed(random.integers(0, 256, n), "user")
    while session.step():
        pass


class Archive:
    """Saves every message whole before its first row leaves."""

    def __init__(self, session: Session) -> None:
        self.session, self.saved = session, {}
        session.before_eviction = self.save

    def save(self, rows: np.ndarray) -> None:
        ledger = self.session.ledger
        for message in np.unique(ledger["message"][rows]).tolist():
            if message not in self.saved:
                self.saved[message] = self.session.save_rows(np.flatnonzero(ledger["message"] == message))


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("policy", ["streaming", "random:seed=3", "interval", "streaming:n_sink=0"])
def test_a_hundred_recalling_turns_hold_what_turns_without_recall_hold(policy: str, positions: str) -> None:
    plain, recalling = session_of(policy, positions), session_of(policy, positions)
    archive = Archive(recalling)
    random, choice = (np.random.default_rng(seed) for seed in (1, 2))
    n_recalled = 0
    for _ in range(100):
        n_message, n_reply = (int(n) for n in random.integers(1, 30, 2))
        words = random.integers(0, 256, n_message + n_reply)
        evicted: list[list[int]] = [[], []]
        for session, losses in zip((plain, recalling), evicted, strict=True):
            session.on_evict = lambda event, losses=losses: losses.extend(event.columns["born"].tolist())
            session.begin_turn(n_reply)
            session.start_message()
            session.feed(words[:n_message], "user")
            if session is recalling and archive.saved:
                for message in choice.choice(list(archive.saved), 2):
                    n_recalled += recall(session, archive.saved[int(message)])
            while session.step():
                pass
            for token in words[n_message:]:
                session.feed([token], "assistant")
                session.step()
            session.end_recall()
            assert agrees(session)
        assert evicted[0] == evicted[1]
        assert plain.ledger["born"].tolist() == recalling.ledger["born"].tolist()
        assert plain.ledger["turn"].tolist() == recalling.ledger["turn"].tolist()
    assert n_recalled > 500 and not recalling.is_recalling
    assert not recalling.ledger["recalled"].any()


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_what_is_displaced_is_saved_once_and_not_word_by_word(positions: str) -> None:
    session = session_of("random:seed=3", positions)
    session.begin_turn()
    read(session, np.random.default_rng(1), 60)
    saved = session.save_rows(range(10, 40))
    session.evict(EvictionPlan(np.arange(10, 40), session.ledger.epoch, "room"))
    session.begin_turn()
    read(session, np.random.default_rng(2), 60)
    n_saves, save = 0, session.engine.save

    def counted(*args: Any) -> bytes:
        nonlocal n_saves
        n_saves += 1
        return save(*args)

    session.engine.save = counted  # type: ignore[method-assign]
    session.begin_turn()
    before = session.ledger["born"].tolist()
    assert session.recall([(saved, None)]) == [30] and n_saves == 1
    assert BUDGET - 32 <= len(session.ledger) < BUDGET and agrees(session)
    assert session.end_recall() == 30
    assert session.ledger["born"].tolist() == before and agrees(session)


def test_what_is_left_of_a_recalled_passage_is_not_displaced() -> None:
    session = session_of("interval")
    session.begin_turn()
    read(session, np.random.default_rng(1), BUDGET)
    saved = session.save_rows(range(30, 60))
    session.evict(EvictionPlan(np.arange(30, 60, 2), session.ledger.epoch, "room"))
    session.begin_turn()
    read(session, np.random.default_rng(2), 15)
    session.begin_turn()
    assert session.recall([(saved, None)]) == [15]
    assert set(range(30, 60)) <= set(session.ledger["born"].tolist()) and agrees(session)
    assert session.end_recall() == 15


def turn_of(session: Session, message: ArrayLike, *, again: ArrayLike) -> None:
    """A turn in which text is read again, up to the end of its message."""
    session.begin_turn()
    session.start_message()
    session.feed(message, "user")
    session.feed_recalled([[("user", np.asarray(again))]])
    while session.step():
        pass


def recall(session: Session, saved: SavedRows) -> int:
    """As many of the saved rows as a quarter of the cells holds."""
    room = BUDGET // 4 - int(session.ledger["recalled"].sum())
    rows = np.flatnonzero(~np.isin(saved.columns["born"], session.ledger["born"]))[: max(0, room)]
    return sum(session.recall([(saved, rows)])) if len(rows) else 0


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_cannot_return_are_evicted_and_the_turn_goes_on(seed: int) -> None:
    """With gaps, where keys cannot move: the newest rows were evicted, and others stand where displaced ones did."""
    engine = ToyEngine(256, n_ctx_train=100_000, can_pack=False)
    session = Session(engine, from_spec(f"random:seed={seed}"), Budget(BUDGET), positions="gaps")
    archive, random, lost = Archive(session), np.random.default_rng(seed), []
    session.on_evict = lambda event: lost.extend(event.columns["born"].tolist())
    for _ in range(30):
        session.begin_turn(20)
        session.start_message()
        session.feed(random.integers(0, 256, int(random.integers(1, 60))), "user")
        for message in list(archive.saved)[-2:]:
            recall(session, archive.saved[message])
        while session.step():
            pass
        session.end_recall()
        assert agrees(session) and not session.is_recalling
        assert sorted([*lost, *session.ledger["born"].tolist()]) == list(range(session.n_born))


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("policy", ["streaming", "interval"])
def test_turns_that_read_text_again_hold_what_turns_without_recall_hold(policy: str, positions: str) -> None:
    plain, recalling = session_of(policy, positions), session_of(policy, positions)
    random, choice = (np.random.default_rng(seed) for seed in (1, 2))
    n_before = 0
    for _ in range(60):
        n_message, n_reply = (int(n) for n in random.integers(1, 30, 2))
        words = random.integers(0, 256, n_message + n_reply)
        again = choice.integers(0, 256, int(choice.integers(0, 25)))
        for session in (plain, recalling):
            session.begin_turn(n_reply)
            session.start_message()
            session.feed(words[:n_message], "user")
            if session is recalling:
                session.feed_recalled([[("frame", again[:2]), ("user", again[2:])]])
            while session.step():
                assert agrees(session)
            for token in words[n_message:]:
                session.feed([token], "assistant")
                session.step()
            n_before += int(session.ledger["recalled"].sum())
            session.end_recall()
            assert agrees(session)
        for name in ("token", "turn", "message", "sentence", "word", "role"):
            assert plain.ledger[name].tolist() == recalling.ledger[name].tolist(), name
    assert n_before > 300 and not recalling.is_recalling


def test_a_turn_that_ends_before_its_recalled_text_is_read_drops_it() -> None:
    session = session_of("streaming")
    session.begin_turn()
    session.start_message()
    session.feed([1, 2, 3], "user")
    session.feed_recalled([[("user", np.arange(10))]])
    piece = session.next_slice()
    assert piece is not None and piece.tokens.tolist() == list(range(10))
    assert session.end_recall() == 0
    assert session.pending_tokens.tolist() == [1, 2, 3]
    while session.step():
        pass
    assert session.ledger["token"].tolist() == [1, 2, 3] and agrees(session)


def test_an_engine_that_cannot_restore_evicts_for_recalled_text() -> None:
    session = session_of("streaming")
    session.engine.spec = replace(session.engine.spec, can_restore=False)
    for _ in range(6):
        session.begin_turn()
        read(session, np.random.default_rng(3), 20)
    turn_of(session, [1, 2, 3], again=np.arange(30))
    assert int(session.ledger["recalled"].sum()) == 30 and len(session.ledger) <= BUDGET
    assert session.end_recall() == 30 and agrees(session)
    assert session.ledger["token"][-3:].tolist() == [1, 2, 3]


def test_recalled_text_that_makes_room_itself_is_not_lost_twice() -> None:
    session, events = session_of("streaming"), []
    session.engine.spec = replace(session.engine.spec, can_restore=False)
    session.on_evict = events.append
    session.begin_turn()
    read(session, np.random.default_rng(3), 60)
    turn_of(session, np.arange(90), again=np.arange(20))
    assert not session.ledger["recalled"].any() and agrees(session)
    assert sum(map(len, events)) == session.stats.evicted == 60 + 90 - len(session.ledger)
    assert max(int(event.columns["message"].max()) for event in events) < session.start_message()


def test_a_lower_budget_evicts_what_was_displaced_and_says_so() -> None:
    session, evicted = session_of("streaming"), []
    archive = Archive(session)
    session.on_evict = lambda event: evicted.extend(event.columns["born"].tolist())
    for _ in range(6):
        session.begin_turn()
        read(session, np.random.default_rng(3), 24)
    session.begin_turn()
    session.start_message()
    session.feed([1, 2, 3], "user")
    assert recall(session, next(iter(archive.saved.values())))
    assert session.set_budget(64) > 0 and not session.is_recalling and agrees(session)
    assert sorted([*evicted, *session.ledger["born"].tolist()]) == list(range(session.n_born))


def test_the_trained_length_ends_a_recall_where_keys_cannot_move() -> None:
    session = session_of("streaming", "gaps")
    session.engine.spec = replace(session.engine.spec, can_pack=False, n_ctx_train=200)
    archive = Archive(session)
    random = np.random.default_rng(5)
    while session.ledger.next_pos < 180:
        session.begin_turn()
        read(session, random, 20)
    standing = session.ledger["born"].tolist()
    session.begin_turn()
    session.start_message()
    session.feed(random.integers(0, 256, 24), "user")
    assert recall(session, next(iter(archive.saved.values())))
    while session.step():
        pass
    assert session.stats.rereads == 1 and not session.is_recalling and agrees(session)
    assert set(session.ledger["born"].tolist()) - set(range(180, 204)) <= set(standing)
    assert len(session.ledger) <= BUDGET and session.ledger.next_pos <= 200


def test_at_the_trained_length_recalled_text_displaces_and_evicts_nothing() -> None:
    session, events = session_of("streaming", "gaps"), []
    session.engine.spec = replace(session.engine.spec, can_pack=False, n_ctx_train=200)
    random = np.random.default_rng(5)
    while session.ledger.next_pos < 180:
        session.begin_turn()
        read(session, random, 20)
    before = session.ledger["born"].tolist()
    session.on_evict = events.append
    session.begin_turn()
    session.start_message()
    session.feed([1, 2, 3, 4], "user")
    session.feed_recalled([[("user", np.arange(30))]])
    while session.step():
        pass
    assert session.is_recalling and session.stats.rereads == 1
    assert session.end_recall() == 30 and events == [] and agrees(session)
    assert session.ledger["born"][:-4].tolist() == before
