"""Plays what the shares of `sir` are chosen on, resumably, and writes the table of the candidates.

The model is Qwen2.5-Coder-0.5B, the dialogues are of seed 1. Results are about other dialogues (seed 2 on), and three
of the twelve tasks, drawn before anything was played, are in no table here: they are for the results alone.
"""

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from results import LICENCE, ROOT, TWELVE, Piece, carry_out

from edge_sir.eval.play.controls import with_recall
from edge_sir.eval.records import Row
from edge_sir.eval.report import markdown as md
from edge_sir.eval.report.comparisons import KEEP_ALL
from edge_sir.eval.report.folder import Loaded, load_all
from edge_sir.eval.report.stats import Estimate, estimate_mean
from edge_sir.eval.store import pack_rows
from edge_sir.eval.task import counts_for

PLACE = "docs/results/choosing"
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
        *(_piece(name, n, specs(), BUDGET) for name in (*UNNAMED, *NAMED, *OTHERS)),
        _piece("perplexity", n, ["streaming", *plain], 256, 512),
        replace(_piece("perplexity", 3, ["streaming", *plain], 256, 512), name="perplexity-licence", data=LICENCE),
        _piece("dailydialog", n, [KEEP_ALL, *plain], 256),
    ]


def _piece(task: str, n: int, policies: Sequence[str], *budgets: int) -> Piece:
    return Piece(task, f"{task} --n {n} --seed 1", policies, budgets, model=MODEL, recall="auto", place=PLACE)


# ---- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """title: of the column; tasks: those whose questions it counts; metric: of these questions."""

    title: str
    tasks: Sequence[str]
    metric: str = ""


_COLUMNS = (
    _Column("named", NAMED),
    _Column("not named", UNNAMED),
    _Column("decoy, overlap 0", ("decoy",), "recall/overlap-0"),
    _Column("others", ("asked-early", "follow-up", "updates")),
    _Column("German", ("single-item-german",)),
)


def table(loaded: Mapping[str, Loaded]) -> str:
    """A line for each candidate: right answers and gold log-probability less keep-all's, by group; perplexity."""
    found = {column.title: _questions(loaded, column) for column in _COLUMNS}
    there = [spec for spec in _as_kept() if any(spec in arms for arms in found.values())]
    columns: dict[str, Callable[[str], str]] = {"policy": md.policy}
    for title, arms in found.items():
        columns[title] = _shown(arms)
    for name, text in TEXTS.items():
        for budget in (256, 512):
            columns[f"{text}, {budget}"] = _perplexity(loaded, name, budget)
    columns["dailydialog"] = _accuracy(loaded)
    return md.grid(there, columns)


def _as_kept() -> list[str]:
    """The candidates as rows name them."""
    return [with_recall(spec, "auto") for spec in specs()]


_Arms = Mapping[str, Mapping[tuple[str, str, int], Row]]
"""By spec the answers, by task, dialogue and index."""


def _questions(loaded: Mapping[str, Loaded], column: _Column) -> _Arms:
    arms: dict[str, dict[tuple[str, str, int], Row]] = {}
    for name in column.tasks:
        for row in loaded[name].rows if name in loaded else ():
            if row.gold >= 0 and counts_for(row.metric, column.metric or row.metric):
                arms.setdefault(row.policy, {})[name, row.dialogue, row.index] = row
    return arms


def _shown(arms: _Arms) -> Callable[[str], str]:
    def cell(spec: str) -> str:
        if spec not in arms:
            return md.NONE
        rows = arms[spec]
        right = f"{sum(row.correct for row in rows.values())}/{len(rows)}"
        gap = _gap(rows, arms.get(KEEP_ALL, {}))
        return right if gap is None or spec == KEEP_ALL else f"{right}, {md.spread(gap, md.signed)}"

    return cell


def _gap(rows: Mapping[tuple[str, str, int], Row], reference: Mapping[tuple[str, str, int], Row]) -> Estimate | None:
    both = [(key, row.gold_logprob - reference[key].gold_logprob) for key, row in rows.items() if key in reference]
    return estimate_mean([gap for _, gap in both], [key[:2] for key, _ in both]) if both else None


def _perplexity(loaded: Mapping[str, Loaded], name: str, budget: int) -> Callable[[str], str]:
    """Over `streaming`'s, on the same pieces of text."""
    runs = loaded[name].by_metric(name) if name in loaded else []

    def cell(spec: str) -> str:
        versus = runs[0].compare(spec, "streaming", budget) if runs else None
        return md.NONE if versus is None else md.spread(versus.perplexity_ratio, "{:.3f}".format)

    return cell


def _accuracy(loaded: Mapping[str, Loaded]) -> Callable[[str], str]:
    runs = loaded["dailydialog"].by_metric("dailydialog") if "dailydialog" in loaded else []

    def cell(spec: str) -> str:
        entry = runs[0].entry(spec, 0 if spec == KEEP_ALL else 256) if runs else None
        return md.NONE if entry is None else md.share(entry.accuracy)

    return cell


_HEAD = f"""# What the shares were chosen on

Made by `scripts/choose`, which plays what is missing of it; Qwen2.5-Coder-0.5B-Instruct (Q4_K_M), seed 1, {BUDGET}
cells for dialogues of about 1,200 tokens (`updates`: 2,000). Of the twelve tasks {", ".join(HELD_OUT)} were drawn
before anything was played, and are not looked at here.

A cell says how many questions were answered right, and the gold log-probability less keep-all's in nats, its 95 %
interval drawn by dialogues. *named*: {", ".join(NAMED)}. *not named*: {", ".join(UNNAMED)}. *others*: asked-early,
follow-up, updates. *own text*, *a licence*: perplexity over `streaming`'s on the same text, by budget. Recall is
tried for each question alone, on a copy of the same stream. Not corrected for the number of candidates: small
differences are none.
"""


def make_page(folder: Path) -> Path:
    """Writes the page and packs the rows."""
    loaded = load_all(folder)
    page = folder / "README.md"
    by_name = {place.name: found for place, found in loaded.items()}
    page.write_text(f"{_HEAD}\n{table(by_name)}\n", encoding="utf-8")
    for place in loaded:
        pack_rows(place)
    return page


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PIECE", help="tasks to play (default: all)")
    parser.add_argument("--n", type=int, default=4, help="dialogues of each task (default: 4)")
    parser.add_argument("--minutes", type=float, default=60, help="start nothing new after so long (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: 2)")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    parser.add_argument("--report", action="store_true", help="play nothing: make the table, and pack the rows")
    args = parser.parse_args(argv)
    args.data = None  # these tasks make their own dialogues, and the licence is the system's
    return carry_out("choose", pieces(args.n), args, lambda: [make_page(ROOT / PLACE)])


if __name__ == "__main__":
    sys.exit(main())
