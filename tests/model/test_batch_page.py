"""The example of docs/batch.md runs as printed."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sir.cli import main

pytestmark = pytest.mark.model
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    """`main` sets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def without_times(text: str) -> str:
    return re.sub(r"\d+ (s\b|tokens/s|written$)", r"N \1", text, flags=re.MULTILINE)


def test_the_example_runs_as_printed(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dialogues.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    command = blocks("sh")[0]
    assert main(command.split()[1:]) == 2
    assert without_times(capsys.readouterr().out) == without_times(blocks("text")[0])
    results = [json.loads(line) for line in Path("results.jsonl").read_text(encoding="utf-8").splitlines()]
    printed = [json.loads(block) for block in blocks("json")]
    for document in (*results, *printed):
        if document["response"] is not None:
            assert document["response"]["body"].pop("created") > 10**9
    assert len(results) == 3 and results[1:] == printed
