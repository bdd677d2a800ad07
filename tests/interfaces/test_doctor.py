"""`edge-sir doctor`, as a person and as a program sees it."""

import json
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from templates import KINDS, MOVES_ITS_SYSTEM_PROMPT

from edge_sir.store.database import sqlite_warning

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not tell what memory it has")


def test_without_a_model_it_tells_of_the_machine(run_cli: Callable) -> None:
    result = run_cli("doctor").succeeded()
    assert b"llama-cpp-python" in result.out and b"(cpu, CPU)" in result.out
    assert b" = 1" not in result.out and b" free" not in result.out  # llama.cpp does not know what is free
    assert b"edge-sir doctor MODEL" in result.err
    report = json.loads(run_cli("doctor", "--json").succeeded().out)
    assert set(report) == {"machine"}
    sqlite = report["machine"]["sqlite"]
    assert sqlite == {"version": sqlite3.sqlite_version, "warning": sqlite_warning()}
    assert (sqlite["warning"] or f"SQLite {sqlite['version']}") in result.out.decode().splitlines()


def test_a_model_is_reported_for_people(run_cli: Callable, talker_path: Path) -> None:
    text = run_cli("doctor", talker_path, "--budget", "256", "--memory", "200M", "--no-speed").succeeded().out.decode()
    assert "positions: packed, since moving keys moved logits by 0.0" in text
    assert "evicted cells: put back without reading them again, since restoring cells moved logits by " in text
    assert "cells, 256 bytes each" in text and "a budget of 256 cells takes" in text
    assert "the logits of 128 tokens at once (--chunk)" in text
    assert "200.0 MB hold a budget of " in text and "speed" not in text


@linux
def test_the_parts_of_memory_add_up_for_people(run_cli: Callable, talker_path: Path) -> None:
    text = run_cli("doctor", talker_path, "--budget", "256", "--no-speed", "--chunk", "16").succeeded().out.decode()
    total = in_bytes(re.search(r"a budget of 256 cells takes (\S+ [kMG]?B)", text)[1])  # type: ignore[index]
    parts = {what: in_bytes(size) for size, what in re.findall(r"^ +(\S+ [kMG]?B)  (\w+)", text, re.MULTILINE)}
    assert list(parts) == ["weights", "cells", "buffers", "llama", "Python"]
    assert sum(parts.values()) == pytest.approx(total, rel=0.01)
    beside, bare = re.search(r"beside weights and cells: (\S+ MB), (\S+ [kM]B) without Python", text).groups()  # type: ignore[union-attr]
    assert in_bytes(beside) == pytest.approx(total - parts["weights"] - parts["cells"], rel=0.01)
    assert in_bytes(bare) == pytest.approx(parts["buffers"] + parts["llama"], abs=100_000)


def in_bytes(size: str) -> float:
    number, unit = size.split()
    return float(number) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def test_too_little_memory_is_told_how_much_is_needed(run_cli: Callable, talker_path: Path) -> None:
    def asked(size: str) -> str:
        args = ("doctor", talker_path, "--budget", "256", "--memory", size, "--no-speed")
        return run_cli(*args).succeeded().out.decode()

    found = re.search(r"hold not even the smallest budget, which takes ([\d.]+) ([kMG]B)", asked("1K"))
    assert found is not None
    # What Python takes differs by some pages from run to run.
    assert "hold a budget of " in asked(f"{float(found[1]) + 1}{found[2]}")


def test_the_archive_is_counted_beside_the_budget(run_cli: Callable, talker_path: Path) -> None:
    def asked(*more: str) -> tuple[str, dict[str, Any]]:
        args = ("doctor", talker_path, "--budget", "256", "--no-speed", *more)
        return run_cli(*args).succeeded().out.decode(), json.loads(run_cli(*args, "--json").succeeded().out)["memory"]

    text, memory = asked("--archive", "1.5MB")
    archive = memory["archive"]
    assert archive["bytes"] == 1_500_000 and memory["cell_bytes"] < archive["bytes_per_token"] < 500
    assert archive["tokens"] == int(1_500_000 / archive["bytes_per_token"]) and "left_bytes" not in archive
    assert f"archive: {archive['bytes_per_token']:.0f} bytes per token, 1.5 MB hold about" in text
    text, memory = asked("--memory", "200M")
    archive = memory["archive"]
    assert archive["bytes"] == archive["left_bytes"] == 200_000_000 - memory["budget_bytes"]
    assert re.search(r"beside a budget of 256 cells [\d.]+ MB of it are left for the archive", text)
    text, smaller = asked("--memory", "200M", "--archive", "20MB")
    assert smaller["largest_budget"] == memory["largest_budget"] > 0 and smaller["reserved_bytes"] == 20_000_000
    assert "200.0 MB hold, beside an archive of 20.0 MB, a budget of " in text
    text, none = asked("--memory", "200M", "--archive", "190MB")
    assert none["largest_budget"] == 0 and none["least_bytes"] > 190_000_000
    assert "beside an archive of 190.0 MB, not even the smallest budget" in text
    assert asked("--archive", "0")[1]["archive"]["tokens"] == 0


def test_a_model_is_reported_for_programs(run_cli: Callable, write_model: Callable) -> None:
    path = write_model("swa", kind="gemma3")
    report = json.loads(run_cli("doctor", path, "--json", "--no-speed", "--budget", "256").succeeded().out)
    gate, memory = report["gate"], report["memory"]
    assert gate["mode"] == "gaps" and "sliding window of 32" in gate["why"]
    assert gate["trial"]["passed"] and gate["trial"]["moved"] < gate["trial"]["tolerance"]
    assert gate["restore"]["allowed"] and "restoring cells moved" in gate["restore"]["why"]
    assert (
        gate["restore"]["trial"]["passed"]
        and gate["restore"]["trial"]["moved"] <= gate["restore"]["trial"]["tolerance"]
    )
    assert {(row["k"], row["v"], row["allowed"]) for row in gate["kv_types"]} >= {("f16", "f16", "gaps")}
    assert (memory["budget"], memory["chunk"]) == (256, 128)
    process = memory["vocabulary_bytes"] + memory["python_bytes"]
    assert memory["beside_bytes"] == memory["buffers_bytes"] + process > memory["buffers_bytes"] > 0
    assert memory["budget_bytes"] == memory["weights_bytes"] + memory["cells_bytes"] + memory["beside_bytes"]
    assert memory["cells_bytes"] == pytest.approx(256 * memory["cell_bytes"], abs=1) and memory["weights_bytes"] > 0
    assert report["speed"] is None and report["model"]["architecture"] == "gemma3"


def test_the_chat_template_is_told_of(
    run_cli: Callable, write_model: Callable, talker_path: Path, workdir: Path
) -> None:
    def asked(path: Path, *more: object) -> tuple[str, dict[str, Any]]:
        args = ("doctor", path, "--no-speed", "--budget", "256", *more)
        report = json.loads(run_cli(*args, "--json").succeeded().out)
        return run_cli(*args).succeeded().out.decode(), report["template"]

    text, report = asked(talker_path)
    assert "chat template: followed to the letter" in text
    assert report == {"problem": None, "differences": [], "thoughts": None, "asks_for": []}
    text, report = asked(write_model("moves", chat_template=MOVES_ITS_SYSTEM_PROMPT))
    assert "chat template: followed, with differences" in text
    assert report["differences"][0] in text and "in the order" in text
    text, report = asked(write_model("drops", chat_template="{{ messages[0].content }}"))
    assert "drops or repeats a message" in report["problem"] and report["problem"] in text
    source = KINDS["a thought is opened"] + "{% if enable_thinking %}{% endif %}"
    text, report = asked(write_model("thinks", chat_template=source))
    assert report["thoughts"] == {"open": "<think>", "close": "</think>"}
    assert report["asks_for"] == ["enable_thinking"] and "(--template-arg): enable_thinking" in text
    (other := workdir / "other.jinja").write_text(source, encoding="utf-8")
    assert asked(talker_path, "--chat-template", other)[1] == report


def test_mistakes_are_one_line(run_cli: Callable, talker_path: Path, workdir: Path) -> None:
    assert "use --budget" in run_cli("doctor", talker_path, "--budget", "99999").complaint
    assert "--memory" in run_cli("doctor", talker_path, "--memory", "lots").complaint
    assert "is no file" in run_cli("doctor", workdir / "none.gguf").complaint
