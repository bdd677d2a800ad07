"""scripts/long-session: one session through processes that are closed, killed and cut; played by a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edge_sir.chat import Chat
from edge_sir.chat.saving import Saver
from edge_sir.errors import EngineError
from edge_sir.policies import from_spec
from edge_sir.store.folder import StateFolder
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate

Rows = list[dict[str, Any]]


@pytest.fixture
def long_session(import_script: Callable[[str], ModuleType]) -> ModuleType:
    for name in ("one_line_parser", "demo_talk", "long_chat_talk", "long_session_play", "long_session_report"):
        import_script(name)
    return import_script("long_session")


@pytest.fixture
def playing(long_session: ModuleType) -> ModuleType:
    return long_session.sys.modules["long_session_play"]


@pytest.fixture
def run(
    long_session: ModuleType, talker_path: Path, tmp_path: Path, gate_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs scripts/long-session with the tiny model into `tmp_path/out`: 20 turns in 4 processes, three facts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(gate_cache))

    def call(what: str = "play", *args: object) -> int:
        options: list[object] = ["--model", talker_path, "--out", tmp_path / "out", "--turns", 20, "--processes", 4]
        options += ["--facts", 3, "--budget", 192, "--max-tokens", 4]
        return int(long_session.main([what, *map(str, options), *map(str, args)]))

    return call


def turns_of(rows: Rows) -> Rows:
    return [row for row in rows if "turn" in row]


# ---- what is said --------------------------------------------------------------------------------


def test_the_conversation_is_what_the_acceptance_asks_for(long_session: ModuleType, playing: ModuleType) -> None:
    args = long_session._parser().parse_args(["play"])
    names = ("model", "budget", "turns", "processes", "max_tokens", "threads", "seed")
    values = {name: getattr(args, name) for name in names}
    scenario = playing.read_scenario(args.talk)
    settings = playing.Settings.of(scenario, talk=str(args.talk), n_facts=args.facts, on_disk=True, **values)
    short, said = playing.conversation(settings)
    assert len(said) == 2000 and settings.per_process == 200
    assert [settings.ends_by_kill(n) for n in range(1, 11)].count(True) == 5
    place = {(one.kind, one.fact): i for i, one in enumerate(said, 1) if one.fact >= 0}
    assert len(short.facts) == 10
    assert all(place["fact", i] <= 50 and place["question", i] > 1990 for i in range(10))
    assert {one.kind for one in said[50:1990]} == {"chatter"}


def test_what_cannot_be_played_is_refused(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("play", "--processes", 21) == 2
    assert "20 turns cannot be held by 21 processes" in capsys.readouterr().err
    assert run("play", "--facts", 21) == 2
    assert "there are 20 facts, not 21" in capsys.readouterr().err


# ---- played --------------------------------------------------------------------------------------


def test_one_session_goes_through_all_processes_and_is_reported(
    run: Callable[..., int], playing: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    out = tmp_path / "out"
    rows = playing.read_rows(out)
    turns, began, ended = turns_of(rows), [r for r in rows if "how" in r], [r for r in rows if "end" in r]
    assert [row["turn"] for row in turns] == list(range(1, 21))
    assert [row["process"] for row in turns] == sorted([1, 2, 3, 4] * 5)
    assert [(row["n_turns"], row["how"]) for row in began] == [
        (0, ""),
        (5, "replayed"),
        (10, "exact"),
        (15, "replayed"),
    ]
    assert [row["n_replayed"] for row in began] == [0, 5, 0, 5]
    assert not any(row["unsent"] or row["n_left_out"] for row in began)
    assert [row["end"] for row in ended] == ["kill", "close", "kill", "close"]
    assert any(row["recalled"] for row in turns) and sum(row["evicted"] for row in turns) > 0
    assert all(row["written"] == 4 and row["resident"] <= 192 and 0 < row["beside_s"] < row["seconds"] for row in turns)
    assert ended[-1]["database_bytes"] > 0 and ended[-1]["blobs_files"] > 0 < ended[-1]["snapshots_files"]
    page = (out / "REPORT.md").read_text(encoding="utf-8")
    assert page == capsys.readouterr().out
    assert "20 of 20 turns" in page and "0 of 3 answered" in page and "replayed 5" in page
    with StateFolder(out / "state", read_only=True) as folder:
        said = [row.message.text for row in folder.open("ada").read().path if row.message.role == "user"]
    assert said == [row["said"] for row in turns]


def test_a_run_that_was_cut_goes_on_where_the_session_stands(
    run: Callable[..., int],
    long_session: ModuleType,
    playing: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, n_rows = playing._write, 0

    def cut(out: Any, row: dict[str, Any]) -> None:
        nonlocal n_rows
        n_rows += 1
        if n_rows == 6:  # turn 4 is acknowledged
            out.write('{"turn": 4, "pro')
            raise KeyboardInterrupt
        write(out, row)

    monkeypatch.setattr(playing, "_write", cut)
    assert run() == 130
    monkeypatch.undo()
    assert [row["turn"] for row in turns_of(playing.read_rows(tmp_path / "out"))] == [1, 2, 3]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run() == 0
    rows = playing.read_rows(tmp_path / "out")
    (_, first), *later = [(row["process"], row["n_turns"]) for row in rows if "how" in row]
    assert first == 0 and later[0][1] >= 4  # it may have got further before it was ended
    assert [process for process, _ in later] == list(range(later[0][0], 5))
    assert [row["turn"] for row in turns_of(rows)][3:] == list(range(later[0][1] + 1, 21))
    assert run() == 0 and playing.read_rows(tmp_path / "out") == rows  # nothing is missing


def test_another_run_in_the_same_folder_is_refused(
    run: Callable[..., int], playing: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / playing.FILE
    file.write_text("no rows\n", encoding="utf-8")
    assert run() == 2 and "was not written by scripts/long-session" in capsys.readouterr().err
    file.write_text(json.dumps({"settings": {"budget": 64}}) + "\n", encoding="utf-8")
    assert run() == 2 and "has budget 64, not 192; give another --out" in capsys.readouterr().err


def test_a_process_that_ends_early_says_why(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("play", "--model", tmp_path / "nothing.gguf") == 1
    assert "a process ended with 1: edge_sir.errors." in capsys.readouterr().err


def test_a_reply_that_a_cut_run_did_not_get_to_is_asked_for_again(
    long_session: ModuleType, playing: ModuleType, import_script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    turns, codec, engine = import_script("long_session_turns"), ByteTokenizer(), ToyEngine(256)
    folder = StateFolder(tmp_path)
    saver = Saver(folder, folder.create("ada", model="toy", fingerprint="toy"), terms={})
    template = ChatTemplate(codec.CHAT_TEMPLATE, bos=codec.bos_text, eos=codec.eos_text)
    chat = Chat(engine, codec, template, from_spec("sir"), 256, max_tokens=4, saver=saver)
    engine.fail_next = EngineError("no power")
    with pytest.raises(EngineError):
        chat.reply("Why do cats purr?")
    assert chat.awaits
    said = playing.Said("chatter", "Why do cats purr?")
    row = turns._Meter(chat, tmp_path).turn(said, None, 1)
    assert (row["turn"], row["process"], row["written"]) == (1, 1, 4)
    assert [m.text for m in chat.transcript if m.role == "user"] == ["Why do cats purr?"]
    chat.close()
