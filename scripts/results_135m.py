"""Plays the evaluations of docs/results/smollm2-135m, resumably, makes its pages from the rows, and packs the rows.

They are of an earlier default without recall, and many policies; scripts/results has those of the default. Every piece
is one `edge-sir eval` command (`--list` prints them); several run at a time with one thread each, the main table's
first. Killed or stopped by --minutes, the next run goes on. The model's weights are spelled out as 32-bit floats: the
same weights, which a CPU reads faster.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pieces import LICENCE, PAPER_FILE, ROCK, ROOT, TWELVE, TWELVE_TASKS, Piece, carry_out, data_parser, note_groups

from edge_sir.eval.report.comparisons import KEEP_ALL
from edge_sir.eval.report.folder import Loaded, load_all, write_reports
from edge_sir.eval.report.markdown import signed
from edge_sir.eval.report.runs import Run, find
from edge_sir.eval.report.standing import (
    Aim,
    Measured,
    accuracy,
    aims_table,
    compared,
    decay_table,
    pair_table,
    perplexity_aim,
    retained,
    rival_tables,
)
from edge_sir.eval.report.stats import Estimate
from edge_sir.eval.store import pack_rows

RESULTS = ROOT / "docs" / "results" / "smollm2-135m"
ALL = ("keep-all sir units sirllm sirllm-published entropy streaming streaming:n_sink=40 random interval").split()


PLOTS = (
    "decay.png",
    "grocery-lead0/recall-by-budget.png",
    "grocery-lead10/gold-residency.png",
    "grocery-lead10/recall-by-budget.png",
    "long-3k/recall-by-number.png",
    "mix/recall-by-number.png",
)
"""What the page shows. The tables have all figures; `edge-sir eval report` draws every plot."""

CHOOSING = "choosing"


def _main(lead: int) -> Piece:
    asks = f"grocery --n 100 --lead {lead} --metric recall"
    return Piece(f"grocery-lead{lead}", asks, ALL, [256, 512, 1024], PAPER_FILE, "main table")


def _generated(name: str) -> Piece:
    """A task of our own at a quarter of its length. Seed 1 is what policies are chosen on, seed 2 is held out."""
    group = TWELVE_TASKS if name in TWELVE else ""
    return Piece(f"task-{name}", f"{name} --n 8 --seed 2 --metric recall", FEW, [300], group=group)


ETAS = (1, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)
OVER_ETA = ["keep-all", "streaming", "sir", *(f"{name}:decay={eta}" for name in ("sir", "sirllm") for eta in ETAS)]
FEW = "keep-all sir units sirllm streaming".split()
SHOTS = [f"few-shot:rounds={n}" for n in (1, 2, 3)]

RECENT = ["sir:recent=0", "sir:recent=0.25"]
CANDIDATES = (
    "keep-all sir sir:power=0.1 sir:power=0.5 sir:power=1 sir:reply_weight=1 sir:decay=1 sir:length_power=0 "
    "sir:length_power=1 sir:recent=0 sir:recent=0.125 sir:recent=0.25 units units:unit=message units:unit=sentence "
    "sirllm:n_recent=48"
).split()
"""What the default was chosen from, on seed 1 and on the paper's dialogues from number 300 on; others are held out."""


CHOICE_GROCERY = "grocery --n 8 --offset 300 --lead 10 --metric recall"
MANY = "keep-all sir units sirllm sirllm-published streaming random".split()
_PIECES = (
    _main(0),
    _main(10),
    *map(_generated, (*TWELVE, "single-item-german")),
    Piece("single-item", "single-item --n 8 --seed 3 --metric recall", MANY, [256, 512]),
    Piece("choice-names", "names --n 8 --seed 1 --metric recall", CANDIDATES, [300], group=CHOOSING),
    Piece("choice-grocery", CHOICE_GROCERY, CANDIDATES, [256], PAPER_FILE, CHOOSING),
    Piece("decay-forgetting", "forgetting --n 8 --seed 2", OVER_ETA, [128, 256]),
    Piece("decay-short", "short --n 10 --seed 2", [*OVER_ETA, "random", "entropy"], [64, 96]),
    Piece("mix", "mix --n 24 --seed 2", [*FEW, "random", "entropy"], [256]),
    Piece("perplexity", "perplexity --n 20 --seed 2", [*FEW[1:], *RECENT], [256, 512]),
    Piece("perplexity-licence", "perplexity --n 6", [*FEW[1:], *RECENT], [256, 512], LICENCE),
    Piece("long-3k", "long --n 8 --seed 2 --tokens 3000", FEW, [512]),
    Piece("long", "long --n 1 --seed 2", FEW[1:], [512]),
    Piece("rps-few-shot", "rps --n 60 --seed 2", [*FEW[1:], *SHOTS], [1024]),
    Piece("grocery-both", "grocery --n 8 --offset 100", [*FEW, *SHOTS], [512], PAPER_FILE),
    Piece("grocery-letters", "grocery --n 8 --offset 100 --answer first-token", FEW, [512], PAPER_FILE),
    Piece("grocery-gaps", "grocery --n 8 --lead 10 --positions gaps", FEW, [256], PAPER_FILE),
    Piece("dailydialog", "dailydialog --n 20", FEW, [96, 256], "dailydialog.jsonl"),
    Piece("rps", "rps --n 2100", ["sir", "streaming"], [1024], ROCK),
)
PIECES = tuple(replace(piece, place="docs/results/smollm2-135m") for piece in _PIECES)


# ---- the pages -------------------------------------------------------------------------------------

OURS = "sir"
RIVALS = ("units", "sirllm", "sirllm-published", "entropy", "streaming", "random", "interval")

_INTRODUCTION = f"""# Where `{OURS}` stands

Made by `scripts/results-135m --report` from the rows of the folders beside it. [README](README.md) says what each of
them asks and how to read it.

**All of this page is about SmolLM2-135M, without recall**, with the shares of `{OURS}` as they were chosen on that
model. A model that can answer, recall, and what the shares are chosen on now: [choosing](../choosing/README.md)."""

_AIMS = """## Aims

The verdict is about the figure; where its 95 % interval reaches across the bound, or where there is none, it says
so."""

_WIN = """the paired 95 % interval leaves zero out; *tie*: it does not; *open*: too few dialogues for an interval.
Gold log-probability in nats (of plain text: of a token), on the same questions at the same budget. Not corrected for
the number of comparisons."""

_RIVALS = f"""## Against every other policy

`{OURS}` less the other one. *win* and *loss*: {_WIN} Runs that the default was chosen on are left out, and so are
those that this model cannot do even with everything in its cache. The mean of our tasks counts each of the rest
of the twelve once; its interval says how much hangs on the choice of tasks."""

_DECAY = """## Decay

Retention (right answers over keep-all's) by decay per turn; 1: nothing fades. In `decay-forgetting` recall 20 asks for
a fact that was told 20 rounds before, in `decay-short` recall 50 for one told 50 tokens before. Where all decays are
alike there is no line. Intervals are in the reports of these folders; decay.png draws them."""

_PAPER = f"""## The paper's definition against its released code

`sirllm` ranks by the surprisal that the paper defines, `sirllm-published` by what its code computes. *win* and *loss*,
of the definition over the code: {_WIN}"""


def aims_of(runs: Sequence[Run], bench: Mapping[str, Any]) -> list[Aim]:
    """The aims that the project set itself, in its order. bench: the figures of `scripts/bench --json`."""
    main, after = find(runs, "grocery-lead10"), find(runs, "rps-few-shot", "win_after")
    twelve = [run for run in runs if run.group == TWELVE_TASKS]
    mean, least = retained(twelve, OURS)
    n = Measured(Estimate(sum(run.summary.measurable is True for run in twelve)), f"{len(twelve)} tasks", counted=True)
    gap = "paper's task, 10 exchanges before the fact, 256 cells: recall − keep-all's"
    habit = "not measurable: always the same move" if after and after.summary.measurable is False else None
    return [
        Aim(gap, -0.02, compared(main, OURS, KEEP_ALL, 256, "accuracy")),
        Aim(
            "the same: gold log-probability − keep-all's",
            -0.5,
            compared(main, OURS, KEEP_ALL, 256, "gold_logprob"),
            show=signed,
        ),
        Aim("our twelve tasks: how many this model can do", 8, n if twelve else None, show="{:.0f}".format),
        Aim("those, in a quarter of the dialogue: mean retention", 0.95, mean),
        Aim("those: least retention", 0.8, least),
        *(_forgetting(runs, budget) for budget in (128, 256)),
        Aim(
            "rock-paper-scissors: wins after the player changed his favourite",
            1 / 3,
            habit or accuracy(after, OURS, 1024, "rounds"),
        ),
        *(
            perplexity_aim(find(runs, name), text, OURS, budget, 1.01)
            for name, text in (("perplexity", "our own plain text"), ("perplexity-licence", "a licence"))
            for budget in (256, 512)
        ),
        Aim("an evaluation's tokens per second over bare llama.cpp's", 0.9, _throughput(bench.get("eval_vs_bare"))),
    ]


def _forgetting(runs: Sequence[Run], budget: int) -> Aim:
    found = compared(find(runs, "decay-forgetting", "recall_20"), OURS, KEEP_ALL, budget, "accuracy_ratio")
    return Aim(f"a fact after 20 rounds, {budget} cells: retention", 0.95, found)


def _throughput(figure: Mapping[str, float] | None) -> Measured | None:
    if figure is None:
        return None
    over = f"one run of `scripts/bench`; {figure['limit']:.2f} if only arithmetic counted"
    return Measured(Estimate(figure["value"], (figure["low"], figure["high"])), over)


def standing(loaded: Mapping[Path, Loaded], bench: Mapping[str, Any]) -> str:
    """Where `sir` stands, as a page."""
    runs = [run for place, found in loaded.items() for run in found.by_metric(place.name)]
    held_out = [run for run in runs if run.group != CHOOSING]
    rivals = rival_tables(held_out, OURS, RIVALS, (TWELVE_TASKS, "mean of our tasks"))
    parts = [_INTRODUCTION, _AIMS, aims_table(aims_of(runs, bench)), _RIVALS, *rivals]
    parts += [_DECAY, decay_table(held_out), _PAPER, pair_table(held_out, "sirllm", "sirllm-published")]
    return "\n\n".join(parts) + "\n"


def make_pages(folder: Path) -> tuple[Path, Path]:
    """Writes all reports and the plots of PLOTS, packs the rows; returns the paths of report.md and standing.md."""
    note_groups(folder, PIECES)
    loaded = load_all(folder)
    bench, page = folder / "bench.json", folder / "standing.md"
    figures = json.loads(bench.read_text(encoding="utf-8"))["figures"] if bench.is_file() else {}
    page.write_text(standing(loaded, figures), encoding="utf-8")
    pages = write_reports(folder, loaded, only={folder / plot for plot in PLOTS}), page
    for place in loaded:
        pack_rows(place)
    return pages


def main(argv: Sequence[str] | None = None) -> int:
    return carry_out("results-135m", PIECES, data_parser(__doc__).parse_args(argv), lambda: make_pages(RESULTS))


if __name__ == "__main__":
    sys.exit(main())
