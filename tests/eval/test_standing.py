"""Where `sir` is said to stand, from rows that no model made."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from making import arm, keep, read, row

from edge_sir.eval.records import Row
from edge_sir.eval.report.folder import load_all
from edge_sir.eval.report.standing import Aim, Measured
from edge_sir.eval.report.stats import Estimate


@pytest.fixture
def results(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("results_135m")


def page_of(results: ModuleType, folder: Path) -> str:
    """The page of the evaluations in a folder, or of none."""
    return results.standing(load_all(folder) if any(folder.glob("*/run.json")) else {}, {})


def arms(budget: int, values: dict[str, Sequence[float]]) -> list[Row]:
    """One question in each of ten dialogues or so, right where its gold log-probability is above -5."""
    return [
        replace(r, last=True)
        for name, gold in values.items()
        for r in arm(name, 0 if name == "keep-all" else budget, [g > -5 for g in gold], gold)
    ]


def lines(page: str, start: str) -> list[list[str]]:
    """The cells of the table lines that start so."""
    found = [line for line in page.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def test_nothing_played_is_no_verdict(results: ModuleType, tmp_path: Path) -> None:
    aims = results.aims_of([], {})
    assert [aim.verdict() for aim in aims] == ["not played"] * len(aims)
    assert "**missed**" not in page_of(results, tmp_path)


@pytest.mark.parametrize(
    ("value", "ci", "at_most", "verdict"),
    [
        (0.9, (0.85, 0.95), False, "reached"),
        (0.9, (0.75, 0.95), False, "reached, not settled"),
        (0.7, (0.6, 0.75), False, "**missed**"),
        (0.7, (0.6, 0.85), False, "**missed**, not settled"),
        (0.7, (0.6, 0.75), True, "reached"),
        (0.9, None, True, "**missed**, not settled"),
        (1.0, (1.0, 1.0), False, "reached, not settled"),  # eight of eight are not all there are
    ],
)
def test_verdicts(value: float, ci: tuple[float, float] | None, at_most: bool, verdict: str) -> None:
    assert Aim("", 0.8, Measured(Estimate(value, ci), ""), at_most).verdict() == verdict


def test_the_paper_s_task_is_held_against_keep_all(results: ModuleType, tmp_path: Path) -> None:
    far = [-1.0] * 9 + [-9.0]  # one of ten answers fewer, 0.8 nats less
    keep(tmp_path / "grocery-lead10", "grocery", arms(256, {"keep-all": [-1.0] * 10, "sir": far}))
    page = page_of(results, tmp_path)
    (recall,), (gold,) = lines(page, "paper's task"), lines(page, "the same")
    assert recall[1:] == ["≥ -0.02", "-0.10 [-0.40, 0.00]", "10 questions", "**missed**, not settled"]
    assert gold[2].startswith("-0.80 [") and gold[4].startswith("**missed**")


def test_tasks_are_counted_and_their_least_is_named(results: ModuleType, tmp_path: Path) -> None:
    good, half, lost = [-1.0] * 12, [-1.0] * 6 + [-9.0] * 6, [-9.0] * 12
    group = {"group": results.TWELVE_TASKS}
    keep(tmp_path / "task-a", "names", arms(300, {"keep-all": good, "sir": good}), **group)
    keep(tmp_path / "task-b", "numbers", arms(300, {"keep-all": good, "sir": half}), **group)
    keep(tmp_path / "task-c", "order", arms(300, {"keep-all": lost, "sir": good}), **group)  # says nothing of memory
    keep(tmp_path / "other", "names", arms(300, {"keep-all": good, "sir": lost}))  # of no group
    page = page_of(results, tmp_path)
    ((*_, number, over, _),) = lines(page, "our twelve")
    assert (number, over) == ("2", "3 tasks")
    assert [line[2:] for line in lines(page, "those, in a quarter")] == [
        ["0.75 [–]", "2 tasks", "**missed**, not settled"]
    ]
    assert [line[2:4] for line in lines(page, "those: least")] == [["0.50 [–]", "`task-b`"]]


def test_wins_ties_and_losses(results: ModuleType, tmp_path: Path) -> None:
    ours = [-1.0 - i / 100 for i in range(10)]
    values = {
        "keep-all": ours,
        "sir": ours,
        "units": [g + 0.5 + i / 1000 for i, g in enumerate(ours)],
        "sirllm": [g - 6 - i / 1000 for i, g in enumerate(ours)],
        "sirllm-published": [g - 7 - i / 1000 for i, g in enumerate(ours)],
        "streaming": [g + (-1) ** i for i, g in enumerate(ours)],
    }
    keep(tmp_path / "single-item", "single-item", arms(256, values))
    keep(tmp_path / "few", "single-item", arms(256, {name: gold[:5] for name, gold in values.items()}))
    keep(tmp_path / "choice", "single-item", arms(256, values), group=results.CHOOSING)
    page = page_of(results, tmp_path)
    ((*_, units, sirllm, published, entropy, streaming, _, _),) = lines(page, "single-item")[:1]
    assert units == "loss -0.50" and sirllm == "win +6.00" and published == "win +7.00"
    assert streaming == "tie 0.00" and entropy == "–"
    assert all(cell.startswith(("open", "–")) for cell in lines(page, "few")[0][2:])
    assert not lines(page, "choice")
    assert [line[1:] for line in lines(page, "`units`")] == [["0", "0", "1", "1"]]
    definition, code, gold, alone = lines(page, "single-item")[1][2:]
    assert (definition[:4], code[:4], gold, alone) == ("0.00", "0.00", "win +1.00", "1 (0:0)")


def test_our_tasks_have_a_mean_that_draws_tasks(results: ModuleType, tmp_path: Path) -> None:
    for i in range(8):
        values = {"keep-all": -1.0, "sir": -1.0, "units": -2.0 - i / 7, "streaming": -1.0 + (-1) ** i}
        thrice = {name: [gold] * 3 for name, gold in values.items()}
        keep(tmp_path / f"task-{i}", "single-item", arms(300, thrice), group=results.TWELVE_TASKS)
    page = page_of(results, tmp_path)
    ((_, budget, units, sirllm, *_, streaming, _, _),) = lines(page, "mean of our tasks")
    assert (budget, units, sirllm, streaming) == ("300", "win +1.50", "–", "tie 0.00")
    assert [line[1:] for line in lines(page, "`units`")] == [["0", "0", "0", "8"]]  # it is no ninth comparison


def test_plain_text_is_held_against_streaming(results: ModuleType, tmp_path: Path) -> None:
    def text(name: str, least: float, step: float) -> list[Row]:
        return [replace(read(name, 256, i, least - i * step), last=i == 39) for i in range(40)]

    rows = [*text("sir", -3.0, 0.012), *text("streaming", -2.9, 0.01)]
    keep(tmp_path / "perplexity", "perplexity", rows)
    keep(tmp_path / "perplexity-licence", "perplexity", [*text("sir", -2.9, 0.01), *text("streaming", -2.9, 0.01)])
    page = page_of(results, tmp_path)
    (line,) = lines(page, "our own plain text, 256")
    # exp(0.1 + 0.002 * 19.5) = 1.149
    assert line[1] == "≤ 1.010" and line[2].startswith("1.149 [1.1") and line[3:] == ["40 pieces of text", "**missed**"]
    assert lines(page, "a licence, 256")[0][-1] == "reached, not settled"


def test_each_metric_of_a_folder_has_its_line(results: ModuleType, tmp_path: Path) -> None:
    near, far = [-1.0] * 10, [-9.0 - i / 10 for i in range(10)]
    rows = [
        replace(r, metric=metric, index=i, last=i == 1)
        for i, (metric, gold) in enumerate([("recall_20", near), ("recall_40", far)])
        for r in arms(128, {"keep-all": near, "sir": near, "streaming": gold})
    ]
    keep(tmp_path / "decay-forgetting", "forgetting", rows)
    page = page_of(results, tmp_path)
    found = {line[0]: line[6] for line in lines(page, "decay-forgetting")}
    assert found == {"decay-forgetting, recall 20": "tie 0.00", "decay-forgetting, recall 40": "win +8.45"}


def test_retention_stands_by_decay(results: ModuleType, tmp_path: Path) -> None:
    good, half = [-1.0] * 8, [-1.0] * 4 + [-9.0] * 4
    values = {"keep-all": good, "sir": good, "sir:decay=1": good, "sir:decay=0.5": half, "units": half}
    keep(tmp_path / "decay-short", "single-item", arms(64, values))
    keep(tmp_path / "choice", "single-item", arms(64, values), group=results.CHOOSING)
    page = page_of(results, tmp_path)
    assert lines(page, "run")[1] == ["run", "policy", "cells", "n", "1", "0.99", "0.5"]  # 0.99 is the default's
    assert lines(page, "decay-short")[-1] == ["decay-short", "`sir`", "64", "8", "1.00", "1.00", "0.50"]
    assert not lines(page, "choice")


@pytest.mark.parametrize(
    ("n_rock", "verdict"), [(0, "not measurable: always the same move"), (10, "reached, not settled")]
)
def test_a_player_who_changes_is_no_matter_for_a_model_that_does_not(
    results: ModuleType, tmp_path: Path, n_rock: int, verdict: str
) -> None:
    moves = [0] * n_rock + [2] * (30 - n_rock)
    rows = [
        row("sir", 1024, "turncoat-0-30", index=i, metric="win_after", chosen=move, right=i % 5 < 2, last=i == 29)
        for i, move in enumerate(moves)
    ]
    keep(tmp_path / "rps-few-shot", "rps", rows)
    assert lines(page_of(results, tmp_path), "rock-paper-scissors")[0][-1] == verdict


def test_what_the_bench_measured_is_held_against_its_aim(results: ModuleType) -> None:
    assert results.aims_of([], {})[-1].verdict() == "not played"
    figure = {"value": 0.85, "low": 0.8, "high": 0.88, "limit": 0.79}
    line = results.aims_of([], {"eval_vs_bare": figure})[-1].line()
    assert line[1:3] == ["≥ 0.90", "0.85 [0.80, 0.88]"] and line[-1] == "**missed**"
    assert "0.79 if only arithmetic counted" in line[3]
