"""A folder of evaluations becomes its report: report.md and plots beside the rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.eval import task as tasks
from edge_sir.eval.comparisons import KEEP_ALL, policy_name
from edge_sir.eval.overview import folder_report, label_runs
from edge_sir.eval.plots import draw_all, retention_by_decay
from edge_sir.eval.records import Row
from edge_sir.eval.report import run_report
from edge_sir.eval.store import load_run
from edge_sir.eval.summary import Summary, summarize_each
from edge_sir.options import Options

__all__ = ["report_folder", "summaries_of"]


def report_folder(folder: Path) -> Path:
    """Writes report.md, and plots, for one evaluation or for each in a folder of them; the (top) report's path.

    Raises ConfigError if there is no evaluation in it, UserError without the extra `eval`.
    """
    if (folder / "run.json").is_file():
        return _report_one(folder)[0]
    found = sorted(path.parent for path in folder.glob("*/run.json")) if folder.is_dir() else []
    if not found:
        raise ConfigError(f"{folder} holds no evaluation; `edge-sir eval TASK --out {folder}` makes one")
    runs = [(summary, run) for _, summary, run in map(_report_one, found) if summary.entries]
    text = folder_report(runs)
    if retention_by_decay(label_runs(runs), folder / "decay.png") is not None:
        text += "\n![Retention by decay](decay.png)\n"
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return report


def summaries_of(run: Mapping[str, Any], rows: list[Row]) -> list[Summary]:
    """The summaries of a folder's rows, one per metric, its headline first; what was asked is in its run.json."""
    task = tasks.task(str(run["task"]))
    # Of a folder that values some questions alone, the first of them is its accuracy.
    metrics = [*run.get("metrics", ()), *(m for m in task.metrics if m not in run.get("metrics", ()))]
    return summarize_each(
        _in_order(rows),
        task=str(run["task"]),
        model=run["model"],
        answer=run["answer"],
        metrics=metrics,
        chance=task.chance,
    )


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """keep-all's rows, those of the default, then others by name: processes write theirs in any order."""
    default = Options.model_fields["policy"].default

    def place(row: Row) -> tuple[bool, bool, str]:
        name = policy_name(row.policy)
        return name != KEEP_ALL, name != default, row.policy

    return sorted(rows, key=place)


def _report_one(folder: Path) -> tuple[Path, Summary, dict[str, Any]]:
    run, rows, passes = load_run(folder)
    summary, *further = summaries_of(run, rows)
    text = run_report(summary, run, passes, further)
    x_label = tasks.task(summary.task).x_label
    for plot in draw_all(summary, rows, folder, x_label=x_label) if summary.entries else ():
        text += f"\n![{plot.stem.replace('_', ' ')}]({plot.name})\n"
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return report, summary, run
