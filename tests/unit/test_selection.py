"""`sirllm` selects exactly what the released code selects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sir.core.ledger import COLUMNS
from edge_sir.core.policy import LedgerView
from edge_sir.policies.sirllm import SirLLM, select

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "selection.json").read_text(encoding="utf-8"))
CASES = pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))
SIZES = ("n_sink", "n_entropy", "n_recent", "n_incoming")


def test_there_are_sixty_cases_and_most_of_them_evict() -> None:
    assert len(GOLDEN) == 60
    assert sum(len(case["kept"]) < case["n_resident"] for case in GOLDEN) > 30


@CASES
def test_select_is_the_golden_one(case: dict[str, Any]) -> None:
    assert select(case["scores"], **{size: case[size] for size in SIZES}).tolist() == case["kept"]


@pytest.mark.parametrize("case", [case for case in GOLDEN if len(case["kept"]) < case["n_resident"]])
def test_the_policy_selects_the_same_within_the_paper_sizes(case: dict[str, Any]) -> None:
    """The paper's cache size is n_sink + n_entropy + n_recent, which is the session's budget."""
    n, n_drop = case["n_resident"], case["n_resident"] - len(case["kept"])
    columns = {name: np.zeros(n, dtype) for name, dtype in COLUMNS} | {"surprisal": np.array(case["scores"])}
    protect = np.arange(n) < case["n_sink"]
    policy = SirLLM(n_sink=case["n_sink"], n_recent=case["n_recent"])
    plan = policy.plan(LedgerView(columns, 0, 0, n_drop), n_drop, protect)
    assert np.setdiff1d(np.arange(n), plan.rows).tolist() == case["kept"]


# scores, (n_sink, n_entropy, n_recent, n_incoming), kept
BY_HAND: list[tuple[list[float], tuple[int, int, int, int], list[int]]] = [
    ([1, 1, 1, 1, 1, 1], (0, 3, 0, 0), [0, 1, 2]),  # all alike: the older stay
    ([0, 5, 5, 5, 0, 0], (0, 2, 0, 0), [1, 2]),
    ([0, 2, 9, 2, 2, 0], (0, 3, 0, 0), [1, 2, 3]),  # a tie at the border
    ([0, 2, 9, 2, 2, 0], (0, 3, 1, 0), [1, 2, 3, 5]),
    ([9, 1, 8, 1, 1, 1], (1, 2, 0, 0), [0, 2, 5]),  # a sink among the best leaves a place to the newest
    ([0, 0, 7, 8, 9, 0], (1, 3, 2, 2), [0, 4, 5, 3]),  # the incoming tokens take from the scored part
    ([0, 7, 8, 9, 0, 0], (1, 1, 3, 2), [0, 4, 5]),  # ... and then from the recent part
    ([3, 1, 2], (1, 1, 1, 0), [0, 1, 2]),  # everything fits
]


@pytest.mark.parametrize(("scores", "sizes", "kept"), BY_HAND)
def test_selection_by_hand(scores: list[float], sizes: tuple[int, int, int, int], kept: list[int]) -> None:
    assert select(scores, **dict(zip(SIZES, sizes, strict=True))).tolist() == sorted(kept)
