"""Sessions on the toy engine, and what they must agree with."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir.core.budget import Budget
from edge_sir.core.ledger import ROLES
from edge_sir.core.records import Eviction
from edge_sir.engine import Engine, Slice
from edge_sir.policies import from_spec
from edge_sir.session import Session
from edge_sir.testing import ToyEngine

EVICTING = (
    "entropy",
    "interval",
    "random",
    "sir",
    "units",
    "units:unit=sentence",
    "sirllm",
    "sirllm-published",
    "streaming",
)


def make_session(policy: str = "sir", budget: int = 64, engine: ToyEngine | None = None, **options: Any) -> Session:
    return Session(engine or ToyEngine(), from_spec(policy), Budget(budget), **options)


def words(n: int, seed: int = 0) -> NDArray[np.int32]:
    """Random bytes of printable text."""
    return np.random.default_rng(seed).integers(32, 127, n).astype(np.int32)


def drain(session: Session, n_most: int | None = None) -> None:
    while (piece := session.next_slice(n_most)) is not None:
        session.commit(session.engine.decode([piece])[0])


def say(session: Session, tokens: ArrayLike, role: str = "user", *, pinned: bool = False) -> None:
    """A whole message in a turn of its own."""
    session.begin_turn()
    session.start_message()
    session.feed(tokens, role, pinned=pinned)
    drain(session)


def logits_of(tokens: ArrayLike, engine: Engine | None = None, seq: int = 0) -> NDArray[np.float32]:
    """The row after every token, decoded one by one on a fresh toy, float32 [n, n_vocab]."""
    engine = engine or ToyEngine(4096)
    rows = []
    for p, token in enumerate(np.asarray(tokens)):
        one = np.array([token], np.int32)
        rows.append(engine.decode([Slice(seq, one, p, np.array([-1], np.int32))])[0].logits)
    return np.stack(rows)


def columns(session: Session, *names: str) -> dict[str, list[Any]]:
    return {name: session.ledger[name].tolist() for name in names}


def role_rows(session: Session, role: str) -> NDArray[np.intp]:
    return np.flatnonzero(session.ledger["role"] == ROLES.index(role))


def cached(engine: ToyEngine, seq: int = 0) -> list[tuple[int, int]]:
    """What the toy's cache holds: (position, token), sorted."""
    mine = engine._member[:, seq]
    return sorted(zip(engine._pos[mine].tolist(), engine._token[mine].tolist(), strict=True))


def agrees(session: Session) -> bool:
    """Whether ledger and cache hold the same tokens at the same positions."""
    assert isinstance(session.engine, ToyEngine)
    ledger = zip(session.ledger["pos"].tolist(), session.ledger["token"].tolist(), strict=True)
    return cached(session.engine, session.seq) == list(ledger)


def n_evicted(events: Iterable[Eviction]) -> int:
    return sum(len(event) for event in events)


def mixed_steps(sessions: Sequence[Session], n_most: int) -> bool:
    """One decode with a slice of every session that has something waiting."""
    pieces = [(s, piece) for s in sessions if (piece := s.next_slice(n_most)) is not None]
    if not pieces:
        return False
    results = pieces[0][0].engine.decode([piece for _, piece in pieces])
    for (session, _), result in zip(pieces, results, strict=True):
        session.commit(result)
    return True
