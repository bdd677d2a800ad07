"""Policies driven through a real session: the paper's selection to the token, and the budget under all of them."""

from typing import Any

import numpy as np
import pytest
from driving import EVICTING, agrees, columns, drain, make_session, n_evicted, say, words
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.core.records import Eviction
from edge_sir.errors import BudgetError, SessionError
from edge_sir.policies import names
from edge_sir.policies.sirllm import select
from edge_sir.session import Session
from edge_sir.testing import ToyEngine

N_SINK = 4


def test_every_policy_that_evicts_is_tried_here() -> None:
    assert {spec.partition(":")[0] for spec in EVICTING} | {"keep-all"} == {*names()}


def one_turn(session: Session, n: int, n_reply: int, seed: int) -> dict[str, Any]:
    """Says `n` tokens and has `n_reply` drawn; returns the ledger as it was, and what the turn wrote."""
    before = {name: column.copy() for name, column in session.ledger.columns().items()}
    session.begin_turn(n_reply)
    session.feed(words(n, seed), "user")
    drain(session)
    for token in words(n_reply, seed + 1000):
        session.feed([token], "assistant")
        session.step(n_generated=1)
    return before


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize(("n_recent", "decay"), [(0, 1.0), (0, 0.8), (12, 0.7), (30, 1.0)])
def test_sirllm_keeps_exactly_what_the_paper_selects(n_recent: int, decay: float, positions: str) -> None:
    budget = 96
    session = make_session(f"sirllm:decay={decay},n_recent={n_recent}", budget, positions=positions)
    n_selections = 0
    for turn in range(1, 13):
        n, n_reply = 15 + 3 * turn % 17, 5 + turn % 4
        evictions = session.stats.evictions
        before = one_turn(session, n, n_reply, seed=turn)
        # The paper decays once per round; the factor common to all rounds changes nothing.
        scores = before["surprisal"] * decay ** (turn - 1.0 - before["turn"])
        scores[np.isnan(scores)] = np.inf
        kept = select(
            scores, n_sink=N_SINK, n_entropy=budget - N_SINK - n_recent, n_recent=n_recent, n_incoming=n + n_reply
        )
        assert session.ledger["born"][: -n - n_reply].tolist() == before["born"][kept].tolist()
        n_selections += session.stats.evictions - evictions
        assert session.stats.evictions - evictions == (len(kept) < len(before["born"]))
    assert n_selections >= 8


def test_decay_makes_the_old_go_first() -> None:
    def mean_age(decay: float) -> float:
        session = make_session(f"sirllm:decay={decay}", 96)
        for turn in range(20):
            one_turn(session, 25, 0, seed=turn)
        return float((session.turn - session.ledger["turn"][N_SINK:]).mean())

    assert mean_age(0.3) < mean_age(0.9) < mean_age(1.0)


def test_a_turn_longer_than_the_budget_makes_room_in_chunks() -> None:
    events: list[Eviction] = []
    session = make_session("sirllm", 96, on_evict=events.append)
    say(session, words(30))
    one_turn(session, 200, 30, seed=1)
    assert session.ledger["born"][-1] == 259
    assert session.stats.max_resident <= 96
    assert all(len(event) >= 20 for event in events)


def test_a_reply_longer_than_reserved_makes_room_in_chunks() -> None:
    session = make_session("sirllm", 96)
    say(session, words(80))
    session.begin_turn(2)
    for token in words(90, seed=2):
        session.feed([token], "assistant")
        session.step(n_generated=1)
    assert session.stats.max_resident <= 96
    assert session.stats.evictions <= 4


@pytest.mark.parametrize("n_recent", [0, 10])
def test_streaming_keeps_sinks_and_the_newest(n_recent: int) -> None:
    session = make_session(f"streaming:n_recent={n_recent}", 64)
    for turn in range(8):
        say(session, words(20, seed=turn))
    n = len(session.ledger)
    assert session.ledger["born"].tolist() == [*range(4), *range(160 - n + 4, 160)]


def test_random_draws_by_its_seed() -> None:
    def kept(seed: int) -> list[int]:
        session = make_session(f"random:seed={seed}", 64)
        for turn in range(6):
            say(session, words(25, seed=turn))
        return session.ledger["born"].tolist()  # type: ignore[no-any-return]

    assert kept(1) == kept(1) != kept(2)


@pytest.mark.parametrize("policy", ["sir", "streaming", "entropy"])
def test_room_is_made_in_batches_not_per_token(policy: str) -> None:
    session = make_session(policy, 128)
    say(session, words(128))
    session.begin_turn()
    for token in words(100, seed=1):
        session.feed([token], "assistant")
        session.step(n_generated=1)
    assert 1 <= session.stats.evictions <= 16
    assert len(session.ledger) >= 0.75 * 128


def test_units_lets_whole_turns_go() -> None:
    session = make_session("units", 160)
    for turn in range(30):
        say(session, words(20, seed=turn))
    _, counts = np.unique(session.ledger["turn"], return_counts=True)
    thinned = counts[counts < 20]
    assert len(counts) - len(thinned) >= 5
    assert len(thinned) <= 3  # the sinks' turn among them


def test_sir_keeps_something_of_every_turn() -> None:
    session = make_session("sir", 160)
    for turn in range(30):
        say(session, words(20, seed=turn))
    turns, counts = np.unique(session.ledger["turn"], return_counts=True)
    assert turns.tolist() == list(range(1, 31))
    assert np.median(counts) >= 4


def test_keep_all_keeps_all_and_then_says_so() -> None:
    session = make_session("keep-all", 64)
    say(session, words(60))
    session.begin_turn()
    session.feed(words(5, seed=1), "user")
    with pytest.raises(BudgetError, match="keep-all"):
        drain(session)
    assert session.ledger["token"].tolist() == words(60).tolist()
    assert agrees(session)
    session.discard_pending()
    say(session, words(4, seed=2))
    assert len(session.ledger) == 64


def test_a_policy_that_breaks_its_contract_is_caught_before_anything_goes() -> None:
    session = make_session("streaming", 64)
    say(session, words(60))
    object.__setattr__(session.policy, "plan", lambda view, n_drop, protect: _plan_of(np.arange(n_drop), view))
    before = columns(session, "token", "pos")
    session.begin_turn()
    session.feed(words(20, seed=1), "user")
    with pytest.raises(SessionError, match="protected"):
        drain(session)
    assert columns(session, "token", "pos") == before
    assert agrees(session)


def _plan_of(rows: Any, view: Any) -> Any:
    from edge_sir.core.plan import EvictionPlan

    return EvictionPlan(rows, view.epoch, "room")


# ---- the budget --------------------------------------------------------------------------------

turns_of = st.lists(st.tuples(st.integers(1, 150), st.integers(0, 40)), min_size=1, max_size=6)


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("policy", EVICTING)
@settings(max_examples=8, deadline=None)
@given(turns=turns_of, budget=st.integers(40, 120), n_pinned=st.integers(0, 8), n_most=st.integers(1, 70))
def test_the_budget_is_never_exceeded(
    policy: str, positions: Any, turns: list[tuple[int, int]], budget: int, n_pinned: int, n_most: int
) -> None:
    events: list[Eviction] = []
    engine = ToyEngine(128, n_ctx_train=400)
    session = make_session(policy, budget, engine, positions=positions, on_evict=events.append)
    pinned = words(n_pinned, seed=99)
    session.feed(pinned, "system", pinned=True)
    drain(session)
    for seed, (n, n_reply) in enumerate(turns):
        session.begin_turn(n_reply)
        session.start_message()
        session.feed(words(n, seed), "user")
        drain(session, n_most)
        for token in words(n_reply, seed + 50):
            session.feed([token], "assistant")
            session.step(n_generated=1)
        session.end_turn()
    n_said = n_pinned + sum(map(sum, turns))
    assert session.stats.max_resident <= budget
    assert session.stats.evicted == n_evicted(events) == n_said - len(session.ledger)
    assert session.ledger["token"][:n_pinned].tolist() == pinned.tolist()
    assert session.ledger["born"][-1] == n_said - 1
    assert session.ledger.next_pos <= (budget if positions == "packed" else 400)
    assert agrees(session)


@pytest.mark.parametrize("policy", EVICTING)
def test_a_budget_that_holds_no_turn_is_refused(policy: str) -> None:
    with pytest.raises(BudgetError, match="--budget 36"):
        make_session(policy, 35)
    make_session(policy, 36)


def test_a_budget_beyond_the_cells_is_refused() -> None:
    with pytest.raises(BudgetError, match="exceeds the context"):
        make_session(budget=257)


@pytest.mark.parametrize("policy", ["sir", "sirllm"])
def test_a_long_paste_competes_with_what_was_said_before(policy: str) -> None:
    session = make_session(policy, 128)
    say(session, words(24, seed=1))
    session.begin_turn()
    session.start_message()
    session.feed(words(400, seed=2), "user")
    drain(session)
    kept = session.ledger["turn"]
    assert (kept[session.policy.n_sink :] == 1).any() and (kept == 2).any()
    assert session.ledger["born"][-1] == 423


@pytest.mark.parametrize("policy", ["entropy", "sir", "streaming", "units"])
@pytest.mark.parametrize("budget", [36, 40])
def test_room_for_a_reply_is_made_in_batches_even_in_few_cells(policy: str, budget: int) -> None:
    session = make_session(policy, budget)
    say(session, words(budget))
    one_turn(session, 1, 50, seed=1)
    assert session.stats.evictions <= 15
