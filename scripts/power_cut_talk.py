"""One process that talks in a session until it is killed: by its parent, or by itself at a point that it was given.

    power_cut_talk.py SETTINGS-AS-JSON

A JSON line for each step goes to standard output, with no buffer: `opened` (what this process found), `doing` (a call
begins), `reading` (its message is read: it must be on disk by now), `done` (it came back, and what is so now),
`refused`, `warned`, `reached` (it dies).
"""

import hashlib
import json
import logging
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from power_cut_points import AT_RANDOM, COMMANDS, POINTS, RESUMING, Cut, die, tell

import edge_sir
from edge_sir.chat import Chat, resuming
from edge_sir.chat.saving import Saver
from edge_sir.errors import StateError, UserError
from edge_sir.llama.state import CellState
from edge_sir.store import database, migrations

__all__ = ["Settings", "secrets_in"]

_NAMES = ("Ada", "Grace", "Emmy", "Lise", "Marie", "Rosalind")
_PLACES = ("Oslo", "Turin", "Lagos", "Quito", "Hanoi", "Perth")
_LETTERS = "qxzjvk"  # no other word has three of them in a row
_SECRET = 8  # letters


@dataclass
class Settings:
    """What a process is to do. terms: options of the chat, but for a session that is there.

    point, number, delay_s: where it dies, see `Cut`. n_before: calls before that counts. n_calls: after those, before
    it dies anyway. n_migrations: that the database has beside its own. other_build: the snapshots are of another
    llama.cpp. also: options of the process.
    """

    folder: str
    terms: dict[str, Any]
    seed: int = 0
    point: str = AT_RANDOM
    number: int = 1
    delay_s: float = 0.0
    n_calls: int = 8
    n_migrations: int = 0
    other_build: bool = False
    n_before: int = 0
    also: dict[str, Any] = field(default_factory=dict)


class Warnings(logging.Handler):
    """Whatever a person would be warned of is a step, too."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("edge_sir.llama"):  # a model file that is tried for the first time
            tell(warned=record.getMessage())


# ---- what is so ----------------------------------------------------------------------------------


def view(chat: Chat) -> dict[str, Any]:
    """What the next process must find. rows, positions: digests of the ledger."""
    saver, session = chat._saver, chat.session
    assert saver is not None
    columns = session.ledger.columns()
    positions = columns.pop("pos").tobytes()
    rows = b"".join(name.encode() + columns[name].tobytes() for name in sorted(columns))
    return {
        "said": [[m.turn, m.role, m.text] for m in chat.transcript],
        "unsent": list(chat._unsent),
        "record": saver.store.info.record,
        "rows": hashlib.sha256(rows).hexdigest(),
        "positions": hashlib.sha256(positions).hexdigest(),
        "budget": session.budget.n_cells,
        "problem": saver.problem,
    }


def found(chat: Chat, open_s: float, resume_s: float) -> dict[str, Any]:
    """What this process found, and what is wrong with it. texts: of all messages that were ever said."""
    resumed, saver = chat.resumed, chat._saver
    assert saver is not None
    return view(chat) | {
        "how": None if resumed is None else resumed.how,
        "n_left_out": 0 if resumed is None else resumed.n_left_out,
        "told_unsent": [] if resumed is None else list(resumed.unsent),
        "wrong": wrong_with(chat),
        "problems": [f"{problem.where}: {problem.what}" for problem in saver._folder.verify()],
        "texts": [row.message.text for row in saver.store.messages()],
        "open_s": open_s,
        "resume_s": resume_s,
    }


def wrong_with(chat: Chat) -> str:
    """Where ledger and cache do not agree, position by position; "" for nowhere."""
    session, engine = chat.session, chat.engine
    session._check_agreement()
    positions, cells = session.ledger["pos"], CellState(bytes(engine._get_state(0))).pos  # type: ignore[attr-defined]
    if sorted(cells.tolist()) != positions.tolist():
        return f"the cache has {len(cells)} cells, the ledger {len(positions)}, or they are at other positions"
    if engine.pos_range(0) != ((int(positions[0]), int(positions[-1])) if len(positions) else (-1, -1)):
        return f"the cache has positions {engine.pos_range(0)}"
    if len(positions) > session.budget.n_cells:
        return f"{len(positions)} cells of {session.budget.n_cells} are taken"
    return ""


# ---- what is done --------------------------------------------------------------------------------


class Talk:
    """Calls on a chat, at random. target: a call that its point needs."""

    def __init__(self, chat: Chat, cut: Cut, settings: Settings) -> None:
        self._chat, self._cut = chat, cut
        self._rng = random.Random(settings.seed)
        self._targets = POINTS[settings.point].calls
        self._n_before, self._n_calls = settings.n_before, settings.n_calls

    def run(self) -> None:
        """All of them; whatever a person is refused is no fault."""
        for i in range(self._n_before + self._n_calls):
            self._cut.is_armed = i >= self._n_before
            self._call(*self._next(i))

    def _call(self, name: str, argument: str) -> None:
        tell(doing=name, argument=argument)
        self._cut.call = name
        try:
            self._do(name, argument)
        except UserError as error:  # nothing to undo, a pin that leaves no room
            tell(refused=str(error))
        self._cut.event("returned")
        self._cut.call = ""
        tell(done=name, **view(self._chat))

    def close(self) -> None:
        """Its last call."""
        tell(doing="close", argument="")
        self._cut.call, last = "close", view(self._chat)
        self._chat.close()
        tell(done="close", **last)

    def _next(self, i: int) -> tuple[str, str]:
        rng = self._rng
        if i == 0:  # whatever was cut, a reply must come soon
            name = rng.choice(("say", "regen", "forget", *COMMANDS)) if self._chat.awaits else "say"
        elif self._targets and self._cut.is_armed and rng.random() < 0.6:
            name = rng.choice(self._targets)
        else:
            names = ("say", "ask", "stop", "snapshot", "forget", *COMMANDS)
            name = rng.choices(names, (50, 14, 6, 4, 5, 5, 5, 4, 1, 4, 3, 2, 1))[0]
        return self._with_argument(name)

    def _with_argument(self, name: str) -> tuple[str, str]:
        rng, said = self._rng, [m for m in self._chat.transcript if m.role == "user"]
        if name == "ask" and said[:-3]:
            return name, f"What do you know? {rng.choice(said[:-3]).text}"
        if name == "forget" and said:
            texts = self._chat._unsent or [m.text for m in said]
            secrets = [secret for text in texts for secret in secrets_in(text)]
            return name, rng.choice(secrets) if secrets and rng.random() < 0.8 else str(rng.choice(said).turn)
        if name in ("pin", "recall") and said:
            return name, str(rng.choice(said[-4:] if name == "pin" else said).turn)
        if name == "budget":
            return name, str(rng.choice((192, 224, 256)))
        if name == "system":
            return name, f"Answer in {rng.randrange(2, 99)} words."
        if name in ("snapshot", "undo", "regen", "unpin", "clear"):
            return name, ""
        return ("stop" if name == "stop" else "say"), self._text()

    def _text(self) -> str:
        rng = self._rng
        friend = f"My friend {rng.choice(_NAMES)} number {rng.randrange(100_000)} lives in {rng.choice(_PLACES)}."
        if rng.random() < 0.35:
            return f"{friend} My locker has the word {''.join(rng.choices(_LETTERS, k=_SECRET))}."
        return friend

    def _do(self, name: str, argument: str) -> None:
        chat = self._chat
        if name in ("say", "ask", "stop"):
            with chat.stream(argument) as stream:
                for i, _ in enumerate(stream):
                    if i == 0:
                        tell(reading=argument)
                    if i == 2 and name == "stop":
                        break
        elif name == "regen":
            for _ in chat.regenerate():
                pass
        elif name == "forget":
            chat.forget(int(argument) if argument.isdecimal() else argument)
        elif name in ("pin", "recall"):
            {"pin": chat.pin, "recall": chat.recall}[name](int(argument))
        elif name == "system":
            chat.set_system(argument)
        elif name == "budget":
            chat.set_budget(int(argument))
        else:
            {"undo": chat.undo, "unpin": chat.unpin, "snapshot": chat.snapshot, "clear": chat.clear}[name]()


def secrets_in(text: str) -> list[str]:
    """The words that are to be forgotten."""
    words = (word.strip(".") for word in text.split())
    return [word for word in words if len(word) == _SECRET and set(word) <= set(_LETTERS)]


# ---- the process ---------------------------------------------------------------------------------


def prepare(settings: Settings) -> list[float]:
    """What is changed in edge_sir beside the cut; the seconds that going on takes are put into the list."""
    later = tuple(
        f"CREATE TABLE later_{n} (row INTEGER PRIMARY KEY, turn INTEGER NOT NULL) STRICT;\n"
        f"INSERT INTO later_{n} SELECT id, turn FROM messages;\n"
        f"CREATE INDEX later_{n}_turn ON later_{n} (turn);\n"
        f"UPDATE later_{n} SET turn = turn + 1;\n"
        for n in range(settings.n_migrations)
    )
    migrations.MIGRATIONS = database.MIGRATIONS = (*migrations.MIGRATIONS, *later)
    if settings.other_build:

        def refused(*_: Any) -> None:
            raise StateError("it is of another build of llama.cpp")

        resuming._Resume._from_snapshot = refused  # type: ignore[assignment, method-assign]
    resume, seconds = Saver.resume, [0.0]

    def timed(*args: Any) -> Any:
        began = time.monotonic()
        result = resume(*args)
        seconds[0] = time.monotonic() - began
        return result

    Saver.resume = timed  # type: ignore[method-assign]
    return seconds


def main(settings: Settings) -> None:
    logging.getLogger("edge_sir").addHandler(Warnings(logging.WARNING))
    logging.getLogger("edge_sir").propagate = False
    cut = Cut(settings.point, settings.number, settings.delay_s)
    cut.watch()
    resume_s = prepare(settings)
    began = time.monotonic()
    terms = settings.terms | settings.also
    chat = edge_sir.open_chat(edge_sir.Options(state_dir=Path(settings.folder), quiet=True, **terms))
    open_s = time.monotonic() - began
    if settings.point == RESUMING:
        cut.die()
    cut.call, cut.is_armed = "", not settings.n_before
    tell(opened=found(chat, open_s, resume_s[0]))
    talk = Talk(chat, cut, settings)
    talk.run()
    if "close" in POINTS[settings.point].calls:
        talk.close()
    die()


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
