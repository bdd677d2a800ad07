"""A session goes on from a snapshot and the logs since then, or from the logs alone, and is where it was."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from driving import agrees, drain, make_session, say, words
from redo_walks import GREEDY, go_on, same_rows, walk_redoing

from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError, PoisonedError, SessionError, StateError
from edge_sir.session import SavedRows, Session, SessionState
from edge_sir.session.changes import Changes, blank, fold
from edge_sir.testing import ToyEngine
from edge_sir.trace.record import Trace, read_trace

MODES = ["packed", "gaps"]
_PARTS = 4


@pytest.mark.parametrize("part", range(_PARTS))
def test_walks_that_are_done_again(part: int, request: pytest.FixtureRequest) -> None:
    """The whole of them: `--toy-walks 10000`."""
    n, first = request.config.getoption("--toy-walks") // 8, request.config.getoption("--walk-seed")
    counts: Counter[str] = Counter()
    for seed in range(first + part, first + n, _PARTS):
        counts += walk_redoing(seed)
    assert counts["went on"] > 3 * counts["refused"] and counts["came back"] > n // 10 and counts["rebuilt"] > 0


class Original:
    """A session with a snapshot, and the logs since then."""

    def __init__(self, positions: str = "packed", budget: int = 96, **options: Any) -> None:
        engine = options.pop("engine", None) or ToyEngine(512)
        self.session = make_session("sir", budget, engine, positions=positions, **options)
        for turn in range(4):
            say(self.session, words(30, turn))
        self.changes = Changes()
        self.session.ledger.watcher = self.changes
        self.snap()

    def snap(self) -> None:
        self.changes.take()
        self.start = {name: column.copy() for name, column in self.session.ledger.columns().items()}
        self.state, self.cells = self.session.state().dump(), self.session.engine.dump(0)

    def other(self, engine: ToyEngine | None = None, **options: Any) -> Session:
        """One from the snapshot."""
        engine = engine or ToyEngine(512)
        engine.load(0, self.cells)
        state = SessionState.load(self.state)
        return Session.from_state(state, engine, self.session.policy, Budget(state.scalars["budget"]), **options)

    def evict(self, rows: Any) -> None:
        self.session.evict(EvictionPlan(np.asarray(rows), self.session.ledger.epoch, "room"))

    def same(self, other: Session) -> None:
        same_rows(self.session.ledger.columns(), other.ledger.columns())
        assert agrees(other) and plain(other.scalars()) == plain(self.session.scalars())


def plain(scalars: dict[str, Any]) -> str:
    """As text, in which NaN is NaN, without the time that was spent."""
    return json.dumps(scalars | {"stats": scalars["stats"] | {"evict_s": 0}})


@pytest.mark.parametrize("positions", MODES)
def test_in_mid_reply_the_next_tokens_are_those_of_the_run_that_went_on(positions: str) -> None:
    original = Original(positions)
    session = original.session
    say(session, words(20, 9))
    session.start_sampler(SamplingParams(temperature=1.5, seed=7))
    for _ in range(9):
        session.feed([session.sample()], "assistant")
        session.step(n_generated=1)
    other = original.other()
    assert other.redo([original.changes.take()], session.scalars()) == 0
    original.same(other)
    for _ in range(30):
        token = session.sample()
        assert other.sample() == token
        for one in (session, other):
            one.feed([token], "assistant")
            one.step(n_generated=1)
    original.same(other)


def test_no_logs_are_the_snapshot_itself() -> None:
    original = Original()
    other = original.other()
    assert other.redo([], original.session.scalars()) == 0
    original.same(other)
    np.testing.assert_array_equal(other.last_logits, original.session.last_logits)


@pytest.mark.parametrize("positions", MODES)
def test_budgets_that_changed_meanwhile_change_again(positions: str) -> None:
    original = Original(positions)
    session = original.session
    session.set_budget(200)
    for turn in range(4):
        say(session, words(35, turn + 20))
    assert len(session.ledger) > 150
    session.set_budget(64)
    logs = [original.changes.take()]
    other = original.other()
    other.redo(logs, session.scalars())
    original.same(other)
    assert other.budget.n_cells == other.ledger.capacity == 64
    assert go_on(other) == go_on(session)
    original.same(other)
    small = original.other(ToyEngine(128))
    with pytest.raises(StateError, match="cannot be done again here"):
        small.redo(logs, session.scalars())


def test_what_a_raised_budget_brought_leaves_first_after_a_restore_too() -> None:
    original = Original(budget=120)
    session = original.session
    saved = session.save_rows(range(60, 80))
    original.evict(range(60, 80))
    session.set_budget(160)
    session.put_back([(saved, np.arange(20))], "budget")
    other = original.other()
    other.redo([original.changes.take()], session.scalars(), lambda born: [(saved, np.arange(20))])
    for one in (session, other):
        assert one.set_budget(105) == 15
        assert np.isin(np.arange(60, 65), one.ledger["born"]).all()
    original.same(other)


# ---- what came back ------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", MODES)
def test_what_left_before_the_snapshot_comes_from_whoever_kept_it(positions: str) -> None:
    original = Original(positions)
    session = original.session
    saved = session.save_rows(range(30, 50))
    original.evict(range(30, 50))
    original.snap()
    say(session, words(5, 30))
    session.restore(saved, range(3, 15), why="recall")
    say(session, words(5, 31))
    logs, wanted = [original.changes.take()], saved.columns["born"][3:15].tolist()
    asked: list[int] = []

    def keeper(born: Any) -> list[tuple[SavedRows, Any]]:
        asked.extend(born.tolist())
        return [(SavedRows.load(saved.dump()), np.flatnonzero(np.isin(saved.columns["born"], born)))]

    other = original.other()
    assert other.redo(logs, session.scalars(), keeper) == 0
    assert asked == 2 * wanted  # whether there are any, and for them
    original.same(other)
    np.testing.assert_allclose(other.last_logits, session.last_logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(StateError, match="12 tokens that came back are not kept"):
        original.other().redo(logs, session.scalars())
    damaged = SavedRows(saved.columns, saved.epoch, saved.cells[:-1])
    with pytest.raises(StateError, match="not kept"):
        original.other().redo(logs, session.scalars(), lambda born: [(damaged, np.arange(3, 15))])


@pytest.mark.parametrize("positions", MODES)
def test_what_was_recalled_for_a_turn_is_left_out_where_its_cells_are_nowhere(positions: str) -> None:
    original = Original(positions)
    session = original.session
    saved = session.save_rows(range(30, 50))
    original.evict(range(30, 50))
    original.snap()
    session.begin_turn()
    session.start_message()
    session.feed(words(8, 30), "user")
    assert session.recall([(saved, np.arange(20))]) == [20]
    drain(session)
    session.end_recall()
    logs = [original.changes.take()]
    other = original.other()
    assert other.redo(logs, session.scalars()) == 20
    original.same(other)
    go_on(other)
    assert agrees(other)
    whole = original.other()
    assert whole.redo(logs, session.scalars(), lambda born: [(saved, np.arange(20))]) == 0
    original.same(whole)
    np.testing.assert_allclose(whole.last_logits, session.last_logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", MODES)
def test_what_was_recalled_right_before_the_message_is_born_anew_again(positions: str) -> None:
    original = Original(positions)
    session = original.session
    saved = session.save_rows(range(30, 50))
    original.evict(range(30, 50))
    session.begin_turn()
    session.start_message()
    session.feed(words(8, 30), "user")
    session.recall([(saved, np.arange(20))], "last")
    drain(session)
    session.end_recall()
    logs, other = [original.changes.take()], original.other()
    assert other.redo(logs, session.scalars()) == 0  # saved as they left
    original.same(other)
    np.testing.assert_allclose(other.last_logits, session.last_logits, rtol=1e-5, atol=1e-5)


def test_without_them_nothing_stands_where_the_message_begins() -> None:
    """What comes next has no position then."""
    original = Original()
    session = original.session
    saved = session.save_rows(range(30, 50))
    original.evict(range(30, 50))
    original.snap()
    session.begin_turn()
    session.feed(words(8, 30), "user")
    session.recall([(saved, np.arange(20))], "last")
    drain(session)
    session.end_recall()
    with pytest.raises(StateError, match="at its position"):
        original.other().redo([original.changes.take()], session.scalars())


# ---- what cannot be done -------------------------------------------------------------------------


def test_a_forgotten_token_is_not_decoded_again() -> None:
    original = Original()
    session = original.session
    say(session, words(20, 9))
    say(session, words(20, 10))
    session.forget(np.flatnonzero(session.ledger["turn"] == 5))
    log = blank(original.changes.take(), np.arange(120, 140))
    other = original.other()
    with pytest.raises(StateError, match="forgotten"):
        other.redo([log], session.scalars())
    with pytest.raises(PoisonedError):
        other.make_ready()
    columns = fold([log], original.start)  # what stays resident is known
    same_rows(session.ledger.columns(), columns)
    state = SessionState({f"ledger.{name}": column for name, column in columns.items()}, session.scalars())
    assert agrees(Session.rebuilt(state, ToyEngine(), session.policy, session.budget))


def test_logs_in_another_order_or_with_one_missing_are_refused() -> None:
    original = Original()
    logs = []
    for turn in range(3):
        say(original.session, words(20, 9 + turn))
        logs.append(original.changes.take())
    scalars = original.session.scalars()
    for wrong in (logs[1:], logs[::-1], [*logs, logs[-1]]):
        with pytest.raises(StateError):
            original.other().redo(wrong, scalars)
    original.other().redo(logs, scalars)


ALLOWED = [("tail", "no"), ("turn_max_repeat", -1.5e300), ("turn_max_repeat", -1)]


def test_scalars_of_something_else_are_refused() -> None:
    original = Original()
    say(original.session, words(20, 9))
    logs, scalars = [original.changes.take()], original.session.scalars()
    for name in scalars.keys() - {"fingerprint", "policy"}:  # these are for the caller, who has chosen both
        with pytest.raises(StateError):
            original.other().redo(logs, {n: v for n, v in scalars.items() if n != name})
        for wrong in ({"a": 1}, [["x"]], -1.5e300, -1, "no"):
            if (name, wrong) not in ALLOWED:
                with pytest.raises(StateError):
                    original.other().redo(logs, scalars | {name: wrong})


def test_who_listens_hears_nothing_of_it(tmp_path: Any) -> None:
    original = Original()
    say(original.session, words(20, 9))
    logs, scalars = [original.changes.take()], original.session.scalars()
    with Trace(tmp_path / "trace.jsonl") as trace:
        trace.start(policy="sir", budget=96, model="toy", scores=frozenset())
        other, changes = original.other(journal=trace), Changes()
        other.ledger.watcher = changes
        other.redo(logs, scalars)
        assert other.ledger.journal is trace and changes.take() == b""
    assert [record["kind"] for record in read_trace(tmp_path / "trace.jsonl")] == ["start", "end"]
    say(other, words(3, 1))
    assert changes.take()


# ---- without a snapshot --------------------------------------------------------------------------


def state_of(session: Session, columns: Any = None) -> SessionState:
    rows = columns or {name: column.copy() for name, column in session.ledger.columns().items()}
    return SessionState({f"ledger.{name}": column for name, column in rows.items()}, session.scalars())


@pytest.mark.parametrize("positions", MODES)
def test_what_is_resident_is_decoded_again(positions: str) -> None:
    original = Original(positions, 200)
    session = original.session
    saved = session.save_rows(range(40, 60))
    original.evict(range(40, 60))
    changes, engine = Changes(), ToyEngine(512)
    other = Session.rebuilt(state_of(session), engine, session.policy, session.budget, watcher=changes)
    assert other.ledger["pos"].tolist() == list(range(100)) and agrees(other) and other.mode == positions
    same_rows({n: c for n, c in session.ledger.columns().items() if n != "pos"}, other.ledger.columns())
    same_rows(other.ledger.columns(), fold([changes.take()], original.session.ledger.columns()))
    plain = make_session("sir", 200, positions=positions)
    say(plain, session.ledger["token"])
    np.testing.assert_allclose(other.last_logits, plain.last_logits, rtol=1e-5)
    assert other.restore(saved) == 20 and agrees(other)  # its own position is another's by now
    assert go_on(other, 5) and agrees(other)


def test_where_keys_cannot_move_any_more_there_are_gaps_from_now_on() -> None:
    original = Original("packed")
    session, engine = original.session, ToyEngine(512, can_pack=False)
    other = Session.rebuilt(state_of(session), engine, session.policy, session.budget)
    assert other.mode == "gaps" and agrees(other)
    go_on(other)
    assert other.stats.evicted > session.stats.evicted and agrees(other)


def test_an_empty_session_is_rebuilt_as_one() -> None:
    session = make_session()
    other = Session.rebuilt(state_of(session), ToyEngine(), session.policy, session.budget)
    assert len(other.ledger) == 0
    say(other, words(5))
    assert agrees(other)


def test_a_log_over_a_rebuild_leads_to_the_same() -> None:
    """The snapshot is of before it, and the build that wrote it is back."""
    original = Original("gaps")
    session = original.session
    say(session, words(30, 5))
    engine = ToyEngine(512)
    later = Session.rebuilt(state_of(session), engine, session.policy, session.budget, watcher=original.changes)
    say(later, words(30, 6))
    other = original.other()
    other.redo([original.changes.take()], later.scalars())
    same_rows(later.ledger.columns(), other.ledger.columns())
    assert agrees(other) and plain(other.scalars()) == plain(later.scalars())


def test_what_does_not_fit_is_not_rebuilt() -> None:
    session = Original().session
    state = state_of(session)
    with pytest.raises(BudgetError, match="tokens are resident"):
        Session.rebuilt(state, ToyEngine(), session.policy, Budget(40))
    with pytest.raises(StateError, match="not the model"):
        Session.rebuilt(state, ToyEngine(seed=3), session.policy, session.budget)
    state.arrays["ledger.token"][3] = -1
    with pytest.raises(StateError, match="forgotten"):
        Session.rebuilt(state, ToyEngine(), session.policy, session.budget)


def test_scalars_are_those_of_a_session_at_rest() -> None:
    session = Original().session
    assert session.scalars() == session.state().scalars
    session.begin_turn()
    session.feed(words(4), "user")
    with pytest.raises(SessionError, match="decode what was fed"):
        session.scalars()


def test_a_sampler_goes_on(positions: str = "packed") -> None:
    original = Original(positions)
    session = original.session
    say(session, words(9, 7))
    session.start_sampler(GREEDY)
    drawn = [session.sample() for _ in range(3)]
    other = original.other()
    other.redo([original.changes.take()], session.scalars())
    assert other.scalars()["sampler"]["drawn"] == drawn
    assert other.sample() == session.sample()


@pytest.mark.parametrize("positions", MODES)
def test_a_snapshot_leaves_the_session_as_it_was(positions: str) -> None:
    original = Original(positions)
    session = original.session
    original.evict(range(20, 40))
    columns, row = {n: c.copy() for n, c in session.ledger.columns().items()}, session.last_logits.copy()
    state, cells = session.snapshot()
    same_rows(columns, session.ledger.columns())
    np.testing.assert_array_equal(session.last_logits, row)
    assert agrees(session)
    engine = ToyEngine(512)
    engine.load(0, cells)
    other = Session.from_state(state, engine, session.policy, session.budget)
    assert go_on(other) == go_on(session)
    original.same(other)


def test_a_snapshot_that_the_engine_does_not_take_back_ends_the_session() -> None:
    session = Original().session
    session.engine.load = lambda seq, state: (_ for _ in ()).throw(StateError("made up"))  # type: ignore[method-assign]
    with pytest.raises(StateError, match="made up"):
        session.snapshot()
    with pytest.raises(PoisonedError):
        session.make_ready()


def test_of_shared_cells_a_snapshot_makes_none_of_its_own() -> None:
    engine = ToyEngine(512)
    session = Original(engine=engine).session
    engine.copy(0, 1, 0, 20)
    session.snapshot()
    assert engine.shared_until(0) == 20 and agrees(session)
