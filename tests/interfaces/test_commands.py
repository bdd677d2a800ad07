"""Commands of a chat, as piped lines with --commands, and `edge-sir replay` on what they leave behind."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sir.cli.replay import _picture, _print_table
from edge_sir.trace.replay import Moment, Replayed


@pytest.fixture
def chat(run_cli: Callable, talker_path: Path) -> Callable:
    """Pipes lines to `edge-sir chat --commands` with a tiny model."""

    def run(*lines: str, args: tuple[str | Path, ...] = (), **settings: object):
        base = ("chat", "--model", talker_path, "--budget", "128", "--max-tokens", "8", "--commands", "--quiet")
        return run_cli(*base, *args, input="".join(f"{line}\n" for line in lines).encode(), **settings)

    return run


def objects(out: bytes) -> list[dict]:
    return [json.loads(line) for line in out.decode().splitlines()]


def test_lines_are_commands_only_if_asked_for(run_cli: Callable, talker_path: Path) -> None:
    args = ("chat", "--model", talker_path, "--budget", "128", "--max-tokens", "4", "--json")
    plain = run_cli(*args, input=b"/stats\n").succeeded()
    assert objects(plain.out)[0]["turn"] == 1
    asked = run_cli(*args, "--commands", input=b"/stats\n//stats\n").succeeded()
    stats, reply = objects(asked.out)
    assert (stats["command"], stats["turns"], reply["turn"]) == ("/stats", 0, 1)


def test_every_command_has_a_document(chat: Callable, workdir: Path) -> None:
    lines = ["hello you there", "/help", "/memory", "/memory 1", "/memory find you", "/memory why 1", "/pin 1"]
    lines += ["/unpin", "/pin you there", "/forget you", "/undo", "hello", "/regen", "/budget 100", "/policy streaming"]
    lines += ["/system Be kind.", "/stats", "/save t.txt", "/clear", "/load t.txt", "/bye", "never said"]
    told = chat(*lines, args=("--json",)).succeeded()
    records = objects(told.out)
    assert len(records) == len(lines) - 2
    named = [r["command"] for r in records if "command" in r]
    names = "help memory pin unpin forget undo budget policy system stats save clear load"
    assert set(named) == {f"/{name}" for name in names.split(" ")}
    memory = records[2]
    assert memory["n_resident"] == sum(t["n_resident"] for t in memory["turns"])
    assert records[13] == {"command": "/budget", "budget": 100, "evicted": 0}
    assert (workdir / "t.txt").read_text().startswith("edge-sir transcript 1\n[")
    assert told.err == b""


def test_a_person_sees_what_is_known_and_what_was_dropped(chat: Callable) -> None:
    said = ["hello you there", *["hello"] * 5]
    told = chat(*said, "/memory", "/memory find there", args=("--policy", "units"))
    out = told.succeeded().out.decode()
    assert re.search(
        r"\d+ of 128 cells hold \d of 6 turns, (\d|all|none) whole(; \d+ cells? pinned)?; units evicts", out
    )
    assert re.search(r"^\d(-\d)? +0/\d+ +dropped +", out, re.MULTILINE)
    assert re.search(r"^(yes|no), “there” is", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/foo", "unknown command /foo (/help"),
        ("/memroy", "did you mean /memory?"),
        ("/pin", "which?"),
        ("/pin 99", "nobody said “99”"),
        ("/forget 0", "system prompt"),
        ("/budget many", "not a whole number"),
        ("/budget 5", "use /budget 36 or more"),
        ("/budget 0", "use /budget 36 or more"),
        ("/policy sir:n_sink=120", "use /budget 152 or more, or unpin something"),
        ("/system " + "be kind " * 20, "or more, or shorten it"),
        ("/budget 99999", "trained on"),
        ("/policy sri", "did you mean 'sir'"),
        ("/policy foo", "unknown policy 'foo' (all: "),
        ("/memory why 1 2", "takes [N]"),
        ("/help memroy", "did you mean /memory?"),
        ("/memory why 42", "no turn 42"),
        ("/memory " + "9" * 5000, "/memory N: a number of 5000 digits is too large"),
        ("/pin " + "9" * 5000, "nobody said"),
        ("/save", "which file?"),
        ("/load missing", "cannot read missing (No such file or directory); give a file that /save wrote"),
        ("/load .", "cannot read . (it is no file)"),
        ("/undo", "nothing to undo"),
        ("/clear now", "/clear takes no argument; nothing was done"),
        ("/bye extra", "/bye takes no argument"),
        ("/regen", "no message of yours"),
    ],
)
def test_a_mistake_is_one_line_and_the_conversation_goes_on(chat: Callable, line: str, complaint: str) -> None:
    told = chat(line, "hello")
    assert told.code == 2
    (error,) = told.err.decode().splitlines()
    assert error.startswith("edge-sir: ") and complaint in error
    assert len(told.out.splitlines()) == 1


def test_nothing_is_overwritten(chat: Callable, workdir: Path) -> None:
    (workdir / "mine").write_text("precious")
    told = chat("hello", "/save mine", "/save ~nobody-here/x")
    assert told.code == 2 and b"mine exists" in told.err
    assert (workdir / "mine").read_text() == "precious"
    assert sorted(p.name for p in workdir.iterdir()) == ["mine"]
    refused = chat(args=("--trace", "mine"))
    assert (refused.code, refused.out) == (2, b"") and b"mine exists" in refused.err
    assert (workdir / "mine").read_text() == "precious"


def test_what_a_refused_transcript_evicted_is_not_said_of_the_next_turn(chat: Callable, workdir: Path) -> None:
    told = "".join(f"[{n}] user\n    {'hello you there ' * 6}\n" for n in range(1, 6))
    (workdir / "t.txt").write_text(f"edge-sir transcript 1\n{told}[6] system\n    {'be kind ' * 40}\n")
    refused = chat("/load t.txt", "hello", args=("--json",))
    assert refused.code == 2 and b"does not fit" in refused.err
    assert [r["forgot"] for r in objects(refused.out)] == [[]]


def test_regen_says_something_else(chat: Callable) -> None:
    told = chat("hello", "/regen", "/regen", args=("--json", "--temperature", "2")).succeeded()
    replies = objects(told.out)
    assert [r["turn"] for r in replies] == [1, 1, 1]
    assert len({r["text"] for r in replies}) == 3


def test_a_pipe_loads_no_terminal_library(workdir: Path, talker_path: Path, run_cli: Callable) -> None:
    code = (
        "import sys; from edge_sir.cli import main; "
        f"main(['chat', '--model', {str(talker_path)!r}, '--budget', '96', '--max-tokens', '4', '--commands']); "
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('prompt_toolkit', 'rich', 'readline')))"
    )
    told = run_cli(command=(sys.executable, "-c", code), input=b"hello\n/memory\n").succeeded()
    assert told.out.decode().splitlines()[-1] == "[]"


# ---- replay ------------------------------------------------------------------------------------


@pytest.fixture
def traced(chat: Callable, workdir: Path) -> Path:
    lines = ["hello you there"] * 9
    chat(*lines[:5], "/pin 5", "/undo", *lines, args=("--trace", "t.jsonl", "--budget", "96")).succeeded()
    return workdir / "t.jsonl"


def test_a_trace_of_a_real_engine_replays_exactly(run_cli: Callable, traced: Path) -> None:
    specs = ("--policy", "streaming", "--policy", "sirllm:decay=0.5", "--policy", "sirllm-published")
    document = json.loads(run_cli("replay", traced, *specs, "--json").succeeded().out)
    assert [r["policy"] for r in document] == ["sir", "streaming", "sirllm:decay=0.5", "sirllm-published"]
    assert document[0]["as_recorded"] and document[0]["in_common"] == 1 and document[0]["evictions"] > 3
    assert all(r["max_resident"] <= 96 and not r["refused"] for r in document)


def test_a_table_and_a_picture(run_cli: Callable, traced: Path) -> None:
    out = run_cli("replay", traced, "--policy", "streaming", "--budget", "80").succeeded().out.decode()
    assert re.search(r"^sir +96 .* exactly$", out, re.MULTILINE)
    assert re.search(r"^streaming +80 .* \d+% at the end$", out, re.MULTILINE)
    assert out.count("what was left of each turn") == 3
    rows = re.findall(r"^ +turns? \d+(?:-\d+)? \|([ .:\-=+*#%@]+)\|$", out, re.MULTILINE)
    assert "@" in rows[-1] and {len(row) for row in rows} == {len(rows[0])}
    assert len(re.findall(r"^ +in turn  0 +13$", out, re.MULTILINE)) == 3
    for word in re.findall(r"[A-Z]{4,}(?: [A-Z]+)*", out.splitlines()[0])[2:]:
        assert re.search(rf"\b{word}\b(  |:)", out.partition("\n\n")[2]) or word in ("CELLS", "EVICTIONS")


def test_a_plot_is_a_png_or_says_what_to_install(run_cli: Callable, traced: Path, workdir: Path) -> None:
    done = run_cli("replay", traced, "--policy", "streaming", "--plot", "p.png")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert "pip install 'edge-sir[plots]'` (a clone: scripts/setup plots)" in done.complaint
        assert not (workdir / "p.png").exists()
        return
    done.succeeded()
    assert (workdir / "p.png").read_bytes().startswith(b"\x89PNG")


def test_undo_and_a_smaller_budget_are_no_fault_of_the_policy(chat: Callable, run_cli: Callable) -> None:
    lines = ["hello you there, all of you who are there"] * 5
    told = chat(*lines, "/undo", "/undo", "/budget 64", args=("--trace", "t.jsonl", "--budget", "140"))
    told.succeeded()
    assert run_cli("replay", "t.jsonl").succeeded().err == b""


def test_a_turn_that_was_taken_back_is_none(chat: Callable, run_cli: Callable) -> None:
    chat("hello", "you there", "hello", "/undo", args=("--trace", "t.jsonl")).succeeded()
    out = run_cli("replay", "t.jsonl").succeeded().out.decode()
    assert " 2 of 2 " in out and "turn 2" in out and "turn 3" not in out


def test_conversations_that_were_cleared_are_told_apart(chat: Callable, run_cli: Callable) -> None:
    lines = ["hello you there"] * 5
    chat(*lines, "/clear", *lines[:3], args=("--trace", "t.jsonl", "--budget", "96")).succeeded()
    done = run_cli("replay", "t.jsonl").succeeded()
    assert done.err.decode().strip() == "edge-sir: the record holds 2 conversations; this is number 2"
    assert " of 3 " in done.out.decode()
    document = json.loads(run_cli("replay", "t.jsonl", "--json").succeeded().out)
    assert (document[0]["part"], document[0]["parts"], document[0]["turns"]) == (2, 2, 3)


def test_a_hundred_percent_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    recorded = Replayed("sir", 4096, kept=frozenset(range(999)), moments=[Moment(1, {})])
    other = Replayed("streaming", 4096, kept=frozenset(range(1000)), moments=[Moment(1, {})], as_recorded=False)
    _print_table([other], recorded)
    assert "99% at the end" in capsys.readouterr().out
    _print_table([other], other)
    assert "100% at the end" in capsys.readouterr().out


@pytest.mark.parametrize("n", [79, 80, 81, 149, 160, 161])
def test_the_last_column_is_the_end(n: int) -> None:
    """Turn 1 goes at the very end."""
    moments = [Moment(turn, {1: 9} if turn < n - 1 else {}) for turn in range(n)]
    *lines, axis = _picture(Replayed("sir", 64, turns={1: 9}, moments=moments), 80)
    row = next(line for line in lines if line.lstrip().startswith("turn 1 "))
    assert row.endswith(" |") and "@" in row
    assert len(row) <= 80 + 17 and axis.split()[-1] == str(n - 1)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("missing",), "cannot read"),
        (("t.jsonl", "--policy", "sri"), "did you mean"),
        (("t.jsonl", "--budget", "8"), ""),
    ],
)
def test_bad_arguments_of_replay(run_cli: Callable, traced: Path, args: tuple[str, ...], complaint: str) -> None:
    assert complaint in run_cli("replay", *args).complaint
