"""The pieces of scripts/results-135m, and what a mean of its page counts. Nothing is played."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from making import arm, keep

from edge_sir.cli import eval as cli_eval
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.report.folder import report_folder
from edge_sir.eval.store import pack_rows


@pytest.fixture
def results(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("results_135m")


def test_what_was_chosen_on_and_what_is_held_out_share_no_mean(results: ModuleType) -> None:
    groups: dict[str, list[str]] = {}
    for piece in results.PIECES:
        groups.setdefault(piece.group, []).append(piece.name)
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
    results.note_groups(tmp_path, results.PIECES)
    assert json.loads((tmp_path / "task-names" / "run.json").read_text()) == old | {"group": "twelve tasks"}
    assert (tmp_path / "rps" / "run.json").read_text() == json.dumps(old)  # no group, nothing to write


# ---- playing -----------------------------------------------------------------------------------------


def test_every_piece_is_a_command_that_edge_sir_takes(results: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    cli_eval.add_parser(parser.add_subparsers())
    for piece in results.PIECES:
        program, *words = piece.words("PATH")
        args = parser.parse_args(words)
        assert program == "edge-sir" and args.task in tasks.names() and args.out.name == piece.name
        assert set(args.metric or ()) <= set(tasks.task(args.task).metrics)
        assert arms_of(args.policy, args.budget) and (args.data is None) == (not piece.data)


# ---- the page ------------------------------------------------------------------------------------------


def test_the_page_has_its_plots_alone_and_its_rows_are_packed(results: ModuleType, tmp_path: Path) -> None:
    rows = [
        replace(r, last=True)
        for budget in (256, 512)
        for r in [*arm("keep-all", 0, [1] * 8, [-1.0] * 8), *arm("sir", budget, [1] * 8, [-1.0] * 8)]
    ]
    for name in ("grocery-lead10", "single-item"):
        keep(tmp_path / name, "grocery", rows)
        (tmp_path / name / "recall-by-budget.png").write_bytes(b"of an earlier report")
    (tmp_path / "decay.png").write_bytes(b"of rows that are no more")
    report, standing = results.make_pages(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")} == {
        "grocery-lead10/gold-residency.png",
        "grocery-lead10/recall-by-budget.png",
    }
    assert "recall-by-budget.png" in (tmp_path / "grocery-lead10" / "report.md").read_text()
    assert ".png" not in (tmp_path / "single-item" / "report.md").read_text() + report.read_text()
    assert {path.name for path in tmp_path.rglob("rows.jsonl*")} == {"rows.jsonl.gz"}
    pages = [path.read_bytes() for path in (report, standing)]
    assert [path.read_bytes() for path in results.make_pages(tmp_path)] == pages  # from packed rows the same


def test_a_folder_s_own_report_has_all_its_plots(tmp_path: Path) -> None:
    rows = [replace(r, last=True) for n in (256, 512) for r in arm("sir", n, [1] * 8, [-1.0] * 8)]
    keep(tmp_path, "grocery", rows)
    pack_rows(tmp_path)
    report = report_folder(tmp_path).read_text()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == set(re.findall(r"\((\S+\.png)\)", report)) == {"recall-by-budget.png", "gold-residency.png"}
