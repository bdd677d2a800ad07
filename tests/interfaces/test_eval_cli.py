"""`edge-sir eval`: what it prints, keeps and refuses."""

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sir.cli import eval as cli_eval
from edge_sir.errors import UserError
from edge_sir.eval import task as tasks

QUICK = ("--quick", "--n", "1", "--tokens", "200", "--budget", "128", "--policy", "keep-all", "--policy", "streaming")


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("grocry",), "unknown task 'grocry'; did you mean 'grocery'?"),
        (("xyzzy",), "unknown task 'xyzzy'; `edge-sir eval list` names them"),
        (("grocery", "--policy", "Retrieval"), "unknown policy 'Retrieval'; did you mean 'retrieval'?"),
        (("grocery", "--policy", "sirlm"), "unknown policy 'sirlm'; did you mean 'sirllm'?"),
        (("grocery", "--budget", "many"), "--budget"),
        (("grocery", "--n", "0"), "--n must be at least 1, not 0"),
        (("grocery", "--answer", "guess"), "--answer must be rank or first-token, not 'guess'"),
        (("grocery", "--metric", "speed"), "grocery has no metric 'speed'; there is recall, commonsense"),
        (("all", "--metric", "speed"), "no task has metric 'speed'; there is "),
        (("grocery", "--budget", "256", "--budget", "0"), "--budget must be at least 1, not 0"),
        (("grocery", "--data", "nowhere.jsonl"), "there is no nowhere.jsonl"),
        (
            ("names", "--data", "."),
            "names makes its own dialogues and takes no --data; these take some",
        ),
        (("rps", "--data", "."), "no file rps_dominant_rock.jsonl: give --data"),
        (("all", "--data", "."), "`eval all` runs on generated dialogues"),
        (("report",), "`eval report` needs the folder"),
        (("report", "nowhere"), "nowhere holds no evaluation"),
        (("grocery", "somewhere"), "given with --out"),
        (("grocery", "--prune"), "--prune takes rows out of a folder; name it with --out"),
        (("grocery", "--model", "nothing.gguf"), "nothing.gguf"),
    ],
)
def test_a_mistake_is_one_line(run_cli: Callable, args: tuple[str, ...], complaint: str) -> None:
    assert complaint in run_cli("eval", *args).complaint


def test_without_scipy_nothing_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "scipy" else find_spec(name, *rest)
    )
    parser = argparse.ArgumentParser()
    cli_eval.add_parser(parser.add_subparsers())
    with pytest.raises(UserError, match=r"pip install 'edge-sir\[eval\]'"):
        cli_eval.run(parser.parse_args(["eval", "grocery", "--model", "nothing.gguf"]))


def test_list_shows_every_task(run_cli: Callable) -> None:
    lines = run_cli("eval", "list").succeeded().out.decode().splitlines()
    assert [line.split()[0] for line in lines] == tasks.names()
    assert all(len(line.split()) > 3 for line in lines)
    told = json.loads(run_cli("eval", "list", "--json").succeeded().out)
    assert [entry["task"] for entry in told] == tasks.names()
    assert all(0 <= entry["chance"] < 1 and entry["metrics"] for entry in told)


@pytest.mark.model
def test_json_is_one_object_and_a_second_run_plays_nothing(
    run_cli: Callable, smollm2_path: Path, workdir: Path
) -> None:
    args = ("eval", "single-item", *QUICK, "--json", "--out", "kept", "--model", smollm2_path)
    first = run_cli(*args, timeout=300).succeeded()
    told = json.loads(first.out)
    assert (told["task"], told["answer"]) == ("single-item", "rank")
    assert [(row["policy"], row["budget"], row["n"]) for row in told["rows"]] == [
        ("keep-all", 0, 1),
        ("streaming", 128, 1),
    ]
    for row in told["rows"]:
        assert {"accuracy", "ci", "retention", "gold_logprob", "gold_resident"} <= row.keys()
        assert row["ci"][0] <= row["accuracy"] <= row["ci"][1]
    run = json.loads((workdir / "kept" / "run.json").read_text())
    assert len(run["model_sha256"]) == 64 and run["versions"]["llama-cpp-python"]
    rows = (workdir / "kept" / "rows.jsonl").read_bytes()
    assert run_cli(*args, timeout=300).succeeded().out == first.out
    assert (workdir / "kept" / "rows.jsonl").read_bytes() == rows

    report = Path(run_cli("eval", "report", "kept").succeeded().out.decode().strip())
    assert report == Path("kept/report.md")
    assert "| `streaming` |" in (workdir / report).read_text()
    assert json.loads(run_cli("eval", "report", "kept", "--json").succeeded().out)["rows"] == told["rows"]
    assert "kept holds an evaluation with seed 0, not 1" in run_cli(*args, "--seed", "1").complaint

    of_one = [*args[: args.index("--policy")], "--policy", "streaming", *args[args.index("--json") :], "--prune"]
    pruned = run_cli(*of_one, timeout=300).succeeded()
    assert b"1 rows of other arms" in pruned.err
    assert [json.loads(line)["policy"] for line in (workdir / "kept" / "rows.jsonl").read_text().splitlines()] == [
        "streaming"
    ]


@pytest.mark.model
def test_every_task_runs_with_no_data_file(run_cli: Callable, smollm2_path: Path, workdir: Path) -> None:
    args = ("eval", "all", "--quick", "--out", "kept", "--model", smollm2_path)
    result = run_cli(*args, env={"EDGE_SIR_THREADS": "2"}, timeout=900).succeeded()
    with_dialogues = [name for name in tasks.names() if name != "file"]  # that one plays dialogues of one's own alone
    assert result.out.decode().count("`keep-all`") >= len(with_dialogues)
    assert sorted(path.name for path in (workdir / "kept").iterdir()) == with_dialogues
    assert (workdir / run_cli("eval", "report", "kept").succeeded().out.decode().strip()).is_file()
