"""The generated tasks measure memory: keeping the fact on purpose answers them, dropping it on purpose is guessing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sir.eval import task as tasks
from edge_sir.eval.evaluate import Request, evaluate
from edge_sir.eval.runner import arms_of
from edge_sir.eval.stage import Stage, open_stage
from edge_sir.eval.stats import wilson
from edge_sir.llama.requantize import to_f32

pytestmark = pytest.mark.model

N = 5
WITH_A_FACT = [
    *("single-item", "item-list", "numbers", "names", "appointments", "correction", "preference", "instruction"),
    *("order", "never-mentioned", "rehearsal", "identifiers", "single-item-german", "grocery"),
]


@pytest.fixture(scope="module")
def stage(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The default model with its weights as 32-bit floats, which reads faster."""
    quick = to_f32(smollm2_path, tmp_path_factory.mktemp("quick") / "smollm2.gguf")
    stage = open_stage(str(quick), threads=2, quiet=True)
    yield stage
    stage.close()


@pytest.mark.parametrize("name", WITH_A_FACT)
def test_a_task_measures_memory(stage: Stage, name: str) -> None:
    arms = arms_of(["keep-all", "keep-gold", "drop-gold"], [192])
    request = Request(name, n=N, seed=7, n_tokens=420, metrics=("recall",))
    rows = evaluate(stage, arms, request).rows
    right = {arm.spec: sum(row.correct for row in rows if row.policy == arm.spec) for arm in arms}
    resident = {arm.spec: [row.gold_resident for row in rows if row.policy == arm.spec] for arm in arms}
    assert resident["keep-all"] == resident["keep-gold"] == [1.0] * N and resident["drop-gold"] == [0.0] * N
    assert wilson(right["keep-all"], N)[0] <= right["keep-gold"] / N
    assert wilson(right["drop-gold"], N)[0] <= tasks.task(name).chance
    assert right["keep-gold"] >= right["drop-gold"]


def test_the_dice_decide_everything(stage: Stage) -> None:
    arms = arms_of(["sir", "random:seed=3"], [128])
    request = Request("names", n=1, seed=2, n_tokens=260)
    first, second = (evaluate(stage, arms, request).rows for _ in range(2))
    assert [row.logprobs for row in first] == [row.logprobs for row in second]
    other = evaluate(stage, arms, Request("names", n=1, seed=3, n_tokens=260)).rows
    assert [row.logprobs for row in other] != [row.logprobs for row in first]
