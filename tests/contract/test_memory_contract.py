"""What every engine must do, toy or llama.cpp, with the cells of its cache: remove, shift, copy, save."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engines import (
    ALL,
    CHEAP,
    N_BATCH,
    N_CTX,
    N_SEQ_MAX,
    PACKING,
    SHARING,
    SHARING_PACKING,
    Kind,
    apart,
    kind_of,
    piece,
    ranges,
    read,
    some_tokens,
)

from edge_sir.core.plan import packing_moves
from edge_sir.engine import Engine, EngineSpec
from edge_sir.errors import BatchError, CapabilityError, NoSlotError, StateError
from edge_sir.testing import ToyEngine

CHEAP_PACKING = [name for name in CHEAP if name in PACKING]
HOLES = [(4, 9), (15, 16), (20, 27)]
N = 40


@pytest.fixture(params=ALL)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


@pytest.fixture(params=PACKING)
def packing(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


def with_holes(engine: Engine, seq: int = 0) -> list[int]:
    """Reads N tokens, removes HOLES, and returns the positions that remain."""
    read(engine, seq, some_tokens(engine, N))
    for p0, p1 in HOLES:
        engine.remove(seq, p0, p1)
    return [p for p in range(N) if not any(p0 <= p < p1 for p0, p1 in HOLES)]


def pack(engine: Engine, positions: list[int], seq: int = 0) -> None:
    for p0, p1, delta in packing_moves(np.array(positions)):
        engine.shift(seq, p0, p1, delta)


# ---- remove ------------------------------------------------------------------------------------


def test_an_empty_sequence_has_no_positions(kind: Kind) -> None:
    engine = kind.make()
    assert ranges(engine) == [(-1, -1)] * N_SEQ_MAX
    engine.remove(0, 0, -1)
    assert engine.pos_range(0) == (-1, -1)


def test_the_range_follows_what_is_removed(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 1, some_tokens(engine, 20))
    engine.remove(1, 5, 8)
    assert engine.pos_range(1) == (0, 19)
    engine.remove(1, 0, 2)
    engine.remove(1, 15, -1)
    assert engine.pos_range(1) == (2, 14)
    engine.remove(1, 0, -1)
    assert engine.pos_range(1) == (-1, -1)


def test_a_removed_tail_was_never_there(kind: Kind) -> None:
    engine, untouched = kind.make(), kind.make()
    tokens = some_tokens(engine, 20)
    read(engine, 0, [*tokens, *some_tokens(engine, 6, seed=1)])
    engine.remove(0, 20, -1)
    assert apart(read(engine, 0, [77]), read(untouched, 0, [*tokens, 77])) < kind.same


def test_what_is_removed_in_the_middle_is_seen_no_more(kind: Kind) -> None:
    engine, whole = kind.make(), kind.make()
    with_holes(engine)
    read(whole, 0, some_tokens(whole, N))
    assert apart(read(engine, 0, [77, 78]), read(whole, 0, [77, 78])) > 0.1


def test_how_a_range_is_cut_does_not_matter(kind: Kind) -> None:
    engine, piecewise = kind.make(), kind.make()
    with_holes(engine)
    read(piecewise, 0, some_tokens(piecewise, N))
    for p0, p1 in reversed(HOLES):
        for p in range(p0, p1):
            piecewise.remove(0, p, p + 1)
        piecewise.remove(0, p0, p1)  # nothing is there any more
    assert apart(read(engine, 0, [77]), read(piecewise, 0, [77])) < kind.same


@pytest.mark.parametrize("kind", CHEAP, indirect=True)
def test_removed_cells_are_free_again(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, N_CTX))
    for _ in range(3):  # the endless conversation: room in the middle, tokens at the end
        engine.remove(0, *(engine.pos_range(0)[1] - np.array([60, 30])).tolist())
        read(engine, 0, some_tokens(engine, 30))
    with pytest.raises(NoSlotError):
        read(engine, 0, [21])


# ---- shift -------------------------------------------------------------------------------------


def test_moving_everything_leaves_the_next_logits_unchanged(packing: Kind) -> None:
    engine, still = packing.make(), packing.make()
    tokens = some_tokens(engine, N)
    read(engine, 0, tokens)
    read(still, 0, tokens)
    engine.shift(0, 0, -1, 100)
    assert engine.pos_range(0) == (100, 100 + N - 1)
    assert apart(read(engine, 0, [77, 78]), read(still, 0, [77, 78])) < packing.moved
    engine.shift(0, 0, -1, -90)
    assert apart(read(engine, 0, [79]), read(still, 0, [79])) < packing.moved


def test_packing_moves_leave_no_hole(packing: Kind) -> None:
    engine = packing.make()
    positions = with_holes(engine)
    pack(engine, positions)
    assert engine.pos_range(0) == (0, len(positions) - 1)
    for p in range(len(positions)):  # each position is held once
        engine.remove(0, 0, p)
        assert engine.pos_range(0) == (p, len(positions) - 1)


def test_several_moves_add_up_however_they_are_cut(packing: Kind) -> None:
    engine, detour = packing.make(), packing.make()
    pack(engine, with_holes(engine))
    positions = with_holes(detour)
    detour.shift(0, 0, -1, 50)
    detour.flush(0)
    pack(detour, [p + 50 for p in positions])
    assert apart(read(engine, 0, [77, 78]), read(detour, 0, [77, 78])) < packing.moved


@pytest.mark.parametrize("packing", CHEAP_PACKING, indirect=True)
def test_packing_changes_what_the_model_sees(packing: Kind) -> None:
    engine, holes = packing.make(), packing.make()
    pack(engine, with_holes(engine))
    with_holes(holes)
    assert apart(read(engine, 0, [77]), read(holes, 0, [77])) > packing.moved


def test_a_shift_moves_one_sequence_alone(packing: Kind) -> None:
    engine = packing.make()
    read(engine, 0, some_tokens(engine, 10))
    read(engine, 1, some_tokens(engine, 10, seed=1))
    engine.shift(0, 0, -1, 20)
    assert ranges(engine)[:2] == [(20, 29), (0, 9)]
    alone = packing.make()
    read(alone, 1, some_tokens(alone, 10, seed=1))
    assert apart(read(engine, 1, [77]), read(alone, 1, [77])) < packing.same


@pytest.mark.parametrize("name", ["toy", "tiny_gemma3"])
def test_a_shift_is_refused_where_it_would_be_wrong(request: pytest.FixtureRequest, name: str) -> None:
    if name == "toy":
        engine: Engine = ToyEngine(can_pack=False)
    else:
        engine = request.getfixturevalue("make_llama_engine")(request.getfixturevalue(name), threads=1)
    read(engine, 0, some_tokens(engine, 10))
    assert not engine.spec.can_pack
    with pytest.raises(CapabilityError, match=engine.spec.why):
        engine.shift(0, 0, -1, 5)
    assert engine.pos_range(0) == (0, 9)
    read(engine, 0, [21])


def test_flushing_changes_nothing_one_can_see(kind: Kind) -> None:
    engine = kind.make()
    engine.flush(0)
    read(engine, 0, some_tokens(engine, 10))
    if engine.spec.can_pack:
        engine.shift(0, 0, -1, 5)
    before = ranges(engine)
    engine.flush(0)
    engine.flush(1)
    assert ranges(engine) == before


@pytest.mark.parametrize("packing", CHEAP_PACKING, indirect=True)
def test_a_full_cache_can_be_flushed(packing: Kind) -> None:
    engine = packing.make()
    read(engine, 0, some_tokens(engine, N_CTX))
    engine.shift(0, 0, -1, 7)
    engine.flush(0)
    assert engine.pos_range(0) == (7, N_CTX + 6)


# ---- copy --------------------------------------------------------------------------------------


def test_a_copy_shares_its_cells_and_then_goes_its_own_way(kind: Kind) -> None:
    engine = kind.make()
    prefix = some_tokens(engine, 140)  # of 256 cells: twice would not fit
    read(engine, 0, prefix)
    engine.copy(0, 1)
    assert ranges(engine)[:2] == [(0, 139)] * 2
    mine, other = read(engine, 0, [40, 41]), read(engine, 1, [50])
    assert ranges(engine)[:2] == [(0, 141), (0, 140)]
    alone = kind.make()
    read(alone, 0, prefix)
    assert apart(other, read(alone, 0, [50])) < kind.same
    alone.remove(0, 140, -1)
    assert apart(mine, read(alone, 0, [40, 41])) < kind.same


def test_removing_a_copy_leaves_the_original(kind: Kind) -> None:
    engine = kind.make()
    prefix = some_tokens(engine, 20)
    read(engine, 0, prefix)
    engine.copy(0, 1)
    engine.remove(1, 5, -1)
    assert ranges(engine)[:2] == [(0, 19), (0, 4)]
    assert apart(read(engine, 0, [77]), read(kind.make(), 0, [*prefix, 77])) < kind.same


def test_a_copy_replaces_what_was_there(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 10))
    read(engine, 1, some_tokens(engine, 30, seed=1))
    engine.copy(0, 1)
    assert ranges(engine)[:2] == [(0, 9)] * 2
    engine.remove(0, 0, -1)
    engine.copy(0, 1)
    assert ranges(engine)[:2] == [(-1, -1)] * 2


def test_a_copy_onto_itself_changes_nothing(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 10))
    engine.copy(0, 0)
    assert engine.pos_range(0) == (0, 9)
    if engine.spec.can_pack:
        engine.shift(0, 0, -1, 1)


@pytest.mark.parametrize("packing", SHARING_PACKING, indirect=True)
def test_shared_cells_must_not_move(packing: Kind) -> None:
    engine = packing.make()
    read(engine, 0, some_tokens(engine, 10))
    engine.copy(0, 1)
    for seq in (0, 1):
        with pytest.raises(CapabilityError, match="shares cells"):
            engine.shift(seq, 0, -1, 5)
    assert ranges(engine)[:2] == [(0, 9)] * 2
    engine.remove(1, 0, -1)
    engine.shift(0, 0, -1, 5)
    assert engine.pos_range(0) == (5, 14)


@pytest.mark.parametrize("packing", SHARING_PACKING, indirect=True)
def test_only_the_range_that_is_shared_stands_still(packing: Kind) -> None:
    engine = packing.make()
    tokens = some_tokens(engine, 20)
    read(engine, 0, tokens)
    engine.copy(0, 1, 2, 12)
    assert ranges(engine)[:3] == [(0, 19), (2, 11), (-1, -1)]
    assert [engine.shared_until(seq) for seq in range(3)] == [12, 12, 0]
    engine.copy(1, 2, 0, 5)
    assert [engine.shared_until(seq) for seq in range(3)] == [12, 12, 5]
    for p0, p1 in ((2, 3), (11, 12), (0, -1), (5, 20)):
        with pytest.raises(CapabilityError, match="shares cells"):
            engine.shift(0, p0, p1, 5)
    engine.remove(0, 13, 15)
    engine.shift(0, 15, -1, -2)
    assert engine.pos_range(0) == (0, 17)
    engine.remove(1, 6, -1)
    assert [engine.shared_until(seq) for seq in range(3)] == [6, 6, 5]
    engine.remove(0, 0, 6)
    assert [engine.shared_until(seq) for seq in range(3)] == [0, 5, 5]
    engine.shift(0, 6, -1, -6)
    assert engine.pos_range(0) == (0, 11)
    engine.remove(2, 0, -1)
    assert engine.shared_until(1) == 0
    engine.shift(1, 0, -1, 3)


# ---- dump and load -----------------------------------------------------------------------------


def test_a_dump_is_loaded_and_goes_on_as_before(kind: Kind) -> None:
    engine, fresh = kind.make(), kind.make()
    with_holes(engine)
    state = engine.dump(0)
    assert engine.pos_range(0) == (0, N - 1)
    read(fresh, 2, some_tokens(fresh, 5, seed=3))  # replaced
    fresh.load(2, state)
    engine.load(1, state)
    # The smallest position is not compared: of a sliding window llama.cpp saves and reports only the window.
    assert fresh.pos_range(2)[1] == engine.pos_range(1)[1] == N - 1
    expected = read(engine, 0, [77, 78])
    assert apart(read(fresh, 2, [77, 78]), expected) < kind.same
    assert apart(read(engine, 1, [77, 78]), expected) < kind.same


def test_a_dump_after_a_shift_holds_moved_keys(packing: Kind) -> None:
    """llama.cpp itself would store the new positions with the old keys."""
    shifted, flushed, fresh = packing.make(), packing.make(), packing.make()
    for engine in (shifted, flushed):
        pack(engine, with_holes(engine))
    flushed.flush(0)
    for seq, engine in enumerate((shifted, flushed)):
        fresh.load(seq, engine.dump(0))
    n = shifted.pos_range(0)[1] + 1
    assert ranges(fresh)[:2] == [(0, n - 1)] * 2
    expected = read(flushed, 0, [77, 78])
    for seq in (0, 1):
        assert apart(read(fresh, seq, [77, 78]), expected) < packing.same


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda state: state[: len(state) // 2],
    "without its last byte": lambda state: state[:-1],
    "with a wrong beginning": lambda state: b"\x00\x01\x02\x03\x04\x05\x06\x07" + state[8:],
    "a few bytes": lambda _: b"edge-sir",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused_and_leaves_the_sequence_empty(kind: Kind, damage: str) -> None:
    engine = kind.make()
    tokens = some_tokens(engine, 10)
    read(engine, 0, tokens)
    read(engine, 1, some_tokens(engine, 30, seed=1))
    with pytest.raises(StateError):
        engine.load(1, DAMAGES[damage](engine.dump(1)))
    assert ranges(engine)[:2] == [(0, 9), (-1, -1)]
    assert apart(read(engine, 1, [*tokens, 77]), read(engine, 0, [77])) < kind.same


@pytest.mark.parametrize("kind", [name for name in CHEAP if name in SHARING], indirect=True)
def test_a_state_that_finds_no_cells_is_refused(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 200))
    state = engine.dump(0)
    with pytest.raises(StateError):
        engine.load(1, state)
    assert ranges(engine)[:2] == [(0, 199), (-1, -1)]


def test_an_empty_sequence_can_be_saved(kind: Kind) -> None:
    engine = kind.make()
    read(engine, 1, some_tokens(engine, 10))
    engine.load(1, engine.dump(0))
    assert engine.pos_range(1) == (-1, -1)


# ---- save and restore --------------------------------------------------------------------------

PASSAGE = (8, 30)
LOST = [p for p in range(*PASSAGE) if p % 3]


def lose(engine: Engine, lost: list[int] = LOST, seq: int = 0) -> bytes:
    """Reads N tokens, saves PASSAGE, removes words of it, and another sequence takes and leaves their cells."""
    read(engine, seq, some_tokens(engine, N))
    saved = engine.save(seq, *PASSAGE)
    for p in lost:
        engine.remove(seq, p, p + 1)
    read(engine, 3, some_tokens(engine, 10, seed=5))
    engine.remove(3, 4, -1)
    return saved


def untouched(kind: Kind, n: int = N) -> Engine:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, n))
    return engine


def test_what_was_saved_and_lost_comes_back(kind: Kind) -> None:
    engine = kind.make()
    engine.restore(0, lose(engine), LOST)
    assert engine.pos_range(0) == (0, N - 1)
    whole = untouched(kind)
    assert apart(read(engine, 0, [77, 78]), read(whole, 0, [77, 78])) < kind.same


@pytest.mark.parametrize("kind", CHEAP, indirect=True)
def test_only_what_is_wanted_comes_back(kind: Kind) -> None:
    engine, whole = kind.make(), untouched(kind)
    engine.restore(0, lose(engine), LOST[3:7])
    for p in (p for p in LOST if p not in LOST[3:7]):
        whole.remove(0, p, p + 1)
    assert apart(read(engine, 0, [77]), read(whole, 0, [77])) < kind.same
    assert apart(read(engine, 0, [78]), read(untouched(kind), 0, [77, 78])) > 10 * kind.same


def test_a_passage_comes_back_piece_by_piece_and_to_another_sequence(kind: Kind) -> None:
    engine = kind.make()
    saved = lose(engine)
    for part in (LOST[::2], LOST[1::2]):
        engine.restore(0, saved, part)
    engine.restore(2, saved, range(*PASSAGE))
    assert engine.pos_range(2) == (PASSAGE[0], PASSAGE[1] - 1)
    assert apart(read(engine, 0, [77]), read(untouched(kind), 0, [77])) < kind.same
    engine.remove(0, 0, -1)
    other = untouched(kind)
    other.remove(0, 0, PASSAGE[0])
    other.remove(0, PASSAGE[1], -1)
    assert apart(read(engine, 2, [77]), read(other, 0, [77])) < kind.same


@pytest.mark.parametrize("kind", SHARING, indirect=True)
def test_a_full_cache_takes_back_as_many_cells_as_are_free(kind: Kind) -> None:
    engine = kind.make()
    saved = lose(engine)
    read(engine, 2, some_tokens(engine, N_CTX - N - 4, seed=6), 0)
    free = len(LOST)  # of the passage more are resident than that
    with pytest.raises(StateError):
        engine.restore(1, saved, range(*PASSAGE))
    assert engine.pos_range(1) == (-1, -1)
    assert free < PASSAGE[1] - PASSAGE[0]
    engine.remove(2, N_CTX - N - 4 - free, -1)
    engine.restore(0, saved, LOST)
    assert engine.pos_range(0) == (0, N - 1)


def test_packed_cells_make_place_for_what_comes_back(packing: Kind) -> None:
    engine = packing.make()
    lost = list(range(*PASSAGE))
    saved = lose(engine, lost)
    engine.shift(0, PASSAGE[1], -1, -len(lost))
    engine.flush(0)
    assert engine.pos_range(0) == (0, N - len(lost) - 1)
    engine.restore(0, saved, lost, None, [(PASSAGE[0], N - len(lost), len(lost))])
    assert engine.pos_range(0) == (0, N - 1)
    assert apart(read(engine, 0, [77, 78]), read(untouched(packing), 0, [77, 78])) < packing.moved


def test_a_passage_moves_as_a_shift_moves_it(packing: Kind) -> None:
    """Two routes to the same cells at the same positions: by a blob, and by staying."""
    engine, stayed = packing.make(), packing.make()
    lost = list(range(*PASSAGE))
    saved = lose(engine, lost)
    engine.restore(0, saved, lost, [p + 50 for p in lost], [(PASSAGE[1], N, 100)])
    read(stayed, 0, some_tokens(stayed, N))
    stayed.shift(0, PASSAGE[1], -1, 100)
    stayed.shift(0, *PASSAGE, 50)
    assert engine.pos_range(0) == stayed.pos_range(0) == (0, N + 99)
    assert apart(read(engine, 0, [77, 78]), read(stayed, 0, [77, 78])) < packing.moved


def test_what_is_saved_after_a_shift_has_moved_keys(packing: Kind) -> None:
    engine, whole = packing.make(), packing.make()
    for one in (engine, whole):
        read(one, 0, some_tokens(one, N))
        one.shift(0, 0, -1, 7)
    saved = engine.save(0, 17, 27)
    engine.remove(0, 17, 27)
    engine.restore(0, saved, range(17, 27))
    assert apart(read(engine, 0, [77, 78]), read(whole, 0, [77, 78])) < packing.moved


def test_a_restored_cell_is_nobody_elses(packing: Kind) -> None:
    engine = packing.make()
    engine.restore(0, lose(engine), LOST)
    engine.shift(0, 0, -1, 5)
    assert engine.shared_until(0) == 0 and engine.pos_range(0) == (5, N + 4)
    assert apart(read(engine, 0, [77]), read(untouched(packing), 0, [77])) < packing.moved


@pytest.mark.parametrize("packing", SHARING_PACKING, indirect=True)
def test_shared_cells_do_not_move_for_a_passage(packing: Kind) -> None:
    engine = packing.make()
    saved = lose(engine, list(range(*PASSAGE)))
    engine.copy(0, 1)
    with pytest.raises(CapabilityError, match="shares cells"):
        engine.restore(0, saved, [8, 9], [50, 51], [(30, -1, 22)])
    assert ranges(engine)[:3] == [(0, N - 1), (0, N - 1), (-1, -1)]
    engine.restore(0, saved, range(*PASSAGE))
    assert apart(read(engine, 0, [77]), read(untouched(packing), 0, [77])) < packing.same


BLOBS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda blob: blob[: len(blob) // 2],
    "without its last byte": lambda blob: blob[:-1],
    "a byte more": lambda blob: blob + b"x",
    "another beginning": lambda blob: b"\x00" * 8 + blob[8:],
    "a bit of a key": lambda blob: blob[:-100] + bytes([blob[-100] ^ 1]) + blob[-99:],
    "another label": lambda blob: blob.replace(b'"model": "', b'"model": "x', 1),
}


@pytest.mark.parametrize("damage", BLOBS)
def test_a_damaged_blob_is_refused_and_changes_nothing(kind: Kind, damage: str) -> None:
    engine = kind.make()
    saved = lose(engine)
    with pytest.raises(StateError):
        engine.restore(0, BLOBS[damage](saved), LOST)
    assert engine.pos_range(0) == (0, N - 1)
    engine.restore(0, saved, LOST)
    assert apart(read(engine, 0, [77]), read(untouched(kind), 0, [77])) < kind.same


WRONG: dict[str, tuple[list[int], list[int] | None]] = {
    "cells that are not in it": ([*LOST, 31], None),
    "no cells": ([], None),
    "out of order": ([10, 9], None),
    "twice": ([10, 10], None),
    "fewer places": ([10, 11], [10]),
    "places out of order": ([10, 11], [12, 11]),
    "a negative place": ([10, 11], [-1, 0]),
    "a place beyond all positions": ([10, 11], [10, 2**31]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_cells_and_places_that_cannot_be_are_refused(packing: Kind, wrong: str) -> None:
    engine = packing.make()
    saved = lose(engine)
    with pytest.raises(StateError):
        engine.restore(0, saved, *WRONG[wrong])
    engine.restore(0, saved, LOST)
    assert apart(read(engine, 0, [77]), read(untouched(packing), 0, [77])) < packing.same


@pytest.mark.parametrize("name", ["toy", "tiny_gemma3"])
def test_where_keys_must_not_move_cells_return_to_their_old_positions(
    request: pytest.FixtureRequest, name: str
) -> None:
    if name == "toy":
        engine: Engine = ToyEngine(can_pack=False)
    else:
        engine = request.getfixturevalue("make_llama_engine")(request.getfixturevalue(name), threads=1)
    read(engine, 0, some_tokens(engine, N))
    saved = engine.save(0, *PASSAGE)
    engine.remove(0, *PASSAGE)
    with pytest.raises(CapabilityError, match=engine.spec.why):
        engine.restore(0, saved, LOST, [p + 1 for p in LOST])
    engine.restore(0, saved, LOST)
    assert engine.pos_range(0)[1] == N - 1


FAR_APART = {"a few": [(3, 6), (10, 11), (20, 25)], "words all over": [(p, p + 1) for p in range(3, 25, 2)]}


@pytest.mark.parametrize("ranges", FAR_APART.values(), ids=FAR_APART.keys())
def test_ranges_far_apart_make_one_blob(kind: Kind, ranges: list[tuple[int, int]]) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, N))
    saved = engine.save(0, *ranges[0], *ranges[1:])
    lost = [p for p0, p1 in ranges for p in range(p0, p1)]
    assert len(saved) < len(engine.save(0, 3, 25))
    with pytest.raises(StateError):
        engine.restore(0, saved, [12])
    for p in lost:
        engine.remove(0, p, p + 1)
    read(engine, 3, some_tokens(engine, 10, seed=5))
    engine.remove(3, 4, -1)
    engine.restore(0, saved, lost)
    assert apart(read(engine, 0, [77, 78]), read(untouched(kind), 0, [77, 78])) < kind.same
    with pytest.raises(StateError, match="no cells"):
        engine.save(0, *(span := [(p + 9 * N, p + 9 * N + 1) for p in range(0, 200, 2)])[0], *span[1:])


def test_nothing_is_no_passage(kind: Kind) -> None:
    engine = kind.make()
    with pytest.raises(StateError, match="no cells"):
        engine.save(0, 0, -1)
    read(engine, 0, some_tokens(engine, N))
    with pytest.raises(StateError, match="no cells"):
        engine.save(0, N, -1)
    assert len(engine.save(0, 0, -1)) > len(engine.save(0, 5, -1)) > 0
    assert ranges(engine) == [(0, N - 1)] + [(-1, -1)] * 3


def test_where_cells_cannot_be_restored_that_is_said(make_llama_engine: Callable[..., Engine], tiny_llama: Any) -> None:
    small = make_llama_engine(tiny_llama, 256, threads=1, chunk=2, n_seq_max=2)  # a sequence takes a token of the chunk
    for engine in (small, ToyEngine(can_restore=False)):
        engine.decode([piece(0, [65, 66], 0)])
        assert not engine.spec.can_restore
        for call in (lambda e=engine: e.save(0, 0, -1), lambda e=engine: e.restore(0, b"", [0])):
            with pytest.raises(CapabilityError, match=f"cannot be restored: {engine.spec.why_restore}"):
                call()


def test_a_blob_of_another_model_or_context_is_refused(make_llama_engine: Callable[..., Engine], request: Any) -> None:
    tiny = request.getfixturevalue("tiny_gemma3_wide")

    def made(model: Any, **options: Any) -> tuple[Engine, bytes]:
        engine = make_llama_engine(model, 256, threads=1, **options)
        read(engine, 0, some_tokens(engine, N))
        return engine, engine.save(0, *PASSAGE)

    engine, own = made(tiny)
    engine.remove(0, *PASSAGE)
    others = {
        "model": made(request.getfixturevalue("tiny_llama"))[1],
        "type of K": made(tiny, kv_k="q8_0")[1],
        "type of V": made(tiny, kv_v="q8_0", flash_attn="on")[1],
        "flash-attention setting": made(tiny, flash_attn="on")[1],
    }
    for what, blob in others.items():
        with pytest.raises(StateError, match=f"was made with another .*{what}"):
            engine.restore(0, blob, LOST)
    with pytest.raises(StateError, match="are no passage"):
        engine.restore(0, ToyEngine().dump(0), LOST)
    engine.restore(0, own, range(*PASSAGE))
    assert engine.pos_range(0) == (0, N - 1)


def test_a_dump_of_another_context_or_a_passage_is_none(make_llama_engine: Callable[..., Engine], request: Any) -> None:
    tiny = request.getfixturevalue("tiny_llama")
    engine = make_llama_engine(tiny, 256, threads=1)
    other = make_llama_engine(tiny, 256, threads=1, flash_attn="on")
    for one in (engine, other):
        read(one, 0, some_tokens(one, N))
    blobs = {"another flash-attention setting": other.dump(0), "are no sequence": engine.save(0, *PASSAGE)}
    for what, blob in blobs.items():
        with pytest.raises(StateError, match=what):
            engine.load(0, blob)
        assert engine.pos_range(0) == (-1, -1)


def test_a_failure_of_llama_cpp_itself_leaves_the_cache_as_it_was(
    make_llama_engine: Callable[..., Engine], tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_sir.llama.engine import lib

    kind = Kind("tiny_llama", lambda: make_llama_engine(tiny_llama, N_CTX, threads=1, n_seq_max=4), 0.01, 0.05)
    engine = kind.make()
    saved = lose(engine)
    real = lib.llama_state_seq_set_data

    def half(context: Any, data: Any, n: int, seq: int) -> int:
        real(context, data, n, seq)  # as where the second cache of a sliding window finds no room
        return 0

    monkeypatch.setattr(lib, "llama_state_seq_set_data", half)
    with pytest.raises(StateError, match="did not restore"):
        engine.restore(0, saved, LOST[:4], [p + 60 for p in LOST[:4]], [(30, -1, 100)])
    monkeypatch.undo()
    assert ranges(engine) == [(0, N - 1), (-1, -1), (-1, -1), (0, 3)]
    engine.restore(0, saved, LOST)
    assert apart(read(engine, 0, [77]), read(untouched(kind), 0, [77])) < kind.same


def test_the_toy_fails_on_request() -> None:
    engine = ToyEngine(N_CTX, n_batch=N_BATCH)
    saved = lose(engine)
    engine.fail_next = StateError("made up")
    with pytest.raises(StateError, match="made up"):
        engine.restore(0, saved, LOST, LOST, [(30, -1, 5)])
    assert engine.pos_range(0) == (0, N - 1)


# ---- what does not exist -----------------------------------------------------------------------

CALLS: dict[str, Callable[[Engine, int], object]] = {
    "remove": lambda engine, seq: engine.remove(seq, 0, -1),
    "shift": lambda engine, seq: engine.shift(seq, 0, -1, 1),
    "copy from": lambda engine, seq: engine.copy(seq, 0),
    "copy to": lambda engine, seq: engine.copy(0, seq),
    "pos_range": lambda engine, seq: engine.pos_range(seq),
    "claim": lambda engine, seq: engine.claim(seq, 8),
    "dump": lambda engine, seq: engine.dump(seq),
    "load": lambda engine, seq: engine.load(seq, engine.dump(0)),
    "save": lambda engine, seq: engine.save(seq, 0, -1),
    "restore": lambda engine, seq: engine.restore(seq, engine.save(0, 0, -1), [5]),
}


@pytest.mark.parametrize("seq", [-1, N_SEQ_MAX, 300])
@pytest.mark.parametrize("call", CALLS)
def test_a_sequence_that_does_not_exist_is_refused(kind: Kind, call: str, seq: int) -> None:
    engine = kind.make()
    read(engine, 0, some_tokens(engine, 10))
    with pytest.raises(BatchError):
        CALLS[call](engine, seq)
    assert ranges(engine) == [(0, 9)] + [(-1, -1)] * (N_SEQ_MAX - 1)


def test_the_spec_says_what_was_asked_for(kind: Kind) -> None:
    spec: EngineSpec = kind.make().spec
    assert (spec.n_ctx_seq, spec.n_seq_max) == (N_CTX, N_SEQ_MAX)
    assert spec.can_pack == (kind.name != "tiny_gemma3")
    assert spec.can_restore and spec.why_restore
    assert spec.why and spec.model and spec.fingerprint
    assert spec.kv_bytes > 0
