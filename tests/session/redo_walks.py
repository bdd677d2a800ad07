"""Random walks of a chat that recalls (`recall_walks`), with a log for each step and a snapshot now and then.

At any moment a second session goes on from the snapshot and the logs since then, and must be where the first one is; a
third one from all logs alone, with no snapshot.
"""

import random
import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from chatting import ToyHost, make_chat
from driving import agrees
from numpy.typing import NDArray
from recall_walks import PoisonedWalkError, RecallWalk
from walks import POLICIES

from edge_sir.chat import Chat
from edge_sir.core.budget import Budget
from edge_sir.engine import SamplingParams
from edge_sir.errors import SessionError, StateError
from edge_sir.recall.store import ByteStore
from edge_sir.session import Session, SessionState
from edge_sir.session.changes import Changes, Inserted, fold, parse
from edge_sir.session.redo import nothing_saved
from edge_sir.testing import ToyEngine

__all__ = ["RedoWalk", "go_on", "same_rows", "walk_redoing"]

GREEDY = SamplingParams(temperature=0, repeat_penalty=1.3)


@dataclass(frozen=True)
class Snapshot:
    """state, cells: bytes; n_logs: how many logs it holds already."""

    state: bytes
    cells: bytes
    n_logs: int


def same_rows(left: Any, right: Any) -> None:
    """Two ledgers, or their columns, hold the same."""
    for name, column in left.items():
        np.testing.assert_array_equal(right[name], column, err_msg=name)


def go_on(session: Session, n: int = 50) -> list[int]:
    """Draws `n` tokens, greedy."""
    session.begin_turn()
    session.start_message()
    session.start_sampler(GREEDY)
    tokens = []
    for _ in range(n):
        tokens.append(session.sample())
        session.feed(tokens[-1:], "assistant")
        session.step(n_generated=1)
    session.end_turn()
    return tokens


class RedoWalk(RecallWalk):
    """One walk. counts: what was tried."""

    def __init__(self, seed: int, chat: Chat, system: str | None, store: ByteStore) -> None:
        super().__init__(seed, chat, system, store)
        self.counts: Counter[str] = Counter()
        self.changes = Changes()
        self.logs: list[bytes] = []
        chat.session.ledger.watcher = self.changes
        columns = {name: column.copy() for name, column in chat.session.ledger.columns().items()}
        self.start: dict[str, NDArray[Any]] = columns
        self.snapshot: Snapshot | None = None
        self.dice = random.Random(seed + 1)  # of its own, so that the walk is the one of its seed

    def check(self) -> None:
        super().check()
        session = self.chat.session
        try:
            scalars = session.scalars()
        except SessionError:  # a reply is left open
            return
        self.logs.append(self.changes.take())
        if self.snapshot is not None and self.dice.random() < 0.5:
            self.check_redo(self.snapshot, scalars)
        if self.dice.random() < 0.2:
            self.check_rebuilt(scalars)
        if self.snapshot is None or self.dice.random() < 0.1:
            self.snapshot = Snapshot(session.state().dump(), session.engine.dump(0), len(self.logs))

    def engine(self) -> ToyEngine:
        spec = self.chat.session.engine.spec
        cells = {"n_ctx_train": spec.n_ctx_train, "can_pack": spec.can_pack, "can_restore": spec.can_restore}
        return ToyEngine(640, n_batch=spec.n_batch, **cells)  # type: ignore[arg-type]

    def resumed(self, state: SessionState, engine: ToyEngine) -> Session:
        session, budget = self.chat.session, Budget(state.scalars["budget"])
        return Session.from_state(
            state, engine, session.policy, budget, borders=session._borders, also_score=session._needs
        )

    def check_redo(self, snapshot: Snapshot, scalars: dict[str, Any]) -> None:
        session, engine = self.chat.session, self.engine()
        engine.load(0, snapshot.cells)
        other = self.resumed(SessionState.load(snapshot.state), engine)
        logs = self.logs[snapshot.n_logs :]
        self.counts["came back"] += any(isinstance(change, Inserted) for log in logs for change in parse(log))
        saved = self.archive.passages if self.dice.random() < 0.7 else nothing_saved  # it died with the power
        try:
            n_left_out = other.redo(logs, scalars, saved)
        except StateError as error:
            assert "not kept" in str(error) or "at its position" in str(error), error
            self.counts["refused"] += 1
            self.check_rebuilt(scalars)
            return
        self.counts["redone"] += 1
        self.counts["left out"] += n_left_out > 0
        same_rows(session.ledger.columns(), other.ledger.columns())
        assert agrees(other) and other.scalars() == scalars and other.budget == session.budget
        if n_left_out:
            return
        left, right = self.control(), other
        assert (left._carry.logits is None) == (right._carry.logits is None)
        if left._carry.logits is None or not session.policy.evicts:
            return
        np.testing.assert_allclose(right.last_logits, left.last_logits, rtol=1e-4, atol=1e-4)
        assert go_on(left) == go_on(right)
        same_rows(*({n: c for n, c in s.ledger.columns().items() if c.dtype.kind != "f"} for s in (left, right)))
        self.counts["went on"] += 1

    def control(self) -> Session:
        """The session itself as it is, on cells of its own."""
        engine = self.engine()
        engine.load(0, self.chat.session.engine.dump(0))
        return self.resumed(self.chat.session.state(), engine)

    def check_rebuilt(self, scalars: dict[str, Any]) -> None:
        session = self.chat.session
        columns = fold(self.logs, self.start)
        same_rows(session.ledger.columns(), columns)
        state, changes = SessionState({f"ledger.{n}": c for n, c in columns.items()}, scalars), Changes()
        other = Session.rebuilt(state, self.engine(), session.policy, session.budget, watcher=changes)
        assert agrees(other) and other.ledger["pos"].tolist() == list(range(len(session.ledger)))
        same_rows({n: c for n, c in columns.items() if n != "pos"}, other.ledger.columns())
        same_rows(other.ledger.columns(), fold([changes.take()], columns))
        assert other.turn == session.turn and other.n_born == session.n_born
        if session.policy.evicts and len(other.ledger):
            go_on(other, 20)
            assert agrees(other)
        self.counts["rebuilt"] += 1


def walk_redoing(seed: int) -> Counter[str]:
    """One walk on the toy, in the main thread, where signals arrive; returns what was tried."""
    rng = random.Random(seed)
    system = rng.choice((None, "Be kind to Ada."))
    host = ToyHost()
    host.release = lambda engine: None  # type: ignore[method-assign]
    options = {"policy": rng.choice(POLICIES), "budget": rng.choice((64, 96, 160, 240)), "system": system}
    options |= {"positions": rng.choice(("packed", "gaps")), "recall": rng.choice(("cells", "cells", "cells", "text"))}
    can_pack = options["positions"] == "packed" or rng.random() < 0.5
    engine = ToyEngine(
        512, n_ctx_train=rng.choice((700, 1000, 4096)), can_pack=can_pack, can_restore=rng.random() < 0.9
    )
    store = ByteStore(rng.choice((5_000, 1 << 30, 1 << 30, 1 << 30)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with make_chat(engine=engine, host=host, sampling=SamplingParams(seed=seed), **options) as chat:
            assert chat._recall is not None
            chat._recall.archive._store = store
            walk = RedoWalk(seed, chat, system, store)
            try:
                walk.run(20)
            except AssertionError as error:
                if not isinstance(error.__cause__, PoisonedWalkError):
                    raise
    finally:
        signal.signal(signal.SIGINT, before)
    return walk.counts
