"""`edge-sir batch`, as a person and as a program sees it: on a tiny model, in its own process."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sir.batch.jobs import Summary
from edge_sir.cli import _job_progress
from edge_sir.cli._job_progress import JobProgress, duration, summary_lines

FEW = ("--budget", "64", "--max-tokens", "6", "--parallel", "2")


@pytest.fixture
def source(workdir: Path) -> Path:
    said = ["My name is Ada. " * 8, "I live in Oslo. " * 8]
    lines = [{"custom_id": f"d{i}", "body": {"dialogue": said, "seed": i}} for i in range(12)]
    path = workdir / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("nothing.jsonl", "-o", "out.jsonl"), "cannot read nothing.jsonl (No such file or directory)"),
        (("in.jsonl",), "the following arguments are required: -o/--output"),
        (("in.jsonl", "-o", "out.jsonl", "--parallel", "many"), "--parallel must be auto or a number of dialogues"),
        (("in.jsonl", "-o", "out.jsonl", "--parallel", "0"), "--parallel must be auto or a number of dialogues"),
        (("in.jsonl", "-o", "out.jsonl", "--limit", "0"), "--limit must be at least 1, not 0"),
        (("in.jsonl", "-o", "in.jsonl"), "in.jsonl is input and output"),
        (("in.jsonl", "-o", "no/out.jsonl"), "there is no folder"),
        (("in.jsonl", "-o", "/dev/null"), "/dev/null is no file"),
        (("in.jsonl", "-o", "out.jsonl", "--budget", "none"), "budget (flag): must be a whole number"),
        (("in.jsonl", "-o", "out.jsonl", "--model", "nothing.gguf"), "nothing.gguf"),
        (("in.jsonl", "-o", "out.jsonl", "--session", "ada"), "unknown argument '--session'"),
    ],
)
def test_a_mistake_is_one_line(run_cli: Callable, source: Path, args: tuple[str, ...], complaint: str) -> None:
    assert complaint in run_cli("batch", *args).complaint


def test_all_lines_and_an_exit_code_for_each_outcome(run_cli: Callable, source: Path, talker_path: Path) -> None:
    command = ("batch", source, "-o", "out.jsonl", "--model", talker_path, *FEW, "--ordered")
    done = run_cli(*command).succeeded()
    results = read(source.with_name("out.jsonl"))
    assert [r["custom_id"] for r in results] == [f"d{i}" for i in range(12)]
    bodies = [r["response"]["body"] for r in results]
    assert {b["model"] for b in bodies} == {talker_path.name}
    assert {len(b["replies"]) for b in bodies} == {2}
    assert all(b["edge_sir"]["budget"] == 64 and 0 < b["edge_sir"]["resident"] <= 64 for b in bodies)
    assert all(b["edge_sir"]["evicted"] > 0 for b in bodies)
    lines = done.out.decode().splitlines()
    assert lines[0].startswith("12 dialogues with 24 replies in ") and lines[1].startswith("tokens: ")

    with source.open("a") as file:
        file.write('{"custom_id": "torn\n')
    again = run_cli(*command)
    assert again.code == 2
    assert "1 line of out.jsonl with an error: 1 invalid_json_line" in again.out.decode()
    assert again.out.decode().startswith("0 dialogues with 0 replies in 0 s; 12 had a result before")
    assert len(read(source.with_name("out.jsonl"))) == 13


def test_a_kill_loses_and_doubles_nothing(
    start_cli: Callable, run_cli: Callable, source: Path, talker_path: Path
) -> None:
    command = ("batch", source, "-o", "out.jsonl", "--model", talker_path, *FEW)
    target = source.with_name("out.jsonl")
    for number in (signal.SIGKILL, signal.SIGTERM):
        begun = target.stat().st_size if target.exists() else 0
        job: subprocess.Popen[bytes] = start_cli(*command)
        while job.poll() is None and (target.stat().st_size if target.exists() else 0) == begun:
            time.sleep(0.01)
        job.send_signal(number)
        _, err = job.communicate()
        assert job.returncode == (-9 if number == signal.SIGKILL else 143)
        assert (b"the same command goes on" in err) == (number == signal.SIGTERM)
    assert 2 <= target.read_bytes().count(b"\n") < 12
    run_cli(*command, "--quiet").succeeded()
    assert sorted(r["custom_id"] for r in read(target)) == sorted(f"d{i}" for i in range(12))
    whole = {r["custom_id"]: r["response"]["body"]["replies"] for r in read(target)}
    target.unlink()
    run_cli(*command).succeeded()
    assert {r["custom_id"]: r["response"]["body"]["replies"] for r in read(target)} == whole


def test_a_thousand_damaged_lines_leave_the_dialogues_of_a_model_unharmed(
    run_cli: Callable, source: Path, talker_path: Path
) -> None:
    good = source.read_bytes().splitlines()
    text = good[3]
    kinds = [
        lambda i: text[: 9 + i % (len(text) - 9)],  # torn
        lambda i: text.replace(b"d3", b"e%d" % i).replace(b'"seed": 3', b'"seed": "x"'),  # a wrong type
        lambda i: text.replace(b"d3", b"f%d" % i).replace(b"Ada", b"A\0a"),
        lambda i: text.replace(b"Ada", b"Eve"),  # an id that another line has
        lambda i: b'{"custom_id": [%d], "body": {"dialogue": ["x"]}}' % i,
    ]
    damaged = [kinds[i % 5](i) for i in range(999)]
    damaged.append(json.dumps({"custom_id": "long", "body": {"dialogue": ["x" * 10_000_000]}}).encode())
    lines = [*good[:4], *damaged[:500], *good[4:8], *damaged[500:], *good[8:]]
    mixed = source.with_name("mixed.jsonl")
    mixed.write_bytes(b"\n".join(lines))
    command = ("--model", talker_path, *FEW, "--ordered", "--quiet")
    assert run_cli("batch", mixed, "-o", "mixed.out", *command).code == 2
    run_cli("batch", source, "-o", "good.out", *command).succeeded()
    found = read(source.with_name("mixed.out"))
    assert len(found) == 1012
    answered = [r for r in found if r["error"] is None]
    expected = read(source.with_name("good.out"))
    said = [[r["response"]["body"][name] for name in ("replies", "edge_sir")] for r in (*answered, *expected)]
    assert said[:12] == said[12:] and [r["custom_id"] for r in answered] == [f"d{i}" for i in range(12)]
    numbers = [i for i, r in enumerate(found, 1) if r["error"] is not None]
    assert numbers == [*range(5, 505), *range(509, 1009)]
    for number in numbers:
        assert found[number - 1]["response"] is None
        assert found[number - 1]["error"]["message"].startswith(f"line {number}: ")


def test_a_dry_run_answers_nothing(
    run_cli: Callable, source: Path, talker_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_cli("batch", source, "-o", "out.jsonl", "--model", talker_path, *FEW, "--dry-run").succeeded()
    lines = done.out.decode().splitlines()
    assert lines[0] == "12 dialogues with 24 replies are left to do"
    assert lines[1].startswith("measured: ") and lines[1].endswith("6 tokens a reply")
    assert lines[2].startswith("about ") and lines[2].endswith("if each reply takes its --max-tokens")
    assert not source.with_name("out.jsonl").exists()


# ---- progress ------------------------------------------------------------------------------------


def test_elsewhere_than_on_a_terminal_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = JobProgress(100, quiet=False, clock=lambda: now[0])
    for n in range(1, 31):
        now[0] = 10.0 * n
        progress.show(Summary(n_before=20, n_answered=n, n_read=1000 * n, n_generated=100 * n, seconds=10.0 * n))
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "  26 of 100 dialogues, 100 tokens/s read, 10 written, 12 min left"


def test_on_a_terminal_a_bar_and_quiet_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = JobProgress(100, quiet=False)
    progress._bar.mininterval = 0
    progress.show(Summary(n_before=20, n_answered=5, n_read=1000, n_generated=100, seconds=10.0))
    progress.close()
    bar = capsys.readouterr().err
    assert "25/100" in bar and "100 tokens/s read, 10 written" in bar
    quiet = JobProgress(100, quiet=True)
    quiet.show(Summary(n_answered=5))
    quiet.close()
    assert capsys.readouterr().err == ""


def test_what_a_summary_says() -> None:
    summary = Summary(n_before=3, n_answered=1, n_asked=2, n_replies=1, n_read=10, n_generated=5, seconds=100.0)
    summary.errors.update({"server_error": 2, "invalid_json_line": 1})
    assert summary_lines(summary, "out.jsonl") == [
        "1 dialogue with 1 reply in 2 min; 3 had a result before",
        "tokens: 10 read, 5 written; 0 tokens/s read, 0 written",
        "3 lines of out.jsonl with an error: 2 server_error, 1 invalid_json_line",
        "1 dialogue without a result; the same command goes on",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (20000, "5.6 h")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said and _job_progress._LINE_EVERY_S == 60
