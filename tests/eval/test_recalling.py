"""Dialogues whose evicted turns come back: arms, rows, probes."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from making import arm
from playing import FACT, QUESTION, chat, dialogue, play
from toy_model import toy_contexts

from edge_sir.errors import ConfigError
from edge_sir.eval.play.arms import Arm, arms_of, digest
from edge_sir.eval.play.controls import ArmKeys, arm_keys, explicit, with_keys, with_recall
from edge_sir.eval.records import Row
from edge_sir.eval.report.one_run import run_table
from edge_sir.eval.report.summary import summarize
from edge_sir.eval.task import Ask, Read
from edge_sir.recall.store import process_store

ASKS = Ask("Which plums?", "You like", QUESTION.options, 0, fact="fruit")  # it shares a word with the fact
TOLD = dialogue(*chat(2), FACT, *chat(10, "news"), ASKS)


def test_an_arm_says_how_its_evicted_turns_come_back() -> None:
    assert arm_keys("sir:decay=0.9,recall=text") == ("sir:decay=0.9", ArmKeys("text"))
    assert arm_keys("streaming") == ("streaming", ArmKeys())
    assert arm_keys("sir:recall_share=0.5,decay=0.9,room=exact") == ("sir:decay=0.9", ArmKeys("off", 0.5, "exact"))
    assert with_keys("sir:decay=0.9", ArmKeys("cells", 0.5)) == "sir:decay=0.9,recall=cells,recall_share=0.5"
    assert with_recall("sir:recall_share=0.5", "auto") == "sir:recall=cells,recall_share=0.5"
    assert [with_recall("sir", how) for how in ("auto", "off", "oracle")] == [
        "sir:recall=cells",
        "sir",
        "sir:recall=oracle",
    ]
    assert with_recall("sir:recall=text", "auto") == "sir:recall=text"
    assert with_recall("sir:recall=off", "auto") == "sir" == with_recall("sir:recall=text", "off")
    assert with_recall("streaming", "auto") == "streaming" and with_recall("keep-all", "cells") == "keep-all"
    assert explicit("sir") == "sir:recall=off" and explicit("sir:recall=cells") == "sir:recall=cells"
    assert explicit("streaming") == "streaming" and explicit("of-an-earlier-version") == "of-an-earlier-version"
    for wrong in (lambda: arm_keys("sir:recall=never"), lambda: with_recall("sir", "never")):
        with pytest.raises(ConfigError, match="never"):
            wrong()
    for spec in ("sir:recall_share=0", "sir:recall_share=much", "sir:room=some"):
        with pytest.raises(ConfigError, match=r"recall_share|room"):
            arm_keys(spec)


def test_rows_of_arms_without_recall_stay_what_they_were() -> None:
    assert arms_of(["sir", "sir:recall=cells"], [160]) == [Arm("sir", 160), Arm("sir:recall=cells", 160)]
    digests = {digest(Arm(spec, 160), TOLD) for spec in ("sir", "sir:recall=cells", "sir:recall=text")}
    assert len(digests) == 3
    early = {k: v for k, v in arm("sir", 160, [1], [-1.0])[0].to_json().items() if k not in ("recall", "found")}
    assert Row.from_json(json.loads(json.dumps(early))).recall == "off"


@pytest.mark.parametrize("how", ["cells", "text", "last", "oracle"])
def test_a_question_recalls_what_it_asks_about(how: str) -> None:
    n_bytes = process_store().n_bytes
    off, on = play(toy_contexts(), TOLD, ["streaming", f"streaming:recall={how}"], 160)
    assert off.gold_resident == 0.0 and (off.recall, off.recalled, off.found, off.archive_bytes) == ("off", 0, None, 0)
    assert (on.recall, on.found) == (how, True) and on.recalled >= len("plums") and on.archive_bytes > 0
    assert on.gold_resident == (1.0 if how in ("cells", "oracle") else 0.0)  # elsewhere it is born anew
    assert on.resident <= 160 and not np.allclose(on.logprobs, off.logprobs)
    assert process_store().n_bytes == n_bytes


def test_an_oracle_recalls_nothing_for_other_messages() -> None:
    asked = dialogue(*chat(2), FACT, *chat(10, "news"), Ask("Plums?", "You like", QUESTION.options, 0))
    (row,) = play(toy_contexts(), asked, ["streaming:recall=oracle"], 160)
    assert row.recalled == 0 and row.found is None


def test_a_turn_that_says_nothing_recalls_nothing() -> None:
    told = dialogue(*chat(2), FACT, *chat(10, "news"), Read("abc def"))
    (row,) = play(toy_contexts(), told, ["streaming:recall=cells"], 160)
    assert row.recalled == 0


@pytest.mark.parametrize("how", ["cells", "text"])
def test_a_probe_that_recalls_leaves_no_trace(how: str) -> None:
    spec = f"streaming:recall={how}"
    steps = [*chat(2), FACT, *chat(10, "news")]
    rows = play(toy_contexts(), dialogue(*(x for step in steps for x in (step, ASKS)), ASKS), [spec], 160)
    (plain,) = play(toy_contexts(), dialogue(*steps, ASKS), [spec], 160)
    np.testing.assert_allclose(rows[-1].logprobs, plain.logprobs, rtol=1e-4)
    assert rows[-1].evicted == plain.evicted and rows[-1].recalled == plain.recalled > 0


def test_plain_text_has_all_its_rows_in_every_way() -> None:
    told = dialogue(*(Read(f"piece {i} of a text that goes on") for i in range(12)))
    rows = play(toy_contexts(), replace(told, system=None), ["streaming", "streaming:recall=cells"], 96)
    assert Counter(row.policy for row in rows) == {"streaming": 12, "streaming:recall=cells": 12}


def test_text_that_is_kept_takes_the_same_bytes_beside_cells_as_alone() -> None:
    told = dialogue(*chat(6), FACT, *chat(6), *chat(10, "news"), *chat(6), ASKS)  # the same is said again
    specs = ["streaming:recall=text", "streaming:recall=cells", "streaming"]
    together = play(toy_contexts(), told, specs, 160)
    assert together == [row for spec in specs for row in play(toy_contexts(), told, [spec], 160)]


WAYS = ("", "recall=text", "recall=cells", "recall=cells,recall_share=0.05", "recall=last", "recall=oracle")


def test_one_stream_serves_every_way_to_recall_and_each_answers_as_if_alone() -> None:
    specs = [f"streaming:{way}" if way else "streaming" for way in WAYS]
    told = dialogue(*chat(2), FACT, *chat(6, "news"), ASKS, *chat(4, "more"), ASKS)
    engines = toy_contexts(), toy_contexts()
    together = play(engines[0], told, specs, 160)
    apart = [row for spec in specs for row in play(engines[1], told, [spec], 160)]
    assert together == apart and len(together) == 2 * len(specs)
    assert len({row.logprobs for row in together[1::2]}) >= 4
    by_share = {row.policy: row.recalled for row in together if row.index == 1}
    assert 0 < by_share["streaming:recall=cells,recall_share=0.05"] <= 8 < by_share["streaming:recall=cells"]
    as_text, as_cells = (
        next(row for row in together if row.policy == f"streaming:recall={how}") for how in ("text", "cells")
    )
    assert 0 < as_text.archive_bytes < as_cells.archive_bytes


def test_what_one_way_recalls_is_gone_for_the_next_question_and_way() -> None:
    plain = play(toy_contexts(), dialogue(*chat(2), FACT, *chat(10, "news"), QUESTION), ["streaming"], 160)
    both = dialogue(*chat(2), FACT, *chat(10, "news"), ASKS, QUESTION)
    rows = play(toy_contexts(), both, ["streaming:recall=cells", "streaming"], 160)
    (off,) = (row for row in rows if row.policy == "streaming" and row.index == 1)
    np.testing.assert_allclose(off.logprobs, plain[0].logprobs, rtol=1e-4)


def test_a_question_that_leaves_a_trace_is_asked_in_one_way_and_recall_is_for_every_message() -> None:
    kept = replace(ASKS, reply="gold")
    told = dialogue(*chat(2), FACT, *chat(10, "news"), kept, *chat(2, "plums"), ASKS)
    rows = play(toy_contexts(), told, ["streaming", "streaming:recall=cells"], 160)
    alone = [row for spec in ("streaming", "streaming:recall=cells") for row in play(toy_contexts(), told, [spec], 160)]
    assert rows == alone


def test_room_may_be_made_exactly() -> None:
    chunks, exact = play(toy_contexts(), dialogue(*chat(16), QUESTION), ["streaming", "streaming:room=exact"], 160)
    assert exact.resident == 160 > chunks.resident and exact.evicted < chunks.evicted


def test_tables_show_what_was_found_and_what_lies_outside_the_cells() -> None:
    rows = arm("sir", 300, [1, 0], [-1.0, -2.0]) + arm(
        "sir:recall=cells", 300, [1, 1], [-1.0, -1.0], recall="cells", found=True, archive_bytes=2_500_000
    )
    summary, *_ = summarize(rows, task="names", model="m", answer="rank", metrics=("recall",), chance=0.25)
    table = run_table(summary)
    assert "MB outside" in table and "2.5" in table and "found" in table
    assert summary.entries[0].found is None and summary.entries[1].found.n_right == 2
