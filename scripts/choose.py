"""Plays what the shares of `sir` are chosen on, resumably, and writes the table of the candidates.

The model is Qwen2.5-Coder-0.5B, the dialogues are of seed 1. Results are about other dialogues (seed 2 on), and three
of the twelve tasks, drawn before anything was played, are in no table here: they are for the results alone.
"""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from grouped import Column, answered, margin, perplexity_over_streaming, perplexity_ratio, questions, right_and_gap
from pieces import LICENCE, QWEN_05B, ROOT, TWELVE, Piece, carry_out, make_parser

from edge_sir.eval.play.controls import with_recall
from edge_sir.eval.report import markdown as md
from edge_sir.eval.report.comparisons import KEEP_ALL
from edge_sir.eval.report.drawing import figure
from edge_sir.eval.report.folder import Loaded, load_all
from edge_sir.eval.report.stats import Estimate, wilson
from edge_sir.eval.store import pack_rows

PLACE = "docs/results/choosing"
PLOT = "trade-off.png"
MODEL = "qwen2.5-coder-0.5b-instruct"
BUDGET = 300  # a quarter of most dialogues

HELD_OUT = tuple(random.Random(19).sample(sorted(TWELVE), 3))
"""Of the twelve tasks those that are never looked at while choosing: appointments, order, rehearsal."""
NAMED = tuple(name for name in TWELVE if name not in (*HELD_OUT, "preference"))
"""The question names what it asks for, so recall can find it."""
UNNAMED = ("preference", "unnamed")
"""It does not."""
OTHERS = ("decoy", "asked-early", "follow-up", "updates", "single-item-german")
TEXTS = {"perplexity": "own text", "perplexity-licence": "a licence"}
"""Plain text, and what it is called. Of the licence these are the first 3,000 tokens; results are about the rest."""

SECOND_LICENCE = "/usr/share/common-licenses/GFDL-1.3"
AGAIN = "windows-"
"""How the folders of the second stage begin."""
NAMED_AGAIN = ("names", "numbers", "correction", "decoy")

WINDOWS = (*(f"sir:recent={share}," for share in ("0.0625", "0.125", "0.25", "0.5")), "streaming:")
WAYS = (
    "recall=off",
    "recall=text",
    "recall=cells,recall_share=0.125",
    "recall=cells",
    "recall=cells,recall_share=0.3333",
)
AT = "0.25"
"""The window beside which everything else is tried."""
FURTHER = (
    f"sir:recent={AT},decay=0.95",
    f"sir:recent={AT},decay=1",
    f"sir:recent={AT},room=exact",
    *(f"sir-tried:recent={AT},{key}" for key in ("around=1", "around=2", "bonus=2", "bonus=5", "low_norm=0.25")),
)


def specs() -> list[str]:
    """Every candidate, and what it is measured against."""
    windows = [f"{window}{way}" for window in WINDOWS for way in WAYS]
    return [KEEP_ALL, *windows, *(f"{spec},{way}" for spec in FURTHER for way in ("recall=off", "recall=cells"))]


def pieces(n: int) -> list[Piece]:
    """What is played; n: dialogues of each task."""
    plain = [spec for spec in specs() if "recall=off" in spec]
    return [
        *_windows_again(n),
        *(_piece(name, n, specs(), BUDGET) for name in (*UNNAMED, *NAMED, *OTHERS)),
        _piece("perplexity", n, ["streaming", *plain], 256, 512),
        replace(_piece("perplexity", 3, ["streaming", *plain], 256, 512), name="perplexity-licence", data=LICENCE),
        _piece("dailydialog", n, [KEEP_ALL, *plain], 256),
    ]


def windows() -> list[str]:
    """What the window is chosen from, without recall and with it, beside everything in the cache."""
    return [KEEP_ALL, *(f"{window}recall={how}" for window in WINDOWS for how in ("off", "cells"))]


def _windows_again(n: int) -> list[Piece]:
    """The windows alone on more dialogues, most where they differ, and on a second text that people wrote."""
    asked = [_piece(name, 3 * n, windows(), BUDGET) for name in UNNAMED]
    asked += [_piece(name, n, windows(), BUDGET) for name in NAMED_AGAIN]
    plain = ["streaming", *(spec for spec in windows() if "recall=off" in spec)]
    asked.append(replace(_piece("perplexity", n, plain, 256, 512), data=SECOND_LICENCE))
    return [replace(piece, name=f"{AGAIN}{piece.name}", model=QWEN_05B) for piece in asked]


def _piece(task: str, n: int, policies: Sequence[str], *budgets: int) -> Piece:
    return Piece(task, f"{task} --n {n} --seed 1", policies, budgets, model=MODEL, recall="auto", place=PLACE)


# ---- the table -------------------------------------------------------------------------------------


_COLUMNS = (
    Column("named", NAMED),
    Column("not named", UNNAMED),
    Column("decoy, overlap 0", ("decoy",), "recall/overlap-0"),
    Column("others", ("asked-early", "follow-up", "updates")),
    Column("German", ("single-item-german",)),
)
_WINDOWS_COLUMNS = (Column("not named", UNNAMED), Column("named", NAMED_AGAIN))


def table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each candidate: right answers and gold log-probability less keep-all's, by group; perplexity."""
    found = {column.title: questions(loaded, column) for column in _COLUMNS}
    columns: dict[str, Callable[[str], str]] = {"policy": md.policy}
    for title, arms in found.items():
        columns[title] = right_and_gap(arms)
    for name, text in TEXTS.items():
        for budget in (256, 512):
            columns[f"{text}, {budget}"] = perplexity_over_streaming(loaded, name, budget)
    columns["dailydialog"] = _accuracy(loaded)
    return md.grid(answered(_as_kept(specs()), found.values()), columns)


def windows_table(loaded: Mapping[str, Loaded]) -> str:
    """The same for the windows alone, on more dialogues."""
    found = {
        column.title: questions(loaded, replace(column, folders=[f"{AGAIN}{name}" for name in column.folders]))
        for column in _WINDOWS_COLUMNS
    }
    columns: dict[str, Callable[[str], str]] = {"policy": md.policy}
    for title, arms in found.items():
        columns[title] = right_and_gap(arms)
        columns[f"{title}: margin"] = margin(arms)
    for budget in (256, 512):
        columns[f"a second licence, {budget}"] = perplexity_over_streaming(loaded, f"{AGAIN}perplexity", budget)
    return md.grid(answered(_as_kept(windows()), found.values()), columns)


def draw_trade_off(loaded: Mapping[str, Loaded], path: Path) -> Path | None:
    """Right answers where the question does not name the fact, against what a text costs, a point for each window."""
    arms = questions(loaded, Column("not named", [f"{AGAIN}{name}" for name in UNNAMED]))
    points = []
    for window, share in zip(WINDOWS, ("1/16", "1/8", "1/4", "1/2", "all"), strict=True):
        (spec,) = _as_kept([f"{window}recall=off"])
        x = perplexity_ratio(loaded, f"{AGAIN}perplexity", spec, 256)
        right = [row.correct for row in arms.get(spec, {}).values()]
        if x is not None and right:
            points.append((share, x, Estimate(sum(right) / len(right), wilson(sum(right), len(right)))))
    if not points:
        return None
    note = f"Qwen2.5-Coder-0.5B, seed 1, {len(right)} questions at {BUDGET} cells; the text at 256; bars: 95 %"
    with figure(path, 1, title="What a larger window costs and gains", note=note, size=(5.2, 3.4)) as (_, (axes,)):
        for share, x, y in points:
            spread = [[max(0.0, e.value - e.ci[0]), e.ci[1] - e.value] if e.ci else [0, 0] for e in (x, y)]
            bars = [[[low], [high]] for low, high in spread]
            axes.errorbar(x.value, y.value, xerr=bars[0], yerr=bars[1], fmt="o", color="#0072B2", elinewidth=0.8)
            axes.annotate(share, (x.value, y.value), xytext=(6, 6), textcoords="offset points")
        axes.set_xlabel("perplexity of a text over the newest cells alone")
        axes.set_ylabel("right, of facts not named")
        axes.set_ylim(0, 1)
    return path


def _as_kept(candidates: Sequence[str]) -> list[str]:
    """The candidates as rows name them."""
    return [with_recall(spec, "auto") for spec in candidates]


def _accuracy(loaded: Mapping[str, Loaded]) -> Callable[[str], str]:
    runs = loaded["dailydialog"].by_metric("dailydialog") if "dailydialog" in loaded else []

    def cell(spec: str) -> str:
        entry = runs[0].entry(spec, 0 if spec == KEEP_ALL else 256) if runs else None
        return md.NONE if entry is None else md.share(entry.accuracy)

    return cell


_HEAD = f"""# What the shares were chosen on

Made by `scripts/choose`, which plays what is missing of it; Qwen2.5-Coder-0.5B-Instruct, seed 1, {BUDGET}
cells for dialogues of about 1,200 tokens (`updates`: 2,000). Of the twelve tasks {", ".join(HELD_OUT)} were drawn
before anything was played, and are not looked at here. [Results](../README.md#how-the-cells-are-shared-out) say what
follows from it.

A cell says how many questions were answered right, and the gold log-probability less keep-all's in nats, its 95 %
interval drawn by dialogues. *margin*: how much likelier the right option is than the best wrong one, nats. *not
named*: {", ".join(UNNAMED)}. Perplexity is over `streaming`'s on the same text, by budget. Recall is tried for
each question alone, on a copy of the same stream. Not corrected for the number of candidates: small differences are
none."""

_FIRST = f"""## Every candidate, on few dialogues

The model's file as it is (Q4_K_M). *named*: {", ".join(NAMED)}. *others*: asked-early,
follow-up, updates. *a licence*: the first 3,000 tokens of the GPL 3."""

_SECOND = f"""## The windows, on more dialogues

The weights spelled out as bfloat16. *named*: {", ".join(NAMED_AGAIN)}. *a second licence*: the
first tokens of the GFDL 1.3.

![What a larger window costs and gains]({PLOT})"""


def make_page(folder: Path) -> Path:
    """Writes the page and its plot, and packs the rows."""
    loaded = load_all(folder)
    page = folder / "README.md"
    by_name = {place.name: found for place, found in loaded.items()}
    draw_trade_off(by_name, folder / PLOT)
    page.write_text(
        f"{_HEAD}\n\n{_SECOND}\n\n{windows_table(by_name)}\n\n{_FIRST}\n\n{table(by_name)}\n", encoding="utf-8"
    )
    for place in loaded:
        pack_rows(place)
    return page


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--n", type=int, default=4, help="dialogues of each task (default: 4)")
    args = parser.parse_args(argv)
    return carry_out("choose", pieces(args.n), args, lambda: [make_page(ROOT / PLACE)])


if __name__ == "__main__":
    sys.exit(main())
