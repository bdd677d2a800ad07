"""`edge-sir sessions`, as a person and as a program sees it. Sessions are made by the store itself, and by import."""

import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sir.cli import main
from edge_sir.cli._prompt import _history
from edge_sir.memory.transcript import Message
from edge_sir.options import state_folder
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import Forgotten, Record, Snapshot

ADA = [
    Message(0, "system", "Be kind.", 1),
    Message(1, "user", "My sister lives in Tromsø.", 2),
    Message(1, "assistant", "How nice!", 3),
]
LATER = [Message(2, "user", "We met in 東京 last year.", 4), Message(2, "assistant", "## User\nwould say so.", 5)]
INSTEAD = [Message(2, "user", "Tell me of Oslo.", 6), Message(2, "assistant", "It is a city.", 7)]


@pytest.fixture
def folder(isolated_home: Path) -> Path:
    """The user's state folder, with a session of which a turn was taken back, and a snapshot; and a short one."""
    path = state_folder()
    with StateFolder(path) as folder:
        with folder.create("ada", model="talker", fingerprint="f" * 8) as session:
            session.write(Record(0, (*ADA, *LATER), b"", {}, 2))
            session.write(Record(3, tuple(INSTEAD), b"", {}, 2), Snapshot(2, "f" * 8, (b"x" * 3_000_000,)))
            session.note_unsent(["Are you there?"])
        with folder.create("東京", model="talker", fingerprint="f" * 8) as session:
            session.write(Record(0, (Message(1, "user", "Tromsø again", 1),), b"", {}, 1))
    return path


@pytest.fixture
def sessions(
    workdir: Path, isolated_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs `edge-sir sessions *args` in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(workdir)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*args: str | Path) -> tuple[int, str, str]:
        try:
            code = main(["sessions", *map(str, args)])
        except SystemExit as leaving:
            code = int(str(leaving.code))
        return code, *capsys.readouterr()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def told(sessions: Callable) -> Callable[..., str]:
    """What a run that succeeded said on standard output."""

    def run(*args: str | Path) -> str:
        code, out, err = sessions(*args)
        assert (code, err) == (0, ""), err
        return out

    return run


@pytest.fixture
def refused(sessions: Callable) -> Callable[..., str]:
    """The complaint of a run that did nothing."""

    def run(*args: str | Path) -> str:
        code, out, err = sessions(*args)
        assert (code, out) == (2, ""), (code, out, err)
        (line,) = err.splitlines()
        assert line.startswith("edge-sir: ")
        return line

    return run


def documents(told: Callable, *args: str | Path) -> Any:
    return json.loads(told(*args, "--json"))


# ---- looking -------------------------------------------------------------------------------------


def test_sessions_are_listed_last_used_first(folder: Path, told: Callable) -> None:
    head, first, second = told("list").splitlines()
    assert head.split() == ["NAME", "TURNS", "LAST", "USED", "ON", "DISK", "MODEL"]
    assert re.fullmatch(r"東京  1      20\d\d-\d\d-\d\d \d\d:\d\d  0 bytes  talker", first)
    assert re.fullmatch(r"ada   2      20\d\d-\d\d-\d\d \d\d:\d\d  3.0 MB   talker", second)
    listed = documents(told, "list")
    assert [(s["name"], s["n_turns"], s["n_messages"], s["model"]) for s in listed] == [
        ("東京", 1, 1, "talker"),
        ("ada", 2, 5, "talker"),
    ]
    assert listed[1]["n_bytes"] >= 3_000_000 and listed[1]["used"] >= listed[1]["created"]


def test_a_session_is_shown(folder: Path, told: Callable) -> None:
    lines = told("show", "ADA").splitlines()
    assert lines[:2] == ["ada: 2 turns, 5 messages", "model       talker"]
    assert lines[4] == "on disk     1 snapshot; 3.0 MB beside the database"
    assert lines[5] == "also kept   2 messages taken back, or from before a /clear"
    assert lines[6:10] == ["unanswered  “Are you there?”", "", "TURN  WHO", "0     system  Be kind."]
    assert lines[10:] == [
        "1     you     My sister lives in Tromsø.",
        "      model   How nice!",
        "2     you     Tell me of Oslo.",
        "      model   It is a city.",
    ]
    newest = told("show", "ada", "--turns", "1").splitlines()[9:]
    assert newest == ["2     you    Tell me of Oslo.", "      model  It is a city."]


def test_a_session_as_json_has_every_message(folder: Path, told: Callable) -> None:
    shown = documents(told, "show", "ada")
    assert (shown["name"], shown["unsent"], len(shown["snapshots"])) == ("ada", ["Are you there?"], 1)
    found = [(m["turn"], m["role"], m["text"], m["on_path"]) for m in shown["messages"]]
    assert found == [
        *((m.turn, m.role, m.text, True) for m in ADA),
        *((m.turn, m.role, m.text, False) for m in LATER),
        *((m.turn, m.role, m.text, True) for m in INSTEAD),
    ]
    assert [m["text"] for m in documents(told, "show", "ada", "--turns", "1")["messages"]] == [m.text for m in INSTEAD]


def test_all_sessions_are_searched_or_one(folder: Path, told: Callable) -> None:
    title, first, second = told("search", "tromso").splitlines()
    assert title == "2 messages hold “tromso”"
    assert re.fullmatch(r"東京  turn 1  20\d\d-\d\d-\d\d  you: Tromsø again", first)
    assert re.fullmatch(r"ada   turn 1  20\d\d-\d\d-\d\d  you: My sister lives in Tromsø.", second)
    assert told("search", "tromso", "--limit", "1").startswith("the newest 1 message ")
    title, only = told("search", "--session", "ada", "lives tromso").splitlines() + [""] * 1
    assert (title, only) == ('nothing that was said holds "lives tromso"', "")
    assert told("search", "--session", "ada", "lives", "tromso").startswith(
        "1 message holds the words lives, tromso\nturn 1"
    )
    (back,) = documents(told, "search", "東京")
    assert (back["session"], back["turn"], back["state"]) == ("ada", 2, "taken back")
    assert documents(told, "search", "Bergen") == []
    with StateFolder(folder) as state, state.open("ada") as session:
        session.write(Record(5, (Message(3, "user", "Oslo in 東京", 9),), b"", {}, 3))
    assert [line.split("  ")[2] for line in told("search", "東京", "--session", "ada").splitlines()[1:]] == [
        "present",
        "taken back",
    ]


def test_a_state_folder_is_chosen_as_any_option(
    folder: Path, told: Callable, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateFolder(workdir / "other") as other:
        other.create("there", model="m", fingerprint="f").close()
    assert [s["name"] for s in documents(told, "list", "--state-dir", workdir / "other")] == ["there"]
    monkeypatch.setenv("EDGE_SIR_STATE_DIR", str(workdir / "other"))
    assert [s["name"] for s in documents(told, "list")] == ["there"]
    monkeypatch.delenv("EDGE_SIR_STATE_DIR")
    (workdir / "edge-sir.toml").write_text('state-dir = "other"\n')
    assert [s["name"] for s in documents(told, "list")] == ["there"]
    assert len(documents(told, "list", "--state-dir", folder)) == 2
    assert len(documents(told, "--state-dir", folder, "list")) == 2


def test_who_has_no_session_yet_is_told_how_to_begin(sessions: Callable, refused: Callable) -> None:
    hint = "no session is here yet; `edge-sir chat --session NAME` begins one"
    assert sessions("list") == (0, "", f"{hint}\n")
    assert sessions("list", "--json")[:2] == (0, "[]\n")
    assert sessions("search", "Ada")[:2] == (0, "nothing that was said holds “Ada”\n")
    assert sessions("verify")[:2] == (0, "0 sessions: ok\n")
    for args in (["show", "x"], ["export", "x", "x.md"], ["rename", "x", "y"], ["rm", "x", "--yes"], ["backup", "x"]):
        assert refused(*args) == f"edge-sir: {hint}"
    assert not state_folder().exists()


def test_a_slip_in_the_name_of_the_folder_makes_none(refused: Callable, workdir: Path) -> None:
    for args in (["list"], ["search", "x"], ["rm", "x", "--yes"], ["rename", "x", "y"], ["verify"], ["backup", "b"]):
        assert "nope holds no sessions; choose another state folder" in refused(*args, "--state-dir", "nope")
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("show", "eve"), "there is no session 'eve'; 'edge-sir sessions list' shows"),
        (("search", "x", "--session", "eve"), "there is no session 'eve'"),
        (("search", " "), "give words to search for"),
        (("search", "x", "--limit", "0"), "'0' is not a whole number above 0"),
        (("show", "ada", "--turns", "-1"), "--turns"),
        (("export", "eve", "x.md"), "there is no session 'eve'"),
        (("export", "ada", "talk.txt"), "end it in .jsonl or .md, or give --format"),
        (("export", "ada", "no/such/talk.md"), "cannot export to no/such/talk.md (No such file"),
        (("import", "missing.md", "x"), "cannot read missing.md (No such file"),
        (("rename", "eve", "x"), "there is no session 'eve'"),
        (("rename", "ada", ".x"), "is no name for a session"),
        (("rename", "ada", "東京"), "東京"),
        (("rm", "eve", "--yes"), "there is no session 'eve'"),
        (("rm", "ada"), "removing 'ada' cannot be undone; give --yes"),
        (("verify", "eve"), "there is no session 'eve'"),
        (("fly",), "invalid choice: 'fly'"),
        (("list", "--jsn"), "unknown argument '--jsn'"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, refused: Callable, told: Callable, args: tuple, complaint: str) -> None:
    assert complaint in refused(*args)
    assert [s["name"] for s in documents(told, "list")] == ["東京", "ada"]


# ---- exchanging ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["talk.jsonl", "talk.md"])
def test_what_is_exported_can_be_imported(folder: Path, told: Callable, workdir: Path, file: str) -> None:
    assert told("export", "ada", file) == f"exported 5 messages of ada to {file}\n"
    assert told("import", file, "my ada") == (
        "imported my ada: 5 messages, 2 turns; go on with `edge-sir chat --session 'my ada'`\n"
    )
    copy, original = (documents(told, "show", name) for name in ("my ada", "ada"))
    kept = [m for m in original["messages"] if m["on_path"]]
    facts = [[(m["turn"], m["role"], m["text"]) for m in messages] for messages in (copy["messages"], kept)]
    assert facts[0] == facts[1] and copy["snapshots"] == []
    assert (copy["model"], copy["n_turns"]) == ("", 2)


def test_an_export_goes_to_standard_output_in_either_format(folder: Path, told: Callable) -> None:
    lines = told("export", "東京", "-").splitlines()
    assert [json.loads(line) for line in lines] == [{"role": "user", "content": "Tromsø again"}]
    assert told("export", "東京", "-", "--format", "markdown") == "# 東京\n\n## User\n\nTromsø again\n"


def test_no_file_is_overwritten(folder: Path, refused: Callable, workdir: Path) -> None:
    (workdir / "mine.md").write_text("precious")
    assert "mine.md exists; export to a new file" in refused("export", "ada", "mine.md")
    assert (workdir / "mine.md").read_text() == "precious"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_half_an_export_is_removed(folder: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", **how: Any) -> Any:
        file = real(path, mode, **how)
        if mode != "x":
            return file
        file.close()
        return real(Path("/dev/full"), "w", **how)

    monkeypatch.setattr(Path, "open", full)
    assert "cannot export to talk.md (No space left on device); choose another file" in refused(
        "export", "ada", "talk.md"
    )
    assert not Path("talk.md").exists()


def test_a_file_that_is_refused_makes_no_session(
    folder: Path, refused: Callable, told: Callable, workdir: Path
) -> None:
    (workdir / "bad.jsonl").write_text('{"role": "user", "content": "a"}\n{"role": "robot", "content": "b"}\n')
    assert "bad.jsonl, line 2: no role 'robot'" in refused("import", "bad.jsonl", "new")
    (workdir / "good.md").write_text("## User\n\nHi.\n")
    assert "ada" in refused("import", "good.md", "Ada")
    assert "is no name for a session" in refused("import", "good.md", "../x")
    assert [s["name"] for s in documents(told, "list")] == ["東京", "ada"]


# ---- changing ------------------------------------------------------------------------------------


def test_a_session_gets_another_name(folder: Path, told: Callable) -> None:
    assert told("rename", "ADA", "Ada of Oslo") == "renamed ada to Ada of Oslo\n"
    assert documents(told, "rename", "ada of oslo", "ada") == {"renamed": "Ada of Oslo", "name": "ada"}
    assert [s["name"] for s in documents(told, "list")] == ["東京", "ada"]


def test_a_removed_session_leaves_nothing(folder: Path, sessions: Callable, told: Callable) -> None:
    code, out, err = sessions("rm", "ada", "--yes")
    assert (code, out) == (0, "removed ada (5 messages)\n") and "backups" in err
    assert [s["name"] for s in documents(told, "list")] == ["東京"]
    data = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"sister" not in data and b"x" * 100 not in data and "東京".encode() in data


@pytest.mark.parametrize(
    ("answer", "stays"), [("y\n", False), ("YES\n", False), ("\n", True), ("n\n", True), ("\x04", True)]
)
def test_a_person_is_asked_before_a_session_is_removed(
    folder: Path, clean_env: dict[str, str], workdir: Path, answer: str, stays: bool
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge_sir", "sessions", "rm", "ada"]
    os.write(ours, answer.encode())
    done = subprocess.run(command, stdin=theirs, capture_output=True, cwd=workdir, env=clean_env, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert done.stderr.startswith(b"Remove ada with 5 messages for good? [y/N] ")
    assert (b"nothing was removed" in done.stderr) == (done.stdout == b"") == stays
    with StateFolder(folder, read_only=True) as left:
        assert (left.find("ada") is not None) == stays


def test_an_open_session_can_be_read_and_not_removed(folder: Path, told: Callable, refused: Callable) -> None:
    with StateFolder(folder) as other, other.open("ada"):
        assert refused("rm", "ada", "--yes").endswith("'ada' is open in this process; close it there first")
        assert len(told("export", "ada", "-").splitlines()) == 5
        assert len(documents(told, "list")) == 2


def test_damage_is_named_and_the_exit_code_says_so(folder: Path, sessions: Callable, told: Callable) -> None:
    assert told("verify") == "2 sessions: ok\n"
    assert told("verify", "ADA") == "ada: ok\n"
    assert documents(told, "verify", "ADA") == [{"name": "ada", "sound": True, "problems": []}]
    assert [(s["name"], s["sound"], s["problems"]) for s in documents(told, "verify")] == [
        ("東京", True, []),
        ("ada", True, []),
    ]
    (snapshot,) = (folder / "snapshots").iterdir()
    snapshot.write_bytes(snapshot.read_bytes()[:-1] + b"!")
    code, out, err = sessions("verify")
    (line,) = out.splitlines()
    assert code == 1 and line.startswith("ada: ") and "1 problem in " in err
    assert "the next chat goes on without it, from an older one or from the text" in line
    sound, ada = json.loads(sessions("verify", "--json")[1])
    assert (sound["name"], sound["sound"], ada["name"], ada["sound"]) == ("東京", True, "ada", False)
    assert len(ada["problems"]) == 1 and str(snapshot) in ada["problems"][0]
    snapshot.unlink()
    assert "is missing; the next chat goes on without it" in sessions("verify")[1]
    assert told("verify", "東京") == "東京: ok\n"


def spoiled(folder: Path, text: str) -> None:
    """Gives eve a long conversation, and spoils a page of it that holds this text."""
    with StateFolder(folder) as state, state.create("eve", model="talker", fingerprint="f") as session:
        said = [Message(n, "user", f"number {n}: {'boats ' * 100}", n) for n in range(1, 101)]
        session.write(Record(0, tuple(said), b"", {}, 100))
    data = bytearray((folder / "edge-sir.db").read_bytes())
    start = data.index(text.encode()) // 4096 * 4096
    data[start : start + 4096] = b"\xa5" * 4096
    (folder / "edge-sir.db").write_bytes(data)


def test_what_can_be_read_of_a_damaged_database_is_exported(
    folder: Path, sessions: Callable, told: Callable, workdir: Path
) -> None:
    spoiled(folder, "number 50: ")
    code, out, err = sessions("export", "eve", "eve.jsonl")
    found = re.search(r"the database is damaged: (\d+) messages could not be read; 'edge-sir sessions verify'", err)
    assert code == 1 and found and out == f"exported {100 - int(found[1])} messages of eve to eve.jsonl\n"
    assert 0 < int(found[1]) < 20
    assert told("export", "ada", "ada.md") == "exported 5 messages of ada to ada.md\n"
    assert f"{100 - int(found[1])} messages" in told("import", "eve.jsonl", "eve", "--state-dir", "new")


def test_of_a_damaged_database_it_is_said_what_to_do_and_that_helps(
    folder: Path, sessions: Callable, told: Callable, workdir: Path
) -> None:
    spoiled(folder, "number 50: ")
    for args in (["show", "eve"], ["rename", "eve", "bob"]):
        code, _, err = sessions(*args)
        assert code == 1 and "; 'edge-sir sessions verify' says what can be done" in err
    code, out, err = sessions("verify")
    assert code == 1 and "verify" not in out + err and len(out.splitlines()) == 2
    assert re.search(r"^eve: \d+ of its messages cannot be read, and \d+ can; copy what can be read", out, re.M)
    whole, *by_session = json.loads(sessions("verify", "--json")[1])
    assert (whole["name"], whole["sound"], len(whole["problems"])) == (None, False, 1)
    assert {s["name"]: s["sound"] for s in by_session} == {"ada": True, "東京": True, "eve": False}
    code, out, err = sessions("backup", "copy")
    assert code == 1 and f"was copied to {workdir / 'copy'}; go on there with --state-dir" in err
    assert re.search(r"^ada +5 messages: all that was said$", out, re.M)
    assert re.search(r"^eve +\d+ messages: \d+ messages could not be read$", out, re.M)
    assert told("verify", "--state-dir", "copy") == "3 sessions: ok\n"
    assert "Tromsø" in told("export", "ada", "-", "--state-dir", "copy")


def test_of_what_cannot_be_opened_at_all_nothing_is_promised(folder: Path, sessions: Callable) -> None:
    (folder / "edge-sir.db").write_bytes(b"\xff" * 8000)
    for args in (["verify"], ["export", "ada", "-"], ["backup", "copy"]):
        code, out, err = sessions(*args)
        assert (code, out) == (1, "") and "nothing in it can be read; go on from a backup" in err


def test_a_damaged_database_is_no_traceback(folder: Path, sessions: Callable) -> None:
    (folder / "edge-sir.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    for wal in folder.glob("edge-sir.db-*"):
        wal.unlink()
    for args in (["list"], ["show", "ada"], ["search", "x"], ["verify"], ["rm", "ada", "--yes"]):
        code, out, err = sessions(*args)
        assert code in (1, 2) and err.startswith("edge-sir: ") and len(err.splitlines()) == 1, (args, out, err)


def test_a_backup_is_a_state_folder(folder: Path, told: Callable, refused: Callable, workdir: Path) -> None:
    assert told("backup", "copy") == f"copied 2 sessions to {workdir / 'copy'}\n"
    assert told("verify", "--state-dir", "copy") == "2 sessions: ok\n"
    assert documents(told, "show", "ada", "--state-dir", "copy")["n_messages"] == 5
    assert "copy" in refused("backup", "copy")


def test_names_and_texts_cannot_steer_the_terminal(folder: Path, told: Callable) -> None:
    with StateFolder(folder) as state, state.create("eve", model="m\x1b[2J", fingerprint="f") as session:
        session.write(Record(0, (Message(1, "user", "tromso \x1b]0;title\x07", 1),), b"", {}, 1))
    assert "\x1b" not in told("list") + told("show", "eve") + told("search", "tromso")


def test_what_was_forgotten_is_exported_no_more(folder: Path, told: Callable) -> None:
    with StateFolder(folder) as state, state.open("ada") as session:
        row = next(m.row for m in session.messages() if "sister" in m.message.text)
        session.write(Record(5, (), b"", {}, 2, forgotten=Forgotten({row: "My dog."}, bytes, ())))
    assert "sister" not in told("export", "ada", "-") and "My dog." in told("export", "ada", "-")
    assert told("search", "sister") == "nothing that was said holds “sister”\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such bits")
def test_the_history_of_lines_makes_a_folder_that_nobody_else_may_read(told: Callable) -> None:
    """A chat without a session may be the first in the user's state folder."""
    _history()
    assert state_folder().stat().st_mode & 0o777 == 0o700
    with StateFolder(state_folder()) as state:
        state.create("ada", model="m", fingerprint="f").close()
    assert told("verify") == "1 session: ok\n"


def test_the_database_is_one_that_any_program_reads(folder: Path) -> None:
    with sqlite3.connect(f"{(folder / 'edge-sir.db').as_uri()}?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (8,)
    connection.close()
