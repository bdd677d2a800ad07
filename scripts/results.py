"""Plays the evaluations of docs/results, resumably, makes its page from the rows, and packs the rows.

Every piece is what one `edge-sir eval` command would play (`--list` prints them); here they are cut into chunks of
a few dialogues, which several processes with one thread each take in turn, the main table's first. Killed or
stopped by --minutes, the next run goes on. The model is the default one with its weights spelled out as 32-bit
floats: the same weights, which a CPU reads faster.
"""

import argparse
import itertools
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import standing

from edge_sir.errors import EdgeSirError, UserError
from edge_sir.eval.play.arms import Arm, arms_of
from edge_sir.eval.play.contexts import Contexts, open_contexts
from edge_sir.eval.play.evaluate import Request, drop_stale, evaluate
from edge_sir.eval.report.folder import load_all, write_reports
from edge_sir.eval.store import pack_rows
from edge_sir.llama.requantize import to_f32
from edge_sir.runtime import ensure_model

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
MODEL = "smollm2-135m-instruct"
QUICK = "SmolLM2-135M-Instruct.from-Q4_1.F32.gguf"
PAPER_FILE = "grocery_keys.jsonl"
ROCK = "rps_dominant_rock.jsonl"
LICENCE = "/usr/share/common-licenses/GPL-3"  # of Debian and its kin; a text that people wrote

ALL = (
    "keep-all",
    "sir",
    "units",
    "sirllm",
    "sirllm-published",
    "entropy",
    "streaming",
    "streaming:n_sink=40",
    "random",
    "interval",
)


PLOTS = (
    "decay.png",
    "grocery-lead0/recall-by-budget.png",
    "grocery-lead10/gold-residency.png",
    "grocery-lead10/recall-by-budget.png",
    "long-3k/recall-by-number.png",
    "mix/recall-by-number.png",
)
"""What the page shows. The tables have all figures; `edge-sir eval report` draws every plot."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One evaluation of the page.

    data: a file below --data, or of the system; where it is not there such a piece is left out. chunk: dialogues (or
    what --n counts) played at a time. apart: every policy on its own, where the beginning of a dialogue, which they
    share, is the least of it.
    """

    name: str
    request: Request
    policies: tuple[str, ...]
    budgets: tuple[int, ...]
    data: str = ""
    chunk: int = 2
    apart: bool = False

    def command(self) -> str:
        """The command that plays the same."""
        r = self.request
        words = ["edge-sir eval", r.task, f"--model models/{QUICK}"]
        words += [f"--policy {spec}" for spec in self.policies] + [f"--budget {n}" for n in self.budgets]
        words += [f"--n {r.n}", *([f"--offset {r.offset}"] if r.offset else [])]
        words += [f"--seed {r.seed}"] if r.seed else []
        words += [f"--lead {r.lead}"] if r.lead is not None else []
        shown = self.data if self.of_the_system else "PATH"
        words += [f"--metric {m}" for m in r.metrics] + ([f"--data {shown}"] if self.data else [])
        words += [f"--tokens {r.n_tokens}"] if r.n_tokens is not None else []
        words += [f"--answer {r.answer}"] if r.answer != "rank" else []
        words += [f"--positions {r.positions}"] if r.positions != "auto" else []
        return " ".join([*words, f"--out docs/results/{self.name}"])

    @property
    def of_the_system(self) -> bool:
        """Whether its data lies where every machine has it, not where --data says."""
        return Path(self.data).is_absolute()

    def chunks(self) -> Iterator["Piece"]:
        """The same in parts of `chunk` dialogues."""
        first, n = self.request.offset, self.request.n or 1
        for start in range(first, first + n, self.chunk):
            part = replace(self.request, offset=start, n=min(self.chunk, first + n - start))
            for policies in [(spec,) for spec in self.policies] if self.apart else [self.policies]:
                yield replace(self, request=part, policies=policies)


def _main(lead: int) -> Piece:
    request = Request("grocery", n=100, lead=lead, metrics=("recall",), group="main table")
    return Piece(f"grocery-lead{lead}", request, ALL, (256, 512, 1024), PAPER_FILE)


def _generated(name: str) -> Piece:
    """A task of our own at a quarter of its length. Seed 1 is what policies are chosen on, seed 2 is held out."""
    group = standing.TWELVE if name in TWELVE else ""
    request = Request(name, n=8, seed=2, metrics=("recall",), group=group)
    return Piece(f"task-{name}", request, ("keep-all", "sir", "units", "sirllm", "streaming"), (300,), chunk=1)


TWELVE = (
    "single-item",
    "item-list",
    "numbers",
    "names",
    "appointments",
    "correction",
    "preference",
    "instruction",
    "order",
    "never-mentioned",
    "rehearsal",
    "identifiers",
)

ETAS = (1, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)
OVER_ETA = ("keep-all", "streaming", "sir", *(f"{name}:decay={eta}" for name in ("sir", "sirllm") for eta in ETAS))
FEW = ("keep-all", "sir", "units", "sirllm", "streaming")
SHOTS = tuple(f"few-shot:rounds={n}" for n in (1, 2, 3))

RECENT = ("sir:recent=0", "sir:recent=0.25")
CANDIDATES = (
    *("keep-all", "sir", "sir:power=0.1", "sir:power=0.5", "sir:power=1", "sir:reply_weight=1", "sir:decay=1"),
    *("sir:length_power=0", "sir:length_power=1", "sir:recent=0", "sir:recent=0.125", "sir:recent=0.25"),
    *("units", "units:unit=message", "units:unit=sentence", "sirllm:n_recent=48"),
)
"""What the default was chosen from, on seed 1 and on the paper's dialogues from number 300 on; others are held out."""


FIRST = (_main(0), _main(10), *map(_generated, (*TWELVE, "single-item-german")))
PIECES = (
    *FIRST,
    Piece(
        "single-item",
        Request("single-item", n=8, seed=3, metrics=("recall",)),
        ("keep-all", "sir", "units", "sirllm", "sirllm-published", "streaming", "random"),
        (256, 512),
        chunk=1,
    ),
    Piece(
        "choice-names",
        Request("names", n=8, seed=1, metrics=("recall",), group=standing.CHOOSING),
        CANDIDATES,
        (300,),
        chunk=1,
    ),
    Piece(
        "choice-grocery",
        Request("grocery", n=8, offset=300, lead=10, metrics=("recall",), group=standing.CHOOSING),
        CANDIDATES,
        (256,),
        PAPER_FILE,
        chunk=1,
    ),
    Piece("decay-forgetting", Request("forgetting", n=8, seed=2), OVER_ETA, (128, 256), chunk=1),
    Piece("decay-short", Request("short", n=10, seed=2), (*OVER_ETA, "random", "entropy"), (64, 96)),
    Piece("mix", Request("mix", n=24, seed=2), (*FEW, "random", "entropy"), (256,)),
    Piece("perplexity", Request("perplexity", n=20, seed=2), (*FEW[1:], *RECENT), (256, 512), chunk=20, apart=True),
    Piece(
        "perplexity-licence",
        Request("perplexity", n=6),
        (*FEW[1:], *RECENT),
        (256, 512),
        LICENCE,
        chunk=6,
        apart=True,
    ),
    Piece("long-3k", Request("long", n=8, seed=2, n_tokens=3000), FEW, (512,), chunk=1),
    Piece("long", Request("long", n=1, seed=2), FEW[1:], (512,), chunk=1, apart=True),
    Piece("rps-few-shot", Request("rps", n=60, seed=2), (*FEW[1:], *SHOTS), (1024,), chunk=60),
    Piece("grocery-both", Request("grocery", n=8, offset=100), (*FEW, *SHOTS), (512,), PAPER_FILE),
    Piece("grocery-letters", Request("grocery", n=8, offset=100, answer="first-token"), FEW, (512,), PAPER_FILE),
    Piece("grocery-gaps", Request("grocery", n=8, lead=10, positions="gaps"), FEW, (256,), PAPER_FILE),
    Piece("dailydialog", Request("dailydialog", n=20), FEW, (96, 256), "dailydialog.jsonl"),
    Piece("rps", Request("rps", n=2100), ("sir", "streaming"), (1024,), ROCK, chunk=2100, apart=True),
)


# ---- playing ---------------------------------------------------------------------------------------


def play(pieces: Sequence[Piece], data: Path | None, minutes: float, jobs: int) -> bool:
    """Plays until all is there or the time is up; whether all is there."""
    model = ensure_model(MODEL, quiet=False).path
    quick = to_f32(model, model.with_name(QUICK))
    _drop_stale(pieces, data, quick)
    chunks: list[Piece] = []
    for first in (True, False):
        # Chunks of pieces that stand side by side are taken in turn, so that a table fills evenly.
        rounds = itertools.zip_longest(*(piece.chunks() for piece in pieces if (piece in FIRST) == first))
        chunks += [chunk for group in rounds for chunk in group if chunk is not None]
    deadline = time.monotonic() + 60 * minutes
    work = [(chunk, _located(chunk, data)) for chunk in chunks]
    context = multiprocessing.get_context("spawn")
    done = 0
    with ProcessPoolExecutor(jobs, context, _open, (str(quick), deadline)) as pool:
        try:
            for future in as_completed([pool.submit(_play_chunk, item) for item in work]):
                name, played = future.result()
                done += played
                print(f"[{done}/{len(work)}] {name}", file=sys.stderr, flush=True)
        except BrokenProcessPool:
            why = "a worker ended: what is said above is why, or else it was killed, as for lack of memory"
            raise UserError(f"{why}; run it again to go on") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return done == len(work)


def _drop_stale(pieces: Sequence[Piece], data: Path | None, model: Path) -> None:
    """Throws away what older code or older texts gave, so that no table mixes the two."""
    with closing(open_contexts(str(model), threads=1, quiet=True)) as contexts:
        for piece in pieces:
            out = RESULTS / piece.name
            request = replace(piece.request, data=_located(piece, data), out=out)
            if n := drop_stale(contexts, _arms(piece), request):
                print(f"{piece.name}: {n} rows are of an older policy or text and are played again", file=sys.stderr)


def _located(piece: Piece, data: Path | None) -> Path | None:
    """Where a piece's data lies; None for one that has none."""
    if piece.of_the_system:
        return Path(piece.data)
    if not piece.data or data is None:
        return None
    return data / piece.data if data.is_dir() else data


_contexts: Contexts
_deadline: float


def _open(model: str, deadline: float) -> None:
    global _contexts, _deadline
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends its workers
    _contexts, _deadline = open_contexts(model, threads=1, quiet=True), deadline


def _play_chunk(work: tuple[Piece, Path | None]) -> tuple[str, bool]:
    """Plays one chunk; False if the time was up."""
    piece, data = work
    label = f"{piece.name} {piece.request.offset}"
    if time.monotonic() > _deadline:
        return label + " left for the next run", False
    request = replace(piece.request, data=data, out=RESULTS / piece.name)
    evaluate(_contexts, _arms(piece), request)
    return label, True


def _arms(piece: Piece) -> list[Arm]:
    return arms_of(piece.policies, piece.budgets)


def note_groups(folder: Path) -> None:
    """Writes each piece's group into its run.json, so that pieces played under another one need not be played again."""
    for piece in PIECES:
        file = folder / piece.name / "run.json"
        run = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if run is not None and run.get("group", "") != piece.request.group:
            run["group"] = piece.request.group
            file.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def make_page(folder: Path) -> tuple[Path, Path]:
    """Writes all reports and the plots of PLOTS, packs the rows; returns the paths of report.md and standing.md."""
    note_groups(folder)
    loaded = load_all(folder)
    pages = write_reports(folder, loaded, only={folder / plot for plot in PLOTS}), standing.write(folder, loaded)
    for place in loaded:
        pack_rows(place)
    return pages


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PIECE", help="pieces to play (default: all)")
    parser.add_argument("--data", type=Path, help="folder with the paper's data")
    parser.add_argument("--minutes", type=float, default=60, help="start nothing new after so long (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each (default: 2)")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    parser.add_argument(
        "--report", action="store_true", help="play nothing: make tables and plots of what is there, and pack its rows"
    )
    args = parser.parse_args(argv)
    try:
        chosen = _choose(args.names, args.data)
        if args.list:
            print(*(piece.command() for piece in chosen), sep="\n")
            return 0
        complete = args.report or play(chosen, args.data, args.minutes, args.jobs)
        print(*make_page(RESULTS), sep="\n")
        if not complete:
            print("results: the time is up; run it again to go on", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print("results: stopped; run it again to go on", file=sys.stderr)
        return 130
    except EdgeSirError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


def _choose(names: Sequence[str], data: Path | None) -> list[Piece]:
    known: dict[str, Any] = {piece.name: piece for piece in PIECES}
    for name in names:
        if name not in known:
            raise UserError(f"no piece '{name}'; there are {', '.join(known)}")
    chosen = [known[name] for name in names or known]
    missing = [piece.name for piece in chosen if piece.data and not _is_there(piece, data)]
    if missing:
        print(f"results: left out for want of their data (--data): {', '.join(missing)}", file=sys.stderr)
    return [piece for piece in chosen if piece.name not in missing]


def _is_there(piece: Piece, data: Path | None) -> bool:
    """Whether a text of the system is there, and for others whether --data was given."""
    return Path(piece.data).is_file() if piece.of_the_system else data is not None


if __name__ == "__main__":
    sys.exit(main())
