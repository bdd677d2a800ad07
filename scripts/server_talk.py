"""Clients of a server that send everything again with every request, and know what was acknowledged."""

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

__all__ = ["Faults", "Talker", "command_for", "start"]

_SCRIPTS = Path(__file__).parent
_WORDS = "river stone lamp garden winter letter bridge sailor morning copper window forest bread candle doctor".split()
_GOES_ON = ("exact", "anchor", "retry", "fork", "rebuilt")
_LIMIT_S = 300.0  # for an answer, with all starts of a server in it


@dataclass
class Faults:
    """What must not be, in words. matches: how requests were found."""

    errors: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    matches: dict[str, int] = field(default_factory=dict)
    n_turns: int = 0
    n_read_again: int = 0

    @property
    def all(self) -> list[str]:
        return [*self.errors, *self.lost, *self.crossed]


def command_for(model: str, state: Path, sessions: int, budget: int) -> list[str]:
    """How a server is started; "toy" is the toy engine."""
    common = ["--state-dir", str(state), "--sessions", str(sessions), "--budget", str(budget), "--port", "0"]
    if model == "toy":
        return [sys.executable, str(_SCRIPTS / "server_toy.py"), *common]
    return [sys.executable, "-m", "edge_sir", "serve", "--model", model, *common]


def start(command: Sequence[str]) -> "tuple[subprocess.Popen[bytes], str]":
    """A server's process, and its address. Raises RuntimeError if it does not start."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if found := re.search(rb"http://\S+", line):
            threading.Thread(target=_read_out, args=(process.stderr,), daemon=True).start()
            return process, found[0].decode().removesuffix("/v1")
    raise RuntimeError(said.decode(errors="replace"))


def _read_out(stream: IO[bytes]) -> None:
    """A full pipe would stop the process."""
    with stream:
        stream.read()


class Talker:
    """One client with one conversation, whose messages name it. where: gives the server's address, which may change."""

    def __init__(self, number: int, where: Callable[[], str], faults: Faults, max_tokens: int = 12) -> None:
        self.number, self._where, self._faults = number, where, faults
        self._random = random.Random(number)
        self._max_tokens = max_tokens
        self.history: list[dict[str, str]] = []
        self.session = ""
        self._http = httpx.Client(timeout=120)

    def talk(self, n_turns: int) -> None:
        """So many more turns, each sent until it is acknowledged."""
        for _ in range(n_turns):
            self._turn()
        self._http.close()

    def _turn(self) -> None:
        words = " ".join(self._random.choices(_WORDS, k=4))
        asked = {"role": "user", "content": f"client {self.number}, turn {len(self.history) // 2}: {words}"}
        body = {"messages": [*self.history, asked], "max_tokens": self._max_tokens, "temperature": 1.0}
        answer = self._answer(body)
        if answer is None:
            return
        document, faults = answer.json(), self._faults
        match, session = answer.headers["x-edge-sir-match"], answer.headers["x-edge-sir-session"]
        faults.matches[match] = faults.matches.get(match, 0) + 1
        faults.n_turns += 1
        if self.history and match not in _GOES_ON:
            faults.lost.append(f"client {self.number}, turn {len(self.history) // 2}: found as {match}")
        if self.history and match == "exact" and session != self.session:
            faults.crossed.append(f"client {self.number}: goes on in {session}, not in {self.session}")
        self.session = session
        self.history += [asked, {"role": "assistant", "content": document["choices"][0]["message"]["content"]}]

    def _answer(self, body: dict[str, Any]) -> httpx.Response | None:
        said = "no answer"
        limit = time.monotonic() + _LIMIT_S
        while time.monotonic() < limit:
            try:
                answer = self._http.post(f"{self._where()}/v1/chat/completions", json=body)
            except httpx.TransportError:  # it was killed: a client tries again
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                return answer
            said = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code not in (429, 503):
                break
            time.sleep(0.05)
        self._faults.errors.append(f"client {self.number}: {said}")
        return None

    def check(self) -> None:
        """Whether the server's session holds what was acknowledged, and nothing else."""
        if not self.session:
            return
        answer = httpx.get(f"{self._where()}/sessions/{self.session}/export", params={"format": "jsonl"}, timeout=120)
        rows = [json.loads(line) for line in answer.text.splitlines()]
        held = [(row["role"], row["content"]) for row in rows if row.get("role") in ("user", "assistant")]
        mine = [(message["role"], message["content"]) for message in self.history]
        if held != mine:
            at = next(
                (i for i, (a, b) in enumerate(zip(held, mine, strict=False)) if a != b), min(len(held), len(mine))
            )
            what = self._faults.crossed if len(held) >= len(mine) else self._faults.lost
            what.append(
                f"client {self.number}: {self.session} has {len(held)} messages, not {len(mine)}; differs at {at}"
            )
