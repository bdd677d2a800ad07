"""A fork goes on from where a session stands, on its own."""

import numpy as np
import pytest
from driving import EVICTING, drain, make_session, say, words

from edge_sir.errors import PoisonedError, SessionError
from edge_sir.testing import ToyEngine


@pytest.mark.parametrize("policy", EVICTING)
def test_a_fork_goes_on_as_if_it_had_been_alone(policy: str) -> None:
    alone = make_session(policy, 64)
    engine = ToyEngine(1024)
    trunk = make_session("keep-all", 1024, engine, also_score=alone.policy.needs)
    for turn in range(2):
        for session in (alone, trunk):
            say(session, words(20, turn))
    copy = ToyEngine()
    copy.load(0, engine.dump(0))
    fork = trunk.fork(copy, alone.policy, alone.budget)
    for turn in range(2, 12):
        for session in (alone, fork):
            say(session, words(20, turn))
    assert fork.stats.evicted == alone.stats.evicted > 0
    for name, column in alone.ledger.columns().items():
        np.testing.assert_array_equal(fork.ledger[name], column, err_msg=name)
    assert len(trunk.ledger) == 40


def test_a_fork_needs_a_session_at_rest_and_the_same_cells() -> None:
    session = make_session()
    session.begin_turn()
    session.feed(words(8), "user")
    with pytest.raises(SessionError, match="before a fork"):
        session.fork(session.engine, session.policy, session.budget)
    drain(session)
    with pytest.raises(PoisonedError):
        session.fork(ToyEngine(), session.policy, session.budget)
