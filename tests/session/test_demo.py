"""scripts/demo: what is right, what is shown, what it is refused with. Its model is the toy, or a tiny llama."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from chatting import make_chat

from edge_sir import Options
from edge_sir.chat import Chat
from edge_sir.errors import ConfigError

TALK = """
turns = ["My name is Ada, I live at number 47.", "What is a pond?", "Why is the sky blue? Tell me at some length."]
[[questions]]
ask = "What is my name?"
told = "Ada"
[[questions]]
ask = "What is my number?"
told = "47"
also = ["forty-seven"]
"""
LONG = "It is what it is, and more could be said of it than anybody has the time to hear on a day like this one."
REPLIES = ["Hello!", "A small lake.", LONG, "It is <ada> | really.", "It is\n147."]


@pytest.fixture
def demo(import_script: Callable[[str], ModuleType]) -> ModuleType:
    for name in ("one_line_parser", "demo_talk", "demo_views"):
        import_script(name)
    return import_script("demo")


@pytest.fixture
def talking(demo: ModuleType) -> ModuleType:
    return demo.sys.modules["demo_talk"]


@pytest.fixture
def talk_file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.toml"
    path.write_text(TALK, encoding="utf-8")
    return path


@pytest.fixture
def opened(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Options]]:
    """The options of every chat that was opened; all of them say REPLIES."""
    seen: list[Options] = []

    def open_toy(options: Options) -> Chat:
        seen.append(options)
        return make_chat(REPLIES, policy=options.policy, budget=options.budget)

    monkeypatch.setattr(demo, "open_chat", open_toy)
    yield seen


# ---- the conversation ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("My name is Ada.", True),
        ("ADA!", True),
        ("It is Adam.", False),
        ("I live in Canada.", False),
        ("March 9th, 1990", True),
        ("on 19 March", False),
        ("9 marches", False),
        ("", False),
    ],
)
def test_an_answer_is_right_if_it_holds_the_words(talking: ModuleType, text: str, right: bool) -> None:
    assert talking.is_right(text, ["Ada", "9 March", "March 9th"]) is right


def test_the_shipped_conversation_gives_no_answer_away(demo: ModuleType, talking: ModuleType) -> None:
    talk = talking.read_talk(demo._parser().get_default("talk"))
    assert (len(talk.turns), len(talk.questions), talk.n_telling) == (20, 10, 5)
    assert len({question.told for question in talk.questions}) == 10
    said_later = [*talk.turns[5:], *(question.ask for question in talk.questions)]
    for question in talk.questions:
        accepted = [question.told, *question.also]
        assert any(talking.is_right(text, [question.told]) for text in talk.turns[:5])
        assert [text for text in said_later if talking.is_right(text, accepted)] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("turns = [", "not valid TOML"),
        ("turns = []\nquestions = []", "turns: "),
        (TALK + "answer = 1", "questions.1.answer: "),
        (TALK.replace('told = "47"', 'told = "48"'), "no turn tells '48', the answer to 'What is my number?'"),
    ],
)
def test_another_file_is_refused(talking: ModuleType, talk_file: Path, text: str, complaint: str) -> None:
    talk_file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        talking.read_talk(talk_file)


def test_every_question_is_asked_of_the_same_memory(talking: ModuleType, talk_file: Path) -> None:
    said: list[str] = []
    talk = talking.read_talk(talk_file)
    with make_chat(REPLIES, policy="keep-all", budget=512) as chat:
        played = talking.play(chat, talk, "keep-all", said.append)
        assert said == [*talk.turns, *(question.ask for question in talk.questions)]
        assert chat.session.turn == len(talk.turns)
        assert chat.matches(talk.questions[0].ask) == ()
        assert played.n_tokens >= played.n_resident == chat.stats().resident
    assert [answer.right for answer in played.answers] == [True, False]
    assert (played.n_right, played.n_in_cache, played.n_cells) == (1, 2, 512)


def test_what_went_is_not_in_the_cache_even_if_it_was_said_again_later(talking: ModuleType, talk_file: Path) -> None:
    talk = talking.read_talk(talk_file)
    for last, in_cache in ((LONG, 0), (f"{LONG} Nor 47, nor Ada.", 0)):
        with make_chat(["Hello!", "A small lake.", last, "Ada", "47"], policy="streaming", budget=192) as chat:
            played = talking.play(chat, talk, "streaming", lambda text: None)
        assert (played.n_right, played.n_in_cache) == (2, in_cache)


# ---- what is shown -------------------------------------------------------------------------------


def run(demo: ModuleType, capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    try:
        code = demo.main([str(arg) for arg in args])
    except SystemExit as leaving:
        code = leaving.code
    return (code, *capsys.readouterr())


def test_the_table_sets_policies_side_by_side(
    demo: ModuleType, opened: list[Options], talk_file: Path, capsys: Any
) -> None:
    code, out, err = run(demo, capsys, "--talk", talk_file, "--budget", 300)
    assert (code, err) == (0, "")
    assert [(o.policy, o.budget, o.temperature) for o in opened] == [("sir", 300, 0), ("streaming", 300, 0)]
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    assert ["told", "asked after turn 3", "sir", "streaming"] in lines
    assert ["Ada", "What is my name?", *["✓ It is <ada> | really."] * 2] in lines
    assert ["47", "What is my number?", *["✗ It is 147."] * 2] in lines
    assert ["right", "1 of 2", "1 of 2"] in lines
    assert ["2-3", "What is a pond? and 1 more about other things"] in lines


def test_json_holds_what_the_table_does(demo: ModuleType, opened: list[Options], talk_file: Path, capsys: Any) -> None:
    _, out, _ = run(demo, capsys, "--talk", talk_file, "--json", "--policy", "keep-all", "--budget", 512)
    document = json.loads(out)
    (played,) = document["played"]
    assert (document["turns"], played["policy"], played["n_right"], played["n_in_cache"]) == (3, "keep-all", 1, 2)
    assert [answer["text"] for answer in played["answers"]] == REPLIES[3:]
    assert document["questions"][1] == {"ask": "What is my number?", "told": "47", "also": ["forty-seven"]}


def words_of(root: ET.Element) -> str:
    return " ".join(" ".join(root.itertext()).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_picture_is_whole_and_loads_nothing(
    demo: ModuleType, opened: list[Options], talk_file: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")  # of a terminal, not of a file
    path = tmp_path / "demo.svg"
    assert run(demo, capsys, "--talk", talk_file, "--svg", path)[0] == 0
    root = ET.parse(path).getroot()
    words = words_of(root)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for said in ("My name is Ada, I live at number 47.", "What is my name?", "It is <ada> | really.", "streaming"):
        assert said in words
    attributes = [(name, value) for element in root.iter() for name, value in element.attrib.items()]
    source = path.read_text(encoding="utf-8")
    assert not [name for name, _ in attributes if name.rpartition("}")[2] in ("href", "src")]
    assert set(re.findall(r"url\((.)", source)) <= {"#"} and "@" not in source
    assert len(set(re.findall(r"fill: (#\w+)", source))) > 2


def test_the_picture_that_is_kept_shows_the_shipped_conversation(demo: ModuleType, talking: ModuleType) -> None:
    shipped = demo._parser().get_default("talk")
    talk = talking.read_talk(shipped)
    words = words_of(ET.parse(shipped.parents[1] / "docs" / "demo.svg").getroot())
    assert [text for text in talk.turns[: talk.n_telling] if text not in words] == []
    assert [question.told for question in talk.questions if question.told not in words] == []
    assert f"of {len(talk.questions)}" in words and f"asked after turn {len(talk.turns)}" in words


def test_the_markdown_is_one_table(
    demo: ModuleType, opened: list[Options], talk_file: Path, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "demo.md"
    assert run(demo, capsys, "--talk", talk_file, "--markdown", path)[0] == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert {len(row) for row in cells} == {4} and len(cells) == 2 + 2 + 4
    assert set("".join(cells[1])) <= set("-:")
    assert cells[2] == ["Ada", "What is my name?", *["✓ It is <ada> \\| really."] * 2]


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--policy", "nonesuch"], "nonesuch"),
        (["--policy", "sir", "--policy", "sir:decay=2"], "decay"),
        (["--budget", "0"], "budget"),
        (["--budget", "many"], "--budget"),
        (["--model", "missing.gguf"], "missing.gguf"),
        (["--talk", "missing.toml"], "missing.toml"),
        (["--svg", "missing/demo.svg"], "missing/demo.svg"),
        (["--markdown", "."], "cannot write ."),
        (["--nonesuch"], "--nonesuch"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    demo: ModuleType, tmp_path: Path, capsys: Any, monkeypatch: Any, args: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(demo, capsys, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("demo: ") and complaint in err


def test_a_model_that_knows_nothing_is_shown_all_the_same(
    demo: ModuleType, tiny_llama_path: Path, talk_file: Path, capsys: Any
) -> None:
    args = ("--talk", talk_file, "--model", tiny_llama_path, "--budget", 128, "--threads", 1, "--quiet", "--json")
    code, out, _ = run(demo, capsys, *args)
    played = json.loads(out)["played"]
    assert code == 0 and [p["policy"] for p in played] == ["sir", "streaming"]
    assert all(p["n_resident"] <= 128 < p["n_tokens"] and len(p["answers"]) == 2 for p in played)
