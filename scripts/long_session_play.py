"""Plays the session of scripts/long-session, one process after the other; each ends by `close` or by SIGKILL."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from long_chat_talk import Said, Scenario, lay_out, read_scenario

from edge_sir.errors import ConfigError, EdgeSirError
from edge_sir.store.layout import Layout

__all__ = ["FILE", "SESSION", "Settings", "conversation", "database_bytes", "play", "read_rows", "state_folder"]

Row = dict[str, Any]

FILE = "rows.jsonl"
SESSION = "ada"

_TOLD_IN = 50  # turns, the first ones, in which the facts are told
_MOST_CHARACTERS = 60  # of a turn of small talk, so that a turn takes about 30 tokens


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is made of. turns: in all processes together. on_disk: cells of archived pieces are.

    talk: file of the scenario; digest: of what of it is used.
    """

    talk: str
    n_facts: int
    model: str
    budget: int
    turns: int
    processes: int
    max_tokens: int
    threads: int
    seed: int
    on_disk: bool
    digest: str = ""

    @classmethod
    def of(cls, scenario: Scenario, **values: Any) -> "Settings":
        """With the digest. Raises ConfigError for fewer turns than processes, or for a conversation that cannot be."""
        settings = cls(**values)
        if not 1 <= settings.processes <= settings.turns:
            raise ConfigError(f"{settings.turns} turns cannot be held by {settings.processes} processes; give fewer")
        if not 1 <= settings.n_facts <= len(scenario.facts):
            raise ConfigError(f"there are {len(scenario.facts)} facts, not {settings.n_facts}; give fewer --facts")
        talk = json.dumps([asdict(said) for said in _said(scenario, settings)])
        return cls(**values | {"digest": hashlib.sha256(talk.encode()).hexdigest()[:16]})

    @property
    def per_process(self) -> int:
        """Turns that each process holds; the last one what is left."""
        return -(-self.turns // self.processes)

    def ends_by_kill(self, process: int) -> bool:
        """Every other process, the first one among them."""
        return process % 2 == 1


def conversation(settings: Settings) -> tuple[Scenario, list[Said]]:
    """The scenario with its first facts, and all that is said, in order. Raises ConfigError."""
    scenario = read_scenario(Path(settings.talk))
    return _short(scenario, settings), _said(scenario, settings)


def _short(scenario: Scenario, settings: Settings) -> Scenario:
    shorter = {
        "facts": scenario.facts[: settings.n_facts],
        "told_share": min(0.5, _TOLD_IN / settings.turns),
        "most_characters": min(_MOST_CHARACTERS, scenario.most_characters),
    }
    return scenario.model_copy(update=shorter)


def _said(scenario: Scenario, settings: Settings) -> list[Said]:
    return lay_out(_short(scenario, settings), settings.turns, settings.seed)


# ---- what is there ---------------------------------------------------------------------------------


def state_folder(folder: Path) -> Path:
    """Where the session is."""
    return folder / "state"


def database_bytes(folder: Path) -> int:
    """Of the database of a state folder and its write-ahead log."""
    layout = Layout(folder)
    return sum(path.stat().st_size for path in (layout.database, layout.wal) if path.is_file())


def read_rows(folder: Path) -> list[Row]:
    """All rows so far; one that a cut run left unfinished at the end is none. Raises ConfigError for another file."""
    file = folder / FILE
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except ValueError:
        raise ConfigError(f"{file} was not written by scripts/long-session; give another --out") from None


# ---- playing ---------------------------------------------------------------------------------------


def play(folder: Path, settings: Settings, *, say: Callable[[str], None] = print) -> None:
    """Plays all that is missing of a run. Raises ConfigError if the folder holds another run, EdgeSirError."""
    file, rows = folder / FILE, read_rows(folder)
    if file.is_file():
        os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    with file.open("a", encoding="utf-8") as out:
        if not rows:
            rows = [{"settings": asdict(settings)}]
            _write(out, rows[0])
        _check(file, rows[0], settings)
        n_turns = max((row["turn"] for row in rows if "turn" in row), default=0)
        while n_turns < settings.turns:
            n_turns = _one_process(folder, settings, out, say)


def _check(file: Path, first: Row, settings: Settings) -> None:
    wanted, before = asdict(settings), first.get("settings", {})
    for key in sorted(wanted.keys() - {"talk"}):  # the digest says what is in it
        if before.get(key) != wanted[key]:
            raise ConfigError(f"{file} has {key} {before.get(key)!r}, not {wanted[key]!r}; give another --out")


def _write(out: IO[str], row: Row) -> None:
    out.write(json.dumps(row, ensure_ascii=False) + "\n")
    out.flush()


def _one_process(folder: Path, settings: Settings, out: IO[str], say: Callable[[str], None]) -> int:
    """Goes on with the session in a process of its own until that has no more turns; how many there are then."""
    with _process(folder, settings) as process:
        row = _next(process, folder)
        number, n_turns = row["process"], row["n_turns"]
        _write(out, row)
        say(f"process {number} goes on from turn {n_turns}{': ' + row['how'] if row['how'] else ''}")
        last = min(number * settings.per_process, settings.turns)
        while n_turns < last:
            row = _next(process, folder)
            _write(out, row)
            n_turns = row["turn"]
        _write(out, {"process": number, **_end(process, folder, kill=settings.ends_by_kill(number))})
    return int(n_turns)


def _next(process: "subprocess.Popen[str]", folder: Path) -> Row:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.endswith("\n"):
        process.wait()
        said = _complaints(folder).read_text(encoding="utf-8").strip().splitlines()
        raise EdgeSirError(f"a process ended with {process.returncode}: {said[-1] if said else 'no message'}")
    return dict(json.loads(line))


def _end(process: "subprocess.Popen[str]", folder: Path, *, kill: bool) -> Row:
    """Ends a process whose last turn was acknowledged; how, and what is on disk then."""
    row: Row = {"end": "kill" if kill else "close", "seconds": 0.0}
    if kill:
        process.kill()
    else:
        assert process.stdin is not None
        process.stdin.close()
        row["seconds"] = _next(process, folder)["close_s"]
    process.wait()
    row["database_bytes"] = database_bytes(state_folder(folder))
    for kind in ("snapshots", "blobs"):
        sizes = [path.stat().st_size for path in (state_folder(folder) / kind).iterdir()]
        row |= {f"{kind}_bytes": sum(sizes), f"{kind}_files": len(sizes)}
    return row


def _complaints(folder: Path) -> Path:
    return folder / "stderr.txt"


@contextmanager
def _process(folder: Path, settings: Settings) -> "Iterator[subprocess.Popen[str]]":
    """A process that goes on with the session; it does not outlive this."""
    program = Path(__file__).with_name("long_session_turns.py")
    arguments = [str(state_folder(folder)), json.dumps(asdict(settings))]
    with _complaints(folder).open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )
    with process:
        try:
            yield process
        finally:
            process.kill()
