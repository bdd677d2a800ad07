"""What a table says, against figures worked out by hand."""

import json
import math
from dataclasses import replace

import pytest
from making import arm, read, row, summary

from edge_sir.eval.records import Row
from edge_sir.eval.report.stats import Estimate, bootstrap_mean, bootstrap_ratio, wilson
from edge_sir.eval.report.summary import Entry, Summary, summarize, to_json


def grocery() -> list[Row]:
    """Four dialogues: keep-all 1110, sirllm 1010, streaming 0001, sir 1111."""
    return [
        *arm("keep-all", 0, [1, 1, 1, 0], [-1.0, -2.0, -1.0, -4.0]),
        *arm("sir", 256, [1, 1, 1, 1], [-1.5, -2.0, -0.5, -2.0], gold_resident=0.75),
        *arm("sirllm", 256, [1, 0, 1, 0], [-3.0, -9.0, -4.0, -8.0], gold_resident=0.5),
        *arm("streaming", 256, [0, 0, 0, 1], [-15.0, -16.0, -17.0, -12.0], gold_resident=0.0),
    ]


def twice(rows: list[Row]) -> list[Row]:
    """The same in eight dialogues, which are enough for a bootstrap."""
    return rows + [replace(r, dialogue=f"e{r.dialogue}") for r in rows]


def entry(rows: list[Row], policy: str, budget: int = 256, *, metrics: tuple[str, ...] = ("recall",)) -> Entry:
    return next(e for e in summary(rows, metrics=metrics).entries if (e.policy, e.budget) == (policy, budget))


def retention(rows: list[Row], policy: str, budget: int = 256) -> float:
    found = entry(rows, policy, budget).retention
    assert found is not None
    return found.value


def test_entries_come_in_order_of_appearance() -> None:
    rows = grocery() + arm("sir", 512, [1], [-1.0])
    arms = [(e.policy, e.budget) for e in summary(rows).entries]
    assert arms == [("keep-all", 0), ("sir", 256), ("sirllm", 256), ("streaming", 256), ("sir", 512)]


def test_accuracy_is_the_share_right() -> None:
    found = entry(grocery(), "sirllm")
    assert (found.n, found.n_dialogues) == (4, 4)
    assert found.accuracy is not None
    assert found.accuracy.value == 2 / 4
    # Wilson, 2 of 4: half width sqrt(0.25/4 + 3.841459/64) * 1.959964 / (1 + 3.841459/4) = 0.349961.
    assert found.accuracy.ci == pytest.approx((0.5 - 0.349961, 0.5 + 0.349961), abs=1e-5)


def test_retention_is_over_keep_all() -> None:
    rows = grocery()
    # 4/4 over 3/4; 2/4 over 3/4; 1/4 over 3/4.
    assert retention(rows, "sir") == pytest.approx(4 / 3)
    assert retention(rows, "sirllm") == pytest.approx(2 / 3)
    assert retention(rows, "streaming") == pytest.approx(1 / 3)
    assert retention(rows, "keep-all", 0) == 1.0


def test_retention_counts_the_questions_that_keep_all_answered() -> None:
    # keep-all answered d0 (right) and d1 (wrong), sir got d0 and two more: 1/1, not (3/4) / (1/2).
    rows = arm("keep-all", 0, [1, 0], [-1.0, -2.0]) + arm("sir", 256, [1, 0, 1, 1], [-1.0] * 4)
    found = entry(rows, "sir")
    assert found.retention is not None and found.retention.value == 1.0
    assert found.versus["keep-all"].n == 2


def test_retention_without_keep_all_or_against_nothing_right() -> None:
    assert entry(arm("sir", 256, [1], [-1.0]), "sir").retention is None
    rows = arm("keep-all", 0, [0, 0], [-1.0, -1.0]) + arm("sir", 256, [1, 0], [-1.0, -1.0])
    assert entry(rows, "sir").retention is None
    assert entry(rows, "keep-all", 0).retention is None


def test_gold_log_probability_is_a_mean_with_its_interval() -> None:
    found = entry(twice(grocery()), "sirllm")
    assert found.gold_logprob.value == (-3 - 9 - 4 - 8) / 4
    assert found.gold_logprob.ci == bootstrap_mean([-3.0, -9.0, -4.0, -8.0] * 2, range(8))
    assert entry(grocery(), "sirllm").gold_logprob.ci is None
    assert found.gold_logprob.ci is not None
    assert -9 <= found.gold_logprob.ci[0] < -6 < found.gold_logprob.ci[1] <= -3


def test_differences_are_paired() -> None:
    versus = entry(twice(grocery()), "sir").versus
    # To keep-all: -0.5, 0, 0.5, 2; their mean is 0.5. To sirllm: 1.5, 7, 3.5, 6; mean 4.5.
    assert versus["keep-all"].gold_logprob.value == 2.0 / 4
    assert versus["keep-all"].gold_logprob.ci == bootstrap_mean([-0.5, 0.0, 0.5, 2.0] * 2, range(8))
    assert versus["sirllm"].gold_logprob.value == 18.0 / 4
    assert versus["streaming"].gold_logprob.value == (13.5 + 14 + 16.5 + 10) / 4


def test_differences_of_the_share_right_are_paired_too() -> None:
    # sirllm 1010, keep-all 1110, sir 1111: -1/4 to keep-all; sir +1/4 to it and +2/4 to sirllm.
    sirllm, sir = (entry(twice(grocery()), policy).versus for policy in ("sirllm", "sir"))
    assert sirllm["keep-all"].accuracy == Estimate(-1 / 4, bootstrap_mean([0, -1, 0, 0] * 2, range(8)))
    assert sir["keep-all"].accuracy == Estimate(1 / 4, bootstrap_mean([0, 0, 0, 1] * 2, range(8)))
    assert sir["sirllm"].accuracy == Estimate(2 / 4, bootstrap_mean([0, 1, 0, 1] * 2, range(8)))


def test_margins_are_compared_on_the_same_questions() -> None:
    ahead = [row("sir", 256, f"d{i}", gold_logprob=-1.0, logprobs=(-1.0, -4.0, -6.0)) for i in range(8)]
    close = [row("keep-all", 0, f"d{i}", gold_logprob=-3.0, logprobs=(-3.0, -4.0, -9.0)) for i in range(8)]
    assert entry([*ahead, *close], "sir").versus["keep-all"].margin == Estimate(2.0, (2.0, 2.0))


def test_the_interval_of_retention_is_paired() -> None:
    found = entry(twice(grocery()), "sirllm")
    ci = bootstrap_ratio([1, 0, 1, 0] * 2, [1, 1, 1, 0] * 2, range(8))
    assert found.retention == Estimate(pytest.approx(2 / 3), ci)
    assert ci is not None and ci[0] < 2 / 3 < ci[1]
    assert found.versus["streaming"].accuracy_ratio == Estimate(2.0)
    assert entry(twice(grocery()), "keep-all", 0).retention == Estimate(1.0)


def test_mcnemar_is_on_the_same_items() -> None:
    versus = entry(grocery(), "sir").versus
    # sirllm missed d1 and d3, which sir got, and the other way round nothing: 2 * 1/4.
    assert (versus["sirllm"].n_only_arm, versus["sirllm"].n_only_reference) == (2, 0)
    assert versus["sirllm"].p == pytest.approx(0.5)
    # streaming missed d0, d1, d2: 2 * 1/8.
    assert versus["streaming"].p == pytest.approx(0.25)
    assert versus["keep-all"].p == 1.0


def test_references_are_of_the_same_budget_and_plain() -> None:
    rows = [
        *grocery(),
        *arm("sir", 512, [1, 1, 1, 1], [-1.0] * 4),
        *arm("streaming:n_sink=40", 512, [0] * 4, [-9.0] * 4),
    ]
    assert list(entry(rows, "sir", 512).versus) == ["keep-all"]
    assert list(entry(rows, "sir").versus) == ["keep-all", "sirllm", "streaming"]
    assert list(entry(rows, "sirllm").versus) == ["keep-all", "streaming"]
    assert entry(rows, "keep-all", 0).versus == {}


def test_a_row_that_is_there_twice_counts_once_and_the_first_wins() -> None:
    rows = grocery()
    again = [replace(r, correct=not r.correct, gold_logprob=-99.0) for r in rows]
    assert summary(rows + again) == summary(rows)


def test_further_metrics_have_their_own_share() -> None:
    rows = [row("sir", 256, "d0", index=i, right=i < 2, metric="commonsense") for i in range(5)]
    rows += [row("sir", 256, "d1", index=i, right=i < 1, metric="commonsense") for i in range(5)]
    rows += [row("sir", 256, d, index=5, right=d == "d0", gold_logprob=-2.0) for d in ("d0", "d1")]
    found = entry(rows, "sir", metrics=("recall", "commonsense"))
    assert found.accuracy is not None
    assert (found.accuracy.n, found.accuracy.value) == (2, 0.5)
    assert (found.others["commonsense"].n, found.others["commonsense"].value) == (10, 0.3)
    assert found.others["commonsense"].ci == wilson(3, 10)
    assert found.gold_logprob.value == -2.0  # of the recall's rows alone


def test_each_metric_can_be_the_headline() -> None:
    rows = [row("keep-all", 0, f"d{i}", index=j, metric=f"recall_{j}") for i in range(4) for j in range(2)]
    rows += [
        row("sir", 256, f"d{i}", index=j, metric=f"recall_{j}", right=i < 4 - 2 * j, gold_logprob=-1.0 - j)
        for i in range(4)
        for j in range(2)
    ]
    near, far = summarize(
        rows, task="long", model="m", answer="rank", metrics=("recall_0", "recall_1", "recall_2"), chance=0.25
    )
    assert (near.metric, far.metric) == ("recall_0", "recall_1")  # no row counts for recall_2
    assert [e.retention for e in near.entries] == [Estimate(1.0), Estimate(1.0)]
    assert [e.retention for e in far.entries] == [Estimate(1.0), Estimate(0.5)]
    versus = far.entries[1].versus["keep-all"]
    assert (versus.n, versus.gold_logprob.value, versus.n_only_reference) == (4, -1.0, 2)
    document = to_json(near, [far])
    assert list(document["metrics"]) == ["recall_1"]
    assert [r["retention"] for r in document["metrics"]["recall_1"]] == [1.0, 0.5]
    assert "metrics" not in to_json(near)


def test_a_metric_that_was_not_asked_for_is_passed_over() -> None:
    found = summary([row("sir", 256, "d0", metric="commonsense")], metrics=("recall", "commonsense"))
    assert found.metric == "commonsense"
    assert found.entries[0].n == 1
    assert summary([], metrics=("recall", "commonsense")).metric == "recall"


def test_several_questions_per_dialogue() -> None:
    rows = [
        row(
            "sir",
            256,
            d,
            index=i,
            right=i > 0,
            gold_logprob=g,
            turn=10 * (i + 1),
            tokens=400 * (i + 1),
            seconds=4.0 * i,
        )
        for d, g in (("d0", -1.0), ("d1", -3.0))
        for i in range(3)
    ]
    found = entry(rows, "sir")
    assert (found.n, found.n_dialogues) == (6, 2)
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.gold_logprob.ci is None  # two dialogues, however many questions
    assert found.tokens == 1200  # each dialogue's last row
    assert found.seconds_per_turn == pytest.approx((8.0 + 8.0) / (30 + 30))


def test_means_of_what_was_resident() -> None:
    rows = [
        row("sir", 256, "d0", gold_resident=1.0, resident=250),
        row("sir", 256, "d1", gold_resident=0.5, resident=230),
        row("sir", 256, "d2", gold_resident=None, resident=240),
    ]
    found = entry(rows, "sir")
    assert found.gold_resident == 0.75
    assert found.resident == 240
    assert entry([row("sir", 256, "d0", gold_resident=None)], "sir").gold_resident is None


def test_perplexity() -> None:
    rows = [read("keep-all", 0, i, x) for i, x in enumerate((-1.0, -2.0))]
    rows += [read("streaming", 256, i, x) for i, x in enumerate((-2.0, -3.0))]
    found = summary(rows, task="perplexity", metrics=("log_probability",))
    kept, streaming = found.entries
    assert kept.accuracy is None
    assert kept.retention is None
    assert kept.perplexity == Estimate(pytest.approx(math.exp(1.5)))
    assert streaming.perplexity == Estimate(pytest.approx(math.exp(2.5)))
    versus = streaming.versus["keep-all"]
    assert (versus.gold_logprob.value, versus.accuracy, versus.accuracy_ratio, versus.p) == (-1.0, None, None, None)
    assert found.measurable is None


def test_the_interval_of_a_perplexity_is_that_of_its_logarithm() -> None:
    values = [-1.0, -2.0] * 20  # runs of three: 14 to draw from
    (found,) = summary([read("sir", 256, i, x) for i, x in enumerate(values)], metrics=("log_probability",)).entries
    low, high = bootstrap_mean(values, ["text"] * 40) or (0.0, 0.0)
    assert -2 < low < -1.5 < high < -1
    assert found.perplexity is not None
    assert found.perplexity.ci == pytest.approx((math.exp(-high), math.exp(-low)))


def test_a_piece_of_text_counts_by_its_tokens() -> None:
    rows = [read("keep-all", 0, 0, -1.0, n_scored=30), read("keep-all", 0, 1, -2.0, n_scored=10)]
    rows += [read("streaming", 256, 0, -1.0, n_scored=30), read("streaming", 256, 1, -4.0, n_scored=10)]
    kept, streaming = summary(rows, task="perplexity", metrics=("log_probability",)).entries
    # (30 * 1 + 10 * 2) / 40 and (30 * 1 + 10 * 4) / 40; the difference is (30 * 0 + 10 * 2) / 40.
    assert (kept.gold_logprob.value, streaming.gold_logprob.value) == (-1.25, -1.75)
    assert kept.perplexity == Estimate(pytest.approx(math.exp(1.25)))
    assert streaming.versus["keep-all"].gold_logprob.value == -0.5


@pytest.mark.parametrize(("right", "of", "is_it"), [(12, 12, True), (7, 20, False), (3, 12, False), (10, 20, True)])
def test_measurable_is_above_chance_with_its_whole_interval(right: int, of: int, is_it: bool) -> None:
    rows = arm("keep-all", 0, [1] * right + [0] * (of - right), [-1.0] * of)
    # 7 of 20: Wilson's low end is 0.18, below 0.25. 10 of 20: 0.30.
    assert summary(rows).measurable is is_it


def test_chance_is_that_of_the_options_of_the_metric_s_own_questions() -> None:
    five = (-1.0, -2.0, -3.0, -4.0, -5.0)
    rows = [row("keep-all", 0, f"d{i}", metric="recall") for i in range(2)]
    rows += [row("keep-all", 0, f"d{i}", index=1, metric="commonsense", logprobs=five) for i in range(2)]
    rows += [row("keep-all", 0, "d2", index=1, metric="commonsense")]
    found = summarize(rows, task="grocery", model="m", answer="rank", metrics=("recall", "commonsense"), chance=0.5)
    # Four options; five, five and four: (1/5 + 1/5 + 1/4) / 3.
    assert [s.chance for s in found] == [0.25, pytest.approx(0.65 / 3)]
    assert summarize([], task="t", model="m", answer="rank", metrics=("recall",), chance=0.5)[0].chance == 0.5


def test_five_options_are_not_judged_against_four() -> None:
    rows = arm("keep-all", 0, [1] * 8 + [0] * 12, [-1.0] * 20)
    # 8 of 20: Wilson's low end is 0.219, above 1/5 and below 1/4.
    assert summary(rows).measurable is False
    assert summary([replace(r, logprobs=(-1.0,) * 5) for r in rows]).measurable is True


def test_measurable_needs_keep_all() -> None:
    assert summary(arm("sir", 256, [1], [-1.0])).measurable is None
    assert summary([]).measurable is None


def test_an_answer_that_never_changes_measures_nothing() -> None:
    def played(n: int, n_other: int, *further: Row) -> Summary:
        always = [row("sir", 256, f"d{i}", chosen=1 if i < n_other else 0) for i in range(n)]
        return summary([*always, *further])

    assert played(20, 1).habitual and played(20, 1).measurable is False and played(20, 1).entries[0].habit == 0.95
    assert not played(20, 2).habitual and not played(19, 0).habitual
    other = [row("units", 256, f"d{i}", chosen=i % 4) for i in range(20)]
    assert not played(20, 0, *other).habitual  # it is the policy's doing, then
    shots = [row("few-shot:rounds=1", 0, f"d{i}", chosen=i % 4) for i in range(20)]
    assert played(20, 0, *shots).habitual  # they are no memory
    assert not summary([read("sir", 256, i, -1.0) for i in range(30)]).habitual


def test_one_question_alone() -> None:
    rows = arm("keep-all", 0, [1], [-1.0]) + arm("sir", 256, [1], [-2.0]) + arm("sirllm", 256, [0], [-3.0])
    found = entry(rows, "sir")
    assert found.gold_logprob.ci is None
    assert found.versus["sirllm"].gold_logprob == Estimate(1.0)
    assert found.versus["sirllm"].p == 1.0
    assert found.accuracy is not None
    assert found.accuracy.ci == wilson(1, 1)


def test_seconds_at_both_ends_are_a_mean_over_long_dialogues() -> None:
    rows = [
        row("sir", 256, "d0"),
        row("sir", 256, "d0", index=1, ends=(1.0, 2.0)),
        row("sir", 256, "d1", ends=(2.0, 3.0)),
    ]
    found = entry(rows, "sir")
    assert found.seconds_at_ends == (1.5, 2.5)
    assert to_json(summary(rows))["rows"][0]["seconds_per_turn_at_ends"] == [1.5, 2.5]
    assert entry(rows[:1], "sir").seconds_at_ends is None


def test_json_has_the_shape_that_was_promised() -> None:
    found = to_json(summary(grocery()))
    assert list(found) == ["task", "model", "answer", "chance", "measurable", "scratch_cells", "rows"]
    assert {key: found[key] for key in ("task", "model", "answer")} == {
        "task": "grocery",
        "model": "smollm2",
        "answer": "rank",
    }
    common = [
        "policy", "budget", "n", "accuracy", "ci", "retention", "retention_ci", "gold_logprob", "gold_logprob_ci",
        "margin", "margin_ci", "gold_logprob_per_token", "gold_logprob_per_token_ci", "gold_resident",
        "n_dialogues", "resident", "tokens", "seconds_per_turn", "archive_bytes",
    ]  # fmt: skip
    versus = ["vs_keep_all", "vs_sirllm", "vs_streaming"]
    assert [list(r) for r in found["rows"]] == [common, common + versus, common + versus[::2], common + versus[:2]]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_json_figures() -> None:
    sirllm = to_json(summary(twice(grocery())))["rows"][2]
    gold = bootstrap_mean([-2.0, -7.0, -3.0, -4.0] * 2, range(8)) or ()
    recall = bootstrap_mean([0, -1, 0, 0] * 2, range(8)) or ()
    ratio = bootstrap_ratio([1, 0, 1, 0] * 2, [1, 1, 1, 0] * 2, range(8)) or ()
    assert sirllm | {"gold_logprob_ci": 0, "margin_ci": 0, "vs_streaming": 0} == {
        "policy": "sirllm",
        "budget": 256,
        "n": 8,
        "accuracy": 0.5,
        # Wilson, 4 of 8: half width sqrt(0.25/8 + 3.841459/256) * 1.959964 / (1 + 3.841459/8) = 0.284784.
        "ci": [0.215216, 0.784784],
        "retention": 0.666667,
        "retention_ci": pytest.approx(list(ratio), rel=1e-5),
        "gold_logprob": -6.0,
        "gold_logprob_ci": 0,
        "margin": -4.0,  # the best wrong option has -2 nats everywhere
        "margin_ci": 0,
        "gold_logprob_per_token": None,  # these rows do not say how many tokens it has
        "gold_logprob_per_token_ci": None,
        "gold_resident": 0.5,
        "n_dialogues": 8,
        "resident": 256.0,
        "tokens": 1200.0,
        "seconds_per_turn": 2.0,
        "archive_bytes": 0.0,
        "vs_keep_all": {
            "n": 8,
            "gold_logprob": -4.0,
            "gold_logprob_ci": pytest.approx(list(gold), rel=1e-5),
            "accuracy": -0.25,
            "accuracy_ci": pytest.approx(list(recall), rel=1e-5),
            "only_this": 0,
            "only_other": 2,
            "mcnemar_p": 0.5,
        },
        "vs_streaming": 0,
    }


def test_json_has_null_for_an_interval_of_too_few_dialogues() -> None:
    sirllm = to_json(summary(grocery()))["rows"][2]
    assert (sirllm["gold_logprob_ci"], sirllm["retention_ci"]) == (None, None)
    assert (sirllm["vs_keep_all"]["gold_logprob_ci"], sirllm["vs_keep_all"]["accuracy_ci"]) == (None, None)
    assert sirllm["vs_keep_all"]["accuracy"] == -0.25


def test_json_of_further_metrics_and_of_plain_text() -> None:
    rows = [row("sir", 256, "d0", right=True), row("sir", 256, "d0", index=1, right=False, metric="commonsense")]
    (found,) = to_json(summary(rows, metrics=("recall", "commonsense")))["rows"]
    assert (found["accuracy"], found["accuracy_commonsense"], found["n_commonsense"]) == (1.0, 0.0, 1)
    assert found["ci_commonsense"] == pytest.approx([0.0, 3.841459 / 4.841459], abs=1e-6)
    (plain,) = to_json(summary([read("sir", 256, 0, -1.0)], metrics=("log_probability",)))["rows"]
    assert (plain["accuracy"], plain["ci"], plain["retention"]) == (None, None, None)
    assert (plain["perplexity"], plain["perplexity_ci"]) == (2.71828, None)


def test_json_holds_no_number_that_json_lacks() -> None:
    found = to_json(summary(arm("sir", 256, [0, 0], [-math.inf, -math.inf])))
    assert found["rows"][0]["gold_logprob"] is None
    json.dumps(found, allow_nan=False)


def test_nothing_played() -> None:
    (found,) = summarize([], task="t", model="m", answer="rank", metrics=("recall",), chance=0.25)
    assert to_json(found) == {"task": "t", "model": "m", "answer": "rank"} | {
        "chance": 0.25, "measurable": None, "scratch_cells": None, "rows": []
    }  # fmt: skip
