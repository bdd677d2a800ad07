"""Where rows go when some come back: moves, places, epochs; and bytes that show damage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sir.core.plan import check_places, moves_between
from edge_sir.core.sealed import seal, unseal
from edge_sir.errors import StateError
from edge_sir.session.positions import PositionEpochs, places_among

POSITIONS = st.sets(st.integers(0, 60), min_size=1, max_size=25).map(sorted)


@given(POSITIONS, st.data())
def test_moves_catch_no_cell_twice(old: list[int], data: st.DataObject) -> None:
    """Applied one by one to a set of cells, as llama_memory_seq_add does, with any other order of deltas."""
    new = sorted(data.draw(st.sets(st.integers(0, 60), min_size=len(old), max_size=len(old))))
    cells = {p: name for name, p in enumerate(old)}
    for p0, p1, delta in moves_between(np.array(old), np.array(new)):
        moved = {p + delta: name for p, name in cells.items() if p0 <= p < p1}
        rest = {p: name for p, name in cells.items() if not p0 <= p < p1}
        assert not moved.keys() & rest.keys()
        cells = moved | rest
    assert cells == {p: name for name, p in enumerate(new)}


@given(POSITIONS, st.lists(st.integers(0, 25), max_size=8).map(sorted), st.booleans())
def test_places_grow_and_what_need_not_move_stays(pos: list[int], at: list[int], packed: bool) -> None:
    where = np.minimum(at, len(pos)).astype(np.intp)
    places = places_among(np.array(pos), where, 0, packed=packed)
    assert len(places) == len(pos) + len(at) and np.all(np.diff(places) > 0) and places[0] >= 0
    residents = np.delete(places, where + np.arange(len(where)))
    if packed:
        assert places.tolist() == list(range(len(places)))
    else:
        assert np.all(residents >= pos)
        assert residents[: where[0] if len(where) else None].tolist() == pos[: where[0] if len(where) else None]


def test_a_hole_that_is_wide_enough_moves_nobody() -> None:
    assert places_among(np.array([0, 1, 9, 10]), np.array([2, 2]), 0, packed=False).tolist() == [0, 1, 2, 3, 9, 10]
    assert places_among(np.array([0, 1, 3, 10]), np.array([2, 2]), 0, packed=False).tolist() == [0, 1, 2, 3, 4, 10]


def test_shared_cells_stand_still() -> None:
    pos = np.array([0, 1, 5, 6, 7])
    assert places_among(pos, np.array([3, 4]), 6, packed=True).tolist() == [0, 1, 5, 6, 7, 8, 9]
    for packed in (True, False):
        with pytest.raises(StateError, match="another sequence shares"):
            places_among(pos, np.array([1, 4]), 6, packed=packed)


@pytest.mark.parametrize(
    ("pos", "to"), [([1, 9], [1, 9]), ([], []), ([1, 1], [1, 2]), ([1, 2], [2]), ([1, 2], [2, 2]), ([1], [2**31])]
)
def test_places_that_cannot_be_are_refused(pos: list[int], to: list[int]) -> None:
    with pytest.raises(StateError):
        check_places(np.arange(5), np.array(pos), np.array(to))


# ---- epochs ------------------------------------------------------------------------------------


def test_what_was_given_away_since_is_not_ones_own() -> None:
    epochs = PositionEpochs()
    epochs.decoded(0, 100)
    first = epochs.now
    assert epochs.still_own(first, 99)
    epochs.decoded(60, 10)  # after a rewind
    assert epochs.still_own(first, 59) and not epochs.still_own(first, 60)
    assert epochs.still_own(epochs.now, 69)
    second = epochs.now
    epochs.decoded(70, 50)
    assert epochs.now == second
    epochs.decoded(80, 1)
    assert epochs.still_own(second, 79) and not epochs.still_own(second, 80) and not epochs.still_own(first, 79)
    epochs.decoded(20, 5)
    assert [epochs.still_own(e, 30) for e in (first, second, epochs.now)] == [False, False, True]
    epochs.give(0, 12)
    assert not epochs.still_own(second, 0)
    assert not epochs.still_own(epochs.now + 1, 0)  # of another session
    assert len(epochs.state()["given"]) == 1


def test_epochs_go_on_from_their_state() -> None:
    epochs = PositionEpochs()
    for p0, n in ((0, 50), (30, 5), (40, 10), (45, 3)):
        epochs.decoded(p0, n)
    other = PositionEpochs(**epochs.state())
    for one in (epochs, other):
        one.decoded(47, 9)
    assert other.state() == epochs.state()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=30))
def test_a_position_is_its_owners_until_another_is_decoded_there(steps: list[tuple[int, int]]) -> None:
    epochs, owner, saved, end = PositionEpochs(), {}, [], 0
    for number, (p0, n) in enumerate(steps):
        p0 = min(p0, end)
        epochs.decoded(p0, n)
        owner |= dict.fromkeys(range(p0, p0 + n), number)
        end = p0 + n
        saved.append((epochs.now, end - 1, {p: o for p, o in owner.items() if p < end}))
    for epoch, last, owned in saved:
        if epochs.still_own(epoch, last):
            assert all(owner[p] == o for p, o in owned.items())
        else:
            assert any(owner[p] != o for p, o in owned.items()) or last >= min(p0 for p0, _ in steps)


# ---- sealed bytes ------------------------------------------------------------------------------

TERMS = {"model": "m", "type of K": "f16"}


def test_a_seal_shows_every_flipped_bit() -> None:
    blob = seal("thing", TERMS, b"some bytes")
    assert bytes(unseal(blob, "thing", TERMS)) == b"some bytes"
    for at in range(len(blob)):
        for bit in (1, 128):
            damaged = blob[:at] + bytes([blob[at] ^ bit]) + blob[at + 1 :]
            with pytest.raises(StateError):
                unseal(damaged, "thing", TERMS)
    for n in range(len(blob)):
        with pytest.raises(StateError):
            unseal(blob[:n], "thing", TERMS)


def test_a_seal_says_what_is_another() -> None:
    blob = seal("thing", TERMS, b"")
    with pytest.raises(StateError, match=r"^the thing was made with another type of K$"):
        unseal(blob, "thing", TERMS | {"type of K": "q8_0"})
    with pytest.raises(StateError, match=r"^the thing was made with another build$"):
        unseal(blob, "thing", TERMS | {"build": "1"})
    with pytest.raises(StateError, match="no stone but a thing"):
        unseal(blob, "stone", TERMS)


def test_what_was_given_to_tokens_that_are_taken_back_is_free_again() -> None:
    epochs = PositionEpochs()
    epochs.decoded(0, 50, 0)
    saved = epochs.now
    epochs.decoded(30, 10, 50)  # the newest were evicted
    assert epochs.still_own(saved, 29) and not epochs.still_own(saved, 49)
    epochs.decoded(20, 10, 60)
    assert not epochs.still_own(saved, 29)
    epochs.taken_back(60)
    assert epochs.still_own(saved, 29) and not epochs.still_own(saved, 49)
    epochs.taken_back(50)
    assert epochs.still_own(saved, 49)
    epochs.decoded(30, 10, 70)
    epochs.give(10, 40)
    epochs.taken_back(0)
    assert epochs.still_own(saved, 9) and not epochs.still_own(saved, 10)
