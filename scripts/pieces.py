"""Pieces of an evaluation that a script plays: each is one `edge-sir eval` command, resumable, several at a time.

Killed, or stopped by --minutes, the next run goes on from the rows that are there. The models are those of the
manifest with their weights spelled out: as 32-bit floats, or as bfloat16, which a CPU that multiplies it reads faster.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_sir.errors import EdgeSirError, UserError
from edge_sir.llama.requantize import to_bf16, to_f32
from edge_sir.runtime import ensure_model

ROOT = Path(__file__).resolve().parent.parent
PAPER_FILE = "grocery_keys.jsonl"
ROCK = "rps_dominant_rock.jsonl"
TWELVE = (
    "single-item item-list numbers names appointments correction preference instruction order never-mentioned "
    "rehearsal identifiers"
).split()
TWELVE_TASKS = "twelve tasks"
LICENCE = "/usr/share/common-licenses/GPL-3"  # of Debian and its kin; a text that people wrote

SMOLLM2 = "models/SmolLM2-135M-Instruct.from-Q4_1.F32.gguf"
QWEN_05B = "models/qwen2.5-coder-0.5b-instruct.from-Q4_K_M.BF16.gguf"
QWEN_15B = "models/qwen2.5-coder-1.5b-instruct.from-Q4_K_M.BF16.gguf"
MADE_FROM = {
    SMOLLM2: ("smollm2-135m-instruct", to_f32),
    QWEN_05B: ("qwen2.5-coder-0.5b-instruct", to_bf16),
    QWEN_15B: ("qwen2.5-coder-1.5b-instruct", to_bf16),
}
"""By file the manifest's name of the model whose weights it spells out, and what writes it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One evaluation of the page.

    asks: the task and the options of `edge-sir eval` that say what is asked. data: a file below --data, or of the
    system; where it is not there such a piece is left out. group: what a mean counts together. recall: how evicted
    turns come back, of policies that do not say so. place: the folder that its own is in. needs: a
    package that is no part of the setup; without it such a piece is left out.
    """

    name: str
    asks: str
    policies: Sequence[str]
    budgets: Sequence[int]
    data: str = ""
    group: str = ""
    model: str = SMOLLM2
    recall: str = "off"
    place: str = "docs/results"
    needs: str = ""

    @property
    def out(self) -> str:
        """The folder of its rows."""
        return f"{self.place}/{self.name}"

    @property
    def of_the_system(self) -> bool:
        """Whether its data lies where every machine has it, not where --data says."""
        return Path(self.data).is_absolute()

    def words(self, data: str) -> list[str]:
        """The command that plays it."""
        words = ["edge-sir", "eval", *self.asks.split(), "--model", self.model]
        words += [word for spec in self.policies for word in ("--policy", spec)]
        words += [*(word for n in self.budgets for word in ("--budget", str(n))), "--recall", self.recall]
        words += ["--data", data] if self.data else []
        return [*words, "--out", self.out]

    def located(self, data: Path | None) -> Path:
        """Where its data lies."""
        if self.of_the_system or data is None:
            return Path(self.data)
        return data / self.data if data.is_dir() else data


def play(pieces: Sequence[Piece], data: Path | None, minutes: float, jobs: int) -> bool:
    """Plays until all is there or the time is up; whether all is there."""
    for file in {piece.model for piece in pieces} & MADE_FROM.keys():
        name, write = MADE_FROM[file]
        write(ensure_model(name, quiet=False).path, ROOT / file)
    deadline = time.monotonic() + 60 * minutes
    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(_play, piece, data, deadline) for piece in pieces]
        try:
            results = [one.result() for one in done]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return all(results)


def _play(piece: Piece, data: Path | None, deadline: float) -> bool:
    """Runs the piece's command, which leaves only rows that are its own; False if the time was up."""
    minutes = (deadline - time.monotonic()) / 60
    if minutes <= 0:
        return False
    command = [sys.executable, "-m", "edge_sir", *piece.words(str(piece.located(data)))[1:]]
    command += ["--prune", "--threads", "1", "--minutes", str(minutes), "--quiet"]
    code = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    if code:
        why = f"{piece.out} ended with {code}: what is said above is why, or else it was killed"
        raise UserError(f"{why}; run it again to go on")
    in_time = time.monotonic() < deadline
    print(f"{piece.out}: {'done' if in_time else 'the time is up'}", file=sys.stderr)
    return in_time


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """What every script is asked for that plays pieces whose data is their own or the system's. doc: the script's."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PIECE", help="pieces to play (default: all)")
    parser.add_argument("--minutes", type=float, default=60, help="start nothing new after so long (default: 60)")
    parser.add_argument(
        "--jobs", type=int, choices=range(1, 65), metavar="N", default=2, help="processes, one thread each (default: 2)"
    )
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    parser.add_argument("--report", action="store_true", help="play nothing: make the pages, and pack the rows")
    parser.set_defaults(data=None)
    return parser


def data_parser(doc: str | None) -> argparse.ArgumentParser:
    """The same where pieces need the paper's data, too."""
    parser = make_parser(doc)
    parser.add_argument("--data", type=Path, help="folder with the paper's data")
    return parser


def carry_out(
    program: str, pieces: Sequence[Piece], args: argparse.Namespace, make: Callable[[], Sequence[Path]]
) -> int:
    """Lists, plays or reports what was asked of these pieces, and says so under the program's name; the exit code.

    make: writes the pages, and returns their paths.
    """
    try:
        chosen = _choose(pieces, args.names)
        if args.list:
            for piece in chosen:
                print(shlex.join(piece.words(piece.data if piece.of_the_system else "PATH")))
            return 0
        if args.data is not None and not args.data.exists() and not args.report:
            raise UserError(f"no file or folder {args.data}; --data names the paper's data")
        complete = args.report or play(_playable(program, chosen, args.data), args.data, args.minutes, args.jobs)
        print(*make(), sep="\n")
        if not complete:
            print(f"{program}: the time is up; run it again to go on", file=sys.stderr)
        return 0
    except BrokenPipeError:  # `--list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{program}: stopped; run it again to go on", file=sys.stderr)
        return 130
    except EdgeSirError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


def note_groups(folder: Path, pieces: Sequence[Piece]) -> None:
    """Writes each piece's group into its run.json below `folder`."""
    for piece in pieces:
        file = folder / piece.name / "run.json"
        run = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if run is not None and run.get("group", "") != piece.group:
            file.write_text(json.dumps(run | {"group": piece.group}, indent=2) + "\n", encoding="utf-8")


def _choose(pieces: Sequence[Piece], names: Sequence[str]) -> list[Piece]:
    place = min((piece.place for piece in pieces), key=len)
    known = {str(Path(piece.out).relative_to(place)): piece for piece in pieces}
    for name in names:
        if name not in known:
            raise UserError(f"no piece '{name}'; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def _playable(program: str, pieces: Sequence[Piece], data: Path | None) -> list[Piece]:
    """Those whose data and packages are there; of the others it says that they are left out, and for want of what."""
    lacking: dict[str, list[str]] = {}
    for piece in pieces:
        if piece.data and not ((piece.of_the_system or data) and piece.located(data).exists()):
            lacking.setdefault("their data (--data)", []).append(piece.out)
        elif piece.needs and find_spec(piece.needs) is None:
            lacking.setdefault(piece.needs, []).append(piece.out)
    for what, places in lacking.items():
        print(f"{program}: left out for want of {what}: {', '.join(places)}", file=sys.stderr)
    return [piece for piece in pieces if not any(piece.out in places for places in lacking.values())]
