"""`edge-sir doctor`, as a person and as a program sees it."""

import json
import re
from collections.abc import Callable
from pathlib import Path


def test_without_a_model_it_tells_of_the_machine(run_cli: Callable) -> None:
    result = run_cli("doctor").succeeded()
    assert b"llama-cpp-python" in result.out and b"(cpu, CPU)" in result.out
    assert b"edge-sir doctor MODEL" in result.err
    assert set(json.loads(run_cli("doctor", "--json").succeeded().out)) == {"machine"}


def test_a_model_is_reported_for_people(run_cli: Callable, talker_path: Path) -> None:
    text = run_cli("doctor", talker_path, "--budget", "256", "--memory", "2M", "--no-speed").succeeded().out.decode()
    assert "gate: packed, because: moving keys moved logits by 0.0" in text
    assert "256 bytes per cell" in text and "a budget of 256 cells takes" in text
    assert "2.0 MB hold a budget of " in text and "speed" not in text


def test_too_little_memory_is_told_how_much_is_needed(run_cli: Callable, talker_path: Path) -> None:
    def asked(size: str) -> str:
        args = ("doctor", talker_path, "--budget", "256", "--memory", size, "--no-speed")
        return run_cli(*args).succeeded().out.decode()

    found = re.search(r"hold not even the smallest budget, which takes ([\d.]+ [kMG]B)", asked("1K"))
    assert found is not None
    assert "hold a budget of 256 cells at most" in asked(found[1])


def test_a_model_is_reported_for_programs(run_cli: Callable, write_model: Callable) -> None:
    path = write_model("swa", kind="gemma3")
    report = json.loads(run_cli("doctor", path, "--json", "--no-speed", "--budget", "256").succeeded().out)
    gate, memory = report["gate"], report["memory"]
    assert gate["mode"] == "gaps" and "sliding window of 32" in gate["why"]
    assert gate["trial"]["passed"] and gate["trial"]["moved"] < gate["trial"]["tolerance"]
    assert {(row["k"], row["v"], row["allowed"]) for row in gate["kv_types"]} >= {("f16", "f16", "gaps")}
    assert memory["budget"] == 256 and memory["budget_bytes"] > memory["fixed_bytes"] > memory["weights_bytes"] > 0
    assert report["speed"] is None and report["model"]["architecture"] == "gemma3"


def test_mistakes_are_one_line(run_cli: Callable, talker_path: Path, workdir: Path) -> None:
    assert "use --budget" in run_cli("doctor", talker_path, "--budget", "99999").complaint
    assert "--memory" in run_cli("doctor", talker_path, "--memory", "lots").complaint
    assert "is no file" in run_cli("doctor", workdir / "none.gguf").complaint
