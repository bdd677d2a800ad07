"""What all pictures share: looks, lines with intervals, frames; on matplotlib (the extra `eval`), without a display.

Every policy has its colour and marker, the same in all pictures. The colours are Okabe and Ito's, which people who
confuse red and green can tell apart; markers and dashes say the same without colour.
"""

import contextlib
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sir.errors import UserError
from edge_sir.eval.report.comparisons import KEEP_ALL, policy_name
from edge_sir.eval.report.stats import Interval

__all__ = [
    "Level",
    "Line",
    "Panel",
    "Point",
    "bar",
    "bars_legend",
    "chart",
    "coloured",
    "dot",
    "figure",
    "legend",
    "look",
    "policy_lines",
]

INK, FAINT = "#222222", "#767676"

_LOOKS = {
    "sir": ("#0072B2", "o"),
    "units": ("#882255", "p"),
    "sirllm": ("#D55E00", "s"),
    "streaming": ("#009E73", "^"),
    "sirllm-published": ("#E69F00", "D"),
    "random": ("#CC79A7", "v"),
    "entropy": ("#56B4E9", "P"),
    "interval": ("#8C6BB1", "X"),
    KEEP_ALL: (INK, "h"),
    "keep-gold": ("#444444", ">"),
    "drop-gold": ("#999999", "<"),
    "few-shot": ("#777777", "*"),
    "retrieval": ("#777777", "d"),
}
_HEAD = 0.62  # inches for title and note of one line
_LINE, _LETTERS = 0.17, 13  # inches of a further line; letters of the note per inch
_REFERENCE = (0, (6, 3))
_CHANCE = (0, (1.2, 2))
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so pictures look the same everywhere
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.7,
    "lines.markersize": 6.5,
}


@dataclass(frozen=True, slots=True)
class Point:
    """A figure and its interval at x."""

    x: float
    y: float
    ci: Interval | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one arm, and how they look."""

    label: str
    points: tuple[Point, ...]
    colour: str = INK
    marker: str = "o"
    dashes: Any = "-"


@dataclass(frozen=True, slots=True)
class Level:
    """What holds at every x: a reference, or chance."""

    y: float
    label: str
    ci: Interval | None = None
    chance: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over one x axis. ticks: by their places. step: how far lines stand apart; log: times 1 + step."""

    lines: Sequence[Line]
    ticks: Mapping[float, str]
    x_label: str
    title: str = ""
    levels: Sequence[Level] = ()
    step: float = 0.014
    log: bool = True


@contextlib.contextmanager
def figure(path: Path, n_panels: int, *, title: str, note: str, size: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """(figure, its panels side by side), written to `path` at the end. size: inches of a panel.

    title: what is shown. note: of which model and how often, in smaller letters below it.
    """
    matplotlib, make = _matplotlib()
    width = 1.9 + size[0] * n_panels
    lines = textwrap.wrap(note, int(_LETTERS * width))
    head = _HEAD + _LINE * (len(lines) - 1)
    height = head + size[1]
    with matplotlib.rc_context(_STYLE):
        made = make(figsize=(width, height), layout="constrained")
        made.get_layout_engine().set(w_pad=0.08, h_pad=0.08, rect=(0, 0, 1, 1 - head / height))
        panels = made.subplots(1, n_panels, sharey=True, squeeze=False)[0]
        yield made, panels
        made.text(0.12 / width, 1 - 0.14 / height, title, va="top", fontsize=12, fontweight="bold")
        made.text(0.12 / width, 1 - 0.4 / height, "\n".join(lines), va="top", fontsize=9, color=FAINT)
        _save(made, path)


def _save(made: Any, path: Path) -> None:
    """As a PNG of at most 256 colours, a third of the size. Equal pictures are equal files: it names no version."""
    from PIL import Image

    drawn = io.BytesIO()
    made.savefig(drawn, format="png", dpi=150, facecolor="white")
    with Image.open(drawn) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, "PNG", optimize=True)


def look(spec: str) -> tuple[str, str]:
    """(colour, marker) of a policy; variants of a policy share its own."""
    return _LOOKS.get(policy_name(spec), (INK, "h"))


def policy_lines(points: Mapping[str, Sequence[Point]]) -> list[Line]:
    """A line for each policy specification; the second, third of one policy are dashed."""
    seen: dict[str, int] = {}
    lines = []
    for spec, found in points.items():
        name = policy_name(spec)
        n_before = seen.get(name, 0)
        seen[name] = n_before + 1
        colour, marker = look(spec)
        dashes = _REFERENCE if name == KEEP_ALL else _DASHES[n_before % len(_DASHES)]
        lines.append(Line(spec, tuple(found), colour, marker, dashes))
    return lines


def coloured(points: Mapping[str, Sequence[Point]]) -> list[Line]:
    """A line for each label, where labels are no policies."""
    looks = list(_LOOKS.values())[:7]
    return [
        Line(label, tuple(found), *looks[i % len(looks)], _DASHES[i // len(looks) % len(_DASHES)])
        for i, (label, found) in enumerate(points.items())
    ]


def chart(
    path: Path, panels: Sequence[Panel], title: str, note: str, y_label: str, width: float = 3.9, *, share: bool = True
) -> Path:
    """Draws panels of lines side by side, and returns `path`. width: inches. share: the y axis is that of a share."""
    with figure(path, len(panels), title=title, note=note, size=(width, 3.6)) as (made, every):
        for axes, panel in zip(every, panels, strict=True):
            _lines(axes, panel)
            for level in panel.levels:
                colour, dashes = (FAINT, _CHANCE) if level.chance else (INK, _REFERENCE)
                axes.axhline(level.y, color=colour, linewidth=1.2, linestyle=dashes, label=level.label, zorder=2)
                if level.ci is not None:
                    axes.axhspan(*level.ci, color=INK, alpha=0.06, linewidth=0, zorder=1)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x_label)
            axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
            axes.minorticks_off()
            axes.set_ylabel(y_label)
            axes.set_ylim(bottom=-0.03)
            if share:
                axes.set_ylim(-0.03, 1.03)
                axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
            axes.label_outer()
        legend(made, *every)
    return path


def _lines(axes: Any, panel: Panel) -> None:
    """Lines with their intervals, a little apart, so that none hides another."""
    for i, line in enumerate(panel.lines):
        away = (i - (len(panel.lines) - 1) / 2) * panel.step
        x = [point.x * (1 + away) if panel.log else point.x + away for point in line.points]
        y = [point.y for point in line.points]
        ends = [point.ci or (point.y, point.y) for point in line.points]
        error = [
            [max(0.0, v - low) for v, (low, _) in zip(y, ends, strict=True)],
            [max(0.0, high - v) for v, (_, high) in zip(y, ends, strict=True)],
        ]
        drawn = axes.errorbar(
            x, y, error, label=line.label, color=line.colour, marker=line.marker, linestyle=line.dashes,
            elinewidth=1.1, capsize=2, markeredgecolor="white", markeredgewidth=0.6, zorder=3 + i,
        )  # fmt: skip
        for part in (*drawn[1], *drawn[2]):
            part.set_alpha(0.5)
    if panel.log:
        axes.set_xscale("log")


def bar(axes: Any, y: float, length: float, colour: str) -> None:
    """A bar that lets the grid through."""
    axes.barh(y, length, height=0.66, color=colour, alpha=0.55, linewidth=0)


def dot(axes: Any, y: float, value: float, ci: Interval) -> None:
    """A figure on a bar, and its interval."""
    error = [[max(0.0, value - ci[0])], [max(0.0, ci[1] - value)]]
    axes.errorbar(value, y, xerr=error, fmt="o", color=INK, markersize=5, elinewidth=1.1, capsize=2.5, clip_on=False)


def bars_legend(made: Any, axes: Any, bars: str, dots: str, chance: float) -> None:
    """Says what bars and dots are, whose colours are those of policies; draws where chance is."""
    swatch = axes.fill_between([], [], color=FAINT, alpha=0.55, label=bars)
    (point,) = axes.plot([], [], "o", color=INK, markersize=5, label=dots)
    for panel in made.axes:
        line = panel.axvline(chance, color=FAINT, linewidth=1.2, linestyle=_CHANCE, label="chance")
    made.legend(handles=[swatch, point, line], loc="outside right center")


def legend(made: Any, *panels: Any) -> None:
    """To the right of all panels, each label of theirs once; lines of one label must look alike in all of them."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    made.legend(handles.values(), handles.keys(), loc="outside right center")


def _matplotlib() -> tuple[Any, Any]:
    """(matplotlib, Figure): no pyplot, so no display and no state that outlives a picture."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "plots need matplotlib; run: pip install 'edge-sir[eval]' (a clone: scripts/setup eval)"
        ) from None
    return matplotlib, Figure
