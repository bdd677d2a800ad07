"""The step machine used wrongly, interrupted, or behind its back: nothing is lost and nothing is silently wrong."""

from collections.abc import Callable

import pytest
from driving import agrees, drain, make_session, say, words

from edge_sir import errors
from edge_sir.engine import SamplingParams
from edge_sir.errors import PoisonedError, SessionError
from edge_sir.session import Session
from edge_sir.testing import ToyEngine

ENGINE_ERRORS = [kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), errors.EngineError)]


def test_a_commit_without_a_slice_is_refused() -> None:
    session = make_session()
    session.feed(words(5), "user")
    piece = session.next_slice()
    assert piece is not None
    [result] = session.engine.decode([piece])
    session.commit(result)
    with pytest.raises(SessionError, match="without a slice"):
        session.commit(result)


def test_an_uncommitted_slice_is_undone() -> None:
    session = make_session()
    say(session, words(10))
    session.feed(words(8, seed=1), "user")
    piece = session.next_slice(5)
    assert piece is not None
    session.engine.decode([piece])  # and then Ctrl-C, before the commit
    drain(session)
    assert session.ledger["token"].tolist() == [*words(10), *words(8, seed=1)]
    assert agrees(session)


@pytest.mark.parametrize("n_before", [0, 1, 2])
@pytest.mark.parametrize("error", ENGINE_ERRORS, ids=lambda e: e.__name__)
def test_after_a_failed_decode_nothing_is_lost(error: type[Exception], n_before: int) -> None:
    engine = ToyEngine()
    session = make_session(engine=engine)
    say(session, words(50))
    session.begin_turn()
    session.feed(words(30, seed=1), "user")
    for _ in range(n_before):
        session.commit(engine.decode([session.next_slice(10)])[0])  # type: ignore[list-item]
    engine.fail_next = error("made up")
    with pytest.raises(error):
        drain(session, 10)
    assert agrees(session)
    assert session.n_pending == 30 - 10 * n_before
    drain(session, 10)
    assert session.ledger["token"][-30:].tolist() == words(30, seed=1).tolist()
    assert agrees(session)


def test_what_waits_can_be_forgotten() -> None:
    session = make_session()
    session.feed(words(9), "user")
    assert session.n_pending == session.discard_pending() == 9
    assert session.next_slice() is None
    assert not session.step()


def test_the_next_token_is_drawn_only_when_all_is_decoded() -> None:
    session = make_session()
    with pytest.raises(SessionError, match="start a sampler"):
        session.sample()
    session.start_sampler(SamplingParams())
    with pytest.raises(SessionError, match="nothing to sample"):
        session.sample()
    say(session, words(9))
    session.sample()
    session.feed([40], "user")
    with pytest.raises(SessionError, match="decode what was fed"):
        session.sample()


def tamper_before_the_commit(session: Session) -> None:
    piece = session.next_slice()
    assert piece is not None
    [result] = session.engine.decode([piece])
    session.engine.remove(0, session.ledger.next_pos, -1)
    session.commit(result)


def tamper_between_turns(session: Session) -> None:
    session.engine.remove(0, 5, -1)
    session.step()


@pytest.mark.parametrize("tamper", [tamper_before_the_commit, tamper_between_turns])
def test_a_cache_that_disagrees_poisons_the_session_for_good(tamper: Callable[[Session], None]) -> None:
    session = make_session()
    say(session, words(20))
    session.begin_turn()
    session.feed(words(5, seed=1), "user")
    with pytest.raises(PoisonedError, match="the cache ends at position"):
        tamper(session)
    session.feed(words(5), "user")
    for call in (session.next_slice, session.step, lambda: session.rewind(1), lambda: session.truncate(1)):
        with pytest.raises(PoisonedError):
            call()
