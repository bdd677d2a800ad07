"""The pieces of scripts/results, how they are played, and the pages made of rows that no model made."""

import argparse
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from making import arm, keep, read, row

from edge_sir.cli import eval as cli_eval
from edge_sir.errors import UserError
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.controls import with_recall
from edge_sir.eval.records import Row


@pytest.fixture
def results(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("results")


@pytest.fixture
def page(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("results_page")


def cells(page: str, start: str) -> list[list[str]]:
    """The cells of the table lines that start so."""
    found = [line for line in page.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


# ---- playing -----------------------------------------------------------------------------------------


def test_every_piece_is_a_command_and_its_rows_are_called_as_the_page_calls_them(
    results: ModuleType, page: ModuleType
) -> None:
    parser = argparse.ArgumentParser()
    cli_eval.add_parser(parser.add_subparsers())
    known = {*page.ABLATION, *page.WIDER, *page.BASELINES, *page.CONTROLS, page.DENSE, "sir:decay=0.9"}
    for piece in results.PIECES:
        args = parser.parse_args(piece.words("PATH")[1:])
        assert args.task in tasks.names() and args.out.name == piece.name and args.recall == ["auto"]
        assert set(args.metric or ()) <= set(tasks.task(args.task).metrics)
        kept = [with_recall(spec, "auto") for spec in args.policy]
        assert arms_of(kept, args.budget) and (args.data is None) == (not piece.data)
        assert set(kept) <= known
    assert len({piece.out for piece in results.PIECES}) == len(results.PIECES)


def test_no_result_is_about_a_dialogue_that_the_default_was_chosen_on(
    results: ModuleType, import_script: Callable[[str], ModuleType]
) -> None:
    chosen_on = {piece.asks.split(" --seed ")[1] for piece in import_script("choose").pieces(4)}
    assert chosen_on == {"1"}
    for piece in results.PIECES:
        own = not piece.data
        assert own == (piece.asks.partition(" --seed ")[2][:1] in ("2", "3")), piece.out
    (licence,) = (piece for piece in results.PIECES if piece.out == "docs/results/perplexity-licence")
    assert "--offset 3" in licence.asks  # scripts/choose reads the first 3,000 tokens


def test_other_models_play_what_is_aimed_at(results: ModuleType, page: ModuleType) -> None:
    for place in page.OTHER_MODELS:
        names = {piece.name for piece in results.PIECES if piece.place == f"docs/results/{place}"}
        assert names == {piece.name for piece in results.AIMED}
    (far,) = (piece for piece in results.PIECES if piece.out == "docs/results/far")
    assert far.budgets == (512,)


def test_a_piece_that_runs_out_of_time_is_left_and_one_that_fails_is_named(
    results: ModuleType, import_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = import_script("pieces")
    code, started = 0, []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(pieces.subprocess, "run", run)
    (piece,) = (piece for piece in results.PIECES if piece.out == "docs/results/far")
    assert pieces._play(piece, None, time.monotonic() + 60)
    assert started[0][1:5] == ["-m", "edge_sir", "eval", "far"] and "--prune" in started[0]
    assert not pieces._play(piece, None, time.monotonic() - 1)
    code = -9
    with pytest.raises(UserError, match="docs/results/far ended with -9"):
        pieces._play(piece, None, time.monotonic() + 60)


def test_data_that_is_not_there_is_an_error(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["--data", str(tmp_path / "none"), "grocery-lead10"]) == 2
    assert capsys.readouterr().err == f"results: no file or folder {tmp_path / 'none'}; --data names the paper's data\n"


def test_a_piece_of_another_model_is_named_with_its_folder(
    results: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["smollm2-135m-recall/unnamed", "--list"]) == 0
    (command,) = capsys.readouterr().out.splitlines()
    assert command.endswith("--out docs/results/smollm2-135m-recall/unnamed")
    assert results.main(["smollm2-135m-recall"]) == 2
    assert "no piece 'smollm2-135m-recall'" in capsys.readouterr().err


# ---- the pages ---------------------------------------------------------------------------------------


def played(budget: int, values: dict[str, Sequence[float]], **other: object) -> list[Row]:
    """One question in each dialogue, right where its gold log-probability is above -5."""
    return [
        replace(r, last=True)
        for name, gold in values.items()
        for r in arm(name, 0 if name == "keep-all" else budget, [g > -5 for g in gold], gold, **other)
    ]


def test_the_aims_are_judged_by_the_rows(results: ModuleType, page: ModuleType, tmp_path: Path) -> None:
    paper = {"keep-all": [-1.0] * 8, page.OURS: [-1.2, -1.3] * 4}
    keep(tmp_path / "grocery-lead10", "grocery", played(256, paper))
    facts = {"keep-all": [-1.0] * 10, page.WORDS: [-2.0] * 8 + [-9.0] * 2, page.OURS: [-2.0] * 5 + [-9.0] * 5}
    keep(tmp_path / "unnamed", "unnamed", played(300, facts | {"streaming": [-9.0] * 10}))
    names = {"keep-all": [-1.0] * 8, page.OURS: [-9.0] * 2 + [-1.0] * 6, "streaming": [-9.0] * 8}
    keep(tmp_path / "task-names", "names", played(300, names), group="twelve tasks")
    keep(tmp_path / "task-numbers", "numbers", played(300, names), group="twelve tasks")
    asked = [
        row(page.OURS, 512, "2-0", index=i, right=i < 8, metric="recall_10k/overlap-1", last=i == 9) for i in range(10)
    ]
    keep(tmp_path / "far", "far", asked)
    keep(tmp_path / page.FAR_OTHERS, "far", [replace(one, correct=True) for one in asked])
    text = [read(spec, 256, i, x, last=i == 23) for spec, x in (("streaming", -3.0), ("sir", -3.1)) for i in range(24)]
    keep(tmp_path / "perplexity", "perplexity", text)
    text = page.make_pages(tmp_path)[1].read_text(encoding="utf-8")
    verdicts = {line[0]: (line[2], line[4]) for line in cells(text, "")}
    assert verdicts["grocery, lead 10, 256 cells: accuracy − keep-all's"] == (
        "0.00 [0.00, 0.00]",
        "reached, not settled",
    )
    assert verdicts["the same: gold log-probability − keep-all's"][1] == "reached"
    assert verdicts["facts not named: right − words' without recall"][0].startswith("-0.30 ")
    assert verdicts["facts not named: right − the window's alone"] == ("0.50 [0.20, 0.80]", "reached")
    mean = next(line for line in cells(text, "mean of the twelve tasks"))
    assert mean[:2] == ["mean of the twelve tasks", "300"] and "open -2.00" in mean
    every = "twelve tasks at a quarter, all questions: right over keep-all's"
    assert verdicts[every][0].startswith("0.67 [")  # of each task the first six dialogues
    assert verdicts["those: least retention"][1] == "**missed**, not settled"
    assert verdicts["`far`, 512 cells, 10k, overlap 1+: right"][1] == "**missed**, not settled"
    assert verdicts["`far`, 512 cells, 30k, overlap 1+: right"][1] == "not played"
    assert verdicts["`far-others`, the same of two further talks, 10k: right"] == (
        "1.00 [0.72, 1.00]",
        "reached, not settled",
    )
    read_worse = verdicts["our own text (templates), 256 cells: perplexity over `streaming`'s"]
    assert read_worse == (
        "1.105 [1.105, 1.105]",
        "**missed**, not settled",
    )


def test_the_tables_show_what_every_arm_has(page: ModuleType, tmp_path: Path) -> None:
    named = {"keep-all": [-1.0] * 4, "streaming": [-9.0] * 4, page.OURS: [-2.0] * 3 + [-9.0]}
    keep(tmp_path / "task-names", "names", played(300, named, archive_bytes=2_500_000))
    keep(tmp_path / "task-numbers", "numbers", played(300, {"sir": [-1.0] * 7 + [-9.0]}))
    keep(tmp_path / "task-preference", "preference", played(300, {"keep-all": [-1.0], "streaming": [-1.0]}))
    found = played(256, {"keep-all": [-1.0] * 3, "retrieval": [-1.0] * 3, "sir:recall=text": [-1.0] * 3})
    keep(tmp_path / "grocery-lead10", "grocery", [replace(r, archive_bytes=4000) for r in found])
    (tmp_path / "smollm2-135m-recall").mkdir()
    keep(tmp_path / "smollm2-135m-recall" / "unnamed", "unnamed", played(300, {"keep-all": [-1.0], page.OURS: [-1.0]}))
    text = page.make_pages(tmp_path)[1].read_text(encoding="utf-8")
    ours = next(line for line in cells(text, "**window, words, recall as cells**") if line[1] == f"`{page.OURS}`")
    assert ours[2].startswith("3/4, -2.75 [") and ours[3] == "–" and "2500" in ours
    window = next(line for line in cells(text, "window ") if line[1] == "`streaming`")
    assert window[2].startswith("0/4") and window[3:5] == ["–", "1/1, 0.00 [–]"]
    (prompt,) = (line for line in cells(text, "no cache") if "3/3" in line[1])
    assert prompt[2:4] == ["4", "–"]  # at the other budget nothing was played
    (recalled,) = (line for line in cells(text, "window, words, recall as text") if "3/3" in line[1])
    assert recalled[2] == "8"  # the index on top
    (words,) = (line for line in cells(text, "window, words ") if line[1] == "`sir`")
    assert words[2] == "6/6"
    assert "### SmolLM2-135M" in text and "1.5B" not in text
    assert {path.name for path in tmp_path.rglob("rows.jsonl*")} == {"rows.jsonl.gz"}


def test_the_short_table_says_what_each_arm_reads_again(page: ModuleType, tmp_path: Path) -> None:
    asked = {"metric": "recall_30k/overlap-1", "recalled": 70, "archive_bytes": 20_000_000, "last": True}
    rows = [row(spec, 512, "2-0", **asked) for spec in (page.OURS, "sir:recall=text", "sir")]
    rows[2] = replace(rows[2], recalled=0, archive_bytes=0)
    rows.append(replace(row("retrieval", 512, "2-0", **asked), recalled=0, resident=490, archive_bytes=400_000))
    keep(tmp_path / "far", "far", rows)
    text = page.make_pages(tmp_path)[1].read_text(encoding="utf-8")
    shown = {line[0]: line[3:6] for line in cells(text.partition("## Aims")[0], "")}
    assert shown["**`sir:recall=cells`, as a chat has it**"] == ["1/1", "0", "20 MB"]
    assert shown["`sir:recall=text`: what is found is read again"] == ["1/1", "70", "20 MB"]
    assert shown["`sir`, without recall"] == ["1/1", "0", "0 MB"]
    assert shown["plain retrieval: no cache, all is read for each question"] == ["1/1", "490", "0.4 MB"]


def test_the_pages_of_packed_rows_are_the_same(page: ModuleType, tmp_path: Path) -> None:
    for name in ("grocery-lead10", "updates"):
        keep(tmp_path / name, "grocery", played(256, {"keep-all": [-1.0] * 4, page.OURS: [-2.0] * 4}))
    made = [path.read_bytes() for path in page.make_pages(tmp_path)]
    assert [path.read_bytes() for path in page.make_pages(tmp_path)] == made


def test_the_readme_shows_the_table_of_the_results(page: ModuleType) -> None:
    standing = (page.RESULTS / "standing.md").read_text(encoding="utf-8")
    table = standing.partition("## In one table")[2].partition("## Aims")[0].split("\n\n")[2].strip()
    assert table.startswith("| ") and len(table.splitlines()) > 4
    assert table in (page.RESULTS.parent.parent / "README.md").read_text(encoding="utf-8")


def test_every_plot_that_is_kept_is_shown_and_no_page_shows_another(
    page: ModuleType, import_script: Callable[[str], ModuleType]
) -> None:
    old = import_script("results_135m")
    places = {page.RESULTS / plot for plot in page.PLOTS} | {old.RESULTS / plot for plot in old.PLOTS}
    places.add(page.RESULTS / "choosing" / import_script("choose").PLOT)
    kept = set(page.RESULTS.rglob("*.png"))
    assert kept <= places
    shown: set[Path] = set()
    for there in page.RESULTS.rglob("*.md"):
        links = re.findall(r"\]\(([^)\s]+\.png)\)", there.read_text(encoding="utf-8"))
        shown |= {(there.parent / link).resolve() for link in links}
    assert shown == kept
