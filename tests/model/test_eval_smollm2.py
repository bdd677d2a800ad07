"""The generated tasks measure memory: keeping the fact on purpose answers them, dropping it on purpose is guessing."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import binomtest

from edge_sir.eval import task as tasks
from edge_sir.eval.evaluate import Request, evaluate
from edge_sir.eval.runner import arms_of
from edge_sir.eval.stage import Stage, open_stage
from edge_sir.eval.stats import wilson
from edge_sir.llama.requantize import to_f32

pytestmark = pytest.mark.model

N = 5
# So few dialogues of one task tell nothing; those of several together do.
WITH_A_FACT = {
    "one fact": ("single-item", "single-item-german", "numbers", "identifiers", "grocery"),
    "one of many facts": ("item-list", "names", "appointments", "never-mentioned", "order"),
    "what was wished": ("correction", "preference", "instruction", "rehearsal"),
}


@pytest.fixture(scope="module")
def stage(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The default model with its weights as 32-bit floats, which reads faster."""
    quick = to_f32(smollm2_path, tmp_path_factory.mktemp("quick") / "smollm2.gguf")
    stage = open_stage(str(quick), threads=2, quiet=True)
    yield stage
    stage.close()


@pytest.mark.parametrize("group", WITH_A_FACT)
def test_tasks_measure_memory(stage: Stage, group: str) -> None:
    names = WITH_A_FACT[group]
    right: Counter[str] = Counter()
    for name in names:
        assert tasks.task(name).chance == 0.25
        right += _right(stage, name)
    n = N * len(names)
    low, high = wilson(right["keep-all"], n)
    assert binomtest(right["keep-all"], n, 0.25, alternative="greater").pvalue < 0.01, right
    assert low <= right["keep-gold"] / n <= high, right
    assert binomtest(right["drop-gold"], n, 0.25, alternative="greater").pvalue > 0.05, right


def _right(stage: Stage, name: str) -> Counter[str]:
    """Right answers by policy, of N dialogues each."""
    arms = arms_of(["keep-all", "keep-gold", "drop-gold"], [192])
    request = Request(name, n=N, seed=7, n_tokens=420, metrics=("recall",))
    rows = evaluate(stage, arms, request).rows
    resident = {arm.spec: [row.gold_resident for row in rows if row.policy == arm.spec] for arm in arms}
    assert resident == {"keep-all": [1.0] * N, "keep-gold": [1.0] * N, "drop-gold": [0.0] * N}, name
    return Counter(row.policy for row in rows if row.correct)


def test_the_dice_decide_everything(stage: Stage) -> None:
    arms = arms_of(["sir", "random:seed=3"], [128])
    request = Request("names", n=1, seed=2, n_tokens=260)
    first, second = (evaluate(stage, arms, request).rows for _ in range(2))
    assert [row.logprobs for row in first] == [row.logprobs for row in second]
    other = evaluate(stage, arms, Request("names", n=1, seed=3, n_tokens=260)).rows
    assert [row.logprobs for row in other] != [row.logprobs for row in first]
