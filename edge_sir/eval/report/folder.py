"""A folder of evaluations becomes its report: report.md and plots beside the rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.eval import task as tasks
from edge_sir.eval.records import Row
from edge_sir.eval.report.comparisons import KEEP_ALL, ArmKey, policy_name
from edge_sir.eval.report.many_runs import folder_report
from edge_sir.eval.report.markdown import words
from edge_sir.eval.report.one_run import run_report
from edge_sir.eval.report.plots import draw_all, retention_by_decay
from edge_sir.eval.report.runs import Run
from edge_sir.eval.report.summary import Summary, summarize
from edge_sir.eval.store import load_run
from edge_sir.eval.task import Task
from edge_sir.options import Options

__all__ = ["Loaded", "load", "load_all", "report_folder", "write_reports"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A folder as reports take it. run: run.json's mapping. summaries: one per metric, the headline first."""

    run: dict[str, Any]
    rows: list[Row]
    passes: list[dict[str, Any]]
    summaries: list[Summary]

    def by_metric(self, name: str) -> list[Run]:
        """One per metric, the headline first; none of a folder without rows. name: the folder's."""
        played = [summary for summary in self.summaries if summary.entries]
        labels = [f"{name}, {words(s.metric)}" if len(played) > 1 else name for s in played]
        return [Run(name, s, self.run, self.rows, label) for label, s in zip(labels, played, strict=True)]


def report_folder(folder: Path) -> Path:
    """Writes report.md, and plots, for one evaluation or for each in a folder of them; the (top) report's path.

    Raises ConfigError if there is no evaluation in it, UserError without the extra `eval`.
    """
    return write_reports(folder, load_all(folder))


def write_reports(folder: Path, loaded: Mapping[Path, Loaded], *, only: Collection[Path] | None = None) -> Path:
    """`report_folder` of what `load_all` found there. only: the plots that are wanted, None for all."""
    for place, found in loaded.items():
        _write_one(place, found, only)
    if folder in loaded:
        return folder / "report.md"
    runs = [run for place, found in loaded.items() for run in found.by_metric(place.name)[:1]]
    text = folder_report(runs)
    decay = folder / "decay.png"
    decay.unlink(missing_ok=True)
    if (only is None or decay in only) and retention_by_decay(
        {run.name: run.summary for run in runs}, decay
    ) is not None:
        text += "\n![Retention by decay](decay.png)\n"
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return report


def load(folder: Path) -> Loaded:
    """What a folder holds; of dialogues that are parts of each other an arm has the longest alone.

    Raises ConfigError if it holds no evaluation, or one of a task that there is not.
    """
    run, rows, passes = load_run(folder)
    task = tasks.task(str(run["task"]))
    rows = _counted(task, rows)
    return Loaded(run, rows, passes, _summaries(task, run, rows))


def load_all(folder: Path) -> dict[Path, Loaded]:
    """The evaluation that `folder` is, or all those in it, by their folders. Raises ConfigError if there is none."""
    places = [folder] if (folder / "run.json").is_file() else sorted(p.parent for p in folder.glob("*/run.json"))
    if not places:
        raise ConfigError(f"{folder} holds no evaluation; `edge-sir eval TASK --out {folder}` makes one")
    return {place: load(place) for place in places}


def _counted(task: Task, rows: Sequence[Row]) -> list[Row]:
    played: dict[ArmKey, dict[str, None]] = {}
    for row in rows:
        played.setdefault((row.policy, row.budget), {})[row.dialogue] = None
    counted = {arm: set(task.counted(ids)) for arm, ids in played.items()}
    return [row for row in rows if row.dialogue in counted[row.policy, row.budget]]


def _summaries(task: Task, run: Mapping[str, Any], rows: Sequence[Row]) -> list[Summary]:
    # Of a folder that values some questions alone, the first of them is its accuracy.
    metrics = [*run.get("metrics", ()), *(m for m in task.metrics if m not in run.get("metrics", ()))]
    return summarize(
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


def _write_one(folder: Path, found: Loaded, only: Collection[Path] | None) -> None:
    summary, *further = found.summaries
    text = run_report(summary, found.run, found.passes, further)
    x_label = tasks.task(summary.task).x_label
    for plot in draw_all(summary, found.rows, folder, x_label=x_label, only=only) if summary.entries else ():
        text += f"\n![{plot.stem.replace('_', ' ')}]({plot.name})\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
