"""Sequences with cells of their own: what differs from those that share cells. The rest of the contract holds too."""

from collections.abc import Callable
from typing import Any

import pytest
from engines import N_CTX, STREAMS, Kind, apart, kind_named, kind_of, piece, ranges, read, some_tokens

from edge_sir.core.budget import Budget
from edge_sir.engine import Engine
from edge_sir.errors import BudgetError, CapabilityError, NoSlotError, StateError
from edge_sir.policies import from_spec
from edge_sir.session import Session


@pytest.fixture(params=STREAMS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


@pytest.fixture
def engine(kind: Kind) -> Engine:
    return kind.make()


def test_a_full_sequence_takes_no_cell_of_another(engine: Engine) -> None:
    for seq in (0, 1):
        read(engine, seq, some_tokens(engine, N_CTX, seed=seq))
    with pytest.raises(NoSlotError):
        read(engine, 0, [21])
    assert ranges(engine) == [(0, N_CTX - 1), (0, N_CTX - 1), (-1, -1), (-1, -1)]
    read(engine, 2, some_tokens(engine, N_CTX))
    engine.remove(0, 10, 11)
    read(engine, 0, [21])


def test_each_may_claim_its_cells_and_no_more(engine: Engine) -> None:
    assert (engine.spec.n_ctx, engine.spec.n_ctx_seq) == (4 * N_CTX, N_CTX)
    policy = from_spec("sir")
    for seq in range(4):
        Session(engine, policy, Budget(N_CTX), seq=seq, positions="gaps")
    with pytest.raises(BudgetError, match=f"exceeds the context of {N_CTX}"):
        Session(engine, policy, Budget(N_CTX + 1), positions="gaps")
    with pytest.raises(BudgetError, match=f"--budget {N_CTX} or less"):
        engine.claim(0, N_CTX + 1)


def test_what_is_copied_is_not_shared(kind: Kind, engine: Engine) -> None:
    tokens = some_tokens(engine, 30)
    read(engine, 0, tokens)
    engine.remove(0, 5, 8)
    engine.copy(0, 1, 2, 20)
    assert ranges(engine)[:2] == [(0, 29), (2, 19)]
    assert [engine.shared_until(seq) for seq in range(2)] == [0, 0]
    engine.shift(0, 0, -1, 100)  # of sequence 0 alone
    mine = read(engine, 1, [77, 78])
    alone = kind.make()
    read(alone, 1, tokens)
    for p0, p1 in ((0, 2), (5, 8), (20, -1)):
        alone.remove(1, p0, p1)
    assert apart(mine, read(alone, 1, [77, 78])) < kind.same
    engine.copy(0, 2)
    assert engine.pos_range(2) == (100, 129)
    assert apart(read(engine, 2, [79]), read(engine, 0, [79])) < kind.same


def test_as_many_cells_come_back_as_the_sequence_has_free(engine: Engine) -> None:
    read(engine, 0, some_tokens(engine, 40))
    blob = engine.save(0, 0, 40)
    read(engine, 1, some_tokens(engine, N_CTX - 30, seed=1), 100)
    with pytest.raises(StateError, match="40 cells are to be restored, 30 are free"):
        engine.restore(1, blob, range(40))
    assert engine.pos_range(1) == (100, N_CTX + 69)
    engine.restore(1, blob, range(10, 40))
    assert engine.pos_range(1) == (10, N_CTX + 69)
    with pytest.raises(NoSlotError):
        read(engine, 1, [21])


def test_a_state_goes_from_streams_to_shared_cells_and_back(
    engine: Engine, kind: Kind, request: pytest.FixtureRequest
) -> None:
    sharing = sharing_kind(kind, request).make()
    read(engine, 3, some_tokens(engine, 40))
    sharing.load(1, engine.dump(3))
    sharing.restore(0, engine.save(3, 5, 20), range(5, 20))
    assert ranges_of(sharing, 2) == [(5, 19), (0, 39)]
    engine.load(0, sharing.dump(1))
    engine.restore(1, sharing.save(1, 5, 20), range(5, 20))
    assert ranges_of(engine, 2) == [(0, 39), (5, 19)]
    assert apart(read(engine, 0, [77]), read(sharing, 1, [77])) < 0.01


def sharing_kind(kind: Kind, request: pytest.FixtureRequest) -> Kind:
    """The same with cells that sequences share."""
    return kind_named(kind.name.removesuffix("_streams"), request)


def ranges_of(engine: Engine, n: int) -> list[tuple[int, int]]:
    return [engine.pos_range(seq) for seq in range(n)]


def test_what_others_hold_and_write_changes_nothing_but_how_sums_are_rounded(kind: Kind, engine: Engine) -> None:
    alone = kind.make()
    tokens = some_tokens(engine, 60)
    for one in (engine, alone):
        read(one, 1, tokens)
    for seq in (0, 2, 3):
        read(engine, seq, some_tokens(engine, 50 * (seq + 1), seed=seq))
    for _ in range(8):
        batch = [piece(seq, [30 + seq], engine.pos_range(seq)[1] + 1) for seq in range(4)]
        together = engine.decode(batch)[1].logits
        assert together is not None
        assert apart(together, read(alone, 1, [31])) < 1e-5


def test_a_sliding_window_has_no_streams(tiny_gemma3: Any, make_llama_engine: Callable[..., Engine]) -> None:
    with pytest.raises(CapabilityError, match="sliding window"):
        make_llama_engine(tiny_gemma3, N_CTX, streams=True)
