"""The pieces of scripts/results, and what a mean of its page counts. Nothing is played."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def results(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("results")


def test_what_was_chosen_on_and_what_is_held_out_share_no_mean(results: ModuleType) -> None:
    groups: dict[str, list[str]] = {}
    for piece in results.PIECES:
        groups.setdefault(piece.request.group, []).append(piece.name)
    assert groups["main table"] == ["grocery-lead0", "grocery-lead10"]
    assert len(groups["twelve tasks"]) == 12
    assert all(name.startswith("task-") for name in groups["twelve tasks"])
    assert all(name.startswith("choice-") for name in groups["choosing"])
    assert {"task-single-item-german", "grocery-both"} <= set(groups[""])


def test_a_piece_that_was_played_before_gets_its_group(results: ModuleType, tmp_path: Path) -> None:
    old = {"task": "names", "seed": 2}
    for name in ("task-names", "rps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(old))
    results.note_groups(tmp_path)
    assert json.loads((tmp_path / "task-names" / "run.json").read_text()) == old | {"group": "twelve tasks"}
    assert (tmp_path / "rps" / "run.json").read_text() == json.dumps(old)  # no group, nothing to write
