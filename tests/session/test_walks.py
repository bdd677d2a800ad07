"""Random walks beside a plain twin; the whole of them: `--toy-walks 10000 --model-walks 300`. A walk is its seed."""

from pathlib import Path

import pytest
from recall_walks import walk_recalling
from walks import walk_model, walk_toy

import edge_sir

_PARTS = 8  # so that a failure does not hide the others'


@pytest.mark.parametrize("part", range(_PARTS))
def test_walks_on_the_toy(part: int, request: pytest.FixtureRequest) -> None:
    n, first = request.config.getoption("--toy-walks"), request.config.getoption("--walk-seed")
    for seed in range(first + part, first + n, _PARTS):
        walk_toy(seed)


@pytest.mark.parametrize("part", range(_PARTS))
def test_walks_of_chats_that_recall(part: int, request: pytest.FixtureRequest) -> None:
    n, first = request.config.getoption("--toy-walks") // 10, request.config.getoption("--walk-seed")
    for seed in range(first + part, first + n, _PARTS):
        walk_recalling(seed)


@pytest.mark.model
def test_walks_on_smollm2(smollm2_path: Path, request: pytest.FixtureRequest) -> None:
    n, first = request.config.getoption("--model-walks"), request.config.getoption("--walk-seed")
    with edge_sir.load(smollm2_path, quiet=True, max_tokens=6, threads=1) as model:
        for seed in range(first, first + n):
            walk_model(seed, model)
