"""Recalled for a turn: what makes room is displaced and returns, and what is evicted is what would be without it.

With policies that go by no score: what is recalled changes how much the model expects the turn's own words.
"""

import numpy as np
import pytest
from driving import agrees

from edge_sir.core.budget import Budget
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


def recall(session: Session, saved: SavedRows) -> int:
    """As many of the saved rows as a quarter of the cells holds."""
    room = BUDGET // 4 - int(session.ledger["recalled"].sum())
    rows = np.flatnonzero(~np.isin(saved.columns["born"], session.ledger["born"]))[: max(0, room)]
    return sum(session.recall([(saved, rows)])) if len(rows) else 0
