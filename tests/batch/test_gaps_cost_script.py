"""scripts/gaps_cost.py: what gaps cost, on a tiny model and on invented figures."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edge_sir


@pytest.fixture
def gaps_cost(import_script: Callable[[str], ModuleType]) -> ModuleType:
    import_script("bench_stats")
    return import_script("gaps_cost")


def test_a_dialogue_is_of_what_people_said_in_an_order_of_its_seeds_own(gaps_cost: ModuleType) -> None:
    one, same, other = (gaps_cost.dialogue(seed, 40) for seed in (0, 0, 1))
    assert one == same != other and len(one) == len(set(one)) == 40
    assert all(said and reply for said, reply in one)


def test_the_arms_part_once_something_is_evicted(gaps_cost: ModuleType, tiny_llama_path: Path) -> None:
    turns = gaps_cost.dialogue(0, 6)
    with edge_sir.load(tiny_llama_path, threads=1, quiet=True) as model:
        roomy = {arm: gaps_cost.surprisals(model, turns, arm, "sir", 480) for arm in gaps_cost.ARMS}
        small = {arm: gaps_cost.surprisals(model, turns, arm, "sir", 128) for arm in gaps_cost.ARMS}
    assert [evicted for _, evicted in roomy.values()] == [0, 0, 0]
    assert len({mean for mean, _ in roomy.values()}) == 1
    assert small["packed"][1] == pytest.approx(small["gaps"][1], abs=20) and small["gaps"][1] > 100
    assert len({mean for mean, _ in small.values()}) == 3 and small["keep-all"] == roomy["keep-all"]


def test_differences_are_of_the_same_dialogues(gaps_cost: ModuleType) -> None:
    packed = np.array([2.0, 3.0, 4.0, 5.0])
    lines = gaps_cost.report({"packed": packed, "gaps": packed + 0.5, "keep-all": packed - 0.25})
    assert lines == [
        "surprisal, nats a token: packed 3.500, gaps 4.000, keep-all 3.250",
        "gaps less packed: +0.5000 [+0.5000, +0.5000], n = 4",
        "packed less keep-all: +0.2500 [+0.2500, +0.2500], n = 4",
    ]
