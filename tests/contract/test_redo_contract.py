"""A session goes on in another engine from a snapshot and the logs since then, with the same tokens. On every engine.

A random walk of messages, replies of single tokens, thoughts, recalls, evictions, undos, what is forgotten, pins and
budgets; at some moments a twin is made from the last snapshot. Here its cells stand elsewhere than those of the
session, so that its logits are close, not equal; those at the end are equal to the last bit, as after
`Session.snapshot`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import N_BATCH, apart, some_tokens
from tiny_families import FAMILIES, Family

from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import Engine, SamplingParams
from edge_sir.errors import StateError
from edge_sir.policies import from_spec
from edge_sir.session import SavedRows, Session, SessionState
from edge_sir.session.changes import Changes, fold
from edge_sir.testing import ToyEngine

N_CELLS, N_STEPS = 256, 40
GREEDY = SamplingParams(temperature=0, repeat_penalty=1.3)

Make = Callable[[], Engine]


class Walk:
    """A session with what is saved of it. make: engines of its model."""

    def __init__(self, make: Make, positions: Any, seed: int) -> None:
        self.make, self.dice = make, np.random.default_rng(seed)
        self.session = Session(make(), from_spec("sir"), Budget(160), positions=positions)
        self.changes, self.logs = Changes(), list[bytes]()
        self.session.ledger.watcher = self.changes
        self.kept: list[SavedRows] = []
        self.apart: list[float] = []
        self.n_left_out = self.n_refused = self.n_drawn = self.n_alike = 0
        self.do_say()
        self.snap()

    def snap(self) -> None:
        """What is on disk: the snapshot, and from here on the logs."""
        self.record()
        self.start = {name: column.copy() for name, column in self.session.ledger.columns().items()}
        self.state, self.cells = self.session.state().dump(), self.session.engine.dump(0)
        self.n_logs = len(self.logs)

    def record(self) -> None:
        if log := self.changes.take():
            self.logs.append(log)

    def step(self) -> None:
        weights = {"say": 4, "reply": 4, "recall": 4, "put_back": 1, "undo": 2, "forget": 1, "pin": 1, "budget": 1}
        names = list(weights)
        name = self.dice.choice(names, p=np.array(list(weights.values())) / sum(weights.values()))
        getattr(self, f"do_{name}")()
        self.record()

    # ---- steps ---------------------------------------------------------------------------------

    def feed(self, n: int, role: str) -> None:
        self.session.feed(some_tokens(self.session.engine, n, int(self.dice.integers(1 << 30))), role)

    def drain(self, n_most: int | None = None) -> None:
        while (piece := self.session.next_slice(n_most)) is not None:
            self.session.commit(self.session.engine.decode([piece])[0])

    def do_say(self) -> None:
        self.session.begin_turn()
        self.session.start_message()
        self.feed(int(self.dice.integers(5, 50)), "user")
        self.drain()

    def do_reply(self) -> None:
        self.do_say()
        self.session.start_message()
        self.feed(int(self.dice.integers(1, 6)), "thought")
        self.feed(int(self.dice.integers(1, 12)), "assistant")
        self.drain(1)
        self.session.end_turn()

    def lose(self) -> None:
        """A passage is archived and leaves, in part or as a whole."""
        n = len(self.session.ledger) - 2
        start = int(self.dice.integers(4, max(5, n - 20)))
        rows = np.arange(start, min(n, start + int(self.dice.integers(5, 40))))
        if len(rows) and self.session.engine.spec.can_restore:
            self.kept = [*self.kept[-5:], self.session.save_rows(rows)]
            self.session.evict(EvictionPlan(rows, self.session.ledger.epoch, "room"))

    def some_kept(self, n_most: int) -> list[tuple[SavedRows, Any]]:
        if not self.kept:
            return []
        saved = self.kept[int(self.dice.integers(len(self.kept)))]
        return [(saved, np.arange(min(len(saved), n_most)))]

    def do_recall(self) -> None:
        self.lose()
        self.session.begin_turn()
        self.session.start_message()
        self.feed(int(self.dice.integers(5, 20)), "user")
        if passages := self.some_kept(20):
            self.session.recall(passages)
        self.drain()
        self.feed(4, "assistant")
        self.drain(1)
        self.session.end_recall()

    def do_put_back(self) -> None:
        self.lose()
        self.session.put_back(self.some_kept(self.session.budget.n_cells - len(self.session.ledger)), "recall")

    def do_undo(self) -> None:
        turn = self.session.turn
        if turn > 2:
            n_free = self.session.budget.n_cells - int((self.session.ledger["turn"] < turn).sum())
            self.session.truncate(turn, self.some_kept(n_free) if self.dice.random() < 0.5 else ())

    def do_forget(self) -> None:
        n = len(self.session.ledger)
        if n > 40:
            self.session.forget(np.sort(self.dice.choice(np.arange(4, n - 2), 5, replace=False)))
            born = self.session.ledger["born"]
            self.kept = [saved for saved in self.kept if np.isin(saved.columns["born"], born).all()]

    def do_pin(self) -> None:
        self.session.pin_rows(np.arange(6, 10), self.dice.random() < 0.5, "a pin")

    def do_budget(self) -> None:
        self.session.set_budget(int(self.dice.choice((96, 160, 200))))

    # ---- the twin ------------------------------------------------------------------------------

    def twin(self, state: bytes, cells: bytes) -> Session:
        engine, of = self.make(), SessionState.load(state)
        engine.load(0, cells)
        return Session.from_state(of, engine, self.session.policy, Budget(of.scalars["budget"]))

    def saved(self, born: Any) -> list[tuple[SavedRows, Any]]:
        return [(s, rows) for s in self.kept if len(rows := np.flatnonzero(np.isin(s.columns["born"], born)))]

    def check(self, most_apart: float) -> None:
        """One from the last snapshot is where the session is, and goes on as the session would.

        most_apart: root mean square difference of logits, whose standard deviation is about 3.
        """
        session, scalars = self.session, self.session.scalars()
        logs = self.logs[self.n_logs :]
        columns = fold(logs, self.start)
        other = self.twin(self.state, self.cells)
        try:
            self.n_left_out += (n_left_out := other.redo(logs, scalars, self.saved))
        except StateError as error:
            assert "not kept" in str(error), error
            self.n_refused += 1
            return
        for name, column in session.ledger.columns().items():
            np.testing.assert_array_equal(other.ledger[name], column, err_msg=name)
            np.testing.assert_array_equal(columns[name], column, err_msg=name)
        same = str(scalars | {"stats": 0}) == str(other.scalars() | {"stats": 0})
        assert same and other.engine.pos_range(0)[1] == session.engine.pos_range(0)[1]
        if n_left_out:
            return
        left = self.twin(session.state().dump(), session.engine.dump(0))
        self.apart.append(apart(session.last_logits, other.last_logits))
        assert self.apart[-1] < most_apart
        self.go_on(left, other)
        assert max(self.apart) < most_apart
        for name in ("token", "pos", "born", "turn"):
            np.testing.assert_array_equal(left.ledger[name], other.ledger[name], err_msg=name)

    def go_on(self, left: Session, other: Session) -> None:
        """Both read what the first one draws, and what the other would draw is counted."""
        for one in (left, other):
            one.begin_turn()
            one.start_message()
            one.start_sampler(GREEDY)
        for _ in range(50):
            self.apart.append(apart(left.last_logits, other.last_logits))
            token = left.sample()
            self.n_drawn += 1
            self.n_alike += token == other.sample()
            for one in (left, other):
                one.feed([token], "assistant")
                one.step(n_generated=1)

    def check_rebuilt(self) -> None:
        """As where another build cannot read the snapshot."""
        session, engine = self.session, self.make()
        columns = fold(self.logs[self.n_logs :], self.start)
        state = SessionState({f"ledger.{name}": column for name, column in columns.items()}, session.scalars())
        other = Session.rebuilt(state, engine, session.policy, session.budget)
        assert other.engine.pos_range(0)[1] == len(session.ledger) - 1
        np.testing.assert_array_equal(other.ledger["born"], session.ledger["born"])
        other.begin_turn()
        other.feed(some_tokens(other.engine, 60, 1), "user")
        while other.step():
            pass


def walk(
    make: Make, positions: str, most_apart: float, seed: int = 0, n_steps: int = N_STEPS, alike: float = 0.96
) -> None:
    """alike: the least share of tokens that both draw."""
    steps = Walk(make, positions, seed)
    for i in range(n_steps):
        steps.step()
        if i % 8 == 7:
            steps.check(most_apart)
        if i % 16 == 15:
            steps.check_rebuilt()
            steps.snap()
    assert steps.n_drawn >= 100 and steps.n_alike >= alike * steps.n_drawn


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_on_the_toy(positions: str) -> None:
    for seed in range(8):
        walk(lambda: ToyEngine(N_CELLS, n_batch=N_BATCH), positions, 1e-4, seed)


WALKED = [
    pytest.param(family, mode, id=f"{family.name}-{mode}")
    for family in FAMILIES
    for mode in ("packed", "gaps")
    if family.mode != "refused" and mode in (family.mode, "gaps")
]


@pytest.mark.parametrize(("family", "positions"), WALKED)
def test_on_tiny_models(family: Family, positions: str, tiny_folder: Path) -> None:
    from edge_sir.llama.engine import EngineOptions, LlamaEngine
    from edge_sir.llama.kshift.gate import Verdict
    from edge_sir.llama.native import NativeModel

    options = EngineOptions(threads=1, chunk=N_BATCH, kv_k=family.type_k)  # type: ignore[arg-type]
    proven = Verdict(True, "the gate's tests prove it") if positions == "packed" else None
    with ExitStack() as closing:
        model = NativeModel(family.file(tiny_folder))
        closing.callback(model.close)

        def make() -> Engine:
            engine = LlamaEngine(model, N_CELLS, options, verdict=proven)
            closing.callback(engine.close)
            return engine

        # Gemma's weights make a hundred times more of a difference in rounding.
        walk(make, positions, 0.1 if family.name.startswith("gemma") else 0.01, n_steps=24)


@pytest.mark.model
@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_on_smollm2(positions: str, smollm2: Any, make_llama_engine: Any) -> None:
    """Of random tokens the logits are flat, so that the noise of quantized activations decides what is drawn."""
    walk(lambda: make_llama_engine(smollm2, N_CELLS, threads=1, chunk=N_BATCH), positions, 1.0, n_steps=16, alike=0.6)


# ---- to the last bit -----------------------------------------------------------------------------


def draw(session: Session, n: int = 50) -> tuple[list[int], list[Any]]:
    session.begin_turn()
    session.start_message()
    session.start_sampler(GREEDY)
    tokens, rows = [], []
    for _ in range(n):
        rows.append(session.last_logits)
        tokens.append(session.sample())
        session.feed(tokens[-1:], "assistant")
        session.step(n_generated=1)
    return tokens, rows


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize(
    ("name", "kv_v"),
    [
        ("tiny_llama", "f16"),  # its heads are too small for a quantized cache
        ("tiny_gemma3_wide", "f16"),
        ("tiny_gemma3_wide", "q8_0"),
        pytest.param("smollm2", "f16", marks=pytest.mark.model),
        pytest.param("smollm2", "q8_0", marks=pytest.mark.model),
    ],
)
def test_what_is_drawn_is_what_the_run_that_went_on_draws(
    name: str, kv_v: str, positions: Any, request: pytest.FixtureRequest, make_llama_engine: Any
) -> None:
    """After a snapshot at once, and after one that is older, where what came back had left since then."""
    model = request.getfixturevalue(name)
    steps = Walk(lambda: make_llama_engine(model, N_CELLS, threads=1, chunk=N_BATCH, kv_v=kv_v), positions, 3)
    session = steps.session
    for _ in range(6):
        steps.step()
    state, cells = session.snapshot()
    other = steps.twin(state.dump(), cells)
    steps.record()
    for one in (session, other):
        one.begin_turn()
        one.feed(some_tokens(one.engine, 30, 9), "user")
        while one.step():
            pass
    np.testing.assert_array_equal(other.last_logits, session.last_logits)
    (drawn, rows), (again, others) = draw(session), draw(other)
    assert again == drawn
    np.testing.assert_array_equal(others, rows)
    session.end_sampler()
    session.begin_turn()
    message = session.start_message()
    session.feed(some_tokens(session.engine, 30, 11), "user")
    steps.drain()
    session.begin_turn()
    session.start_message()
    session.feed(some_tokens(session.engine, 5, 10), "user")
    rows = np.flatnonzero(session.ledger["message"] == message)
    saved = session.save_rows(rows)  # as an archive does before a message loses its first token
    session.evict(EvictionPlan(rows[:25], session.ledger.epoch, "room"))
    session.recall([(saved, np.arange(20))])
    steps.drain()
    session.end_recall()
    later = steps.twin(state.dump(), cells)
    assert later.redo([steps.changes.take()], session.scalars()) == 0
    (drawn, rows), (again, others) = draw(session), draw(later)
    assert again == drawn
    np.testing.assert_array_equal(others, rows)
