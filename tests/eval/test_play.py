"""Playing dialogues on the toy: forks, probes, options, controls, and going on after a kill."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playing import FACT, QUESTION, chat, dialogue, play
from toy_model import toy_contexts

from edge_sir.core.budget import Budget
from edge_sir.engine import Slice
from edge_sir.errors import BatchError, ConfigError
from edge_sir.eval.play.arms import Arm, arms_of, digest, play_dialogue, play_dialogues
from edge_sir.eval.play.dialogue_run import DialogueRun
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.play.evaluate import Request, drop_stale, evaluate
from edge_sir.eval.play.options import option_logprobs
from edge_sir.eval.records import Row
from edge_sir.eval.store import Store, load_run
from edge_sir.eval.task import Ask, Dialogue, Read, Say
from edge_sir.policies import from_spec
from edge_sir.testing import ByteTokenizer, ToyEngine

TOLD = dialogue(*chat(2), FACT, *chat(9, "news"), QUESTION)
CONFIG = {"task": "made-up", "model": "toy", "answer": "rank"}
SPECS = ("keep-all", "sir", "sirllm", "sirllm-published", "entropy", "streaming", "random", "interval")


# ---- arms --------------------------------------------------------------------------------------


def test_policies_that_keep_everything_run_once_and_others_at_every_budget() -> None:
    arms = arms_of(["keep-all", "sir", "few-shot:rounds=2", "sir"], [128, 256])
    assert arms == [Arm("keep-all", 0), Arm("sir", 128), Arm("sir", 256), Arm("few-shot:rounds=2", 0)]


@pytest.mark.parametrize(
    "spec", ["few-shot:rounds=0", "few-shot:rounds=²", "few-shot:turns=1", "retrieval:n=1", "keep-gold:x=1", "sri"]
)
def test_a_bad_arm_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError):
        arms_of([spec], [64])


@pytest.mark.parametrize("spec", SPECS[1:])
def test_an_arm_that_shares_the_trunk_answers_as_if_it_had_run_alone(spec: str) -> None:
    contexts = toy_contexts()
    together = play(contexts, TOLD, SPECS, 160, 224)
    alone = play(toy_contexts(), TOLD, [spec], 160)
    (shared,) = (row for row in together if (row.policy, row.budget) == (spec, 160))
    np.testing.assert_allclose(shared.logprobs, alone[0].logprobs, rtol=1e-5)
    assert replace(shared, logprobs=alone[0].logprobs, gold_logprob=alone[0].gold_logprob) == alone[0]
    assert shared.evicted > 0 and shared.resident <= 160
    assert len(together) == 15


def test_a_budget_that_never_overflows_answers_as_keep_all() -> None:
    all_rows = play(toy_contexts(), TOLD, ["keep-all", "streaming"], 4000)
    assert len(all_rows) == 2 and all_rows[0].logprobs == all_rows[1].logprobs
    assert play(toy_contexts(), TOLD, ["streaming"], 4000)[0].logprobs == all_rows[0].logprobs


def test_keep_all_gets_no_rows_where_no_context_fits() -> None:
    rows = play(toy_contexts(n_ctx_train=200), TOLD, ["keep-all", "streaming"], 160)
    assert [row.policy for row in rows] == ["streaming"]


# ---- what a row says ---------------------------------------------------------------------------


def test_a_row_tells_where_the_fact_is() -> None:
    keep_all, streaming = play(toy_contexts(), TOLD, ["keep-all", "streaming"], 160)
    assert keep_all.gold_resident == 1.0 and streaming.gold_resident == 0.0
    codec = ByteTokenizer()
    said = "".join(f"news {i} about itwell, {i}." for i in range(9)) + "What do I like?You like"
    # After "plums": "." and "OK." of its turn, then nine exchanges and the question, each with their markers.
    encoded = EncodedDialogue(TOLD, codec, toy_contexts().model.template, "rank")
    around = len(encoded.encoder.message("user", "", first=False))  # three parts, two of them markers
    assert around == 3
    n_open = len(codec.encode("<|im_start|>user\n", special=True)) + len(codec.encode("<|im_end|>\n", special=True))
    n_reply = len(codec.encode("<|im_start|>assistant\n", special=True))
    n_end = len(codec.encode("<|im_end|>\n", special=True))
    after = 1 + n_end + n_reply + 3 + n_end + 9 * (n_open + n_reply + n_end) + n_open + n_reply + len(said)
    assert keep_all.distance == after + 1
    assert keep_all.resident == keep_all.tokens and streaming.tokens == keep_all.tokens
    assert streaming.resident + streaming.evicted == streaming.tokens
    assert keep_all.last and keep_all.turn == 13 and keep_all.metric == "recall"


def by_hand(history: str, option: str, engine: ToyEngine, special: bool = True) -> float:
    """log P of the option's bytes, one row at a time."""
    codec = ByteTokenizer()
    tokens = np.concatenate([codec.encode(history, special=special), codec.encode(option, special=False)])
    n = len(codec.encode(option, special=False))
    total = 0.0
    for p, token in enumerate(tokens):
        row = engine.decode([Slice(0, tokens[p : p + 1], p, np.array([-1], np.int32))])[0].logits
        assert row is not None
        if p + 1 >= len(tokens) - n and p + 1 < len(tokens):
            x = row.astype(float)
            total += float(x[tokens[p + 1]] - x.max() - np.log(np.exp(x - x.max()).sum()))
        del token
    return total


def test_options_are_valued_by_all_their_tokens_and_the_closing_mark() -> None:
    (row,) = play(toy_contexts(), dialogue(FACT, QUESTION), ["keep-all"])
    history = (
        "<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nI like plums.<|im_end|>\n"
        "<|im_start|>assistant\nOK.<|im_end|>\n<|im_start|>user\nWhat do I like?<|im_end|>\n"
        "<|im_start|>assistant\nYou like"
    )
    expected = [by_hand(history, option + ".", ToyEngine(512)) for option in QUESTION.options]
    np.testing.assert_allclose(row.logprobs, expected, rtol=1e-4)
    assert row.chosen == int(np.argmax(expected)) and row.correct == (row.chosen == 0)


def test_first_token_lists_the_options_and_looks_at_the_letter_alone() -> None:
    (row,) = play(toy_contexts(), dialogue(FACT, QUESTION), ["keep-all"], answer="first-token")
    history = (
        "<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nI like plums.<|im_end|>\n"
        "<|im_start|>assistant\nOK.<|im_end|>\n<|im_start|>user\nWhat do I like?\n"
        "(A) plums (B) figs (C) pears (D) limes<|im_end|>\n<|im_start|>assistant\nThe answer is ("
    )
    np.testing.assert_allclose(row.logprobs, [by_hand(history, x, ToyEngine(512)) for x in "ABCD"], rtol=1e-4)


def test_many_options_and_long_ones_are_valued_in_several_decodes() -> None:
    contexts = toy_contexts()
    encoded = EncodedDialogue(dialogue(FACT), contexts.model.codec, contexts.model.template, "rank")
    run = DialogueRun.start(encoded, contexts.engine(256), from_spec("keep-all"), 256)
    run.play()
    options = [contexts.model.codec.encode("x" * n, special=False) for n in (1, 40, 30, *range(2, 14))]
    values = option_logprobs(run.session, options)
    singly = [option_logprobs(run.session, [option])[0] for option in options]
    np.testing.assert_allclose(values, singly, rtol=1e-5)
    assert run.session.engine.pos_range(0)[1] == run.session.ledger.next_pos - 1
    with pytest.raises(BatchError, match="65 tokens"):
        option_logprobs(run.session, [contexts.model.codec.encode("x" * 65, special=False)])


# ---- probes, replies, reading ------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["sir", "streaming", "keep-all"])
def test_a_probe_leaves_no_trace(spec: str) -> None:
    steps = [*chat(2), FACT, *chat(8, "news")]
    with_probes = dialogue(*(x for step in steps for x in (step, QUESTION)), QUESTION)
    rows = play(toy_contexts(), with_probes, [spec], 160)
    plain = play(toy_contexts(), dialogue(*steps, QUESTION), [spec], 160)
    np.testing.assert_allclose(rows[-1].logprobs, plain[0].logprobs, rtol=1e-5)
    assert rows[-1].resident == plain[0].resident and rows[-1].evicted == plain[0].evicted
    assert len(rows) == 12 and [row.index for row in rows] == list(range(12)) and sum(row.last for row in rows) == 1
    assert [row.gold_resident for row in rows[:2]] == [None, None] and rows[2].gold_resident == 1.0


def test_a_question_may_stay_with_the_right_or_the_chosen_answer() -> None:
    for reply in ("gold", "chosen"):
        kept = replace(QUESTION, reply=reply, gold=3)
        contexts = toy_contexts()
        encoded = EncodedDialogue(dialogue(kept, QUESTION), contexts.model.codec, contexts.model.template, "rank")
        run = DialogueRun.start(encoded, contexts.engine(512), from_spec("keep-all"), 512)
        run.play()
        said = bytes(t for t in run.session.ledger["token"].tolist() if t < 256).decode()
        option = kept.options[3 if reply == "gold" else run.rows[0][0].chosen]
        assert said.endswith(f"assistant\nYou like{option}.\n")


def test_reading_gives_the_mean_log_probability_of_the_text() -> None:
    told = Dialogue("0", (Read("abc"), Read("defgh")), system=None)
    rows = play(toy_contexts(), told, ["keep-all", "streaming"], 64)
    engine = ToyEngine(64)
    expected = by_hand("<s>abc", "defgh", engine) / 5
    assert rows[1].gold_logprob == pytest.approx(expected, rel=1e-4)
    assert rows[1].gold == rows[1].chosen == -1 and not rows[1].correct
    assert [row.n_scored for row in rows[:2]] == [3, 5]  # "abc" comes after <s>, so its first byte counts, too
    assert [row.metric for row in rows] == ["log_probability"] * 4


def test_a_long_dialogue_tells_the_seconds_of_its_first_and_its_last_tenth() -> None:
    contexts = toy_contexts()
    for n, expected in ((199, (1.0, 3.0)), (198, None)):
        encoded = EncodedDialogue(
            dialogue(*[Say("a", "b")] * n, QUESTION), contexts.model.codec, contexts.model.template, "rank"
        )
        run = DialogueRun.start(encoded, contexts.engine(160), from_spec("streaming"), 160)
        for i in range(n):
            run.play()
            run.seconds = i + 1.0  # a second each, and then three for each of the last tenth
            if i == 50:
                run = run.fork(run.session.engine, from_spec("streaming"), Budget(160))
        run.apart = [7.0]  # for questions before the last tenth: in neither end
        run.marks = (run.marks[0], *([mark[0] + 7.0] for mark in run.marks[1:]))
        run.seconds = 180.0 + 20 * 3
        run.play()
        ((row,),) = run.rows
        assert row.ends == (expected and pytest.approx(expected, abs=0.1))
        assert Row.from_json(json.loads(json.dumps(row.to_json()))).ends == (row.ends and pytest.approx(row.ends, 1e-3))


# ---- controls ----------------------------------------------------------------------------------


def test_the_controls_keep_and_drop_the_fact_on_purpose() -> None:
    rows = play(toy_contexts(), TOLD, ["keep-gold", "drop-gold"], 224)
    assert [row.gold_resident for row in rows] == [1.0, 0.0]
    late = dialogue(*chat(8), FACT, *chat(1, "news"), QUESTION)
    streaming, dropped = play(toy_contexts(), late, ["streaming", "drop-gold"], 224)
    assert streaming.gold_resident == 1.0 and dropped.gold_resident == 0.0


def test_few_shot_is_a_fresh_prompt_of_the_last_rounds() -> None:
    asked = replace(QUESTION, reply="chosen")
    told = dialogue(FACT, asked, *chat(1), asked)
    few = play(toy_contexts(), told, ["few-shot:rounds=1"])
    alone = play(toy_contexts(), dialogue(*chat(1), asked), ["keep-all"])
    assert [row.index for row in few] == [0, 1]
    np.testing.assert_allclose(few[1].logprobs, alone[0].logprobs, rtol=1e-5)
    assert few[1].tokens > few[0].tokens and few[1].last


def test_few_shot_has_no_probe_in_its_window() -> None:
    told = dialogue(FACT, *chat(1), QUESTION, QUESTION)
    first, second = play(toy_contexts(), told, ["few-shot:rounds=1"])
    assert first.logprobs == second.logprobs and first.resident == second.resident


def test_plain_retrieval_is_a_fresh_prompt_of_what_matches_and_of_the_newest() -> None:
    told = dialogue(*chat(4), FACT, *chat(12, "news"), QUESTION)
    encoded = EncodedDialogue(told, toy_contexts().model.codec, toy_contexts().model.template, "rank")
    fact, question, newest = (encoded.step(i, first=False).n_tokens for i in (4, -1 + len(encoded), len(encoded) - 2))
    (found,) = play(toy_contexts(), told, ["retrieval"], fact + 2 * newest + question + newest // 2)
    alone = play(toy_contexts(), dialogue(FACT, *told.steps[-3:-1], QUESTION), ["keep-all"])[0]
    np.testing.assert_allclose(found.logprobs, alone.logprobs, rtol=1e-5)
    assert found.resident == alone.resident and found.archive_bytes > 0
    assert found.last and found.budget > found.resident


@pytest.mark.parametrize("budget", [96, 128, 160, 224, 300])
def test_plain_retrieval_never_takes_more_cells_than_the_budget(budget: int) -> None:
    rows = play(toy_contexts(), dialogue(*chat(4), FACT, *chat(12, "news"), QUESTION, QUESTION), ["retrieval"], budget)
    assert len(rows) == 2 and all(0 < row.resident <= budget and row.gold_resident is None for row in rows)
    assert rows[0].logprobs == rows[1].logprobs  # a question that leaves no trace is in no prompt after it


def test_an_answer_that_was_chosen_is_what_retrieval_finds() -> None:
    asked = replace(QUESTION, reply="chosen")
    first, second = play(toy_contexts(), dialogue(FACT, asked, asked), ["retrieval"], 400)
    told = dialogue(FACT, replace(asked, gold=first.chosen), asked)
    assert play(toy_contexts(), told, ["retrieval"], 400)[1].logprobs == second.logprobs


# ---- going on after a kill ---------------------------------------------------------------------


class Kill(KeyboardInterrupt):
    pass


def test_a_killed_run_goes_on_and_counts_nothing_twice(tmp_path: Path) -> None:
    dialogues = [replace(TOLD, id=str(i)) for i in range(3)]
    arms = arms_of(["keep-all", "sir", "streaming"], [160])
    config = {**CONFIG, "seed": 0}
    seen: list[str] = []

    def kill_after_four(rows: object) -> None:
        seen.append("x")
        if len(seen) == 4:
            raise Kill

    with pytest.raises(Kill):
        play_dialogues(toy_contexts(), dialogues, arms, Store(tmp_path, config), on_rows=kill_after_four)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"policy": "sir", "budget": 160, "dial')  # the kill came in the middle of a line
    store = Store(tmp_path, config)
    assert len(store.rows) == 4
    play_dialogues(toy_contexts(), dialogues, arms, store, on_rows=lambda rows: seen.append("y"))
    assert seen == ["x"] * 4 + ["y"] * 5
    found, rows, _ = load_run(tmp_path)
    assert found == config | {"asked": []}
    whole = Store(None, config)
    play_dialogues(toy_contexts(), dialogues, arms, whole)

    def without_time(rows: list[Row]) -> list[dict]:
        return sorted(({**row.to_json(), "seconds": 0} for row in rows), key=json.dumps)

    assert without_time(rows) == without_time(whole.rows)


def test_no_dialogue_is_begun_after_the_deadline_and_the_next_run_goes_on(tmp_path: Path) -> None:
    dialogues = [replace(TOLD, id=str(i)) for i in range(2)]
    arms, store = arms_of(["keep-all", "streaming"], [160]), Store(tmp_path, CONFIG)
    play_dialogues(toy_contexts(), dialogues, arms, store, deadline=time.monotonic() - 1)
    assert store.rows == []
    play_dialogues(toy_contexts(), dialogues, arms, store, deadline=time.monotonic() + 60)
    assert [(row.dialogue, row.policy) for row in store.rows] == [
        (name, policy) for name in "01" for policy in ("keep-all", "streaming")
    ]


def test_what_was_asked_in_parts_is_told_as_a_whole(tmp_path: Path) -> None:
    store = Store(tmp_path, CONFIG)
    store.note({"rows": 4, "seconds": 1.0})  # by an older version
    for offset in (14, 10, 30, 12):
        store.note({"offset": offset, "n": 4})
    found, _, passes = load_run(tmp_path)
    assert (found["asked"], len(passes)) == ([(10, 8), (30, 4)], 5)


def test_of_two_versions_of_a_dialogue_the_one_that_was_played_last_counts(tmp_path: Path) -> None:
    """A default that was changed and changed back."""
    store = Store(tmp_path, CONFIG)
    row = replace(play(toy_contexts(), dialogue(QUESTION), ["keep-all"])[0], last=True)
    for digest_, logprob in (("a", -1.0), ("b", -2.0), ("a", -3.0)):
        store.add([replace(row, digest=digest_, gold_logprob=logprob)])
    again = Store(tmp_path, CONFIG)
    assert [(r.digest, r.gold_logprob) for r in again.rows] == [("a", -1.0)]
    assert again.is_done(row.policy, row.budget, row.dialogue, "a")


def test_rows_of_another_policy_or_text_are_dropped(tmp_path: Path) -> None:
    contexts, arms = toy_contexts(), arms_of(["keep-all", "streaming"], [160])
    request = Request("names", n=2, n_tokens=400, out=tmp_path)
    evaluate(contexts, arms, request)
    rows = [row.to_json() for row in load_run(tmp_path)[1]]
    assert len(rows) == 4 and drop_stale(contexts, arms, request) == 0
    rows[0]["digest"] = "of older words"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert drop_stale(contexts, arms_of(["keep-all"], []), request) == 3  # that row, and both of streaming
    assert [row.to_json() for row in load_run(tmp_path)[1]] == [r for r in rows[1:] if r["policy"] == "keep-all"]


def test_half_a_dialogue_does_not_count(tmp_path: Path) -> None:
    told = dialogue(FACT, replace(QUESTION, reply="gold"), QUESTION)
    config = CONFIG
    play_dialogues(toy_contexts(), [told], arms_of(["keep-all"], []), Store(tmp_path, config))
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text(lines[0] + "\n")
    store = Store(tmp_path, config)
    assert store.rows == [] and not store.is_done("keep-all", 0, "0", digest(Arm("keep-all", 0), told))
    play_dialogues(toy_contexts(), [told], arms_of(["keep-all"], []), store)
    assert [row.index for row in load_run(tmp_path)[1]] == [0, 1]


def test_a_folder_holds_one_evaluation(tmp_path: Path) -> None:
    Store(tmp_path, {**CONFIG, "seed": 0})
    Store(tmp_path, {**CONFIG, "seed": 0, "group": "choosing"})  # what a mean counts does not change what is played
    with pytest.raises(ConfigError, match="seed 0, not 1"):
        Store(tmp_path, {**CONFIG, "seed": 1})
    with pytest.raises(ConfigError, match="no evaluation"):
        load_run(tmp_path / "elsewhere")
    (tmp_path / "rows.jsonl").write_text('{"policy": "sir"}\n')
    with pytest.raises(ConfigError, match="another version"):
        Store(tmp_path, {**CONFIG, "seed": 0})


def test_a_row_survives_json() -> None:
    (row,) = play(toy_contexts(), dialogue(FACT, QUESTION), ["keep-all"])
    again = Row.from_json(json.loads(json.dumps(row.to_json())))
    assert replace(again, logprobs=row.logprobs, gold_logprob=row.gold_logprob) == row
    np.testing.assert_allclose(again.logprobs, row.logprobs, atol=1e-4)


def test_a_row_of_an_earlier_version_is_still_read() -> None:
    (row,) = play(toy_contexts(), dialogue(FACT, QUESTION), ["keep-all"])
    old = row.to_json()
    del old["n_scored"], old["ends"]
    assert Row.from_json(old) == Row.from_json(row.to_json()) and row.n_scored == 1
    del old["digest"]
    with pytest.raises(KeyError, match="digest"):
        Row.from_json(old)


def test_an_ask_defaults_to_a_probe() -> None:
    assert Ask("?", "", ("a", "b"), 0).reply == "none"


def test_questions_that_are_not_valued_are_told_with_their_right_answer() -> None:
    asked = replace(QUESTION, reply="gold", metric="other")
    told = dialogue(FACT, asked, QUESTION)
    contexts = toy_contexts()
    texts = []
    for metrics in ((), ("recall",)):
        encoded = EncodedDialogue(told, contexts.model.codec, contexts.model.template, "rank", metrics)
        run = DialogueRun.start(encoded, contexts.engine(512), from_spec("keep-all"), 512)
        for _ in told.steps[:-1]:
            run.play()
        texts.append(run.session.ledger["token"].tolist())
        run.play()
        last = run.rows[0][-1]
        assert len(run.rows[0]) == (1 if metrics else 2) and last.metric == "recall" and last.distance is not None
    assert texts[0] == texts[1]


def test_first_token_does_not_list_options_twice() -> None:
    contexts = toy_contexts()
    asked = Ask("Which?\nplums, figs", "It is", (" plums", " figs"), 0)
    line = EncodedDialogue(dialogue(asked), contexts.model.codec, contexts.model.template, "first-token").step(0)
    said = bytes(t for _, tokens in line.parts for t in tokens.tolist() if t < 256).decode()
    assert "Which?\n(A) plums (B) figs\n" in said


def test_rows_of_other_words_or_another_default_are_played_again(tmp_path: Path) -> None:
    arms = arms_of(["streaming"], [160])
    play_dialogues(toy_contexts(), [TOLD], arms, Store(tmp_path, CONFIG))
    reworded = replace(TOLD, steps=(*chat(3, "other"), *TOLD.steps))
    assert digest(arms[0], reworded) != digest(arms[0], TOLD)
    assert digest(Arm("streaming:n_sink=5", 160), TOLD) != digest(arms[0], TOLD)
    assert digest(Arm("streaming:n_sink=4", 160), TOLD) == digest(arms[0], TOLD)
    store = Store(tmp_path, CONFIG)
    play_dialogues(toy_contexts(), [reworded], arms, store)
    (row,) = load_run(tmp_path)[1]  # the later version alone
    assert row.turn == 16


def test_the_words_of_a_fact_are_found_token_by_token() -> None:
    said = Say("Listen. A list of zeb: zebra, Zürich.", "Noted: zebra", fact="x", gold=("list", "zebra", "Zürich"))
    contexts = toy_contexts()
    line = EncodedDialogue(dialogue(said), contexts.model.codec, contexts.model.template, "rank").step(0)
    tokens = np.concatenate([part for _, part in line.parts])
    words = [bytes(tokens[a:b].tolist()).decode() for a, b in line.gold]
    assert words == ["list", "zebra", "Zürich", "zebra"]


def test_few_shot_skips_questions_that_are_told() -> None:
    contexts = toy_contexts()
    told = dialogue(replace(QUESTION, reply="gold", metric="other"), QUESTION)
    encoded = EncodedDialogue(told, contexts.model.codec, contexts.model.template, "rank", ("recall",))
    (rows,) = play_dialogue(contexts, encoded, arms_of(["few-shot:rounds=1"], []))
    assert [row.metric for row in rows] == ["recall"]
