"""Tables over groups of tasks: a line for each arm, its questions of several tasks counted together."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_sir.eval.play.controls import arm_keys
from edge_sir.eval.records import Row
from edge_sir.eval.report import markdown as md
from edge_sir.eval.report.comparisons import KEEP_ALL
from edge_sir.eval.report.folder import Loaded
from edge_sir.eval.report.stats import Estimate, estimate_mean, mean
from edge_sir.eval.task import counts_for

Arms = Mapping[str, Mapping[tuple[str, str, int], Row]]
"""By spec the answers, by task, dialogue and index."""


@dataclass(frozen=True, slots=True)
class Column:
    """title: of the column; folders: those whose questions it counts; metric: of these questions, by default all.

    n: of each folder the first dialogues, 0 for all.
    """

    title: str
    folders: Sequence[str]
    metric: str = ""
    n: int = 0


def number_of(row: Row) -> int:
    """The number of a generated dialogue, with which its name ends."""
    found = re.search(r"\d+$", row.dialogue)
    return int(found[0]) if found else 0


def questions(loaded: Mapping[str, Loaded], column: Column, budget: int | None = None) -> Arms:
    """What every arm answered of a column's questions. loaded: by the folder's name. budget: of those that have one."""
    arms: dict[str, dict[tuple[str, str, int], Row]] = {}
    for name in column.folders:
        for row in loaded[name].rows if name in loaded else ():
            if (budget is not None and row.budget not in (0, budget)) or (column.n and number_of(row) >= column.n):
                continue
            if row.gold >= 0 and counts_for(row.metric, column.metric or row.metric):
                arms.setdefault(row.policy, {})[name, row.dialogue, row.index] = row
    return arms


def right(arms: Arms) -> Callable[[str], str]:
    """How many questions an arm answered right."""

    def cell(spec: str) -> str:
        rows = arms.get(spec, {}).values()
        return f"{sum(row.correct for row in rows)}/{len(rows)}" if rows else md.NONE

    return cell


def right_and_gap(arms: Arms) -> Callable[[str], str]:
    """How many questions an arm answered right, and its gold log-probability less keep-all's in nats."""

    def cell(spec: str) -> str:
        if spec not in arms:
            return md.NONE
        rows = arms[spec]
        n_right = right(arms)(spec)
        gap = _gap(rows, arms.get(KEEP_ALL, {}))
        return n_right if gap is None or spec == KEEP_ALL else f"{n_right}, {md.spread(gap, md.signed)}"

    return cell


def _gap(rows: Mapping[tuple[str, str, int], Row], reference: Mapping[tuple[str, str, int], Row]) -> Estimate | None:
    both = [(key, row.gold_logprob - reference[key].gold_logprob) for key, row in rows.items() if key in reference]
    return estimate_mean([gap for _, gap in both], [key[:2] for key, _ in both]) if both else None


def margin(arms: Arms) -> Callable[[str], str]:
    """How much likelier the right option is than the best wrong one, nats, mean."""

    def cell(spec: str) -> str:
        found = [row.margin for row in arms.get(spec, {}).values() if row.margin is not None]
        return md.signed(mean(found)) if found else md.NONE

    return cell


def read_again(arms: Arms, fresh: str) -> Callable[[str], str]:
    """Tokens of the past that are read for a question, mean: of text that is recalled, and of the prompt of `fresh`."""

    def cell(spec: str) -> str:
        rows = arms.get(spec, {}).values()
        if spec == fresh:
            found = [row.resident for row in rows]
        else:
            found = [row.recalled if arm_keys(spec)[1].recall == "text" else 0 for row in rows]
        return f"{mean(found):.0f}" if found else md.NONE

    return cell


def kilobytes_outside(arms: Arms, index_alone: str) -> Callable[[str], str]:
    """Bytes outside the cells when the question was asked, mean, in kB.

    index_alone: the arm that has nothing else there than the index of what was said. A row of an arm that recalls has
    its evicted cells and their rows, so the index of the same question comes on top, or else the mean of all questions.
    """
    return _outside(arms, index_alone, lambda n: f"{n / 1e3:.0f}")


def megabytes_outside(arms: Arms, index_alone: str) -> Callable[[str], str]:
    """The same in MB, with the unit."""
    return _outside(arms, index_alone, lambda n: f"{n / 1e6:.0f} MB" if n >= 1e7 or not n else f"{n / 1e6:.1f} MB")


def _outside(arms: Arms, index_alone: str, show: Callable[[float], str]) -> Callable[[str], str]:
    def cell(spec: str) -> str:
        rows = arms.get(spec, {})
        index = arms.get(index_alone, {}) if arm_keys(spec)[1].recall != "off" else {}
        usual = mean([row.archive_bytes for row in index.values()]) if index else 0
        found = [row.archive_bytes + (index[key].archive_bytes if key in index else usual) for key, row in rows.items()]
        return show(mean(found)) if found else md.NONE

    return cell


def perplexity_ratio(loaded: Mapping[str, Loaded], folder: str, spec: str, budget: int) -> Estimate | None:
    """An arm's perplexity over `streaming`'s, on the same pieces of text; None for arms that recall: they read none."""
    runs = loaded[folder].by_metric(folder) if folder in loaded else []
    versus = runs[0].compare(spec, "streaming", budget) if runs else None
    return versus and versus.perplexity_ratio


def perplexity_over_streaming(loaded: Mapping[str, Loaded], folder: str, budget: int) -> Callable[[str], str]:
    """The same as a column."""

    def cell(spec: str) -> str:
        found = perplexity_ratio(loaded, folder, spec, budget)
        return md.NONE if found is None else md.spread(found, "{:.3f}".format)

    return cell


def answered(specs: Iterable[str], columns: Iterable[Arms]) -> list[str]:
    """Those of the arms that any column has answers of."""
    columns = list(columns)
    return [spec for spec in specs if any(spec in arms for arms in columns)]
