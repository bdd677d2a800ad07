"""A session as a value: out of one engine, into another one, on with the same tokens. On every engine."""

import numpy as np
import pytest
from engines import ALL, Kind, kind_of, some_tokens

from edge_sir.core.budget import Budget
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError, SessionError, StateError
from edge_sir.policies import from_spec
from edge_sir.session import Session, SessionState
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.boundaries import TextBorders

GREEDY = SamplingParams(temperature=0, repeat_penalty=1.3)
DRAWN = SamplingParams(temperature=1.5, seed=7)


@pytest.fixture(params=ALL)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


def say(session: Session, n: int, seed: int) -> None:
    session.begin_turn()
    session.start_message()
    session.feed(some_tokens(session.engine, n, seed), "user")
    while session.step():
        pass


def write(session: Session, n: int) -> list[int]:
    tokens = []
    for _ in range(n):
        tokens.append(session.sample())
        session.feed(tokens[-1:], "assistant")
        session.step(n_generated=1)
    return tokens


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("params", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_state_out_state_in_and_the_same_fifty_tokens(kind: Kind, positions: str, params: SamplingParams) -> None:
    engine = kind.make()
    if positions == "packed" and not engine.spec.can_pack:
        pytest.skip("this engine cannot pack")
    borders = TextBorders(getattr(engine, "text", ByteTokenizer()))
    session = Session(engine, from_spec("sir"), Budget(96), positions=positions, borders=borders)
    for turn in range(4):
        say(session, 40, turn)
    session.start_sampler(params)
    write(session, 5)
    saved, cells = session.state().dump(), engine.dump(0)
    other_engine = kind.make()
    other_engine.load(0, cells)
    own = TextBorders(borders.codec)
    other = Session.from_state(SessionState.load(saved), other_engine, from_spec("sir"), Budget(96), borders=own)
    assert write(other, 50) == write(session, 50)
    say(other, 30, 9)
    say(session, 30, 9)
    for name, column in session.ledger.columns().items():
        if column.dtype.kind != "f":
            np.testing.assert_array_equal(other.ledger[name], column, err_msg=name)
    assert other.stats.evicted == session.stats.evicted > 0


def make() -> tuple[ToyEngine, Session]:
    engine = ToyEngine()
    session = Session(engine, from_spec("sir"), Budget(64))
    say(session, 30, 0)
    return engine, session


def test_a_state_is_refused_where_it_does_not_belong() -> None:
    engine, session = make()
    state = session.state()
    with pytest.raises(StateError, match="not the model"):
        Session.from_state(state, ToyEngine(seed=1), session.policy, session.budget)
    with pytest.raises(BudgetError, match="30 tokens are resident"):
        Session.from_state(state, engine, session.policy, Budget(20))
    with pytest.raises(StateError, match="it lacks"):
        Session.from_state(SessionState({}, {}), engine, session.policy, session.budget)
    session.feed([65], "user")
    with pytest.raises(SessionError, match="decode what was fed"):
        session.state()


def test_damaged_bytes_are_no_state() -> None:
    _, session = make()
    data = session.state().dump()
    rng = np.random.default_rng(0)
    for n in (0, 1, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(StateError, match="no saved session"):
            SessionState.load(data[:n])
    for _ in range(200):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        try:
            SessionState.load(bytes(damaged))  # a flipped bit may hit a header that nobody reads
        except StateError:
            continue


def test_a_state_is_the_callers_own() -> None:
    _, session = make()
    state = session.state()
    before = {name: array.copy() for name, array in state.arrays.items()}
    say(session, 40, 1)
    for name, array in before.items():
        np.testing.assert_array_equal(state.arrays[name], array, err_msg=name)
