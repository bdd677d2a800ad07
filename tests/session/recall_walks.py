"""Random walks over a chat that recalls: as `walks`, with recalls by hand, a store whose bound changes, errors of the
engine and Ctrl-C at any of its calls, and texts that no search expects.

Beside what a walk checks after each step: between turns nothing is recalled or displaced, the store holds what the
archive holds and no more, and what is archived was said and is not taken back. In the end a trace replays as recorded.
"""

import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from chatting import ToyHost, make_chat
from walks import NAMES, POLICIES, THINGS, VERBS, Walk, saying

from edge_sir.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.errors import ComputeError, EngineError
from edge_sir.recall.store import ByteStore
from edge_sir.testing import ToyEngine
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import replay

__all__ = ["GARBAGE", "RecallWalk", "walk_recalling"]

GARBAGE = (
    '"',
    "'\"'\"",
    '"*()^:',
    "NEAR(Ada boats, 2)",
    "Ada OR NOT (boats AND",
    "text: Ada",
    "{a b} : Ada*",
    "-- ; DROP TABLE turns;",
    "Ada\x00boats",
    "\x00",
    "Ada \ud800 paints",
    "\udfff",
    "مرحبا Ada بالعالم",
    "\u202eAda\u202c",
    "🐝" * 20,
    "👩\u200d👩\u200d👧 Ada",
    "ß ø ł İ ﬁ",
    "日本語 Ada",
    "^Ada + boats",
    "a" * 3000,
    "Ada " * 800,
    "?" * 50,
    "%_\\",
    "\ufeff\u00ad\u200b",
)
FAILING, CALLS = ("decode", "save", "restore"), ("decode", "save", "restore", "remove", "shift")


class RecallWalk(Walk):
    """One walk of a chat that recalls. store: where its archive keeps cells."""

    def __init__(self, seed: int, chat: Chat, system: str | None, store: ByteStore) -> None:
        super().__init__(seed, chat, system, scripted=True)
        self.store = store

    @property
    def archive(self) -> Any:
        return self.chat._recall.archive  # type: ignore[union-attr]

    # ---- steps -------------------------------------------------------------------------------------

    def do_ask(self) -> None:
        """A question about something that may have been said."""
        text = f"What of {self.rng.choice(NAMES)} and the {self.rng.choice(THINGS)}?"
        if self.tried(lambda: self.chat.reply(text, max_tokens=self.write())) is None:
            self.replied(text)

    def do_ask_twice(self) -> None:
        self.do_ask()
        self.do_ask()

    def do_recall(self) -> None:
        what = self.rng.choice([*NAMES, f"{self.rng.choice(NAMES)} {self.rng.choice(VERBS)}", *GARBAGE])
        self.tried(lambda: self.chat.recall(what))

    def do_recall_turn(self) -> None:
        self.tried(lambda: self.chat.recall(self.rng.randint(-1, self.twin.turn + 2)))

    def do_garbage(self) -> None:
        """A message of garbage, taken back again."""
        text = self.rng.choice(GARBAGE)
        if self.tried(lambda: self.chat.reply(text, max_tokens=self.write())) is None:
            self.settle()
            self.chat.undo()

    def do_pin_garbage(self) -> None:
        self.tried(lambda: self.chat.pin(self.rng.choice(GARBAGE)))

    def do_bound(self) -> None:
        self.store.bound = self.rng.choice((0, 1, 2_000, 20_000, 1 << 30, 1 << 30, 1 << 30))

    def do_tight_pins(self) -> None:
        """Pins until no more fit, and after a question as many off again."""
        for what in NAMES[: self.rng.randint(1, 6)]:
            self.tried(lambda what=what: self.chat.pin(what))  # type: ignore[misc]
        self.do_ask()
        self.tried(self.chat.unpin)

    def do_least_budget(self) -> None:
        for n in (24, 30, 36, 42):
            if self.tried(lambda n=n: self.chat.set_budget(n)) is None:  # type: ignore[misc]
                break
        self.do_ask()

    def do_long(self) -> None:
        """A message longer than the budget."""
        text = " ".join(saying(self.rng) for _ in range(8))
        if self.tried(lambda: self.chat.reply(text, max_tokens=self.write())) is None:
            self.replied(text)

    def do_fail(self) -> None:
        self.broken(failing, self.rng.choice(FAILING))

    def do_interrupt(self) -> None:
        self.broken(interrupting, self.rng.choice(CALLS))

    def broken(self, breaks: Callable[[ToyEngine, str, int], Any], call: str) -> None:
        """A call of the chat, in the midst of which the engine's `call` fails or Ctrl-C comes in it."""
        chat, names = self.chat, self.rng.choice(NAMES)
        assert isinstance(chat.engine, ToyEngine)
        question = f"What of {names} and the {self.rng.choice(THINGS)}?"
        n_tokens, turn = self.write(), self.rng.randint(1, self.twin.turn + 1)
        action: Callable[[], Any] = self.rng.choice(
            (
                lambda: chat.reply(question, max_tokens=n_tokens),
                lambda: chat.reply(question, max_tokens=n_tokens),
                lambda: chat.reply(question, max_tokens=n_tokens),
                lambda: chat.recall(names),
                lambda: chat.recall(turn),
                lambda: chat.pin(names),
                lambda: chat.set_budget(self.rng.choice((64, 96, 160, 400))),
                lambda: chat.undo(),
                lambda: list(chat.regenerate(max_tokens=n_tokens)),
                lambda: chat.truncate(turn),
                lambda: chat.forget(names),
                lambda: chat.add("user", question),
            )
        )
        self.done[-1] += f"({call})"
        with breaks(chat.engine, call, self.rng.randint(1, 6)):
            try:
                self.tried(action)
            except (EngineError, KeyboardInterrupt):
                self.done[-1] += "!"
        if chat.session._poison:  # an engine that does not remove or shift leaves nothing that could go on
            raise PoisonedWalkError
        self.stream = None
        chat._close_open_reply()
        if chat.awaits:
            chat.undo()
        chat._drain()
        self.follow()

    def follow(self) -> None:
        """The twin takes over what was said."""
        chat = self.chat
        self.twin.said = [(m.turn, m.role, m.text) for m in chat.transcript]
        self.twin.turn, self.twin.system, self.twin.system_turn = chat.session.turn, chat.system, chat.system_turn
        self.twin.spoken = chat._spoken

    # ---- what must agree -----------------------------------------------------------------------------

    def check(self) -> None:
        if self.stream is None:
            super().check()
            session = self.chat.session
            assert not session.is_recalling and not session.ledger["recalled"].any(), "something is still recalled"
        self.check_archive()
        view = self.chat.memory()
        for turn in view:
            assert turn.n_resident >= 0

    def check_archive(self) -> None:
        pieces, session, texts = list(self.archive), self.chat.session, {m.id for m in self.chat.transcript}
        held = sum(self.store.size(piece.key) for piece in pieces)
        assert held == self.store.n_bytes == sum(map(len, self.store._blobs.values())) <= self.store.bound
        assert self.archive.n_bytes == held + sum(piece.rows.n_bytes for piece in pieces)
        keys = [piece.key for piece in pieces]
        assert len(set(keys)) == len(keys) and set(self.store._blobs) <= set(keys)
        numbers = {piece.number for piece in pieces}
        assert len(numbers) == len(pieces) and set(self.archive._said._tokens) <= numbers
        assert self.archive._by_number == {piece.number: piece for piece in pieces}
        born = np.concatenate([np.empty(0, np.int64), *(piece.born for piece in pieces)])
        assert len(np.unique(born)) == len(born), "a token is archived twice"
        now = dict(zip(session.ledger["born"].tolist(), session.ledger["token"].tolist(), strict=True))
        for piece in pieces:
            assert piece.turn <= session.turn
            for name, number in zip(piece.rows["token"].tolist(), piece.born.tolist(), strict=True):
                assert now.get(number, name) == name, "a born number stands for two tokens"
            is_said = piece.message in texts or piece.turn == 0 or not piece.is_said.any()
            is_open = piece.turn == session.turn and self.stream is not None
            assert is_said or is_open, f"message {piece.message} is archived"
            assert not piece.rows["recalled"].any()
            has_cells = piece.key in self.store
            if has_cells or self.archive.disk is None:
                saved = self.archive.cells_of(piece)
                assert (saved is not None) == has_cells
                assert saved is None or len(saved.cells) == self.store.size(piece.key)


class PoisonedWalkError(Exception):
    """The chat cannot go on, and says so."""


@contextmanager
def breaking(engine: ToyEngine, call: str, at: int, action: Callable[[], None]) -> Iterator[None]:
    """`action` is done in the engine's `call` number `at`."""
    original, n = getattr(engine, call), 0

    def broken(*args: Any) -> Any:
        nonlocal n
        n += 1
        if n == at:
            action()
        return original(*args)

    setattr(engine, call, broken)
    try:
        yield
    finally:
        delattr(engine, call)


def failing(engine: ToyEngine, call: str, at: int) -> Any:
    def fail() -> None:
        raise ComputeError("the machine is on fire")

    return breaking(engine, call, at, fail)


def interrupting(engine: ToyEngine, call: str, at: int) -> Any:
    return breaking(engine, call, at, lambda: signal.raise_signal(signal.SIGINT))


def walk_recalling(seed: int) -> None:
    """One walk on the toy of a chat that recalls, with a trace; in the main thread, where signals arrive."""
    rng = random.Random(seed)
    system = rng.choice((None, "Be kind to Ada."))
    host = ToyHost()
    host.release = lambda engine: None  # type: ignore[method-assign]
    options = {"policy": rng.choice(POLICIES), "budget": rng.choice((64, 96, 160, 240)), "system": system}
    options |= {"positions": rng.choice(("packed", "gaps")), "recall": rng.choice(("cells", "cells", "cells", "text"))}
    options["stop"] = rng.choice(((), (), ("wants", ". ")))
    can_pack = options["positions"] == "packed" or rng.random() < 0.5
    engine = ToyEngine(
        512, n_ctx_train=rng.choice((700, 1000, 4096)), can_pack=can_pack, can_restore=rng.random() < 0.9
    )
    store = ByteStore(rng.choice((0, 5_000, 1 << 30, 1 << 30)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "walk.jsonl"
            trace = Trace(path)
            with make_chat(
                engine=engine, host=host, sampling=SamplingParams(seed=seed), trace=trace, **options
            ) as chat:
                assert chat._recall is not None
                chat._recall.archive._store = store
                walk = RecallWalk(seed, chat, system, store)
                try:
                    walk.run(20)
                except AssertionError as error:
                    if not isinstance(error.__cause__, PoisonedWalkError):
                        raise
                    return
            assert not store.n_bytes and not store._blobs, f"seed {seed}: a closed chat leaves cells in the store"
            # What makes room for text that is read again is evicted there, and the trace has no record of that text.
            can_replay = engine.spec.can_restore
            assert not can_replay or replay(read_trace(path)).as_recorded, (
                f"seed {seed}: the trace does not replay; {walk.done}"
            )
    finally:
        signal.signal(signal.SIGINT, before)
