"""Sessions that share the cells of one engine fit together, or are refused before anything is decoded."""

import pytest
from engines import N_CTX, SHARING, Kind, kind_of, some_tokens

from edge_sir.core.budget import Budget
from edge_sir.errors import BudgetError
from edge_sir.policies import from_spec
from edge_sir.session import Session


@pytest.fixture(params=SHARING)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


def test_three_sessions_that_do_not_fit_together_are_not_all_accepted(kind: Kind) -> None:
    engine, policy = kind.make(), from_spec("streaming")
    first, second = (Session(engine, policy, Budget(100), seq=seq, positions="gaps") for seq in (0, 1))
    with pytest.raises(BudgetError, match=f"other sequences have 200 of the {N_CTX} cells .* --budget 56 or less"):
        Session(engine, policy, Budget(100), seq=2, positions="gaps")
    third = Session(engine, policy, Budget(56), seq=2, positions="gaps")
    for session in (first, second, third):  # all full, and none finds its cells taken
        session.feed(some_tokens(engine, 150), "user")
        while session.step():
            pass
    assert all(s.stats.evicted and s.budget.n_cells - len(s.ledger) < 8 for s in (first, second, third))


def test_a_claim_counts_until_it_is_given_back_or_made_anew(kind: Kind) -> None:
    engine, policy = kind.make(), from_spec("sir")
    session = Session(engine, policy, Budget(150), positions="gaps")
    Session(engine, policy, Budget(100), seq=1, positions="gaps")
    with pytest.raises(BudgetError, match="--budget 156 or less"):
        session.set_budget(200)
    assert session.budget.n_cells == session.ledger.capacity == 150
    engine.claim(1, 0)
    session.set_budget(200)
    Session(engine, policy, Budget(N_CTX), positions="gaps")  # in place of the one that was there
    with pytest.raises(BudgetError, match="--budget 0 or less"):
        Session(engine, policy, Budget(64), seq=1, positions="gaps")
