"""scripts/batch-kill: 200 dialogues, each several times its budget, in a batch that is killed three times at random."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(import_script: Callable[[str], ModuleType], gate_cache: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("XDG_CACHE_HOME", str(gate_cache))
    import_script("batch_equal")
    return import_script("batch_kill")


def test_killed_three_times_each_dialogue_is_there_once_and_as_uninterrupted(
    script: ModuleType, talker_path: Path, tmp_path: Path
) -> None:
    source = script.write_lines(tmp_path / "in.jsonl", 200, 3, 0)
    options = ["--model", str(talker_path), "--budget", "96", "--max-tokens", "4", "--parallel", "8", "--threads", "1"]
    report = script.play(tmp_path, source, options, 3, seed=1)
    assert report.is_whole and report.n == 200 and len(report.kills) == 3, report.text()
    assert 0 < report.kills[0] < report.kills[1] < report.kills[2] < 200, report.text()
    assert report.fed > 3 * 96 * 200 and report.evicted > report.fed / 2, report.text()
    assert report.n_equal == 200, report.text()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["in.jsonl", "killed.jsonl", "whole.jsonl"]


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")),
    reason="Ray Data is not installed (the extra `ray`)",
)
def test_the_same_with_two_actors_of_which_one_is_killed(script: ModuleType, talker_path: Path, tmp_path: Path) -> None:
    source = script.write_lines(tmp_path / "in.jsonl", 200, 3, 0)
    options = ["--model", str(talker_path), "--budget", "96", "--max-tokens", "4", "--parallel", "8", "--threads", "1"]
    report = script.play(tmp_path, source, options, 1, seed=1, n_actors=2)
    assert report.is_whole and len(report.kills) == 1 and 0 < report.kills[0] < 200, report.text()
    assert report.n_equal == 200, report.text()


def test_what_is_missing_doubled_or_other_is_said(script: ModuleType) -> None:
    def line(name: str, text: str) -> dict[str, object]:
        reply = {"message": {"content": text}, "evicted": 7}
        facts = {"evicted": 7, "budget": 10, "read": 20, "shared": 5, "written": 5}
        return {"custom_id": name, "response": {"body": {"replies": [reply], "edge_sir": facts}}}

    report = script.Report(3, kills=[1, 2], n_torn=1)
    script._compare(report, [line(name, "x") for name in "abc"], [line("a", "x"), line("a", "x"), line("b", "y")])
    assert not report.is_whole
    assert report.text().splitlines() == [
        "3 dialogues; tokens of each 3.0 times its budget; 21 evicted in all",
        "killed 2 times, after 1, 2 results; torn lines 1",
        "results: 2; missing 1, doubled 1",
        "equal to the uninterrupted run: 2 of 3 (66.7%)",
        "  not: b",
    ]


def test_a_batch_that_fails_is_no_report(script: ModuleType, tmp_path: Path) -> None:
    source = script.write_lines(tmp_path / "in.jsonl", 2, 1, 0)
    with pytest.raises(RuntimeError, match=r"ended with 2: edge-sir: (.|\n)*nothing.gguf"):
        script.play(tmp_path, source, ["--model", str(tmp_path / "nothing.gguf")], 1, 0)
