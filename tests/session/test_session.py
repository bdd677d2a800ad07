"""The step machine on the toy: scores, positions, what leaves on request, and what survives failures."""

import numpy as np
import pytest
from driving import (
    agrees,
    cached,
    columns,
    drain,
    logits_of,
    make_session,
    mixed_steps,
    n_evicted,
    role_rows,
    say,
    words,
)
from numpy.typing import NDArray

from edge_sir import errors
from edge_sir.core import scores
from edge_sir.core.records import Eviction
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError, CapabilityError, SessionError
from edge_sir.session import Session
from edge_sir.testing import ToyEngine

ENGINE_ERRORS = [
    getattr(errors, name) for name in errors.__all__ if issubclass(getattr(errors, name), errors.EngineError)
]


# ---- scores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_scores_are_those_of_one_full_decode(chunk: int) -> None:
    tokens = words(60)
    rows = logits_of(tokens)
    for policy, name, expected in (
        ("sirllm", "surprisal", scores.surprisal(rows[:-1], tokens[1:])),
        ("entropy", "entropy", scores.entropy(rows[:-1])),
    ):
        session = make_session(policy)
        for part in np.split(tokens, [7, 20]):  # what comes later is scored through the carried row
            session.begin_turn()
            session.feed(part, "user")
            drain(session, chunk)
        assert np.isnan(session.ledger[name][0])
        np.testing.assert_allclose(session.ledger[name][1:], expected, rtol=1e-4, atol=1e-4)


def test_a_policy_that_needs_no_scores_gets_none() -> None:
    session = make_session("streaming")
    say(session, words(30))
    assert all(np.isnan(session.ledger[name]).all() for name in scores.SCORE_NAMES)


def test_generated_tokens_are_scored_from_the_row_they_were_drawn_from() -> None:
    session = make_session("sirllm")
    say(session, words(10))
    session.start_sampler(SamplingParams(seed=3))
    for _ in range(20):
        session.feed([session.sample()], "assistant")
        session.step(n_generated=1)
    tokens = session.ledger["token"]
    expected = scores.surprisal(logits_of(tokens)[:-1], tokens[1:])
    np.testing.assert_allclose(session.ledger["surprisal"][1:], expected, rtol=1e-4, atol=1e-4)
    assert (session.stats.tokens_in, session.stats.tokens_out) == (10, 20)


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_the_published_score_is_that_of_the_turn(chunk: int) -> None:
    session = make_session("sirllm-published", 256)
    turns = [words(n, seed=n) for n in (20, 31, 15)]
    for turn in turns:
        session.begin_turn()
        for message in np.array_split(turn, 2):
            session.start_message()
            session.feed(message, "user")
            drain(session, chunk)
    rows = logits_of(np.concatenate(turns))
    for number, turn in enumerate(turns, 1):
        at = session.ledger["turn"] == number
        expected = scores.published(rows[at], turn)
        np.testing.assert_allclose(session.ledger["self_repeat"][at], expected, rtol=1e-4, atol=1e-4)


# ---- positions ---------------------------------------------------------------------------------


def test_packed_positions_have_no_hole() -> None:
    session = make_session("sirllm", positions="packed")
    for turn in range(12):
        say(session, words(30, seed=turn))
        assert session.ledger["pos"].tolist() == list(range(len(session.ledger)))
        assert agrees(session)
    assert session.stats.kshifts == session.stats.evictions > 0


def test_gaps_leave_positions_as_they_were_decoded() -> None:
    session = make_session("sirllm", positions="gaps")
    for turn in range(12):
        say(session, words(30, seed=turn))
        assert session.ledger["pos"].tolist() == session.ledger["born"].tolist()
        assert agrees(session)
    assert np.diff(session.ledger["pos"]).max() > 1
    assert (session.stats.kshifts, session.stats.packs) == (0, 0)


def test_auto_packs_where_it_is_right_and_nowhere_else() -> None:
    assert make_session().mode == "packed"
    assert make_session(engine=ToyEngine(can_pack=False)).mode == "gaps"
    with pytest.raises(CapabilityError, match="gaps"):
        make_session(engine=ToyEngine(can_pack=False), positions="packed")


def test_at_the_trained_length_gaps_are_packed_once_and_it_goes_on() -> None:
    session = make_session("streaming", engine=ToyEngine(n_ctx_train=200), positions="gaps")
    for turn in range(6):
        say(session, words(30, seed=turn))
    assert (session.stats.packs, session.ledger.next_pos) == (0, 180)
    say(session, words(30, seed=6))
    assert (session.stats.packs, session.stats.kshifts, session.stats.rereads) == (1, 1, 0)
    assert session.ledger["pos"].max() == len(session.ledger) - 1
    assert agrees(session)
    for turn in range(40):
        say(session, words(30, seed=turn))
        assert session.ledger.next_pos <= 200
    assert 5 <= session.stats.packs <= 12


def test_where_keys_cannot_move_the_survivors_are_read_again() -> None:
    session = make_session("streaming", engine=ToyEngine(n_ctx_train=200, can_pack=False, n_batch=16))
    for turn in range(7):
        say(session, words(30, seed=turn))
    assert (session.stats.packs, session.stats.kshifts, session.stats.rereads) == (0, 0, 1)
    assert session.ledger["pos"].max() == len(session.ledger) - 1
    assert agrees(session)
    survivors = session.ledger["token"].copy()
    session.feed([77], "user")
    drain(session)
    carried = session._carry.logits
    np.testing.assert_allclose(carried, logits_of([*survivors, 77])[-1], rtol=1e-4, atol=1e-4)


def test_a_budget_beyond_the_trained_length_is_refused() -> None:
    with pytest.raises(BudgetError, match="--budget 100"):
        make_session(budget=101, engine=ToyEngine(n_ctx_train=100))


@pytest.mark.parametrize("can_pack", [True, False])
def test_a_budget_as_long_as_the_trained_length_goes_on(can_pack: bool) -> None:
    session = make_session(budget=64, engine=ToyEngine(n_ctx_train=64, can_pack=can_pack), positions="gaps")
    for turn in range(20):
        say(session, words(30, seed=turn))
        assert session.ledger.next_pos <= 64
    assert session.stats.packs + session.stats.rereads <= session.stats.evictions


# ---- taking back -------------------------------------------------------------------------------


def next_row(session: Session) -> NDArray[np.float32]:
    session.feed([77], "user")
    drain(session)
    assert session._carry.logits is not None
    return session._carry.logits


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_a_truncated_turn_was_never_said(positions: str) -> None:
    session, other = (make_session("sirllm", 256, positions=positions) for _ in range(2))
    for turn in range(3):
        say(session, words(30, seed=turn))
        say(other, words(30, seed=turn))
    say(session, words(50, seed=8))
    say(session, words(20, seed=9))
    session.feed(words(5), "user")
    assert session.truncate(4) == 70
    assert (session.turn, session.n_pending, len(session.ledger)) == (3, 0, 90)
    for one in (session, other):
        say(one, words(25, seed=10))
    kept = ("token", "pos", "turn", "surprisal")
    assert columns(session, *kept).keys() == columns(other, *kept).keys()
    for name in kept:
        np.testing.assert_allclose(session.ledger[name], other.ledger[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(next_row(session), next_row(other), rtol=1e-4, atol=1e-4)
    assert agrees(session)


def test_truncating_what_is_not_there_changes_nothing() -> None:
    session = make_session()
    say(session, words(20))
    assert session.truncate(2) == 0
    assert (session.turn, len(session.ledger)) == (1, 20)
    with pytest.raises(SessionError, match="system prompt"):
        session.truncate(0)


def test_truncating_everything_leaves_an_empty_session() -> None:
    session = make_session()
    say(session, words(20))
    assert session.truncate(1) == 20
    assert cached(session.engine) == []  # type: ignore[arg-type]
    with pytest.raises(SessionError, match="nothing to sample"):
        session.start_sampler(SamplingParams())
        session.sample()
    say(session, words(20))
    assert agrees(session)


@pytest.mark.parametrize("n", [1, 7, 19])
def test_a_rewind_takes_back_the_newest_tokens(n: int) -> None:
    session = make_session("sirllm")
    tokens = words(20)
    say(session, tokens)
    assert session.rewind(n) == n
    assert session.ledger["token"].tolist() == tokens[:-n].tolist()
    np.testing.assert_allclose(next_row(session), logits_of([*tokens[:-n], 77])[-1], rtol=1e-4, atol=1e-4)
    assert agrees(session)


def test_what_was_taken_back_is_counted() -> None:
    session = make_session()
    for turn in range(5):
        say(session, words(20, seed=turn))
    session.rewind(3)
    session.truncate(5)
    assert session.stats.rewound == 20
    assert session.stats.tokens_in == len(session.ledger) + session.stats.evicted + session.stats.rewound == 100


@pytest.mark.parametrize("n", [-1, 21])
def test_a_rewind_of_what_is_not_there_is_refused_and_changes_nothing(n: int) -> None:
    session = make_session()
    say(session, words(20))
    with pytest.raises(SessionError, match="rewind"):
        session.rewind(n)
    assert len(session.ledger) == 20
    say(session, words(20))


def test_a_rewind_across_a_hole_keeps_ledger_and_cache_together() -> None:
    session = make_session("streaming", positions="gaps")
    for turn in range(4):
        say(session, words(30, seed=turn))
    session.rewind(len(session.ledger) - 5)  # the four sinks and the token behind the hole
    assert session.ledger["pos"].tolist() == [0, 1, 2, 3, 4]
    assert agrees(session)
    say(session, words(20))
    assert agrees(session)


# ---- pins and thoughts -------------------------------------------------------------------------


def test_pins_and_the_system_prompt_survive_200_turns() -> None:
    session = make_session("sir", 96)
    session.feed(words(12, seed=900), "system", pinned=True)
    drain(session)
    say(session, words(15, seed=901))
    assert session.pin(1) == 15
    for turn in range(200):
        say(session, words(20, seed=turn))
    assert session.ledger["token"][:27].tolist() == [*words(12, seed=900), *words(15, seed=901)]
    assert session.stats.evicted > 3500
    assert session.stats.max_resident <= 96


def test_a_pin_that_does_not_fit_changes_nothing() -> None:
    session = make_session(budget=64)
    say(session, words(40))
    before = columns(session, "pinned", "token")
    with pytest.raises(BudgetError, match="--budget"):
        session.pin(1)
    assert columns(session, "pinned", "token") == before


def test_what_is_unpinned_may_go() -> None:
    session = make_session("streaming", 64)
    say(session, words(20), pinned=True)
    assert session.pin(1, False) == 20
    say(session, words(60, seed=1))
    assert (session.ledger["turn"] == 1).sum() <= 4


def test_thoughts_leave_ledger_and_cache_when_the_turn_ends() -> None:
    events: list[Eviction] = []
    session = make_session(on_evict=events.append)
    say(session, words(10))
    session.feed(words(15, seed=1), "thought")
    session.feed(words(5, seed=2), "assistant")
    drain(session)
    session.end_turn()
    assert len(role_rows(session, "thought")) == 0
    assert session.ledger["token"].tolist() == [*words(10), *words(5, seed=2)]
    assert [(event.why, len(event)) for event in events] == [("thought", 15)]
    assert agrees(session)


# ---- many tokens, many sessions ------------------------------------------------------------------


def test_events_add_up_to_what_was_evicted() -> None:
    events: list[Eviction] = []
    session = make_session("sir", on_evict=events.append)
    fed = [words(35, seed=turn) for turn in range(15)]
    for turn in fed:
        say(session, turn)
    assert len(events) == session.stats.evictions > 5
    assert n_evicted(events) == session.stats.evicted == 15 * 35 - len(session.ledger)
    gone = np.concatenate([event.columns["born"] for event in events])
    assert sorted([*gone, *session.ledger["born"]]) == list(range(15 * 35))
    stream = np.concatenate(fed)
    for event in events:
        assert event.columns["token"].tolist() == stream[event.columns["born"]].tolist()


@pytest.mark.parametrize("order", [1, -1])
def test_three_sessions_through_one_engine_are_each_as_if_alone(order: int) -> None:
    plans = [("sir", 60, "packed"), ("sirllm", 72, "gaps"), ("streaming", 48, "packed")]

    def sessions_on(engines: list[ToyEngine], events: list[list[Eviction]]) -> list[Session]:
        return [
            make_session(policy, budget, engine, positions=mode, seq=seq, on_evict=events[seq].append)
            for seq, ((policy, budget, mode), engine) in enumerate(zip(plans, engines, strict=True))
        ]

    shared = ToyEngine(192)
    mixed_events: list[list[Eviction]] = [[], [], []]
    alone_events: list[list[Eviction]] = [[], [], []]
    mixed = sessions_on([shared] * 3, mixed_events)
    alone = sessions_on([ToyEngine(192) for _ in plans], alone_events)
    for turn in range(10):
        for seq in range(3):
            for session in (mixed[seq], alone[seq]):
                session.begin_turn(4)
                session.start_message()
                session.feed(words(10 + 7 * seq + turn, seed=10 * turn + seq), "user")
        while mixed_steps(mixed[::order], 8):
            pass
        for session in alone:
            drain(session, 8)
    for seq in range(3):
        assert agrees(mixed[seq])
        for name, column in alone[seq].ledger.columns().items():
            np.testing.assert_allclose(mixed[seq].ledger[name], column, rtol=1e-3, atol=1e-3, err_msg=name)
        assert [e.columns["born"].tolist() for e in mixed_events[seq]] == [
            e.columns["born"].tolist() for e in alone_events[seq]
        ]
        assert mixed[seq].stats.evicted > 0


@pytest.mark.parametrize("policy", ["sir", "sirllm", "streaming"])
def test_20000_tokens_stream_through_512_cells(policy: str) -> None:
    session = make_session(policy, 512, ToyEngine(512, n_batch=128, n_ctx_train=30_000))
    say(session, words(20_000))
    assert len(session.ledger) <= session.stats.max_resident <= 512
    assert session.stats.evicted == 20_000 - len(session.ledger)
    assert session.ledger["born"][-1] == 19_999
    assert agrees(session)
