"""What happened to the resident rows as bytes: whole, small, and nothing but a StateError where they are damaged."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from driving import drain, make_session, say, words
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sir.core.ledger import COLUMNS
from edge_sir.core.plan import EvictionPlan
from edge_sir.errors import StateError
from edge_sir.session import Session
from edge_sir.session.changes import Appended, Changes, Dropped, Inserted, Renumbered, Updated, blank, fold, parse
from edge_sir.session.lean import from_lean, to_lean

N_DAMAGED = 10_000


def watched(positions: str = "packed", budget: int = 96, **options: Any) -> tuple[Session, Changes]:
    session, changes = make_session("sir", budget, positions=positions, **options), Changes()
    session.ledger.watcher = changes
    return session, changes


def columns(session: Session) -> dict[str, NDArray[Any]]:
    return {name: column.copy() for name, column in session.ledger.columns().items()}


def a_turn(session: Session, seed: int) -> None:
    """A message, something recalled for it, a reply of single tokens, thoughts that leave, a pin."""
    say(session, words(25, seed))
    saved = session.save_rows(range(6, 20))
    session.evict(EvictionPlan(np.arange(6, 20), session.ledger.epoch, "room"))
    session.recall([(saved, np.arange(10))])
    session.feed(words(6, seed + 1), "thought")
    session.feed(words(6, seed + 2), "assistant")
    drain(session, 1)
    session.end_recall()
    session.end_turn()
    session.rewind(2)
    session.pin_rows(np.array([1, 2]), seed % 2 == 0, "a pin")


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_the_ledger_is_folded_from_its_logs_alone(positions: str) -> None:
    session, changes = watched(positions)
    logs = []
    for seed in range(12):
        a_turn(session, seed)
        logs.append(changes.take())
    np.testing.assert_equal(fold(logs), columns(session))
    assert session.stats.evicted > 100
    kinds = {type(change) for log in logs for change in parse(log)}
    assert kinds == {Appended, Dropped, Inserted, Updated} | ({Renumbered} if positions == "packed" else set())


def test_nothing_is_no_bytes() -> None:
    session, changes = watched()
    assert changes.take() == b"" and parse(b"") == [] and len(fold([b"", b""])["token"]) == 0
    say(session, words(5))
    assert len(changes.take()) > 0 and changes.take() == b""
    assert blank(b"", [1, 2]) == b""


def test_a_run_of_single_tokens_is_one_change() -> None:
    session, changes = watched()
    say(session, words(20))
    session.feed(words(9, 1), "assistant")
    drain(session, 1)
    [change] = parse(changes.take())
    assert isinstance(change, Appended) and change.slices.tolist() == [20, *[1] * 9]
    assert change.rows["token"].tolist() == session.ledger["token"].tolist()


def test_rows_that_come_back_for_a_turn_or_as_they_left_are_named_alone() -> None:
    session, changes = watched(budget=64)
    for turn in range(3):
        say(session, words(20, turn))
    saved = session.save_rows(range(6, 20))
    session.evict(EvictionPlan(np.arange(6, 20), session.ledger.epoch, "room"))
    say(session, words(12, 7))
    changes.take()
    session.begin_turn()
    assert session.recall([(saved, np.arange(12))]) == [12]
    session.feed(words(4), "user")
    drain(session)
    session.end_recall()
    inserted = [change for change in parse(changes.take()) if isinstance(change, Inserted)]
    assert [(change.is_recalled, len(change.rows)) for change in inserted] == [(True, 0), (False, 0)]
    assert inserted[0].born.tolist() == list(range(6, 18)) and len(inserted[1].born) > 0


# ---- what was forgotten --------------------------------------------------------------------------


def test_what_was_forgotten_is_in_no_log() -> None:
    session, changes = watched()
    secret = np.random.default_rng(0).permutation(np.arange(130, 160)).astype(np.int32)
    say(session, words(30, 1))
    say(session, secret)
    saved = session.save_rows(range(30, 60))
    session.evict(EvictionPlan(np.arange(30, 50), session.ledger.epoch, "room"))
    session.begin_turn()
    session.recall([(saved, np.arange(5))], "last")  # born anew
    session.feed(words(3), "user")
    session.feed_recalled([[("user", secret)]])  # its text, read again
    drain(session)
    session.end_recall()
    session.forget(np.flatnonzero(session.ledger["turn"] == 2))
    log = changes.take()
    out, pairs = blank(log, np.arange(30, 60)), set(pairwise(secret.tolist()))
    kept = [change.rows for change in parse(out) if isinstance(change, Appended | Inserted)]
    assert spelled(log) >= pairs
    assert not spelled(out) & pairs
    assert sum((rows["token"] < 0).sum() for rows in kept) == 60
    assert all(np.isnan(rows["surprisal"][rows["token"] < 0]).all() for rows in kept)
    np.testing.assert_equal(fold([out]), columns(session))
    assert blank(log, np.empty(0, int)) == log


def spelled(log: bytes) -> set[tuple[int, int]]:
    """All pairs of neighbouring tokens in it."""
    tokens = [c.rows["token"].tolist() for c in parse(log) if isinstance(c, Appended | Inserted)]
    return {pair for run in tokens for pair in pairwise(run)}


# ---- bytes ---------------------------------------------------------------------------------------

BIG = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.one_of(st.integers(-300, 300), BIG), max_size=30), min_size=1, max_size=6))
def test_numbers_come_back(lists: list[list[int]]) -> None:
    arrays = [np.array(numbers, np.int64) for numbers in lists]
    back = from_lean(to_lean(arrays), len(arrays))
    assert [array.tolist() for array in back] == lists
    with pytest.raises(StateError):
        from_lean(to_lean(arrays), len(arrays) + 1)


def test_a_steady_column_is_almost_nothing() -> None:
    steady = np.arange(60_000, 70_000)
    assert len(to_lean([steady])) < 60 < len(to_lean([np.random.default_rng(0).integers(0, 200, 100)]))


@pytest.mark.parametrize("name", [name for name, _ in COLUMNS])
def test_all_that_a_column_can_hold_comes_back(name: str) -> None:
    dtype = np.dtype(dict(COLUMNS)[name])
    if dtype.kind == "f":
        values = np.array([0x7FC00001, 0xFFC00000, 0x7F800000, 0x00000001, 0x80000000], np.uint32).view(np.float32)
    elif dtype.kind == "b":
        values = np.array([True, False, True, True, False])
    else:
        limits = np.iinfo(dtype)
        values = np.array([limits.min, limits.max, 0, -1, 1], dtype)
    changes = Changes()
    changes.updated(name, np.arange(5), values)
    [change] = parse(changes.take())
    assert isinstance(change, Updated) and change.name == name and change.values.tobytes() == values.tobytes()


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        out[int(rng.integers(len(out)))] ^= int(rng.integers(1, 256))
    return bytes(out)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def doubled(data: bytes, rng: np.random.Generator) -> bytes:
    a, b = sorted(rng.integers(0, len(data), 2))
    return data[:a] + data[a:b] + data[a:]


def foreign(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 200)))


@pytest.mark.parametrize("damage", [flipped, cut, doubled, foreign], ids=lambda f: f.__name__)
def test_damaged_bytes_are_a_state_error_and_nothing_else(damage: Callable[..., bytes]) -> None:
    session, changes = watched()
    for seed in range(3):
        a_turn(session, seed)
    data, rng = changes.take(), np.random.default_rng(1)
    for _ in range(N_DAMAGED // 4):
        other = damage(data, rng)
        if other == data:
            continue
        for read in (parse, lambda log: fold([log]), lambda log: blank(log, [1])):
            with pytest.raises(StateError):
                read(other)


def test_numbers_that_make_no_sense_are_a_state_error() -> None:
    """As above where the checksum is right: whoever wrote the bytes meant something else."""
    session, changes = watched()
    a_turn(session, 1)
    n_arrays = 8 + len(COLUMNS)
    arrays, rng = from_lean(changes.take(), n_arrays), np.random.default_rng(2)
    n_refused = 0
    for _ in range(2_000):
        wrong = [array.copy() for array in arrays]
        array = wrong[int(rng.integers(n_arrays))]
        if len(array) and rng.random() < 0.8:
            array[int(rng.integers(len(array)))] = int(rng.choice([-1, 0, 5, 77, 2**31, -(2**62), 2**63 - 1]))
        else:
            wrong[int(rng.integers(n_arrays))] = array[: int(rng.integers(0, len(array) + 1))]
        try:
            fold([to_lean(wrong)])
        except StateError:
            n_refused += 1
    assert n_refused > 500


def test_logs_of_other_rows_do_not_fit() -> None:
    session, changes = watched()
    a_turn(session, 1)
    changes.take()
    a_turn(session, 2)
    late = changes.take()
    with pytest.raises(StateError, match="does not fit"):
        fold([late])
