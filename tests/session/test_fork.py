"""A fork goes on from where a session stands, on its own."""

import numpy as np
import pytest
from driving import EVICTING, agrees, drain, make_session, say, words
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.errors import PoisonedError, SessionError
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.boundaries import TextBorders


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
    with pytest.raises(SessionError, match="decode what was fed"):
        session.fork(session.engine, session.policy, session.budget)
    drain(session)
    with pytest.raises(PoisonedError):
        session.fork(ToyEngine(), session.policy, session.budget)


def test_who_listens_to_a_session_hears_nothing_of_its_forks() -> None:
    heard: list[object] = []
    session = make_session("streaming", 64, on_evict=heard.append)
    say(session, words(40))
    engine = ToyEngine()
    engine.load(0, session.engine.dump(0))
    fork = session.fork(engine, session.policy, session.budget)
    say(fork, words(60, seed=1))
    assert fork.stats.evicted > 0 and not heard


SAYINGS = st.lists(st.text("ab .!\n1é東Dr", max_size=25), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(before=SAYINGS, after=SAYINGS, other_way=SAYINGS, packed=st.booleans(), shared=st.booleans())
def test_a_fork_that_goes_another_way_never_changes_its_twin(
    before: list[str], after: list[str], other_way: list[str], packed: bool, shared: bool
) -> None:
    codec = ByteTokenizer()
    positions = "packed" if packed else "gaps"
    engines = [ToyEngine(512), ToyEngine(512)]
    sessions = [make_session("sir", 48, e, positions=positions, borders=TextBorders(codec)) for e in engines]
    for text in before:
        for session in sessions:
            say(session, codec.encode(text, special=False))
    alone, twin = sessions
    if shared:
        engines[1].copy(0, 1)
        fork = twin.fork(engines[1], twin.policy, twin.budget, seq=1)
    else:
        apart = ToyEngine(512)
        apart.load(0, engines[1].dump(0))
        fork = twin.fork(apart, twin.policy, twin.budget)
    for i in range(max(len(after), len(other_way))):
        for text in other_way[i : i + 1]:
            say(fork, codec.encode(text, special=False))
        for text in after[i : i + 1]:
            say(twin, codec.encode(text, special=False))
            say(alone, codec.encode(text, special=False))
    assert agrees(twin) and agrees(fork)
    if not (shared and packed):  # there shared cells stand still, and other positions give other scores
        for name, column in alone.ledger.columns().items():
            np.testing.assert_array_equal(twin.ledger[name], column, err_msg=name)


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_sessions_that_share_a_beginning_evict_without_harm(positions: str) -> None:
    """In both, what is shared goes and stays as the policy says, and neither is poisoned."""
    engine = ToyEngine(512)
    first = make_session("streaming:n_sink=8", 64, engine, positions=positions)
    say(first, words(40))
    engine.copy(0, 1)
    second = first.fork(engine, first.policy, first.budget, seq=1)
    for turn in range(8):
        say(first, words(25, turn))
        say(second, words(25, 100 + turn))
        assert agrees(first) and agrees(second)
    assert first.stats.evicted == second.stats.evicted > 100
    assert first.ledger["pos"][:8].tolist() == second.ledger["pos"][:8].tolist() == list(range(8))
    if positions == "packed":
        assert first.ledger.next_pos <= 64 + 40, "it closes up behind what is shared"
