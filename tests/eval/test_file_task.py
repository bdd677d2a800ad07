"""Dialogues of one's own, from a file of JSON lines."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_model import toy_contexts

from edge_sir.errors import BudgetError, ConfigError
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.play.evaluate import Request, evaluate
from edge_sir.eval.report.summary import summarize
from edge_sir.eval.task import Ask, Say, Setup
from edge_sir.eval.tasks.file import METRICS, File


def talk(**other: Any) -> dict[str, Any]:
    """A dialogue of three exchanges; the fact is in the first, the question names it."""
    messages = [
        {"id": "m1", "role": "user", "content": "My sister Ottilie lives in Tromsø."},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "It is cold."},
        {"role": "user", "content": "And dark."},
        {"id": "m5", "role": "assistant", "content": "In winter."},
        {"role": "user", "content": "Yes."},
    ]
    question = {
        "question": "Where does she live?",
        "answer": "Tromsø",
        "options": ["Oslo", "Tromsø"],
        "evidence": ["m1"],
    }
    return {"id": "a", "messages": messages, "questions": [question]} | other


def lines(folder: Path, *documents: object) -> Path:
    path = folder / "talks.jsonl"
    path.write_text("".join(f"{json.dumps(d) if not isinstance(d, str) else d}\n" for d in documents), "utf-8")
    return path


def setup(path: Path) -> Setup:
    return Setup(count_tokens=len, data=path)


def test_messages_become_exchanges_and_questions_are_asked_at_the_end(tmp_path: Path) -> None:
    told = File().dialogue(setup(lines(tmp_path, talk(system=""))), 0)
    assert told.id == "a" and told.system is None
    first, second, third, asked = told.steps
    whole = ("user", 0, len("My sister Ottilie lives in Tromsø."))
    assert first == Say("My sister Ottilie lives in Tromsø.", "Noted.", "exchange 0", (whole,))
    assert second == Say("It is cold.\nAnd dark.", "In winter.")
    assert third == Say("Yes.", "")
    assert asked == Ask("Where does she live?", "", ("Oslo", "Tromsø"), 1, ".", "accuracy", ("exchange 0",))


def test_a_question_is_asked_after_the_exchange_that_it_names(tmp_path: Path) -> None:
    asked = {"question": "Where?", "answer": "There", "after": "m1", "stem": "It is ", "close": "", "kind": "place"}
    told = File().dialogue(setup(lines(tmp_path, talk(questions=[asked]))), 0)
    assert told.steps[1] == Ask("Where?", "It is", (" There",), 0, "", "answer/place", ())


def test_lines_without_a_name_are_called_by_their_number_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    path = lines(tmp_path, "", talk(id=""), talk(id=""))
    assert File().n_usual(setup(path), 0) == 2 and File().n_usual(setup(path), 1) == 1
    assert [File().dialogue(setup(path), i).id for i in range(2)] == ["line-2", "line-3"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "line 1 .* is no JSON: .*character 2"),
        ("[]", "line 1 .*: the line must be an object"),
        (talk(colour=1), "colour is no field"),
        (talk(messages=[]), "messages must have at least 1 item"),
        (talk(questions=[]), "questions must have at least 1 item"),
        (talk(messages=[{"role": "assistant", "content": "Hi."}]), "first message must be the user's"),
        (talk(messages=[{"role": "tool", "content": "Hi."}]), r"messages\[0\].role must be"),
        (talk(messages=[{"role": "user", "content": " "}]), r"messages\[0\].content must not be empty"),
        (talk(messages=[{"id": "x", "role": "user", "content": "A"}] * 2), "two messages have the id 'x'"),
        (talk(questions=[{"question": "Q", "answer": "A", "evidence": ["m9"]}]), "no message has the id 'm9'"),
        (talk(questions=[{"question": "Q", "answer": "A", "after": "m9"}]), "no message has the id 'm9'"),
        (talk(questions=[{"question": "Q", "answer": "A", "options": ["B", "C"]}]), "none of the options"),
        (talk(questions=[{"question": "Q", "answer": "A", "options": ["A"]}]), "two or more"),
        (talk(questions=[{"question": "Q", "answer": "A", "options": ["A", "A"]}]), "two or more"),
        (talk(questions=[{"question": "Q", "answer": "A", "kind": "a/b"}]), r"questions\[0\].kind must be letters"),
        (talk(questions={}), "questions must be a list"),
        (talk(id="\ud800"), "id holds half a character"),
        ('{"id": ' + "[" * 10**5, "nested too deep"),
        (talk(questions=[{"question": "Q", "answer": "0", "options": [str(i) for i in range(27)]}]), "at most 26"),
        (talk(questions=[{"question": "Q", "answer": 7}]), r"questions\[0\].answer must be text"),
    ],
)
def test_a_line_of_another_form_is_refused_with_its_number(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        File().files(lines(tmp_path, document))
    assert "\n" not in str(raised.value)


def test_an_id_may_stand_once_and_there_must_be_a_dialogue(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2 .*another line has the id 'a'"):
        File().files(lines(tmp_path, talk(), talk()))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        File().files(tmp_path / "empty.jsonl")
    for nothing in (None, tmp_path):
        with pytest.raises(ConfigError, match="--data"):
            File().n_usual(Setup(count_tokens=len, data=nothing), 0)


def test_options_are_judged_and_an_answer_alone_is_valued_by_its_tokens(tmp_path: Path) -> None:
    contexts = toy_contexts()
    asked = {"question": "Where?", "answer": "Tromsø", "stem": "In", "evidence": ["m1", "m5"], "kind": "place"}
    path = lines(tmp_path, talk(questions=[*talk()["questions"], asked]))
    result = evaluate(contexts, arms_of(["keep-all", "streaming"], [96]), Request("file", data=path))
    by_options, alone, *_ = result.rows
    assert by_options.metric == "accuracy" and by_options.gold == 1 and len(by_options.logprobs) == 2
    assert by_options.margin == pytest.approx(by_options.logprobs[1] - by_options.logprobs[0])
    n = len(contexts.model.codec.encode(" Tromsø.", special=False))
    assert (alone.metric, alone.gold, alone.n_scored) == ("answer/place", -1, n)
    assert alone.margin is None and not alone.correct and alone.logprobs == (alone.gold_logprob,)
    assert by_options.gold_resident == alone.gold_resident == 1
    found = summarize(result.rows, task="file", model="toy", answer="rank", metrics=METRICS, chance=0.25)
    assert [summary.metric for summary in found] == ["accuracy", "answer", "answer/place"]
    assert found[0].entries[0].gold_per_token is not None and found[0].chance == 0.5
    assert found[1].is_plain and found[1].entries[0].gold_logprob.value == pytest.approx(alone.gold_logprob)


def test_evidence_is_the_message_that_is_named_and_not_the_first_with_its_words(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Not to Oslo."},
        {"id": "it", "role": "user", "content": "Oslo"},
        {"role": "assistant", "content": "Oslo"},
    ]
    asked = {"question": "Where?", "answer": "Oslo", "evidence": ["it"]}
    told = File().dialogue(setup(lines(tmp_path, talk(messages=messages, questions=[asked]))), 0)
    contexts = toy_contexts()
    step = EncodedDialogue(told, contexts.model.codec, contexts.model.template, "rank").step(0)
    tokens = [t for _, part in step.parts for t in part.tolist()]
    (span,) = step.gold
    assert bytes(tokens[slice(*span)]).decode() == "Oslo" and bytes(tokens[span[0] - 13 : span[0]]) == b"Not to Oslo.\n"


def test_an_answer_that_is_too_long_and_a_system_prompt_that_does_not_fit_are_refused_first(tmp_path: Path) -> None:
    asked = {"question": "Where?", "answer": "Oslo " * 40}
    path = lines(tmp_path, talk(questions=[asked]))
    with pytest.raises(ConfigError, match=r"dialogue 'a' has an answer .* tokens; the most is 128"):
        evaluate(toy_contexts(), arms_of(["keep-all"], [96]), Request("file", data=path))
    (tmp_path / "more").mkdir()
    path = lines(tmp_path / "more", talk(system="Be kind. " * 20))
    with pytest.raises(BudgetError, match=r"system prompt of dialogue 'a' takes .* of 96 cells"):
        evaluate(toy_contexts(), arms_of(["keep-all", "streaming"], [96]), Request("file", data=path))


# ---- the docs' converters, on samples of public forms ------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "own-dialogues.md"


def longmemeval() -> list[dict[str, Any]]:
    """As its files have it; sessions may begin with the assistant, and answers may be numbers."""
    sessions = [
        [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "I have 3 cats.", "has_answer": True}],
        [{"role": "user", "content": "It rains."}, {"role": "assistant", "content": "", "has_answer": False}],
        [{"role": "assistant", "content": "Stay in."}],
    ]
    return [
        {
            "question_id": f"q{i}",
            "question_type": kind,
            "question": "How many cats do I have?",
            "answer": 3,
            "question_date": "2023/05/30 (Tue) 23:40",
            "haystack_dates": ["2023/05/20 (Sat) 02:21"] * 3,
            "haystack_session_ids": ["a", "b", "c"],
            "answer_session_ids": ["a"],
            "haystack_sessions": sessions,
        }
        for i, kind in enumerate(["single-session-user", "multi-session"])
    ]


def locomo() -> list[dict[str, Any]]:
    return [
        {
            "sample_id": "conv-1",
            "conversation": {
                "speaker_a": "Ada",
                "speaker_b": "Bo",
                "session_1_date_time": "1:56 pm on 8 May, 2023",
                "session_1": [
                    {"speaker": "Bo", "dia_id": "D1:1", "text": "I moved to Tromsø."},
                    {"speaker": "Ada", "dia_id": "D1:2", "text": "Oh!"},
                ],
                "session_2": [{"speaker": "Ada", "dia_id": "D2:1", "text": "Is it cold?"}],
            },
            "qa": [
                {"question": "Where did Bo move?", "answer": "Tromsø", "evidence": ["D1:1"], "category": 4},
                {"question": "When?", "answer": 2023, "evidence": ["D1:1; D9:9"], "category": 2},
                {"question": "Where did Ada move?", "adversarial_answer": "Tromsø", "evidence": [], "category": 5},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("name", "sample", "source", "made", "n", "metrics"),
    [
        ("haystack", longmemeval(), "longmemeval_oracle.json", "longmemeval.jsonl", 2,
         {"answer/single-session-user", "answer/multi-session"}),
        ("conversation", locomo(), "locomo.json", "locomo.jsonl", 1, {"answer/4", "answer/2"}),
    ],
)  # fmt: skip
def test_the_docs_converters_make_lines_that_are_played(
    name: str,
    sample: object,
    source: str,
    made: str,
    n: int,
    metrics: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (code,) = [block for block in python_blocks(DOCS.read_text(encoding="utf-8")) if f'"{name}' in block]
    monkeypatch.chdir(tmp_path)
    (tmp_path / source).write_text(json.dumps(sample), encoding="utf-8")
    exec(compile(code, source, "exec"), {})
    result = evaluate(
        toy_contexts(), arms_of(["keep-all", "sir:recall=cells"], [96]), Request("file", data=tmp_path / made)
    )
    assert {row.metric for row in result.rows} == metrics and len({row.dialogue for row in result.rows}) == n
    assert all(row.gold_resident is not None for row in result.rows if row.metric != "answer/2")
    assert {row.policy for row in result.rows} == {"keep-all", "sir:recall=cells"}


def test_the_docs_example_is_a_line(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8").split("```json\n")[1].split("```")[0]
    told = File().dialogue(setup(lines(tmp_path, json.loads(text))), 0)
    assert [step.metric for step in told.steps if isinstance(step, Ask)] == ["answer", "accuracy/places"]


def python_blocks(text: str) -> list[str]:
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]
