"""Power cuts: a real process that talks in a session is killed again and again, and the next one must find all of it.

power_cut.py         arguments, the order      power_cut_points.py  where a process kills itself
power_cut_talk.py    a process and its calls   power_cut_judge.py   what must be there, and what is

Each process is killed by its parent after a random time, or kills itself at a point: between the reply's last token
and its record, in a transaction, a commit, a checkpoint, a migration, a snapshot, a blob, an eviction, a forget, in
going on itself, ... The next one says what it found, which is held against what was acknowledged. SIGKILL leaves the
page cache as it is, so this proves nothing about fsync: tests/store/test_power.py does.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from one_line_parser import OneLineParser
from power_cut_judge import Known, in_files
from power_cut_points import AT_ITS_END, AT_RANDOM, BLOBS, POINTS
from power_cut_talk import Settings

from edge_sir import EdgeSirError, UserError
from edge_sir.errors import ConfigError
from edge_sir.models import resolve

__all__ = ["Report", "main", "play"]

_TALK = Path(__file__).with_name("power_cut_talk.py")
_N_LIVES = 10  # of one state folder
_LIMIT_S = 120.0
_NAME = "ada"
# Few cells and short replies, so that much is evicted and recalled.
_TERMS: tuple[dict[str, Any], ...] = (
    {"budget": 192, "archive_on_disk": True, "resume_s": 1.0},
    {"budget": 224},
    {"budget": 192, "positions": "gaps", "kv_k": "q8_0", "kv_v": "q8_0", "flash_attn": "on", "resume_s": 1.0},
    {"budget": 192, "positions": "gaps", "archive_on_disk": True, "resume_s": 3.0},
)


@dataclass
class Report:
    """kills: by point; missed: where a process never came to its point and was killed at its end. ways: how sessions
    were gone on with. faults: what must not be, in words.
    """

    kills: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    n_calls: int = 0
    n_left_out: int = 0
    slowest_open_s: float = 0.0
    slowest_resume_s: float = 0.0

    @property
    def n_kills(self) -> int:
        return sum(self.kills.values()) + sum(self.missed.values())

    def text(self) -> str:
        """A few lines."""
        kills = (f"  {n:4} {name}" for name, n in sorted(self.kills.items()))
        lines = [f"{self.n_kills} kills, {self.n_calls} calls acknowledged", *kills]
        lines.append(f"  {sum(self.missed.values()):4} after the last call, since the point was not reached")
        lines.append("gone on with: " + ", ".join(f"{n} {way}" for way, n in sorted(self.ways.items())))
        lines.append(f"tokens left out, since their cells were nowhere: {self.n_left_out}")
        lines.append(f"slowest resume {self.slowest_resume_s:.2f} s; with the model {self.slowest_open_s:.2f} s")
        return "\n".join([*lines, *(self.faults or ["no fault"])])


class Session:
    """One state folder through its processes. rng: where and when they die. also: options of a process."""

    def __init__(self, folder: Path, rng: random.Random, terms: dict[str, Any], also: dict[str, Any], report: Report):
        self._folder, self._rng, self._report = folder, rng, report
        self._terms, self._also = terms, also
        self._known = Known()
        self._n_migrations = self._n_cut = 0
        self._n_lives = 0

    def comes_to(self, point: str) -> bool:
        """Whether it can come to this point."""
        return point != BLOBS or bool(self._terms.get("archive_on_disk"))

    def live(self, point: str, n_calls: int, *, other_build: bool = False) -> None:
        """One process, until it is dead."""
        rng = self._rng
        if point == "in a migration" and self._n_lives:
            self._n_migrations += 1
        self._n_lives += 1
        where = POINTS[point]
        settings = Settings(
            folder=str(self._folder),
            terms=self._terms if self._known.last is None else {"session": _NAME},
            seed=rng.randrange(2**31),
            point=point,
            number=rng.randint(1, where.most),
            delay_s=rng.uniform(0, where.delay_s),
            n_before=rng.randint(0, n_calls),
            n_calls=n_calls,
            n_migrations=self._n_migrations,
            other_build=other_build,
            also=self._also,
        )
        self._watch(settings)

    def _watch(self, settings: Settings) -> None:
        """Holds what the process says against what is known."""
        name = f"{self._folder.name}, process {self._n_lives} ({settings.point})"
        is_open, is_there, after_s = False, False, None
        if settings.point == AT_RANDOM:
            is_there, after_s = True, self._rng.uniform(0, 0.4 * (settings.n_before + settings.n_calls))
        with _process(settings) as (process, errors):
            kill = threading.Timer(_LIMIT_S, process.kill)
            kill.start()
            for step in _steps(process):
                if "opened" in step:
                    is_open = True
                    self._look(name, step["opened"], settings)
                    if after_s is not None:
                        kill.cancel()
                        kill = threading.Timer(after_s, process.kill)
                        kill.start()
                if "warned" in step:
                    self._fault(name, f"it warned: {step['warned']}")
                if step.get("problem"):
                    self._fault(name, step["problem"])
                is_there |= "reached" in step
                self._report.n_calls += "done" in step
                self._known.note(step)
            process.wait()
            is_stuck = kill.finished.is_set() and after_s is None
            kill.cancel()
            if is_stuck:
                self._fault(name, f"it was not at its end after {_LIMIT_S:.0f} s")
            if process.returncode != -9:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                self._fault(name, f"it ended by itself ({process.returncode}): {said[-1:]}")
        self._n_cut = 0 if is_open else self._n_cut + 1
        if settings.point != AT_ITS_END:
            (self._report.kills if is_there else self._report.missed)[settings.point] += 1

    def _look(self, name: str, opened: dict[str, Any], settings: Settings) -> None:
        report = self._report
        is_first = self._n_cut == 0
        for fault in self._known.faults(opened, other_build=settings.other_build, is_first=is_first):
            self._fault(name, fault)
        for fault in in_files(self._folder, self._known.forgotten, opened["said"]):
            self._fault(name, fault)
        report.ways[opened["how"] or "begun"] += 1
        report.n_left_out += opened["n_left_out"]
        report.slowest_open_s = max(report.slowest_open_s, opened["open_s"])
        report.slowest_resume_s = max(report.slowest_resume_s, opened["resume_s"])

    def _fault(self, name: str, what: str) -> None:
        self._report.faults.append(f"{name}: {what}")

    def last_look(self) -> None:
        """After the last kill: it opens, a reply comes, it is closed, and what the command line verifies is whole."""
        self.live(AT_ITS_END, 1)
        if self._known.doing is not None or self._known.last is None:
            self._fault(self._folder.name, "it does not open and close")
        if not self._n_migrations:  # else it is from the future
            command = [sys.executable, "-m", "edge_sir", "sessions", "verify", "--state-dir", str(self._folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                self._fault(self._folder.name, f"edge-sir sessions verify: {done.stdout}{done.stderr}")


@contextmanager
def _process(settings: Settings) -> Iterator[tuple["subprocess.Popen[bytes]", Any]]:
    command = [sys.executable, str(_TALK), json.dumps(asdict(settings))]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            yield process, errors
        finally:
            process.kill()


def _steps(process: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith(b"\n"):  # the last one may be cut
            yield json.loads(line)


def play(
    folder: Path,
    n_kills: int,
    seed: int,
    model: str,
    *,
    threads: int = 1,
    n_calls: int = 6,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Kills `n_kills` processes; `folder` gets a state folder for every few of them. Points come in turn.

    say: called with a line now and then.
    """
    rng, report = random.Random(seed), Report()
    points: list[str] = []
    for first in range(0, n_kills, _N_LIVES):
        terms = _TERMS[first // _N_LIVES % len(_TERMS)]
        also = {"threads": threads, "resume_s": terms.get("resume_s", 10.0)}
        begun_with = terms | {"session": _NAME, "model": model, "max_tokens": 10}
        session = Session(folder / f"state-{first // _N_LIVES}", rng, begun_with, also, report)
        for i in range(first, min(first + _N_LIVES, n_kills)):
            if not points:
                points = [AT_RANDOM, *(name for name in POINTS if name != AT_ITS_END)]
                rng.shuffle(points)
            session.live(_chosen(points, session), n_calls, other_build=i % 10 == 7)
        session.last_look()
        if say is not None:
            say(f"{report.n_kills} kills, {len(report.faults)} faults")
    return report


def _chosen(points: list[str], session: Session) -> str:
    """The next point that this session can come to."""
    return points.pop(next((i for i, name in enumerate(points) if session.comes_to(name)), 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 no fault; 1 faults; 2 a mistake of the user's; 130 Ctrl-C."""
    args = _parser().parse_args(arguments)
    try:
        if args.out is not None and args.out.exists():
            raise ConfigError(f"{args.out} is there already; give another --out")
        model = str(resolve(args.model).path)
        with tempfile.TemporaryDirectory() as temporary:
            out = args.out or Path(temporary)
            report = play(out, args.kills, args.seed, model, threads=args.threads, say=_say)
    except EdgeSirError as error:
        print(f"power-cut: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    print(report.text())
    return 1 if report.faults else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="scripts/power-cut", description=(__doc__ or "").split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--model", default="smollm2-135m-instruct", metavar="M", help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder that keeps the state folders")
    return parser


if __name__ == "__main__":
    sys.exit(main())
