"""One process that talks in a session until it is killed: by its parent, or by itself at a point that it was given.

    power_cut_talk.py FOLDER SEED KIND NUMBER N_CALLS OPTIONS-AS-JSON

A JSON line for each step goes to standard output, with no buffer: `opened` (what this process found), `doing` (a call
begins), `reading` (its message is read: it must be on disk by now), `done` (it came back). KIND says where the process
kills itself, the NUMBERth time that it comes there; "time" leaves that to the parent.
"""

import json
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edge_sir
from edge_sir.chat import Chat
from edge_sir.errors import EdgeSirError
from edge_sir.llama.engine import LlamaEngine
from edge_sir.recall.archive import Archive
from edge_sir.session import Session
from edge_sir.store import database
from edge_sir.store.files import Files

KINDS = ("time", "statement", "file", "decode", "archive", "resume", "acknowledge")
NAMES = ("Ada", "Grace", "Emmy", "Lise", "Marie", "Rosalind")
PLACES = ("Oslo", "Turin", "Lagos", "Quito", "Hanoi", "Perth")


class Cut:
    """Kills the process the `number`th time that `reached` is called."""

    def __init__(self, number: int) -> None:
        self._left = number

    def reached(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, *names: str) -> None:
        """Counts before and after each call of these methods."""
        for name in names:
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.reached()
            result = method(*args, **named)
            self.reached()
            return result

        return call


def arm(kind: str, cut: Cut) -> None:
    """Lets the process come to its cut."""
    if kind == "statement":  # of a transaction, a migration, a forget
        connect = database._connect

        def connected(*args: Any) -> sqlite3.Connection:
            connection = connect(*args)
            connection.set_trace_callback(lambda _: cut.reached())
            return connection

        database._connect = connected
    elif kind == "file":  # of a snapshot, a blob
        cut.around(Files, "sync", "rename", "unlink")
    elif kind == "decode":
        cut.around(LlamaEngine, "decode")
    elif kind == "archive":
        cut.around(Archive, "save")
    elif kind == "resume":
        cut.around(LlamaEngine, "load", "restore")
        cut.around(Session, "redo", "rebuilt", "from_state")


def tell(**fields: Any) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


def said(chat: Chat) -> list[list[Any]]:
    """Turn, role and text of each message."""
    return [[m.turn, m.role, m.text] for m in chat.transcript]


def found(chat: Chat) -> dict[str, Any]:
    """What a process finds, and whether the cells are those that the ledger speaks of."""
    ledger, resumed = chat.session.ledger, chat.resumed
    pos = ledger["pos"]
    agrees = chat.engine.pos_range(0) == (int(pos[0]), int(pos[-1])) and bool(np.all(np.diff(pos) > 0))
    how = None if resumed is None else resumed.how
    unsent = () if resumed is None else resumed.unsent
    return {"said": said(chat), "how": how, "unsent": unsent, "agrees": agrees and len(ledger) <= 256}


def call_of(rng: random.Random, chat: Chat) -> tuple[str, str]:
    """What is done next, and with what."""
    what = rng.choices(
        ("say", "ask", "undo", "regen", "pin", "forget", "budget", "snapshot", "clear"), (60, 14, 6, 5, 4, 4, 3, 3, 1)
    )[0]
    number = rng.randrange(10_000)
    text = f"My friend {rng.choice(NAMES)} number {number} lives in {rng.choice(PLACES)}."
    if what == "say":
        return what, text
    if what == "ask":
        names = [m.text for m in chat.transcript if m.role == "user"][:-3]
        return what, f"What do you know? {rng.choice(names)}" if names else text
    if what == "forget":
        numbers = [word for m in chat.transcript if m.role == "user" for word in m.text.split() if word.isdecimal()]
        return (what, rng.choice(numbers)) if numbers else ("say", text)
    return what, str(rng.choice((192, 224, 256))) if what == "budget" else ""


def do(chat: Chat, what: str, argument: str) -> None:
    if what in ("say", "ask"):
        stream = chat.stream(argument)
        for i, _ in enumerate(stream):
            if i == 0:
                tell(reading=argument)
    elif what == "regen":
        for _ in chat.regenerate():
            pass
    elif what == "pin":
        chat.unpin()
        chat.pin(chat.session.turn)
    elif what == "forget":
        chat.forget(argument)
    elif what == "budget":
        chat.set_budget(int(argument))
    else:
        {"undo": chat.undo, "snapshot": chat.snapshot, "clear": chat.clear}[what]()


def main(arguments: Sequence[str]) -> int:
    folder, seed, kind, number, n_calls, options = arguments
    rng = random.Random(int(seed))
    cut = Cut(int(number))
    arm(kind, cut)
    terms = edge_sir.Options(session="ada", state_dir=Path(folder), quiet=True, **json.loads(options))
    chat = edge_sir.open_chat(terms)
    tell(opened=found(chat))
    for _ in range(int(n_calls)):
        what, argument = call_of(rng, chat)
        tell(doing=what, argument=argument)
        try:
            do(chat, what, argument)
        except EdgeSirError as error:  # nothing to undo, a pin that leaves no room: as a person's mistake
            tell(refused=f"{type(error).__name__}: {error}")
        if kind == "acknowledge":
            cut.reached()
        tell(done=what, said=said(chat))
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
