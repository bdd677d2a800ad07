"""scripts/long-chat: what is said and when, what is right, what is kept; played through a real pipe by a tiny model."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edge_sir.errors import ConfigError

SCENARIO = """
system = "Be brief."
told_share = 0.2
most_characters = 60
avoid = ["dog"]
[[facts]]
say = "My dog is called Biscuit."
ask = "What is my dog called?"
told = "Biscuit"
early = true
[[facts]]
earlier = "I work as a baker."
say = "No, I work as a locksmith."
ask = "What is my profession?"
told = "locksmith"
also = ["lock smith"]
not = ["baker"]
"""


@pytest.fixture
def long_chat(import_script: Callable[[str], ModuleType]) -> ModuleType:
    for name in (
        "one_line_parser",
        "demo_talk",
        "long_chat_talk",
        "long_chat_play",
        "long_chat_report",
        "long_chat_drift",
    ):
        import_script(name)
    return import_script("long_chat")


@pytest.fixture
def talking(long_chat: ModuleType) -> ModuleType:
    return long_chat.sys.modules["long_chat_talk"]


@pytest.fixture
def playing(long_chat: ModuleType) -> ModuleType:
    return long_chat.sys.modules["long_chat_play"]


@pytest.fixture
def talk_file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


# ---- what is said --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_the_shipped_conversation_is_what_the_acceptance_asks_for(
    long_chat: ModuleType, talking: ModuleType, seed: int
) -> None:
    scenario = talking.read_scenario(long_chat._parser().get_default("talk"))
    shared = [talking.shares_a_word(fact) for fact in scenario.facts]
    assert (len(shared), sum(shared)) == (20, 10)
    said = talking.lay_out(scenario, 400, seed)
    assert len(said) == 400
    place = {(one.kind, one.fact): i for i, one in enumerate(said) if one.fact >= 0}
    for i, fact in enumerate(scenario.facts):
        assert place["fact", i] < 60 and place["question", i] >= 380
        assert not fact.early or place["early", i] < place["fact", i]
        assert not fact.earlier or place["earlier", i] < place["fact", i]
        others = [one.text for one in said if (one.kind, one.fact) != ("fact", i)]
        assert [text for text in others if talking.answers(fact, text)] == []
    assert sum(one.kind == "early" for one in said) == 2
    assert sum(one.kind == "earlier" for one in said) == 1
    assert said == talking.lay_out(scenario, 400, seed) != talking.lay_out(scenario, 400, seed + 1)
    assert not any("\n" in one.text for one in said)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("You are a Locksmith.", True),
        ("A lock smith!", True),
        ("Locksmiths open doors.", False),
        ("A baker, then a locksmith.", False),
        ("I don't know.", False),
    ],
)
def test_an_answer_holds_a_right_word_and_no_wrong_one(
    talking: ModuleType, talk_file: Path, reply: str, right: bool
) -> None:
    assert talking.answers(talking.read_scenario(talk_file).facts[1], reply) is right


def test_a_turn_that_does_not_tell_its_fact_is_refused(talking: ModuleType, talk_file: Path) -> None:
    talk_file.write_text(SCENARIO.replace("Biscuit.", "Crumb."), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape("'My dog is called Crumb.' does not tell 'Biscuit'")):
        talking.read_scenario(talk_file)


def test_too_few_turns_are_refused(talking: ModuleType, talk_file: Path) -> None:
    with pytest.raises(ConfigError, match="give at least 6"):
        talking.lay_out(talking.read_scenario(talk_file), 5, 1)


# ---- plain retrieval -----------------------------------------------------------------------------


def test_a_client_pastes_what_matches_in_the_order_in_which_it_was_said(playing: ModuleType) -> None:
    client = playing._Client(80)
    client.learn(1, "My dog is called Biscuit.", "How nice.")
    client.learn(2, "It rains.", "Yes.")
    client.learn(3, "The dog eats apples.", "Good.")
    found, text = client.with_found("Is Biscuit the dog that eats apples?")
    assert (
        text == "(You were told: My dog is called Biscuit. The dog eats apples.) Is Biscuit the dog that eats apples?"
    )
    assert {one["turn"] for one in found} == {1, 3}
    assert client.with_found("Who wrote Hamlet?") == ([], "Who wrote Hamlet?")
    short = playing._Client(20)
    short.learn(1, "My dog is called Biscuit.", "How nice.")
    assert short.with_found("Does the dog bark?") == ([], "Does the dog bark?")


# ---- played --------------------------------------------------------------------------------------


@pytest.fixture
def run(
    long_chat: ModuleType,
    talker_path: Path,
    talk_file: Path,
    tmp_path: Path,
    gate_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., int]:
    """Runs scripts/long-chat with the tiny model into `tmp_path/out`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(gate_cache))
    base = ["--talk", talk_file, "--model", talker_path, "--out", tmp_path / "out", "--seed", 3]

    def call(what: str, *args: object, turns: int = 8) -> int:
        options = [*base, "--turns", turns, "--budget", 96, "--max-tokens", 4]
        return int(long_chat.main([what, *map(str, options), *map(str, args)]))

    return call


def test_arms_are_played_through_a_pipe_and_reported(
    run: Callable[..., int], playing: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ("sir-cells", "retrieval", "keep-all", "streaming-equal")
    assert run("play", *(word for arm in arms for word in ("--arm", arm))) == 0
    out = tmp_path / "out"
    for arm in arms:
        settings, *turns, last = playing.read_run(out / f"{arm}-3.jsonl")
        assert settings["settings"]["arm"] == arm
        assert [row["turn"] for row in turns] == list(range(1, 9))
        assert [row["kind"] for row in turns[-2:]] == ["question", "question"]
        assert all(row["right"] in (True, False) for row in turns[-2:])
        assert sum(row["tokens_out"] for row in turns) == last["figures"]["tokens_out"] == 8 * 4
        assert last["figures"]["turns"] == 8
    cells = playing.read_run(out / "sir-cells-3.jsonl")
    assert cells[-1]["figures"]["archive_bytes"] > 0
    assert any(row["recalled"] for row in cells[1:-1])
    equal = playing.read_run(out / "streaming-equal-3.jsonl")[-1]["figures"]
    assert equal["budget"] == min(512, playing.equal_cells(out, 3)) > 96
    pasted = [row for row in playing.read_run(out / "retrieval-3.jsonl")[1:-1] if row["recalled"]]
    assert pasted and all("text" in one for row in pasted for one in row["recalled"])
    page = (out / "REPORT.md").read_text(encoding="utf-8")
    assert page == capsys.readouterr().out
    assert all(f"| `{arm}`" in page for arm in arms)
    assert "0 of 2 [0.00, 0.66]" in page and "Seed 3: the cells and the archive" in page


def test_a_run_that_ended_is_kept_and_one_that_was_killed_is_played_again(
    run: Callable[..., int], playing: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("play", "--arm", "sir", turns=6) == 0
    file = tmp_path / "out" / "sir-3.jsonl"
    whole = file.read_text(encoding="utf-8")
    assert run("play", "--arm", "sir", turns=6) == 0
    assert file.read_text(encoding="utf-8") == whole
    file.write_text(whole[: len(whole) // 2], encoding="utf-8")
    assert playing.read_run(file) is None
    assert run("play", "--arm", "sir", turns=6) == 0
    again = playing.read_run(file)
    assert [row["reply"] for row in again[1:-1]] == [json.loads(line)["reply"] for line in whole.splitlines()[1:-1]]
    capsys.readouterr()
    assert run("play", "--arm", "sir", turns=7) == 2
    assert "has turns 6, not 7; give another --out" in capsys.readouterr().err


def test_as_many_cells_as_the_archive_need_the_archive(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("play", "--arm", "streaming-equal") == 2
    assert "play sir-cells with seed 3 first" in capsys.readouterr().err


def test_a_chat_that_ends_early_says_why(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("play", "--arm", "sir", "--model", tmp_path / "nothing.gguf") == 1
    assert "the chat ended with 2: edge-sir: " in capsys.readouterr().err


# ---- drift ---------------------------------------------------------------------------------------


def test_keys_move_by_rounding_alone(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("drift", "--budget", 384, turns=24) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "drift.jsonl").read_text().splitlines()]
    named = {row["what"]: row for row in rows}
    assert named["the opening, decoded anew"]["max"] < 1e-3
    survived = [row for row in rows if row["what"].startswith("of turn") and row["n"]]
    often = [named["after 100 recalling turn(s)"], named["a passage, saved and restored 100 time(s)"]]
    for row in [*survived, *often]:
        assert 0 <= row["mean"] <= row["max"] < 0.1
        assert row["kshifts"] > 0
    assert survived and all(row["max"] > 0 for row in often)  # keys were rotated, so rounded
    page = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")
    assert "## Drift of the keys" in page and "| a passage, saved and restored 100 time(s)" in page
