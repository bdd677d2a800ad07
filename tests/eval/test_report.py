"""Reports, to the letter where it matters."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from making import arm, keep, read, row, run, summary

from edge_sir.eval.records import Row
from edge_sir.eval.report import markdown
from edge_sir.eval.report.folder import load
from edge_sir.eval.report.many_runs import folder_report
from edge_sir.eval.report.one_run import command, run_report, run_table
from edge_sir.eval.report.summary import Summary

RUN: dict[str, Any] = {
    "task": "grocery",
    "model": "smollm2",
    "model_sha256": "7b46609d11703c058397e5cfe4cc6e4b",
    "answer": "rank",
    "metrics": ["recall"],
    "seed": 3,
    "lead": 10,
    "n_tokens": 1200,
    "positions": "auto",
    "data_sha256": "dc270af0",
    "versions": {"edge-sir": "0.1.0", "python": "3.11.7"},
    "host": "Linux x86_64, 2 cores",
}


def grocery(*, task: str = "grocery", n: int = 8, keep_all: int = 8) -> Summary:
    """keep-all gets `keep_all` of n, sir all but one, sirllm half, streaming none; each by the same log-probability."""
    rows = [
        *arm("keep-all", 0, [1] * keep_all + [0] * (n - keep_all), [-4.0] * n),
        *arm("sir", 256, [1] * (n - 1) + [0], [-3.5] * n, gold_resident=0.75),
        *arm("sirllm", 256, [1] * (n // 2) + [0] * (n - n // 2), [-7.25] * n, gold_resident=0.5),
        *arm("streaming", 256, [0] * n, [-15.0] * n, gold_resident=0.0),
        *arm("sir", 128, [1] * (n - 1) + [0], [-3.5] * n, gold_resident=0.25),
    ]
    return summary(rows, task=task)


def plain() -> Summary:
    rows = [read(p, b, i, x) for p, b, x in (("keep-all", 0, -3.0), ("streaming", 256, -3.2)) for i in range(24)]
    return summary(rows, task="perplexity", metrics=("log_probability",))


# Wilson: 8 of 8: low 8 / (8 + 3.8415) = 0.68; 7 of 8: [0.53, 0.98]; 4 of 8: [0.22, 0.78]; 0 of 8: high 3.84 / 11.84.
# The best wrong option has -2 nats everywhere, and the margin is what the gold one has above that.
# Retention, 4 of 8: of 8 halves drawn P(X = 0) = 0.004, P(X <= 1) = 0.035, so the ends are 1/8 and 7/8.
TABLE = """\
| policy      | cells | resident |   n |            recall |         retention |       gold log-prob. |               margin | gold resident | MB outside | tokens | s/turn |
| ----------- | ----: | -------: | --: | ----------------: | ----------------: | -------------------: | -------------------: | ------------: | ---------: | -----: | -----: |
| `keep-all`  |   all |     1200 |   8 | 1.00 [0.68, 1.00] |              1.00 | -4.00 [-4.00, -4.00] | -2.00 [-2.00, -2.00] |          1.00 |          0 |   1200 |      2 |
| `sir`       |   128 |      128 |   8 | 0.88 [0.53, 0.98] | 0.88 [0.50, 1.00] | -3.50 [-3.50, -3.50] | -1.50 [-1.50, -1.50] |          0.25 |          0 |   1200 |      2 |
| `sir`       |   256 |      256 |   8 | 0.88 [0.53, 0.98] | 0.88 [0.50, 1.00] | -3.50 [-3.50, -3.50] | -1.50 [-1.50, -1.50] |          0.75 |          0 |   1200 |      2 |
| `sirllm`    |   256 |      256 |   8 | 0.50 [0.22, 0.78] | 0.50 [0.12, 0.88] | -7.25 [-7.25, -7.25] | -5.25 [-5.25, -5.25] |          0.50 |          0 |   1200 |      2 |
| `streaming` |   256 |      256 |   8 | 0.00 [0.00, 0.32] | 0.00 [0.00, 0.00] | -15.0 [-15.0, -15.0] | -13.0 [-13.0, -13.0] |          0.00 |          0 |   1200 |      2 |"""  # noqa: E501

# sir against keep-all: 0:1, p 1; against sirllm 3:0, p 2/8; against streaming 7:0, p 2/128 = 0.0156.
# keep-all is always right, so the differences are retention - 1, and so are their intervals.
COMPARISONS = """\
| policy      | cells |  recall − keep-all's | gold log-prob. − keep-all's | gold log-prob. − sirllm's | p vs keep-all | p vs sirllm | p vs streaming |
| ----------- | ----: | -------------------: | --------------------------: | ------------------------: | ------------: | ----------: | -------------: |
| `sir`       |   128 |  -0.12 [-0.50, 0.00] |        +0.50 [+0.50, +0.50] |                         – |       1 (0:1) |           – |              – |
| `sir`       |   256 |  -0.12 [-0.50, 0.00] |        +0.50 [+0.50, +0.50] |      +3.75 [+3.75, +3.75] |       1 (0:1) |  0.25 (3:0) |    0.016 (7:0) |
| `sirllm`    |   256 | -0.50 [-0.88, -0.12] |        -3.25 [-3.25, -3.25] |                         – |    0.12 (0:4) |           – |     0.12 (4:0) |
| `streaming` |   256 | -1.00 [-1.00, -1.00] |        -11.0 [-11.0, -11.0] |      -7.75 [-7.75, -7.75] |  0.0078 (0:8) |  0.12 (0:4) |              – |"""  # noqa: E501


def test_the_main_table() -> None:
    assert run_table(grocery()) == TABLE


def test_a_report_says_what_was_asked_and_holds_both_tables() -> None:
    text = run_report(grocery(), RUN)
    assert text.startswith(
        "# grocery on smollm2, 10 exchanges before the fact\n"
        "\n"
        "Model smollm2 (SHA-256 7b46609d1170...); 8 questions in 8 dialogues per row, the option with the highest "
        "log-probability wins, chance is 0.25.\n"
        "Command: `edge-sir eval grocery --model smollm2 --policy keep-all --policy sir:recall=off --policy sirllm "
        "--policy streaming --budget 128 --budget 256 --seed 3 --lead 10 --tokens 1200 --answer rank "
        "--metric recall --data PATH --n 8`.\n"
        "Made with edge-sir 0.1.0, python 3.11.7, Linux x86_64, 2 cores.\n"
        "\n" + TABLE
    )
    assert COMPARISONS in text
    assert "Not measurable" not in text
    assert "several questions per dialogue" not in text


def test_a_report_tells_the_cells_beside_the_budget() -> None:
    text = run_report(grocery(), RUN | {"scratch_cells": 192})
    assert "Options were valued in 192 scratch cells beside those of the table." in text
    assert "scratch" not in run_report(plain(), RUN | {"scratch_cells": 192}) + run_report(grocery(), RUN)


def test_a_report_needs_nothing_of_run_json() -> None:
    text = run_report(grocery(), {})
    assert text.startswith("# grocery on smollm2\n\nModel smollm2; 8 questions")
    assert "Made with" not in text
    assert "PATH" not in text


def test_a_task_that_touches_chance_is_said_to_be_not_measurable() -> None:
    text = run_report(grocery(keep_all=3), RUN)
    # 3 of 8: Wilson's low end is 0.14.
    assert "**Not measurable with this model:** keep-all's recall of 0.38 [0.14, 0.69] touches chance (0.25)" in text
    # 7 of 8: Wilson's low end is 0.53; 4 of 8: 0.22.
    assert "Above chance with their whole interval nevertheless: `sir` at 256 cells, `sir` at 128 cells." in text


def test_a_habit_is_said_before_the_table() -> None:
    text = run_report(summary([row("sir", 256, f"d{i}") for i in range(20)]), RUN)
    assert "**Not measurable with this model:** under every policy its answer is nearly always the same" in text


def test_a_report_without_keep_all_says_so() -> None:
    assert "There is no keep-all arm" in run_report(summary(arm("sir", 256, [1, 1], [-1.0, -2.0])), {})


def test_perplexity_has_its_own_columns() -> None:
    text = run_report(plain(), {})
    # exp(3) = 20.0855, exp(3.2) = 24.5325, exp(0.2) = 1.2214; recall and retention are no words for it.
    assert "|           perplexity |" in text
    assert "20.09 [20.09, 20.09]" in text
    assert "24.53 [24.53, 24.53]" in text
    assert "1.221 [1.221, 1.221]" in text
    assert "retention" not in text.lower()
    assert "--n " not in text


def test_long_dialogues_show_whether_turns_get_slower() -> None:
    text = run_table(summary([row("sir", 256, "d0", ends=(0.125, 0.25)), row("streaming", 256, "d0")]))
    assert "| s/turn, first and last tenth |" in text
    assert "|                  0.12 → 0.25 |" in text
    assert text.splitlines()[3].endswith("|                            – |")


def test_several_questions_per_dialogue_are_counted_and_said() -> None:
    rows = [row("sir", 256, d, index=i) for d in ("d0", "d1") for i in range(3)]
    text = run_report(summary(rows), {})
    assert "6 questions in 2 dialogues per row" in text
    assert "There are several questions per dialogue" in text


def test_a_comparison_on_fewer_questions_says_how_many() -> None:
    rows = arm("keep-all", 0, [1] * 8, [-1.0] * 8) + arm("sir", 256, [1] * 9, [-2.0] * 9)
    assert "-1.00 [-1.00, -1.00] (n = 8)" in run_report(summary(rows), {})


def test_a_dash_stands_for_the_interval_of_too_few_dialogues() -> None:
    rows = arm("keep-all", 0, [1] * 7, [-1.0] * 7) + arm("sir", 256, [1] * 6 + [0], [-2.0] * 7)
    text = run_report(summary(rows), {})
    assert "0.86 [–] |      -2.00 [–] |" in text
    assert "-0.14 [–] |                   -1.00 [–] |" in text
    assert "[–] where there are fewer than 8 to draw from" in text


def test_many_metrics_get_a_table_of_their_own() -> None:
    metrics = ("recall", "recall_5", "recall_10", "recall_20")
    rows = [row("sir", 256, "d0", index=i, metric=m, right=i < 2) for i, m in enumerate(metrics)]
    text = run_report(summary(rows, metrics=metrics), {})
    assert "## Other metrics" in text
    assert "|          recall 5 |         recall 10 |         recall 20 |" in text
    two = run_report(summary(rows[:2], metrics=metrics[:2]), {})
    assert "## Other metrics" not in two
    assert "recall 5" in two


def test_every_further_metric_has_its_table_and_its_comparisons() -> None:
    report = run_report(grocery(), RUN, (), [plain_recall()])
    _, _, section = report.partition("## By recall far")
    assert "| `sir`      |   256 |      256 |   2 | 0.50" in section
    assert "p vs keep-all" in section


def plain_recall() -> Summary:
    rows = [row("keep-all", 0, f"d{i}", metric="recall_far") for i in range(2)]
    rows += [row("sir", 256, f"d{i}", metric="recall_far", right=i < 1) for i in range(2)]
    return summary(rows, metrics=("recall_far",))


def test_speed_comes_from_the_passes() -> None:
    passes = [{"seconds": 300.0, "decode_s": 290.0, "host": "a"}, {"seconds": 100.0, "decode_s": 90.0, "host": "a"}]
    assert "Speed: 6.67 minutes (a), 95% of them inside llama.cpp's decoding." in run_report(grocery(), RUN, passes)
    assert "Speed" not in run_report(grocery(), RUN, [{"seconds": 0.0}])


def test_a_command_can_be_pasted() -> None:
    spec = "sir:unit=sentence, decay=0.9"
    rows = [row(spec, 256, player, index=i) for player in ("rock", "paper") for i in range(2000)]
    words = command(summary(rows, task="rps"), {"positions": "gaps"})
    assert words == (
        "edge-sir eval rps --model smollm2 --policy 'sir:unit=sentence, decay=0.9' --budget 256 "
        "--answer rank --positions gaps --n 2000"
    )
    assert command(summary(rows, task="rps"), {"asked": [(0, 6000)]}).endswith("--n 6000")
    parted = command(summary(rows, task="rps"), {"asked": [(0, 2), (98, 2)]})
    first, second = parted.split(" && ")
    assert first.endswith(" --n 2") and second == f"{first} --offset 98"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-3.804, "-3.80"), (9.996, "10.0"), (-15.04, "-15.0"), (123.4, "123"), (-0.001, "0.00"), (0.0, "0.00")],
)
def test_figures_are_short(value: float, text: str) -> None:
    assert markdown.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(20.8, "20.80"), (123.45, "123.5"), (1234.5, "1234"), (123456.0, "123456")]
)
def test_perplexities_have_four_digits(value: float, text: str) -> None:
    assert markdown.four(value) == text


@pytest.mark.parametrize(("p", "text"), [(0.0004, "<0.001"), (0.0312, "0.031"), (0.25, "0.25"), (1.0, "1")])
def test_p_values(p: float, text: str) -> None:
    assert markdown.p_value(p) == text


def test_signs() -> None:
    assert [markdown.signed(x) for x in (0.5, -0.5, 0.001)] == ["+0.50", "-0.50", "0.00"]


# ---- a folder ------------------------------------------------------------------------------------------


def test_a_folder_s_policies_stand_in_the_same_order_whoever_wrote_first(tmp_path: Path) -> None:
    written = ["units", "sir:decay=1", "streaming", "sir:decay=0.9", "keep-all", "sir"]
    rows = [r for policy in written for r in arm(policy, 0 if policy == "keep-all" else 256, [1], [-1.0])]
    keep(tmp_path, "single-item", [replace(r, last=True) for r in rows])
    (found,) = load(tmp_path).summaries
    order = ["keep-all", "sir", "sir:decay=0.9", "sir:decay=1", "streaming", "units"]
    assert [entry.policy for entry in found.entries] == order


def test_no_round_counts_twice_in_a_folder_that_was_asked_for_more_later(tmp_path: Path) -> None:
    def rounds(policy: str, player: str, first: int, end: int) -> list[Row]:
        name = f"{player}-{first}-{end}"
        return [row(policy, 256, name, index=i, metric="win", last=i == end - first - 1) for i in range(end - first)]

    ours = [*rounds("sir", "rock", 0, 4), *rounds("sir", "rock", 0, 10), *rounds("sir", "paper", 0, 4)]
    further = [*rounds("sir", "rock", 8, 12), *rounds("sir", "rock", 10, 14)]
    keep(tmp_path, "rps", [*ours, *further, *rounds("streaming", "rock", 0, 4)])
    found = {entry.policy: entry.n for entry in load(tmp_path).summaries[0].entries}
    assert found == {"sir": 10 + 4 + 4, "streaming": 4}
    assert {r.dialogue for r in load(tmp_path).rows} == {"rock-0-10", "rock-10-14", "paper-0-4", "rock-0-4"}


def test_means_are_over_measurable_runs() -> None:
    runs = [
        run(grocery(), "grocery-lead0", lead=0),
        run(grocery(keep_all=7), "grocery-lead10", lead=10),
        run(grocery(task="order", keep_all=3)),
        run(summary(arm("sir", 256, [1], [-1.0]), task="names")),
        run(plain()),
    ]
    text = folder_report(runs)
    assert "Measurable runs: 2 (grocery-lead0; grocery-lead10)." in text
    (sir,) = (line for line in text.splitlines() if line.startswith("| `sir`       |   256 |"))
    assert [cell.strip() for cell in sir.strip("|").split("|")] == [
        "`sir`",
        "256",
        "2 of 2",
        "0.88 [–]",
        "0.94 [–]",  # 7/8 over 8/8, and over 7/8
        "0.88 (grocery-lead0)",
        "+0.50 [–]",
        "0:0 of 2",  # 3:0 each, p = 0.25
        "2:0 of 2",  # 7:0 each, p = 0.016
    ]
    assert "### Not measurable with this model\n\n- order: keep-all 0.38 [0.14, 0.69], chance 0.25" in text
    assert "### Not known to be measurable\n\n- names: no keep-all arm" in text
    assert "### perplexity\n\n| policy" in text
    assert "- order: `edge-sir eval order --model smollm2" in text


def test_means_over_eight_runs_have_an_interval() -> None:
    # Retentions of 7/8 over 8/8 and of 7/8 over 7/8, four each: of 8 drawn, P(at most one 1) = 0.035.
    runs = [run(grocery(task=f"t{i}", keep_all=7 + i % 2)) for i in range(8)]
    (sir,) = (line for line in folder_report(runs).splitlines() if line.startswith("| `sir`       |   256 |"))
    assert "8 of 8 | 0.88 [0.88, 0.88] | 0.94 [0.89, 0.98] |" in sir


def test_no_mean_goes_across_groups() -> None:
    runs = [
        run(grocery(), group="held out"),
        run(grocery(task="names", keep_all=7), group="held out"),
        run(grocery(task="order"), group="choosing"),
        run(grocery(task="long")),
    ]
    means, _, rest = folder_report(runs).partition("### Retention at")
    assert means.count("Measurable runs") == 2  # none of the run without a group
    held_out, _, choosing = means.partition("### Means: choosing")
    assert "### Means: held out\n\nMeasurable runs: 2 (grocery; names)." in held_out
    assert "Measurable runs: 1 (order)." in choosing
    # sir: 7/8 over 8/8, and over 7/8; in the other group 7/8 alone.
    assert "| `sir`       |   256 | 2 of 2 |      0.88 [–] |       0.94 [–] |" in held_out
    assert "| `sir`       |   256 | 1 of 1 |" in choosing
    for title in ("held out", "choosing", "runs that no mean counts"):
        assert f" 256 cells: {title}\n" in f"### Retention at{rest}"
    assert "| long " in rest.partition("256 cells: runs that no mean counts")[2].partition("###")[0]


def test_a_folder_without_groups_has_one_mean_for_all() -> None:
    text = folder_report([run(grocery()), run(grocery(task="names"), group="")])
    assert "Measurable runs: 2 (grocery; names)." in text
    assert "### Means" not in text
    assert "### Retention at 256 cells\n" in text


def test_a_run_without_an_arm_is_seen_in_its_row() -> None:
    runs = [run(grocery()), run(summary(grocery_rows_without_streaming(), task="numbers"))]
    text = folder_report(runs)
    (streaming,) = (line for line in text.splitlines() if line.startswith("| `streaming` |   256 |"))
    assert "| 1 of 2 |" in streaming
    (numbers,) = (line for line in text.splitlines() if line.startswith("| numbers"))
    assert numbers.endswith("|           – |")


def test_arms_of_few_runs_are_left_out_of_a_groups_means() -> None:
    few = summary(grocery_rows_without_streaming(), task="numbers")
    runs = [run(grocery(), group="g"), *(run(few, f"numbers-{seed}", group="g") for seed in range(2))]
    means, _, retention = folder_report(runs).partition("### Retention at")
    # keep-all and sir at 256 are in three runs of three; sirllm, streaming and sir at 128 in one.
    assert "| 3 of 3 |" in means
    assert "| 1 of 3 |" not in means
    assert "Left out, since in fewer than half of these runs: 3 arms." in means
    assert "`streaming`" in retention
    assert "| 1 of 3 |" in folder_report(
        [run(found.summary, found.name) for found in runs]
    )  # without groups nothing is left out


def test_the_n_of_retention_is_that_of_the_questions_it_is_over() -> None:
    rows = arm("keep-all", 0, [1] * 10, [-1.0] * 10)
    rows += arm("sir", 256, [1] * 9, [-1.0] * 9) + arm("streaming", 256, [1] * 8, [-1.0] * 8)
    rows += arm("sir", 512, [1] * 9, [-1.0] * 9)
    _, at_256, at_512 = folder_report([run(summary(rows))]).split("### Retention at ")
    assert "| grocery | 8 to 9 |" in at_256
    assert "| grocery |   9 |" in at_512


def grocery_rows_without_streaming() -> list[Row]:
    return arm("keep-all", 0, [1] * 8, [-1.0] * 8) + arm("sir", 256, [1] * 8, [-1.0] * 8)


def test_models_do_not_mix() -> None:
    one, other = grocery(), grocery()
    other = Summary(other.task, "gemma", other.answer, other.metric, other.chance, other.entries)
    text = folder_report([run(one), run(other, "other")])
    assert "## smollm2, answers by rank" in text
    assert "## gemma, answers by rank" in text
    assert "Measurable runs: 1 (grocery)." in text and "Measurable runs: 1 (other)." in text


def test_nothing_measurable_has_no_means() -> None:
    text = folder_report([run(grocery(keep_all=2))])
    assert "mean" not in text
    assert "Not measurable" in text


def test_two_runs_of_one_task_are_named_by_their_folders() -> None:
    text = folder_report([run(grocery(), "near", seed=1), run(grocery(), "far", seed=2)])
    assert "Measurable runs: 2 (near; far)." in text
    assert "- near: `edge-sir eval grocery " in text and "- far: `edge-sir eval grocery " in text


def test_reports_do_not_change_from_one_time_to_the_next() -> None:
    r = random.Random(0)
    rows = [
        e
        for p in ("keep-all", "sir")
        for e in arm(p, 256, [r.random() < 0.8 for _ in range(20)], [-r.random() for _ in range(20)])
    ]
    assert run_report(summary(rows), RUN) == run_report(summary(rows), RUN)
