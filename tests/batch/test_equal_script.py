"""scripts/batch_equal.py: where two runs of a dialogue part, and how near what decided was. On invented events."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dialogues import Watched, run, some_requests


@pytest.fixture
def equal(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("batch_equal")


def token(equal: ModuleType, chosen: int, **row: float) -> Any:
    return equal.Event("token", (chosen,), np.array([int(k[1:]) for k in row]), np.array([*row.values()]))


def eviction(equal: ModuleType, cut: float, **values: float) -> Any:
    born = np.array([int(k[1:]) for k in values])
    return equal.Event("eviction", tuple(sorted(born.tolist())), born, np.array([*values.values()]), cut)


def test_the_first_token_that_differs_and_its_margin(equal: ModuleType) -> None:
    same = token(equal, 1, t1=5.0, t2=1.0)
    one = [same, token(equal, 3, t3=2.0, t4=1.75), same]
    other = [same, token(equal, 4, t3=1.5, t4=1.75), token(equal, 9, t9=1.0)]
    assert equal.first_difference(one, one) is None
    assert equal.first_difference(one, other) == equal.Difference("token", 1, 0.25, 0.5)
    assert equal.first_difference(one, [same, token(equal, 7, t7=2.0)]) == equal.Difference("token", 1, None, None)


def test_the_first_eviction_that_differs_and_how_far_from_the_cut(equal: ModuleType) -> None:
    one, other = eviction(equal, 2.0, b1=0.5, b2=1.9), eviction(equal, 2.0, b1=0.55, b3=1.98)
    found = equal.first_difference([one], [other])
    assert (found.kind, found.n_before) == ("eviction", 0)
    assert (found.margin, found.noise) == (pytest.approx(0.05), pytest.approx(0.1))


def test_what_is_no_near_tie_is_said_as_such(equal: ModuleType) -> None:
    a, b = token(equal, 1, t1=1.0), eviction(equal, 1.0, b1=0.5)
    assert equal.first_difference([a], [b]) == equal.Difference("order", 0, None, None)
    assert equal.first_difference([a], [a, b]) == equal.Difference("length", 1, None, None)
    one, other = equal.Run({"x": [a]}, {"x": ("yes",)}), equal.Run({"x": [a]}, {"x": ("no",)})
    with pytest.raises(RuntimeError, match="nothing that was drawn or evicted"):
        equal.compare(one, other)
    assert equal.compare(one, one) == (1, {})


def test_all_draws_and_evictions_are_noted(equal: ModuleType) -> None:
    asked = some_requests(6, seed=2)
    with equal.watched() as events:
        results = run(asked, Watched(3))
    assert events.keys() == {one.custom_id for one in asked}
    for one in results:
        kinds = [event.kind for event in events[one.custom_id]]
        assert kinds.count("token") >= one.n_generated > 0
        n_evicted = sum(len(e.chosen) for e in events[one.custom_id] if e.kind == "eviction")
        assert n_evicted >= one.edge_sir["evicted"]
    assert sum(one.edge_sir["evicted"] for one in results) > 0
