"""Power cuts: a real process that talks in a session is killed at random moments, and the next one must find all of it.

Each life of the process (power_cut_talk.py) is killed by its parent after a random time, or kills itself at a random
point: before or after an SQL statement (of a turn, a forget, a migration), a step of a snapshot's or a blob's file, a
decode, a save of the archive, a step of going on, or between a call's return and its acknowledgement. The next life
says what it found, which is held against what was acknowledged. SIGKILL leaves the page cache as it is, so this proves
nothing about fsync: tests/store/test_power.py does.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from one_line_parser import OneLineParser
from power_cut_talk import KINDS

from edge_sir import EdgeSirError, UserError
from edge_sir.store.folder import StateFolder

_TALK = Path(__file__).with_name("power_cut_talk.py")
_MOST = {"statement": 400, "file": 24, "decode": 120, "archive": 12, "resume": 4, "acknowledge": 6, "time": 1}
_N_LIVES = 12  # of one state folder
_LIMIT_S = 120.0

Said = list[list[Any]]


@dataclass
class Life:
    """What a process said before it died. opened: None if it was killed before that."""

    opened: dict[str, Any] | None = None
    acknowledged: Said | None = None
    doing: dict[str, Any] | None = None
    reading: str | None = None
    stderr: str = ""
    open_s: float = 0.0


@dataclass
class Report:
    """kinds: kills by kind. ways: how sessions were gone on with. faults: what must not be, in words."""

    kinds: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    n_acknowledged: int = 0
    slowest_s: float = 0.0

    def text(self) -> str:
        lines = [
            f"{sum(self.kinds.values())} kills: " + ", ".join(f"{n} {kind}" for kind, n in sorted(self.kinds.items()))
        ]
        lines.append("gone on with: " + ", ".join(f"{n} {way}" for way, n in sorted(self.ways.items())))
        lines.append(
            f"{self.n_acknowledged} messages acknowledged; slowest opening {self.slowest_s:.1f} s, the model's included"
        )
        return "\n".join([*lines, *(self.faults or ["no fault"])])


def play(folder: Path, n_kills: int, seed: int, options: dict[str, Any], *, n_calls: int = 8) -> Report:
    """Kills `n_kills` processes; folder: gets a state folder for every dozen of them."""
    rng, report = random.Random(seed), Report()
    state, expected, before = folder, None, Life()
    for i in range(n_kills + 1):
        if i % _N_LIVES == 0 or i == n_kills:
            if i:
                _look(state, expected, before, options, report)
            if i == n_kills:
                break
            state, expected, before = folder / f"state-{i}", [], Life()
            terms = {"archive_on_disk": rng.random() < 0.5, "resume_s": rng.choice((0.5, 3.0, 10.0))}
        kind = rng.choice(KINDS)
        life = _live(state, rng, kind, options | terms, n_calls)
        report.kinds[kind] += 1
        before = _judge(f"kill {i} ({kind})", life, before, report)
    return report


def _live(state: Path, rng: random.Random, kind: str, options: dict[str, Any], n_calls: int) -> Life:
    number = rng.randint(1, _MOST[kind])
    command = [sys.executable, str(_TALK), str(state), str(rng.randrange(2**31)), kind, str(number), str(n_calls)]
    after_s = rng.uniform(0.2, 4.0) if kind == "time" else _LIMIT_S
    life, started = Life(), time.monotonic()
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen([*command, json.dumps(options)], stdout=subprocess.PIPE, stderr=errors) as process:
            timer = threading.Timer(after_s, process.kill)
            timer.start()
            try:
                for step in _steps(process):
                    _note(life, step, time.monotonic() - started)
            finally:
                timer.cancel()
                process.kill()
        errors.seek(0)
        life.stderr = errors.read().decode(errors="replace") if process.returncode != -9 else ""
    return life


def _steps(process: "subprocess.Popen[bytes]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith(b"\n"):  # the last one may be cut
            yield json.loads(line)


def _note(life: Life, step: dict[str, Any], seconds: float) -> None:
    if "opened" in step:
        life.opened, life.open_s = step["opened"], seconds
        life.acknowledged = step["opened"]["said"]
    elif "doing" in step:
        life.doing, life.reading = step, None
    elif "reading" in step:
        life.reading = step["reading"]
    elif "done" in step:
        life.acknowledged, life.doing, life.reading = step["said"], None, None


def _judge(name: str, life: Life, before: Life, report: Report) -> Life:
    """What the next life is to be held against."""
    if life.stderr:
        report.faults.append(f"{name}: the process died by itself: {life.stderr.strip().splitlines()[-1]}")
    if life.opened is None:
        return before
    report.slowest_s = max(report.slowest_s, life.open_s)
    report.ways[life.opened["how"] or "begun"] += 1
    if not life.opened["agrees"]:
        report.faults.append(f"{name}: cells and ledger do not agree")
    if before.acknowledged is not None:
        report.faults += [f"{name}: {fault}" for fault in _missing(life.opened, before)]
    report.n_acknowledged += len(life.acknowledged or ()) - len(life.opened["said"])
    return life


def _missing(opened: dict[str, Any], before: Life) -> list[str]:
    """What of the life before is not there, or should not be. A call that was cut has happened whole, or not at all."""
    there, acknowledged, doing = opened["said"], before.acknowledged or [], before.doing or {}
    what, argument = doing.get("doing"), doing.get("argument", "")
    if there == acknowledged:
        if what in ("say", "ask") and before.reading == argument and argument not in opened["unsent"]:
            return [f"what was said and not answered is not there: {argument!r}"]
        return []
    last = _turn_before(acknowledged)
    is_whole = {
        "say": there[: len(acknowledged)] == acknowledged and _answers(there[len(acknowledged) :], argument, before),
        "undo": there == last,
        "regen": there[: len(last)] == last and there[len(last) :][:1] == acknowledged[len(last) :][:1],
        "forget": argument not in json.dumps(there),
        "clear": there == acknowledged[: len(there)] and len(there) <= 1,
    }
    if is_whole.get("say" if what == "ask" else what or "", False):
        return []
    return [f"acknowledged: {acknowledged[-2:]}; while {what} {argument!r} it was cut; there is: {there[-2:]}"]


def _answers(turn: Said, said: str, before: Life) -> bool:
    """Whether a turn is of this message, with what got no reply in an earlier life before it."""
    texts = [text for _, role, text in turn if role == "user"]
    unsent = [] if before.opened is None else before.opened["unsent"]
    return texts[-1:] == [said] and all(text in unsent for text in texts[:-1])


def _turn_before(said: Said) -> Said:
    """Without the last turn."""
    last = max((turn for turn, _, _ in said), default=0)
    return [message for message in said if message[0] < last]


def _look(state: Path, expected: Any, before: Life, options: dict[str, Any], report: Report) -> None:
    """After the last kill of a folder: it opens, all is there, a reply comes, nothing is damaged."""
    life = _live(state, random.Random(1), "acknowledge", options, 1)
    _judge(f"the last look at {state.name}", life, before, report)
    if life.opened is None or (life.doing is not None and life.acknowledged is None):
        report.faults.append(f"{state.name} does not open: {life.stderr[-300:]}")
    with StateFolder(state) as folder:
        report.faults += [f"{state.name}: {problem.where}: {problem.what}" for problem in folder.verify()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 no fault; 1 faults; 2 a mistake of the user's; 130 Ctrl-C."""
    parser = OneLineParser(prog="scripts/power-cut", description=(__doc__ or "").split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--model", default="smollm2-135m-instruct", metavar="M", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="keep the state folders here")
    args = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            report = play(args.out or Path(temporary), args.kills, args.seed, options_of(args))
    except EdgeSirError as error:
        print(f"power-cut: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    print(report.text())
    return 1 if report.faults else 0


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Few cells and short replies, so that much is evicted and recalled."""
    return {"model": args.model, "budget": 192, "max_tokens": 10, "threads": 1}


if __name__ == "__main__":
    sys.exit(main())
