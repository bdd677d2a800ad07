"""A batch is killed at random (SIGKILL) and gone on with: is each dialogue there once, as in an uninterrupted run?

    scripts/batch-kill --model smollm2-135m-instruct --dialogues 200 --kills 3
    scripts/batch-kill --actors 2 --kills 1      # the same on a Ray of this machine: actors are killed, not the command

`edge-sir batch` runs in processes of its own. Each but the last one is killed after a random number of results and a
random time more. What is compared are the replies and what was evicted, dialogue by dialogue.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from batch_equal import requests

__all__ = ["Report", "main", "play", "write_lines"]

_LATER_S = 0.5  # at most, from the result on that a kill waits for


@dataclass(slots=True)
class Report:
    """n: dialogues. kills: results in the output at each; n_torn: how often its last line was torn. counts: results by
    custom_id in the end. n_equal: dialogues that are the same in both runs; apart: those that are not. fed, evicted:
    tokens of the uninterrupted run, in all; budget: cells of a dialogue.
    """

    n: int
    kills: list[int] = field(default_factory=list)
    n_torn: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    n_equal: int = 0
    apart: list[str] = field(default_factory=list)
    evicted: int = 0
    fed: int = 0
    budget: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether each dialogue has one result."""
        return len(self.counts) == self.n and set(self.counts.values()) == {1}

    def text(self) -> str:
        """A few lines."""
        doubled, kills = sum(n > 1 for n in self.counts.values()), ", ".join(map(str, self.kills))
        lines = [
            f"{self.n} dialogues; tokens of each {self.fed / self.n / self.budget:.1f} times its budget; "
            f"{self.evicted} evicted in all",
            f"killed {len(self.kills)} times, after {kills} results; torn lines {self.n_torn}",
            f"results: {len(self.counts)}; missing {self.n - len(self.counts)}, doubled {doubled}",
            f"equal to the uninterrupted run: {self.n_equal} of {self.n} ({self.n_equal / self.n:.1%})",
        ]
        return "\n".join(lines + [f"  not: {', '.join(self.apart)}"] * bool(self.apart))


def write_lines(path: Path, n: int, n_turns: int, n_words: int) -> Path:
    """A file of `n` generated dialogues of `n_turns` turns each."""
    asked = requests(n, n_turns, n_words=n_words)
    lines = ({"custom_id": one.custom_id, "body": {"dialogue": one.said}} for one in asked)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def play(folder: Path, source: Path, options: Sequence[str], n_kills: int, seed: int, *, n_actors: int = 0) -> Report:
    """Runs `edge-sir batch` on `source` to its end and with kills, in `folder`. n_actors: 0 for a run without Ray; else
    an actor of a Ray is killed each time, and the command goes on. Raises RuntimeError where it fails.
    """
    n = source.read_bytes().count(b"\n")
    report, chance = Report(n), random.Random(seed)
    _run(source, folder / "whole.jsonl", options)
    target = folder / "killed.jsonl"
    ray = ["--ray", "local", "--actors", str(n_actors)] if n_actors else []
    if n_actors:
        with _started(source, target, [*options, *ray]) as job:
            for _ in range(n_kills):
                _wait(job, target, _later(report, chance), chance)
                chance.choice(_actors(job.pid)).kill()
                _note(report, target)
            _end(job)
    else:
        for _ in range(n_kills):
            with _started(source, target, options) as job:
                _wait(job, target, _later(report, chance), chance)
                job.kill()
            _note(report, target)
        _run(source, target, options)
    _compare(report, _read(folder / "whole.jsonl"), _read(target))
    return report


def _later(report: Report, chance: random.Random) -> int:
    """The results that there are when it is killed next: a random number more."""
    return sum(report.kills[-1:]) + chance.randint(1, max(1, report.n // 4))


def _note(report: Report, target: Path) -> None:
    written = target.read_bytes()
    report.kills.append(written.count(b"\n"))
    report.n_torn += bool(written) and not written.endswith(b"\n")


def _started(source: Path, target: Path, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "edge_sir", "batch", str(source), "-o", str(target), "--quiet", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def _run(source: Path, target: Path, options: Sequence[str]) -> None:
    with _started(source, target, options) as job:
        _end(job)


def _end(job: "subprocess.Popen[bytes]") -> None:
    """Waits for it."""
    _, said = job.communicate()
    if job.returncode:
        raise RuntimeError(f"edge-sir batch ended with {job.returncode}: {said.decode()}")


def _wait(job: "subprocess.Popen[bytes]", target: Path, n_lines: int, chance: random.Random) -> None:
    """Until some time after the output has so many lines."""
    while not (target.exists() and target.read_bytes().count(b"\n") >= n_lines):
        if job.poll() is not None:
            raise RuntimeError(f"edge-sir batch ended with {job.returncode} before it was killed")
        time.sleep(0.02)
    time.sleep(chance.uniform(0, _LATER_S))


def _actors(pid: int) -> list[psutil.Process]:
    """The processes of a Ray that hold dialogues."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::MapWorker"):
                found.append(process)
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _compare(report: Report, whole: list[dict[str, Any]], killed: list[dict[str, Any]]) -> None:
    expected = {one["custom_id"]: one["response"]["body"] for one in whole}
    report.counts.update(one["custom_id"] for one in killed)
    for body in expected.values():
        facts = body["edge_sir"]
        report.evicted, report.budget = report.evicted + facts["evicted"], facts["budget"]
        report.fed += facts["read"] + facts["shared"] + facts["written"]
    for one in killed:
        mine, other = (_said(body) for body in (one["response"]["body"], expected[one["custom_id"]]))
        if mine == other:
            report.n_equal += 1
        else:
            report.apart.append(one["custom_id"])


def _said(body: dict[str, Any]) -> list[tuple[str, int]]:
    return [(reply["message"]["content"], reply["evicted"]) for reply in body["replies"]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found; returns 0 if each dialogue is there once."""
    parser = argparse.ArgumentParser(prog="scripts/batch-kill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dialogues", type=int, default=200)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--words", type=int, default=10, help="more in each message")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--actors", type=int, default=0, help="of a Ray, one of which is killed each time")
    parser.add_argument("--parallel", default="16")
    parser.add_argument("--budget", type=int, default=96)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    names = ("model", "parallel", "budget", "max_tokens", "threads", "seed")
    options = [text for name in names for text in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]
    with tempfile.TemporaryDirectory() as folder:
        source = write_lines(Path(folder) / "in.jsonl", args.dialogues, args.turns, args.words)
        report = play(Path(folder), source, options, args.kills, args.seed, n_actors=args.actors)
    of_ray = f"{args.actors} actors, " if args.actors else ""
    print(f"{args.model}, {of_ray}{args.parallel} at once, budget {args.budget}, {args.turns} turns")
    print(report.text())
    return 0 if report.is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
