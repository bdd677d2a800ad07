"""What the shares of the default are chosen on: the commands, and the table. Nothing is played."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from making import arm, keep, read

from edge_sir.cli import eval as cli_eval
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.controls import with_recall


@pytest.fixture
def choose(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("choose")


def test_every_piece_is_a_command_and_three_tasks_are_in_none(choose: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    cli_eval.add_parser(parser.add_subparsers())
    asked = set()
    for piece in choose.pieces(4):
        args = parser.parse_args(piece.words(piece.data)[1:])
        assert args.seed == 1 and args.out.parent.name == "choosing" and args.recall == ["auto"]
        assert arms_of([with_recall(spec, "auto") for spec in args.policy], args.budget)
        asked.add(args.task)
    assert asked <= set(tasks.names()) and not asked & set(choose.HELD_OUT)
    assert sorted(choose.HELD_OUT) == ["appointments", "order", "rehearsal"]
    assert {*choose.NAMED, "preference"} | set(choose.HELD_OUT) == set(choose.TWELVE)


def test_the_table_counts_right_answers_and_compares_with_everything_in_the_cache(
    choose: ModuleType, tmp_path: Path
) -> None:
    specs = ["sir:recent=0.25", "sir:recent=0.25,recall=cells"]
    rows = [*arm("keep-all", 0, [1, 1], [-1.0, -1.0]), *arm(specs[0], 300, [1, 0], [-2.0, -4.0])]
    for name in ("names", "numbers"):
        keep(tmp_path / name, name, [replace(row, last=True) for row in rows])
    text = [read(spec, 256, i, x) for spec, x in (("streaming", -3.0), (specs[0], -3.1)) for i in range(24)]
    keep(tmp_path / "perplexity", "perplexity", [replace(row, last=row.index == 23) for row in text])
    page = choose.make_page(tmp_path).read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith(f"| `{specs[0]}`"))
    assert "| 2/4, -2.00 [–] |" in line and "| 1.105 [1.105, 1.105] |" in line  # exp(.1)
    assert "`keep-all`" in page and specs[1] not in page
    assert {path.name for path in tmp_path.rglob("rows.jsonl*")} == {"rows.jsonl.gz"}


def test_a_piece_that_there_is_not_is_named(choose: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose.main(["appointments"]) == 2
    assert capsys.readouterr().err.startswith("choose: no piece 'appointments'; there are windows-preference, ")
