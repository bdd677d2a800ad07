"""Plays scripts/long-chat's conversation through the pipe of `edge-sir chat`, one process for each arm and seed."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from long_chat_talk import Said, Scenario, answers, lay_out

from edge_sir.errors import ConfigError, EdgeSirError
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.memory.transcript import Message
from edge_sir.options import ENV_PREFIX
from edge_sir.recall.index import TurnIndex
from edge_sir.runtime import ensure_model

__all__ = ["ARMS", "Arm", "Settings", "equal_cells", "file_of", "play", "read_run"]

Row = dict[str, Any]

_CHARACTERS_PER_TOKEN = 4  # of English, about; a client of a pipe has no tokenizer
_SHARE = 4  # a quarter of the cells, as recall takes


@dataclass(frozen=True, slots=True)
class Arm:
    """policy, recall: as `edge-sir chat` takes them.

    pastes: the client itself finds what matches each message and puts its text before it. equal: in as many cells as
    the bytes of `sir-cells` at its end make, the archive included, up to the trained length.
    """

    policy: str
    recall: str = "off"
    pastes: bool = False
    equal: bool = False


ARMS = {
    "sir": Arm("sir"),
    "sir-text": Arm("sir", "text"),
    "sir-cells": Arm("sir", "cells"),
    "streaming": Arm("streaming"),
    "retrieval": Arm("streaming", pastes=True),
    "keep-all": Arm("keep-all"),
    "streaming-equal": Arm("streaming", equal=True),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What all arms have in common. turns: of the whole conversation. scenario: a digest of it."""

    model: str
    budget: int
    turns: int
    max_tokens: int
    threads: int
    scenario: str

    @classmethod
    def of(cls, scenario: Scenario, model: str, budget: int, turns: int, max_tokens: int, threads: int) -> "Settings":
        """With the scenario's digest."""
        digest = hashlib.sha256(scenario.model_dump_json().encode()).hexdigest()[:16]
        return cls(model, budget, turns, max_tokens, threads, digest)


# ---- the rows of a run -----------------------------------------------------------------------------


def file_of(folder: Path, name: str, seed: int) -> Path:
    """Where the rows of one run are: the settings, one row for each turn, the run's figures."""
    return folder / f"{name}-{seed}.jsonl"


def read_run(file: Path) -> list[Row] | None:
    """The rows of a run that was played to its end, else None."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return None
    except ValueError:  # killed while it wrote
        return None
    return rows if rows and "figures" in rows[-1] else None


def _settings_of(file: Path) -> Row | None:
    """The settings with which it was played or begun."""
    if not file.is_file():
        return None
    with file.open(encoding="utf-8") as lines:
        first = lines.readline()
    return dict(json.loads(first)["settings"]) if first.endswith("\n") else None


def equal_cells(folder: Path, seed: int) -> int:
    """How many cells the bytes of `sir-cells` make: its budget, and its archive at the end of the conversation.

    Raises ConfigError if that was not played yet.
    """
    rows = read_run(file_of(folder, "sir-cells", seed))
    if rows is None:
        raise ConfigError(f"play sir-cells with seed {seed} first: its bytes say how many cells this arm has")
    figures = rows[-1]["figures"]
    return int(figures["budget"] + figures["archive_bytes"] / (figures["kv_bytes"] / figures["n_ctx"]))


def _trained_length(model: str) -> int:
    return check_model_file(ensure_model(model, quiet=True).path).n_ctx_train


# ---- playing ---------------------------------------------------------------------------------------


def play(folder: Path, name: str, seed: int, scenario: Scenario, settings: Settings) -> bool:
    """Plays one arm with one seed, unless that was done; whether it had to.

    Raises ConfigError if the file holds a run with other settings, EdgeSirError if the chat ends early.
    """
    arm, file = ARMS[name], file_of(folder, name, seed)
    wanted = asdict(settings) | {"arm": name, "seed": seed}
    if (before := _settings_of(file)) is not None and before != wanted:
        differs = next(key for key in wanted if before.get(key) != wanted[key])
        raise ConfigError(f"{file} has {differs} {before.get(differs)!r}, not {wanted[differs]!r}; give another --out")
    if read_run(file) is not None:
        return False
    n_cells = min(equal_cells(folder, seed), _trained_length(settings.model)) if arm.equal else settings.budget
    turns = lay_out(scenario, settings.turns, seed)
    with file.open("w", encoding="utf-8") as out, _chat(folder, arm, scenario, settings, n_cells) as chat:
        for row in _rows(chat, arm, turns, scenario, settings, wanted):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
    return True


def _rows(
    chat: "_Piped", arm: Arm, turns: Sequence[Said], scenario: Scenario, settings: Settings, wanted: Row
) -> Iterator[Row]:
    yield {"settings": wanted}
    yield from _turns(chat, arm, turns, scenario, settings)
    yield {"figures": chat.figures()}


def _turns(chat: "_Piped", arm: Arm, turns: Sequence[Said], scenario: Scenario, settings: Settings) -> Iterator[Row]:
    client = _Client(settings.budget // _SHARE * _CHARACTERS_PER_TOKEN) if arm.pastes else None
    loaded = chat.figures()  # waits for the model
    before: Row = {name: loaded[name] for name in ("tokens_in", "tokens_out")}
    for said in turns:
        pasted, text = client.with_found(said.text) if client else ([], said.text)
        seconds, record = chat.say(text)
        if client:
            client.learn(record["turn"], said.text, record["text"])
        now = chat.figures()
        row: Row = {"turn": record["turn"], "kind": said.kind, "fact": said.fact, "said": said.text}
        row |= {"reply": record["text"], "seconds": round(seconds, 4), "finish": record["finish"]}
        row |= {name: now[name] - before[name] for name in before}
        row |= {"resident": record["resident"], "archive_bytes": now["archive_bytes"]}
        row["recalled"] = pasted if client else record.get("recalled", [])
        if said.kind == "question":
            row["right"] = answers(scenario.facts[said.fact], record["text"])
        before = {name: now[name] for name in before}
        yield row


class _Client:
    """Plain retrieval, as a client of any chat can do it: the text of earlier turns stands before the message."""

    def __init__(self, n_characters: int) -> None:
        self._index, self._said, self._left = TurnIndex(), list[Message](), n_characters

    def with_found(self, text: str) -> tuple[list[Row], str]:
        """What is pasted, as `--json` lists what is recalled, and the message with it."""
        self._index.sync(self._said)
        told = {message.turn: message.text for message in self._said if message.role == "user"}
        found, left = [], self._left
        for match in self._index.search(text):
            if len(told[match.turn]) <= left:
                found.append({"turn": match.turn, "text": told[match.turn]})
                left -= len(told[match.turn])
        if not found:
            return [], text
        in_order = sorted(found, key=lambda one: one["turn"])
        return found, f"(You were told: {' '.join(one['text'] for one in in_order)}) {text}"

    def learn(self, turn: int, said: str, reply: str) -> None:
        """What was said in a turn, without what was pasted."""
        self._said += [Message(turn, "user", said), Message(turn, "assistant", reply)]


class _Piped:
    """A running `edge-sir chat --json --commands`."""

    def __init__(self, process: "subprocess.Popen[str]", complaints: Path, threads: int) -> None:
        self._process, self._complaints, self._threads = process, complaints, threads
        self._times, self._had = psutil.Process(process.pid).cpu_times, 0.0

    def say(self, text: str) -> tuple[float, Row]:
        """Seconds until the reply was there, and what was printed of it."""
        started = self._clock()
        record = self._ask(f"/{text}" if text.startswith("/") else text)
        return self._clock() - started, record

    def _clock(self) -> float:
        """With one thread the time that the process had on a core, which others disturb little; else the wall's."""
        if self._threads != 1:
            return time.perf_counter()
        with contextlib.suppress(psutil.NoSuchProcess):
            times = self._times()
            self._had = float(times.user + times.system)
        return self._had

    def figures(self) -> Row:
        """What /stats prints."""
        return self._ask("/stats")

    def _ask(self, line: str) -> Row:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what is read next says why
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            said = self._complaints.read_text(encoding="utf-8").strip().splitlines()
            raise EdgeSirError(f"the chat ended with {self._process.returncode}: {said[-1] if said else 'no message'}")
        return dict(json.loads(answer))


@contextmanager
def _chat(folder: Path, arm: Arm, scenario: Scenario, settings: Settings, n_cells: int) -> Iterator[_Piped]:
    """The process of one run. The user's settings are left out: all arms see the same."""
    command = [sys.executable, "-m", "edge_sir", "chat", "--json", "--commands", "--quiet", "--temperature", "0"]
    command += ["--model", settings.model, "--policy", arm.policy, "--recall", arm.recall, "--budget", str(n_cells)]
    command += ["--max-tokens", str(settings.max_tokens), "--threads", str(settings.threads)]
    command += ["--system", scenario.system] if scenario.system else []
    kept = (f"{ENV_PREFIX}MODELS_DIR",)
    env = {name: value for name, value in os.environ.items() if name in kept or not name.startswith(ENV_PREFIX)}
    complaints = folder / f".{os.getpid()}.stderr"
    with complaints.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env=env | {f"{ENV_PREFIX}CONFIG": os.devnull, "PYTHONIOENCODING": "utf-8"},
        )
    try:
        with process:  # closes its input at the end, and waits
            try:
                yield _Piped(process, complaints, settings.threads)
            except BaseException:
                process.terminate()
                raise
    finally:
        complaints.unlink()
