"""Random saves, evictions and restores, against a large context in which evicted cells only change their sequence.

With gaps an evicted cell goes to another sequence and comes back by llama_memory_seq_cp; packed, it is moved as well.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engines import N_BATCH, Kind, apart, kind_of

from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan, moves_between
from edge_sir.engine import Engine, Slice
from edge_sir.policies import from_spec
from edge_sir.session import SavedRows, Session
from edge_sir.testing import ToyEngine

BUDGET, LARGE = 160, 4096
FAR = 200  # packed cells wait at this plus their born number, beyond all positions of the ledger
N_STEPS = {"toy": 2000}
FEWER = 250
CASES = [
    *((name, "gaps") for name in ("toy", "tiny_llama", "tiny_gemma3", "tiny_gemma3_wide")),
    *((name, "packed") for name in ("toy", "tiny_llama", "tiny_gemma3_wide")),
]


class Witness:
    """The large context; what left the ledger waits in sequence 1."""

    def __init__(self, engine: Engine, packed: bool) -> None:
        self.engine, self._packed = engine, packed
        self._pos: dict[int, int] = {}

    def follow(self, session: Session) -> None:
        """Makes sequence 0 hold what the ledger holds, where it holds it."""
        born, pos = session.ledger["born"].tolist(), session.ledger["pos"].tolist()
        after = dict(zip(born, pos, strict=True))
        for b in self._pos.keys() - after.keys():
            self._transfer(0, 1, self._pos[b], FAR + b if self._packed else self._pos[b])
        stay = sorted(self._pos.keys() & after.keys())
        for p0, p1, delta in moves_between(*(np.array([at[b] for b in stay]) for at in (self._pos, after))):
            self.engine.shift(0, p0, p1, delta)
        for b in after.keys() - self._pos.keys():
            self._transfer(1, 0, FAR + b if self._packed else after[b], after[b])
        self._pos = after

    def decode(self, piece: Slice, born: int) -> Any:
        [result] = self.engine.decode([piece])
        self._pos |= {born + i: piece.p0 + i for i in range(len(piece.tokens))}
        return result

    def _transfer(self, src: int, dst: int, p: int, to: int) -> None:
        """llama_memory_seq_cp of one cell, which then is the other sequence's alone."""
        if src == 1 and to != p:
            self.engine.shift(src, p, p + 1, to - p)
        at = to if src == 1 else p
        if isinstance(self.engine, ToyEngine):
            cells = self.engine._cells(src, at, at + 1)
            assert cells.sum() == 1
            self.engine._member[cells, dst] = True
        else:
            from edge_sir.llama.native import lib

            lib.llama_memory_seq_cp(self.engine._memory, src, dst, at, at + 1)  # type: ignore[attr-defined]
        self.engine.remove(src, at, at + 1)
        if src == 0 and to != p:
            self.engine.shift(dst, p, p + 1, to - p)


class Walk:
    """Random steps of a session, each followed by the witness."""

    def __init__(self, session: Session, witness: Witness, most_apart: float, seed: int) -> None:
        self.session, self.witness, self._most_apart = session, witness, most_apart
        self.distances: list[float] = []
        self._random = np.random.default_rng(seed)
        self._archive: list[SavedRows] = []
        self._known: dict[str, list[Any]] = {"token": [], "turn": [], "surprisal": []}
        self.counts = dict.fromkeys(("say", "save", "evict", "restore"), 0)
        self.n_restored = 0

    def begin(self) -> None:
        for _ in range(3):
            self._say(50)
            self._save()

    def step(self) -> None:
        name = str(self._random.choice(list(self.counts), p=(0.35, 0.15, 0.15, 0.35)))
        self.counts[name] += getattr(self, f"_{name}")()
        self._check()

    def _say(self, n: int = 0) -> bool:
        session = self.session
        if self._random.random() < 0.3:
            session.begin_turn()
            session.start_message()
        session.feed(self._random.integers(20, 250, n or self._random.integers(1, 6)), "user")
        piece = session.next_slice()
        assert piece is not None and session.n_pending == len(piece.tokens)
        self.witness.follow(session)
        own, expected = session.engine.decode([piece])[0], self.witness.decode(piece, session.n_born)
        self.distances.append(apart(own.logits, expected.logits))
        assert self.distances[-1] < self._most_apart
        session.commit(own)
        for name, values in self._known.items():
            values += session.ledger[name][-len(piece.tokens) :].tolist()
        return True

    def _passage(self, longest: int) -> range:
        n = len(self.session.ledger) - 1  # the newest stays: what comes next would stand at its position
        start = int(self._random.integers(0, max(1, n)))
        return range(start, min(n, start + int(self._random.integers(1, longest))))

    def _save(self) -> bool:
        rows = self._passage(40)
        if len(rows):
            self._archive = [*self._archive[-30:], self.session.save_rows(rows)]
        return len(rows) > 0

    def _evict(self) -> bool:
        rows = np.array(self._passage(60))
        rows = rows[self._random.random(len(rows)) < self._random.random()]
        if len(rows):
            self.session.evict(EvictionPlan(rows, self.session.ledger.epoch, "room"))
        return len(rows) > 0

    def _restore(self) -> bool:
        if not self._archive:
            return False
        saved = self._archive[int(self._random.integers(len(self._archive)))]
        n_free = BUDGET - len(self.session.ledger)
        rows = np.flatnonzero(self._random.random(len(saved)) < self._random.choice([0.3, 1.0]))[:n_free]
        n = self.session.restore(saved, rows)
        self.n_restored += n
        return n > 0

    def _check(self) -> None:
        ledger = self.session.ledger
        born = ledger["born"]
        assert np.all(np.diff(born) > 0)
        packed = self.session.mode == "packed"
        assert ledger["pos"].tolist() == (list(range(len(born))) if packed else born.tolist())
        for name, values in self._known.items():
            np.testing.assert_array_equal(ledger[name], np.array(values, ledger[name].dtype)[born], err_msg=name)


@pytest.fixture
def walk(request: pytest.FixtureRequest) -> Iterator[tuple[Walk, Kind]]:
    name, mode = request.param
    kind = kind_of(_Named(request, name))  # type: ignore[arg-type]
    if name == "toy":
        large: Engine = ToyEngine(LARGE, n_batch=N_BATCH, n_ctx_train=LARGE)
    else:
        model = request.getfixturevalue(name)
        large = request.getfixturevalue("make_llama_engine")(model, 512, threads=1, chunk=N_BATCH, n_seq_max=2)
    session = Session(kind.make(), from_spec("sirllm"), Budget(BUDGET), positions=mode)
    # Where nothing moves, the same products are added up in another order; packed, a hundred K-shifts were rounded.
    most_apart = 4 * kind.moved if mode == "packed" else kind.same
    yield Walk(session, Witness(large, mode == "packed"), most_apart, seed=5), kind


class _Named:
    def __init__(self, request: pytest.FixtureRequest, name: str) -> None:
        self.param, self.getfixturevalue = name, request.getfixturevalue


@pytest.mark.parametrize("walk", CASES, indirect=True, ids="-".join)
def test_what_comes_back_is_what_left(walk: tuple[Walk, Kind]) -> None:
    steps, kind = walk
    n_steps = N_STEPS.get(kind.name, FEWER)
    steps.begin()
    for _ in range(n_steps):
        steps.step()
    assert np.median(steps.distances) < kind.moved / 2
    assert steps.counts["restore"] > n_steps // 12 and steps.n_restored > n_steps // 2
    assert steps.session.stats.restored == steps.n_restored
    stats = steps.session.stats
    assert len(steps.session.ledger) == stats.tokens_in + stats.restored - stats.evicted
