"""Pictures of evaluations, PNG files. Each function returns its file, or None where there is nothing to show."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_sir.eval.play.controls import arm_keys, with_keys
from edge_sir.eval.records import Row
from edge_sir.eval.report import drawing
from edge_sir.eval.report.comparisons import policy_name
from edge_sir.eval.report.drawing import Level, Line, Panel, Point, chart, figure, policy_lines
from edge_sir.eval.report.markdown import span, words
from edge_sir.eval.report.stats import wilson
from edge_sir.eval.report.summary import Entry, Share, Summary
from edge_sir.eval.task import counts_for
from edge_sir.policies import from_spec, names

__all__ = [
    "decay_entries",
    "draw_all",
    "gold_residency",
    "recall_by_budget",
    "recall_by_distance",
    "recall_by_number",
    "retention_by_decay",
]

_DECAYS_LEAST = 3  # of a policy: two points are no curve
_DECAYS_MOST = 4  # lines of one colour that dashes can tell apart
_LEAST_RANGE = 1.5  # of the farthest group's distance over the nearest's
_N_LEAST = 10  # questions of an arm in a group of distances


def draw_all(
    summary: Summary, rows: Sequence[Row], folder: Path, *, x_label: str = "", only: Collection[Path] | None = None
) -> list[Path]:
    """Draws into `folder` whatever this evaluation can show; returns the files.

    A plot of an earlier report that is not drawn now goes. rows: those of the summary. x_label: what the number in its
    metrics' names counts. only: the files that are wanted, None for all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Path], Path | None]] = {
        "recall-by-budget.png": lambda path: recall_by_budget(summary, path),
        "recall-by-distance.png": lambda path: recall_by_distance(summary, rows, path),
        "recall-by-number.png": lambda path: recall_by_number(summary, path, x_label=x_label),
        "retention-by-decay.png": lambda path: retention_by_decay({summary.task: summary}, path),
        "gold-residency.png": lambda path: gold_residency(summary, path),
    }
    drawn = []
    for name, draw_one in plots.items():
        path = folder / name
        path.unlink(missing_ok=True)
        if (only is None or path in only) and draw_one(path) is not None:
            drawn.append(path)
    return drawn


def recall_by_budget(summary: Summary, path: Path) -> Path | None:
    """Accuracy against cells, a line per policy, Wilson's intervals; keep-all and chance go across."""
    points: dict[str, list[Point]] = {entry.policy: [] for entry in summary.entries}
    for entry in sorted(summary.entries, key=lambda entry: entry.budget):
        if entry.budget and entry.accuracy is not None:
            points[entry.policy].append(_point(entry.budget, entry.accuracy))
    lines = policy_lines({spec: found for spec, found in points.items() if found})
    budgets = sorted({point.x for found in points.values() for point in found})
    if len(budgets) < 2:
        return None
    whole = [
        Level(e.accuracy.value, e.policy, e.accuracy.ci if e.is_keep_all else None)
        for e in summary.entries
        if not e.budget and e.accuracy is not None
    ]
    levels = [*whole, _chance(summary)]
    panel = Panel(lines, {n: f"{n:g}" for n in budgets}, "budget (KV cells, log scale)", levels=levels)
    title = f"{summary.task}: {words(summary.metric)} against budget"
    return chart(path, [panel], title, _note([summary]), _share_of(summary.metric), 5.2)


def retention_by_decay(runs: Mapping[str, Summary], path: Path) -> Path | None:
    """Retention against the policy's decay: a panel per budget, a line per run (and policy, if they differ).

    runs: by the label that tells them apart. A specification such as `sir:decay=0.9` says the decay, `sir` has its
    default; a policy needs three of them. Intervals are those of the table. Runs that are not measurable are left out.
    """
    curves = _decay_curves(runs)
    if not curves:
        return None
    decays = sorted({point.x for found in curves.values() for point in found})
    looks = _decay_looks([(label, policy) for label, policy, _ in curves])
    # Evenly, since the values that are worth trying crowd below 1.
    lines = {
        key: replace(looks[key[:2]], points=tuple(replace(p, x=decays.index(p.x)) for p in found))
        for key, found in curves.items()
    }
    panels = [
        Panel(
            [line for (*_, n), line in lines.items() if n == budget],
            {i: f"{decay:g}\n{_half_life(decay)}" for i, decay in enumerate(decays)},
            "decay per turn\n(below: turns that halve a score)",
            f"{budget} cells",
            [Level(1.0, "keep-all")],
            step=0.05,
            log=False,
        )
        for budget in sorted({budget for _, _, budget in curves})
    ]
    title = f"{', '.join(dict.fromkeys(policy for _, policy, _ in curves))}: retention against decay"
    drawn = {label for label, _, _ in curves}
    note = _note([summary for label, summary in runs.items() if label in drawn])
    return chart(path, panels, title, note, "retention (accuracy / keep-all's)", share=False)


def recall_by_distance(summary: Summary, rows: Iterable[Row], path: Path, *, n_groups: int = 6) -> Path | None:
    """Accuracy against the tokens between fact and question: a panel per budget, a line per policy.

    Of a family of metrics such as recall_1k, recall_3k, all count.
    Distances fall into up to `n_groups` groups of about equal size, the same for all arms, each drawn at its median.
    None, and nothing drawn, for too few questions or where all distances are much the same.
    """
    stem = _parted(summary.metric)[0]
    of_it = (row for row in rows if counts_for(_parted(row.metric)[0], stem))
    unique = {(row.policy, row.budget, row.dialogue, row.index): row for row in of_it}
    asked = [row for row in unique.values() if row.distance is not None and row.gold >= 0]
    counts = Counter((row.policy, row.budget) for row in asked)  # of a family all, not the first metric's alone
    groups = _groups([row.distance or 0 for row in asked], min(n_groups, len(asked) // (_N_LEAST * len(counts) or 1)))
    middles = [float(np.median(group)) for group in groups]
    if len(groups) < 2 or middles[-1] < _LEAST_RANGE * middles[0]:
        return None
    shown, left_out = _few_decays(row.policy for row in asked)
    panels = []
    for budget in sorted({row.budget for row in asked if row.budget}) or [0]:
        by_policy: dict[str, list[Row]] = {}
        for row in asked:
            if row.budget in (0, budget) and row.policy in shown:
                by_policy.setdefault(row.policy, []).append(row)
        lines = policy_lines({spec: _by_group(found, groups) for spec, found in by_policy.items()})
        title, ticks = f"{budget} cells" if budget else "", {middle: _short(middle) for middle in middles}
        panels.append(Panel(lines, ticks, "tokens between fact and question (log scale)", title, [_chance(summary)]))
    title, note = f"{summary.task}: {words(stem)} against distance", _note([summary], "line", list(counts.values()))
    return chart(path, panels, title, note + left_out, _share_of(stem))


def recall_by_number(summary: Summary, path: Path, *, x_label: str = "") -> Path | None:
    """Families of metrics such as recall_5, recall_10 (or recall_10_word, recall_50_word) against their number.

    A panel per family and budget, a line per policy, of many decays of one policy some.
    x_label: what the number counts; without, the axis says that it is the one in the metric's name.
    """
    families = _families(summary)
    if not families:
        return None
    shown, left_out = _few_decays([entry.policy for entry in summary.entries])
    panels = []
    for stem, budget in itertools.product(families, sorted({e.budget for e in summary.entries if e.budget}) or [0]):
        numbers = sorted(families[stem])
        log = numbers[-1] > 16 * max(1, numbers[0])
        entries = [e for e in summary.entries if e.budget in (0, budget) and e.policy in shown]
        panels.append(
            Panel(
                policy_lines({e.policy: _of_family(summary, e, families[stem]) for e in entries}),
                {number: _short(number) for number in numbers},
                (x_label or f"N of {stem}_N") + (" (log scale)" if log else ""),
                ", ".join([*[words(stem)] * (len(families) > 1), *[f"{budget} cells"] * bool(budget)]),
                [_chance(summary)],
                step=0.014 if log else 0.012 * (numbers[-1] - numbers[0]),
                log=log,
            )
        )
    title = f"{summary.task}: {', '.join(map(words, families))} by {x_label or 'number'}"
    y_label = "share of questions" if len(families) > 1 else _share_of(next(iter(families)))
    counts = [
        share.n
        for family in families.values()
        for e in summary.entries
        for share in _shares(summary, e, family).values()
    ]
    return chart(path, panels, title, _note([summary], counts=counts) + left_out, y_label)


def gold_residency(summary: Summary, path: Path) -> Path | None:
    """Per policy, how much of the fact is still in the cache (bars), and how often it is recalled (dots)."""
    entries = [e for e in summary.entries if e.budget and e.gold_resident is not None and e.accuracy is not None]
    if not entries:
        return None
    budgets = sorted({entry.budget for entry in entries})
    specs = list(dict.fromkeys(entry.policy for entry in entries))
    title = f"{summary.task}: how much of the fact is in the cache"
    size = (3.6, 0.8 + 0.34 * len(specs))
    with figure(path, len(budgets), title=title, note=_note([summary]), size=size) as (made, panels):
        for axes, budget in zip(panels, budgets, strict=True):
            for entry in (e for e in entries if e.budget == budget):
                y, colour = specs.index(entry.policy), drawing.look(entry.policy)[0]
                drawing.bar(axes, y, entry.gold_resident or 0.0, colour)
                if entry.accuracy is not None:
                    drawing.dot(axes, y, entry.accuracy.value, entry.accuracy.ci)
            axes.set_title(f"{budget} cells")
            axes.set_xlim(0, 1.03)
            axes.set_xlabel("share of tokens, of answers")
            axes.grid(visible=False, axis="y")
        panels[0].set_yticks(range(len(specs)), specs)
        panels[0].invert_yaxis()
        dots = f"{words(summary.metric)}\n(right answers)"
        drawing.bars_legend(made, panels[-1], "fact's tokens\nin the cache", dots, summary.chance)
    return path


# ---- what they draw ------------------------------------------------------------------------------------


def _point(x: float, share: Share) -> Point:
    return Point(x, share.value, share.ci)


def _chance(summary: Summary) -> Level:
    return Level(summary.chance, "chance", chance=True)


def _share_of(metric: str) -> str:
    return f"{words(metric)} (share of questions)"


def _half_life(decay: float) -> str:
    return "never" if decay == 1 else f"{math.log(0.5) / math.log(decay):.2g}"


def decay_entries(runs: Mapping[str, Summary]) -> dict[tuple[str, str, int], dict[float, Entry]]:
    """Entries with a retention, in order of their decay, by (run, policy without its decay, budget).

    Only of runs that are measurable, and of policies that have at least three decays there.
    """
    found: dict[tuple[str, str, int], dict[float, Entry]] = {}
    for label, summary in runs.items():
        for entry in summary.entries if summary.measurable else ():
            if entry.budget and entry.retention is not None and (tuned := _decay(entry.policy)) is not None:
                base, decay = tuned
                found.setdefault((label, base, entry.budget), {}).setdefault(decay, entry)
    return {key: dict(sorted(entries.items())) for key, entries in found.items() if len(entries) >= _DECAYS_LEAST}


def _decay_curves(runs: Mapping[str, Summary]) -> dict[tuple[str, str, int], list[Point]]:
    return {
        key: [Point(decay, e.retention.value, e.retention.ci) for decay, e in entries.items() if e.retention]
        for key, entries in decay_entries(runs).items()
    }


def _decay_looks(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Line]:
    """How the line of each (run, policy) looks, in all panels alike; a single run's are those of its policies."""
    keys = list(dict.fromkeys(keys))
    runs, policies = (dict.fromkeys(found) for found in zip(*keys, strict=True))
    if len(runs) == 1:
        lines = policy_lines({policy: () for _, policy in keys})
    else:
        lines = drawing.coloured({f"{r}, {p}" if len(policies) > 1 else r: () for r, p in keys})
    return dict(zip(keys, lines, strict=True))


def _decay(spec: str) -> tuple[str, float] | None:
    """(the policy but for its decay, its decay); None for a control, which has none."""
    if policy_name(spec) not in names():
        return None
    own, keys = arm_keys(spec)
    policy = from_spec(own)
    default = type(policy)().decay
    return with_keys(replace(policy, decay=default).spec, keys), policy.decay


def _groups(distances: Sequence[int], n_most: int) -> list[list[int]]:
    """The distances that occur in up to `n_most` groups of about equal numbers of questions, near ones together."""
    values = np.sort(np.asarray(distances))
    if not len(values):
        return []
    # A gap of a half more than the last one parts groups at once: facts told 1k and 3k tokens ago do not mix.
    parts = np.split(values, np.flatnonzero(values[1:] > 1.5 * np.maximum(values[:-1], 1)) + 1)
    if len(parts) == 1:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, n_most + 1)[1:-1]))
        parts = np.split(values, np.searchsorted(values, edges, side="right"))
    return [part.tolist() for part in parts if len(part)]


def _by_group(rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> list[Point]:
    points = []
    for group in groups:
        right = [row.correct for row in rows if row.distance is not None and group[0] <= row.distance <= group[-1]]
        if right:
            n, n_right = len(right), sum(right)
            points.append(_point(float(np.median(group)), Share(n, n_right, wilson(n_right, n))))
    return points


def _few_decays(specs: Iterable[str]) -> tuple[list[str], str]:
    """(the specifications to show, what is to be said of the rest).

    Of more than four that differ in decay alone: the lowest, the highest, the middle one, and the default if there.
    """
    decays: dict[str, dict[float, str]] = {}
    every = list(dict.fromkeys(specs))
    for spec in every:
        if (tuned := _decay(spec)) is not None:
            decays.setdefault(tuned[0], {}).setdefault(tuned[1], spec)
    left_out, said = set(), ""
    for base, found in decays.items():
        ordered = sorted(found)
        if len(ordered) > _DECAYS_MOST:
            kept = {ordered[0], ordered[len(ordered) // 2], ordered[-1], from_spec(base).decay} & found.keys()
            left_out |= {spec for decay, spec in found.items() if decay not in kept}
            said += f"; of {len(ordered)} decays of {base} {len(kept)} are shown"
    return [spec for spec in every if spec not in left_out], said


def _families(summary: Summary) -> dict[str, dict[int, str]]:
    """Metrics that differ in their number alone: name by number, by stem, where there are at least two.

    A family whose parts are families is left out: they say the same and more.
    """
    found: dict[str, dict[int, str]] = {}
    every = dict.fromkeys([summary.metric, *(name for e in summary.entries for name in e.others)])
    for name in every:
        stem, number = _parted(name)
        if number is not None:
            found.setdefault(stem, {})[number] = name
    families = {stem: family for stem, family in found.items() if len(family) > 1}
    wholes = {stem.partition("/")[0] for stem in families if "/" in stem}
    return {stem: family for stem, family in families.items() if stem not in wholes}


def _parted(metric: str) -> tuple[str, int | None]:
    """A metric's stem and its number: of recall_5, (recall, 5), of recall_3k, (recall, 3000), of recall_50_word,
    (recall_word, 50), of recall_3k/named, (recall/named, 3000), of others none."""
    match = re.fullmatch(r"([^/]+?)_(\d+)(k?)((?:_[a-z]+)?(?:/[\w-]+)?)", metric)
    return (match[1] + match[4], int(match[2]) * (1000 if match[3] else 1)) if match else (metric, None)


def _of_family(summary: Summary, entry: Entry, family: dict[int, str]) -> list[Point]:
    return [_point(n, share) for n, share in sorted(_shares(summary, entry, family).items())]


def _shares(summary: Summary, entry: Entry, family: dict[int, str]) -> dict[int, Share]:
    """An arm's share right by the number in the metric's name."""
    found = {n: entry.accuracy if name == summary.metric else entry.others.get(name) for n, name in family.items()}
    return {n: share for n, share in found.items() if share is not None}


def _short(n: float) -> str:
    return f"{n:.0f}" if n < 1000 else f"{n / 1000:.3g}k"


def _note(summaries: Sequence[Summary], per: str = "point", counts: Sequence[int] = ()) -> str:
    """Of which model and how often: no picture without. counts: the questions, if not those of the entries."""
    counts = counts or [entry.n for summary in summaries for entry in summary.entries]
    models = ", ".join(dict.fromkeys(summary.model for summary in summaries))
    note = f"{models}, n = {span(counts)} questions per {per}, 95 % intervals"
    unfit = any(summary.measurable is False for summary in summaries)
    return note + ("; not measurable with this model: keep-all's interval touches chance" if unfit else "")
