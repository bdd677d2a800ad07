"""The table of ids: it is a dictionary, in few bytes."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.batch.ids import IdTable


def digest(i: int, *, alike: bool = False) -> bytes:
    """alike: all are looked for at the same place."""
    found = hashlib.blake2b(b"%d" % i, digest_size=16).digest()
    return bytes(8) + found[8:] if alike else found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 2**32 - 1)), max_size=900), st.booleans())
def test_it_is_a_dictionary(pairs: list[tuple[int, int]], alike: bool) -> None:
    table, model = IdTable(), {}
    for i, value in pairs[: 40 if alike else None]:
        table.set(digest(i, alike=alike), value)
        model[i] = value
    assert len(table) == len(model)
    assert [table.get(digest(i, alike=alike)) for i in range(301)] == [model.get(i, 0) for i in range(301)]


def test_it_grows_and_keeps_all() -> None:
    table = IdTable()
    for i in range(20_000):
        table.set(digest(i), i + 1)
    assert [table.get(digest(i)) for i in range(20_000)] == list(range(1, 20_001))
    assert not any(table.get(digest(i)) for i in range(20_000, 40_000))


def test_bytes_per_id() -> None:
    table = IdTable()
    for i in range(30_000):
        table.set(digest(i), 1)
        if i > 1000:
            assert 30 <= table.n_bytes / (i + 1) <= 60.1
