"""Load: many clients at once on one server, which may be killed meanwhile; nothing acknowledged may be lost or crossed.

    scripts/server-load                                     32 clients, 8 live sessions, 200 turns each, the toy engine
    scripts/server-load --kills 50 --clients 8              killed 50 times meanwhile
    scripts/server-load --model smollm2-135m-instruct --kills 10 --clients 3 --turns 12

A client sends everything again with every request, and tries again what was not answered. In the end each session is
held against what its client has.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from one_line_parser import OneLineParser
from server_talk import Faults, Talker, command_for, start

__all__ = ["Load", "main", "play"]


@dataclass(frozen=True, slots=True)
class Load:
    """kills: SIGKILLs while clients talk; each after some of the turns, at a random time."""

    model: str = "toy"
    clients: int = 32
    turns: int = 200
    sessions: int = 8
    budget: int = 256
    kills: int = 0
    seed: int = 0


@dataclass
class _Server:
    """A process that is killed and started again. address: of the one that lives."""

    command: Sequence[str]
    n_killed: int = 0
    slowest_start_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._process, self.address = start(self.command)

    def kill(self) -> None:
        """Ends it as a power cut does, and starts another."""
        self._process.kill()
        self._process.wait()
        began = time.monotonic()
        self._process, self.address = start(self.command)
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - began)
        self.n_killed += 1

    def end(self) -> None:
        """As Ctrl-C does."""
        self._process.terminate()
        self._process.wait(120)


def play(load: Load, folder: Path) -> tuple[Faults, _Server]:
    """Lets all clients talk to their ends, kills the server meanwhile, and checks what it holds."""
    faults = Faults()
    server = _Server(command_for(load.model, folder, load.sessions, load.budget))
    talkers = [Talker(number, lambda: server.address, faults) for number in range(load.clients)]
    is_done = threading.Event()
    killer = threading.Thread(target=_kill, args=(server, load, faults, is_done))
    killer.start()
    try:
        with ThreadPoolExecutor(load.clients) as pool:
            list(pool.map(lambda talker: talker.talk(load.turns), talkers))
    finally:
        is_done.set()
        killer.join()
    for talker in talkers:
        talker.check()
    server.end()
    return faults, server


def _kill(server: _Server, load: Load, faults: Faults, is_done: threading.Event) -> None:
    """At random times, spread over all turns: what waits is never the same."""
    chance = random.Random(load.seed)
    n_all = load.clients * load.turns
    for i in range(load.kills):
        due = round(n_all * (i + chance.random()) / load.kills)
        while faults.n_turns < due and not is_done.is_set():
            time.sleep(0.002)
        if is_done.is_set():
            return
        time.sleep(chance.random() * 0.05)
        server.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found; returns the exit code, 1 for faults."""
    parser = OneLineParser(
        prog="scripts/server-load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Load()
    parser.add_argument("--model", default=usual.model, help="toy, or a model of the manifest")
    for name in ("clients", "turns", "sessions", "budget", "kills", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name), metavar="N")
    load = Load(**vars(parser.parse_args(arguments)))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        faults, server = play(load, Path(folder))
    took = time.monotonic() - began
    print(f"{load.clients} clients, {load.sessions} live sessions, {faults.n_turns} turns of {load.turns} each, "
          f"{server.n_killed} kills, {took:.0f} s")  # fmt: skip
    print("found: " + ", ".join(f"{n} {match}" for match, n in sorted(faults.matches.items())))
    if load.kills:
        print(f"slowest start {server.slowest_start_s:.1f} s")
    print("\n".join(faults.all[:20]) if faults.all else "no error, nothing lost, nothing crossed")
    return 1 if faults.all else 0


if __name__ == "__main__":
    sys.exit(main())
