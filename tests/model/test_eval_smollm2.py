"""The generated tasks measure memory: keeping the fact on purpose answers them, dropping it on purpose is guessing."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import binomtest

from edge_sir.cli import main
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.contexts import Contexts, open_contexts
from edge_sir.eval.play.evaluate import Request, evaluate
from edge_sir.eval.report.stats import wilson
from edge_sir.eval.store import load_run
from edge_sir.llama.requantize import to_f32

pytestmark = pytest.mark.model

N = 5
# So few dialogues of one task show no more than that it does not give its answer away; those of several tell the rest.
# dailydialog, rps and perplexity are not among them: nothing is told there that could be kept on purpose.
WITH_A_FACT = {
    "one fact": ("single-item", "single-item-german", "numbers", "identifiers", "grocery"),
    "one of many facts": ("item-list", "names", "appointments", "never-mentioned", "order"),
    "what was wished": ("correction", "preference", "instruction", "rehearsal"),
    "how long ago": ("forgetting", "short", "mix", "long"),
}


@pytest.fixture(scope="module")
def contexts(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contexts]:
    """The default model with its weights as 32-bit floats, which reads faster."""
    quick = to_f32(smollm2_path, tmp_path_factory.mktemp("quick") / "smollm2.gguf")
    contexts = open_contexts(str(quick), threads=2, quiet=True)
    yield contexts
    contexts.close()


@pytest.mark.parametrize("group", WITH_A_FACT)
def test_tasks_measure_memory(contexts: Contexts, group: str) -> None:
    right: Counter[str] = Counter()
    n = 0
    for name in WITH_A_FACT[group]:
        found, n_asked = _right(contexts, name)
        assert wilson(found["keep-all"], n_asked)[0] <= found["keep-gold"] / n_asked, name
        assert _above_chance(found["drop-gold"], n_asked) > 0.01, name
        right, n = right + found, n + n_asked
    low, high = wilson(right["keep-all"], n)
    assert _above_chance(right["keep-all"], n) < 0.01, right
    assert low <= right["keep-gold"] / n <= high, right
    assert _above_chance(right["drop-gold"], n) > 0.05, right


def _above_chance(n_right: int, n: int) -> float:
    """p of so many right answers, or more, by guessing among four."""
    return float(binomtest(n_right, n, 0.25, alternative="greater").pvalue)


def _right(contexts: Contexts, name: str) -> tuple[Counter[str], int]:
    """Right answers by policy, of N dialogues each, and how many questions they were asked."""
    task = tasks.task(name)
    assert task.chance == 0.25
    arms = arms_of(["keep-all", "keep-gold", "drop-gold"], [64 if name == "short" else 192])
    metrics = () if name in ("mix", "long") else task.metrics[:1]  # these two ask each question once
    rows = evaluate(contexts, arms, Request(name, n=N, seed=7, n_tokens=420, metrics=metrics)).rows
    n_asked = len(rows) // len(arms)
    resident = {arm.spec: [row.gold_resident for row in rows if row.policy == arm.spec] for arm in arms}
    expected = {"keep-all": 1.0, "keep-gold": 1.0, "drop-gold": 0.0}
    assert resident == {spec: [share] * n_asked for spec, share in expected.items()}, name
    return Counter(row.policy for row in rows if row.correct), n_asked


def test_the_dice_decide_everything(contexts: Contexts) -> None:
    arms = arms_of(["sir", "random:seed=3"], [128])
    request = Request("names", n=1, seed=2, n_tokens=260)
    first, second = (evaluate(contexts, arms, request).rows for _ in range(2))
    assert [row.logprobs for row in first] == [row.logprobs for row in second]
    other = evaluate(contexts, arms, Request("names", n=1, seed=3, n_tokens=260)).rows
    assert [row.logprobs for row in other] != [row.logprobs for row in first]


def test_a_dialogue_of_ones_own_is_played_and_both_kinds_of_question_are_shown(
    smollm2_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [{"id": "m0", "role": "user", "content": "My sister Ottilie keeps bees in Tromsø."}]
    said += [{"role": "user", "content": f"Today I read {n} pages about old ships."} for n in range(40)]
    messages = [part for message in said for part in (message, {"role": "assistant", "content": "I see."})]
    options = {"options": ["Tromsø", "Oslo", "Rome", "Lima"], "stem": "Ottilie keeps bees in", "evidence": ["m0"]}
    questions = [
        {"question": "Where does Ottilie keep bees?", "answer": "Tromsø", **options},
        {"question": "Where does Ottilie keep bees?", "answer": "In Tromsø.", "evidence": ["m0"]},
    ]
    data = tmp_path / "talks.jsonl"
    data.write_text(json.dumps({"messages": messages, "questions": questions}) + "\n", encoding="utf-8")
    command = ["eval", "file", "--data", str(data), "--model", str(smollm2_path), "--threads", "2", "--quiet"]
    policies = [word for spec in ("keep-all", "sir", "streaming") for word in ("--policy", spec)]
    assert main([*command, *policies, "--budget", "128", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown and "By answer:" in shown and "perplexity" in shown
    rows = {(row.policy, row.metric): row for row in load_run(tmp_path / "out")[1]}
    recalled, gone = rows["sir:recall=cells", "accuracy"], rows["streaming", "accuracy"]
    assert recalled.found and recalled.gold_resident > 0.5 and gone.gold_resident == 0 and gone.evicted > 0
    assert recalled.gold_logprob > gone.gold_logprob
    assert rows["sir:recall=cells", "answer"].gold_logprob > rows["streaming", "answer"].gold_logprob
