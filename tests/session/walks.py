"""Random walks over all that one may ask of a chat, beside a plain twin that keeps roles and texts.

A walk is made from its seed alone. After each step the transcript is the twin's, ledger and cache hold the same tokens
at the same positions, and what is resident of a message spells a part of its text.
"""

import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from chatting import CODEC, ToyHost, make_chat, script
from driving import EVICTING, cached

from edge_sir.chat import Chat, commands
from edge_sir.chat.stream import ReplyStream
from edge_sir.core.ledger import ROLES
from edge_sir.core.sealed import unseal
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError, ConfigError
from edge_sir.llama.engine import _SEQUENCE
from edge_sir.llama.state import CellState
from edge_sir.memory.transcript import Message
from edge_sir.session import Session
from edge_sir.testing import ToyEngine

__all__ = ["Walk", "walk_model", "walk_toy"]

NAMES = ("Ada", "Bob", "Cleo", "Dan", "Eve", "Finn")
VERBS = ("paints", "sells", "hides", "wants", "loses")
THINGS = ("boats", "lamps", "maps", "bells", "coins", "masks")
POLICIES = (*EVICTING, "sir", "keep-all", "sir:decay=0.5")
N_STEPS = 14


def sentence(rng: random.Random) -> str:
    return f"{rng.choice(NAMES)} {rng.choice(VERBS)} {rng.choice(THINGS)}."


def saying(rng: random.Random) -> str:
    return " ".join(sentence(rng) for _ in range(rng.choice((1, 1, 2, 3, 9))))


@dataclass
class Twin:
    """What was said, as plain tuples (turn, role, text), and the rules by which it changes."""

    said: list[tuple[int, str, str]] = field(default_factory=list)
    turn: int = 0
    system: str | None = None
    system_turn: int = 0
    spoken: bool = False

    def begin(self, system: str | None) -> None:
        self.said = [] if system is None else [(0, "system", system)]
        self.turn, self.system, self.system_turn, self.spoken = 0, system, 0, False

    def message(self, role: str, text: str) -> None:
        if role == "user" or (role != "system" and self.turn == self.system_turn):
            self.turn += 1
        self.said.append((self.turn, role, text))
        self.spoken = True

    def prompt(self, text: str | None) -> None:
        if not self.spoken:
            self.begin(text)
            return
        self.system, self.system_turn = text, 0
        if text is not None:
            self.turn += 1
            self.system_turn = self.turn
            self.said.append((self.turn, "system", text))

    def truncate(self, turn: int) -> None:
        self.said = [m for m in self.said if m[0] < turn]
        self.turn = min(self.turn, turn - 1)
        self.spoken = self.turn > 0
        if turn <= self.system_turn and self.system is not None:
            self.prompt(self.system)

    def is_prompt(self, message: tuple[int, str, str]) -> bool:
        return message[1] == "system" and message[0] == self.system_turn and self.system is not None

    def forget_turn(self, turn: int) -> int:
        kept = [m for m in self.said if m[0] != turn or self.is_prompt(m)]
        n, self.said = len(self.said) - len(kept), kept
        return n

    def forget_words(self, words: str) -> int:
        n, said = 0, []
        for message in self.said:
            parts = re.split(r"(?<=\.) ", message[2])
            kept = [s for s in parts if words not in s]
            if len(kept) < len(parts) and not self.is_prompt(message):
                message, n = (*message[:2], " ".join(kept)), n + 1
            said.append(message)
        self.said = said
        return n


class Walk:
    """One walk. make: gives the chat, its on_evict and the cells that its engine holds, sorted (position, token)."""

    def __init__(self, seed: int, chat: Chat, system: str | None, *, scripted: bool) -> None:
        self.rng = random.Random(seed)
        self.seed, self.chat, self.scripted = seed, chat, scripted
        self.twin = Twin()
        self.twin.begin(system)
        self.stream: ReplyStream | None = None  # left open
        self.done: list[str] = []
        self.lossy = False  # whether something left the cache that is still in the transcript

    def run(self, n_steps: int = N_STEPS) -> None:
        """Raises AssertionError, with the seed and the steps that led there."""
        steps = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        often = [self.do_reply, self.do_reply, self.do_stream, self.do_leave, self.do_regenerate]
        try:
            self.check()
            for _ in range(n_steps):
                step = self.rng.choice([*steps, *often])
                self.done.append(step.__name__)
                step()
                self.settle()
                self.check()
        except Exception as error:
            raise AssertionError(f"seed {self.seed}, {' '.join(self.done)}: {error!r}") from error

    # ---- steps -------------------------------------------------------------------------------------

    def write(self) -> int:
        """What the toy will say next; returns the most tokens of the reply."""
        if self.scripted and isinstance(self.chat.engine, ToyEngine):
            thought = "<think>Hm, hm.</think>" if self.rng.random() < 0.2 else ""
            words = " ".join(sentence(self.rng) for _ in range(self.rng.choice((1, 1, 2))))
            self.chat.engine.script[:] = script(thought + words)
        return self.rng.choice((3, 40, 40)) if self.scripted else self.rng.choice((1, 3, 6))

    def do_reply(self) -> None:
        text = saying(self.rng)
        if self.tried(lambda: self.chat.reply(text, max_tokens=self.write())) is not None:
            return
        self.replied(text)

    def replied(self, text: str) -> None:
        self.settle()
        self.twin.message("user", text)
        self.twin.said.append((self.twin.turn, "assistant", self.chat.transcript.of(self.twin.turn)[-1].text))

    def do_stream(self) -> None:
        """A reply that is left early."""
        text = saying(self.rng)
        stream = self.chat.stream(text, max_tokens=self.write())
        n = self.rng.randrange(6)
        if self.tried(lambda: [piece for _, piece in zip(range(n), stream, strict=False)]) is None:
            stream.close()
            if n:
                self.replied(text)
                assert stream.text == self.twin.said[-1][2]

    def do_leave(self) -> None:
        """A reply that is left open: whatever comes next ends it, or goes on with it."""
        text = saying(self.rng)
        stream = self.chat.stream(text, max_tokens=self.write())
        if self.tried(lambda: next(stream, None)) is None:
            self.settle()
            self.stream = stream
            self.twin.message("user", text)

    def do_go_on(self) -> None:
        if self.stream is not None:
            for _ in self.stream:
                pass

    def settle(self) -> None:
        """The twin gets the reply that was open, once it has ended."""
        stream = self.stream
        if stream is None or stream._turn is None:
            return
        if stream.is_finished:
            at = stream.reply.turn
            before = sum(m[0] <= at for m in self.twin.said)
            if any(m[0] == at for m in self.twin.said):  # it was not taken back since
                self.twin.said.insert(before, (at, "assistant", stream.text))
        if stream.is_finished or stream._turn._over:
            self.stream = None

    def do_add(self) -> None:
        role, text = self.rng.choice(("user", "assistant", "tool")), saying(self.rng)
        if self.tried(lambda: self.chat.add(role, text)) is None:
            self.settle()
            self.twin.message(role, text)

    def do_undo(self) -> None:
        turn = self.twin.turn
        error = self.tried(self.chat.undo)
        assert (error is None) == (turn > 0 and turn != self.twin.system_turn), error
        if error is None:
            self.stream = None
            self.twin.truncate(turn)

    def do_truncate(self) -> None:
        turn = self.rng.randint(1, self.twin.turn + 1)
        self.chat.truncate(turn)
        if turn <= self.twin.turn:
            self.stream = None
        self.twin.truncate(turn)

    def do_regenerate(self) -> None:
        said = [m for m in self.twin.said if m[0] == self.twin.turn]
        texts = [text for _, role, text in said if role == "user"]
        max_tokens = self.write()
        if self.tried(lambda: list(self.chat.regenerate(max_tokens=max_tokens))) is None:
            assert texts
            self.stream = None
            self.twin.truncate(self.twin.turn)
            self.twin.turn += 1
            self.twin.said += [(self.twin.turn, "user", text) for text in texts]
            self.twin.spoken = True
            self.twin.said.append((self.twin.turn, "assistant", self.chat.transcript.of(self.twin.turn)[-1].text))
        elif self.chat.awaits:
            raise AssertionError("a message was taken back and not answered")

    def do_forget(self) -> None:
        what: int | str
        if self.rng.random() < 0.5 or not self.scripted:
            what = self.rng.randint(0, self.twin.turn + 1)
        else:
            what = self.rng.choice([*NAMES, f"{self.rng.choice(NAMES)} {self.rng.choice(VERBS)}"])
        error = self.tried(lambda: self.chat.forget(what))
        self.settle()
        before = list(self.twin.said)
        if isinstance(what, str):
            self.twin.forget_words(what)
        elif what > 0:
            self.twin.forget_turn(what)
        assert error is None or before == self.twin.said, f"{what}: {error}"

    def do_pin(self) -> None:
        what = self.rng.choice([*NAMES, self.rng.randint(0, self.twin.turn + 1)])
        self.tried(lambda: self.chat.pin(what))

    def do_unpin(self) -> None:
        self.tried(lambda: self.chat.unpin(self.rng.choice([None, *NAMES, self.rng.randint(0, self.twin.turn + 1)])))

    def do_budget(self) -> None:
        self.tried(lambda: self.chat.set_budget(self.rng.choice((48, 64, 96, 160, 256, 400, 600))))

    def do_policy(self) -> None:
        self.tried(lambda: self.chat.set_policy(self.rng.choice(POLICIES)))

    def do_system(self) -> None:
        text = self.rng.choice(("", sentence(self.rng), saying(self.rng)))
        if self.tried(lambda: self.chat.set_system(text)) is None:
            self.settle()
            self.twin.prompt(text or None)

    def do_clear(self) -> None:
        self.chat.clear()
        self.stream = None
        self.twin.begin(self.twin.system)

    def do_load(self) -> None:
        roles = [self.rng.choice(("user", "user", "assistant", "system")) for _ in range(self.rng.randint(1, 5))]
        messages = [Message(0, role, saying(self.rng)) for role in roles]
        error = self.tried(lambda: self.chat.load(messages))
        if isinstance(error, BudgetError):  # it was begun anew
            self.twin.begin(self.twin.system)
        elif error is None:
            for message in messages:
                if message.role == "system":
                    self.twin.prompt(message.text)
                else:
                    self.twin.message(message.role, message.text)

    def do_save_and_load(self) -> None:
        """The transcript into a file, and from it into the same chat, begun anew."""
        if self.tried(lambda: self.chat.add("user", "Mind that.")) is not None:  # a reply that is left open ends here
            return
        self.settle()
        self.twin.message("user", "Mind that.")
        with tempfile.TemporaryDirectory() as folder:
            path = commands.save(self.chat, Path(folder) / "t.txt").path
            self.chat.clear()
            self.stream = None
            said = self.twin.said
            self.twin.begin(self.twin.system)
            if self.tried(lambda: commands.load(self.chat, path)) is None:
                for _, role, text in said:
                    if role == "system":
                        self.twin.prompt(text if text.strip() else None)
                    else:
                        self.twin.message(role, text)

    def do_fork(self) -> None:
        """What a fork does never changes the session."""
        session = self.chat.session
        if session.n_pending or self.stream is not None:
            return
        host = self.chat._host
        assert host is not None
        other = host.open_engine(session.engine.spec.n_ctx)
        try:
            other.load(0, session.engine.dump(0))
            fork = session.fork(other, session.policy, session.budget)
            for name, column in session.ledger.columns().items():
                np.testing.assert_array_equal(fork.ledger[name], column, err_msg=name)
            fork.begin_turn()
            fork.start_message()
            fork.feed(CODEC.encode("x" * 9, special=False), "user")
            try:
                while fork.step():
                    pass
            except BudgetError:
                pass  # keep-all
            fork.end_sampler()
            check_cells(fork)
        finally:
            host.release(other)

    def tried(self, call: Callable[[], Any]) -> Exception | None:
        """The error that the user could mend, if there was one: then nothing has changed."""
        try:
            call()
        except (ConfigError, BudgetError) as error:
            return error
        return None

    # ---- what must agree -----------------------------------------------------------------------------

    def check(self) -> None:
        chat, session, twin = self.chat, self.chat.session, self.twin
        said = [(m.turn, m.role, m.text) for m in chat.transcript]
        assert said == twin.said, f"{said}\n!= {twin.said}"
        assert session.turn == twin.turn and chat.system == twin.system and chat.system_turn == twin.system_turn
        assert not chat.awaits, "something waits to be read"
        ledger = session.ledger
        assert len(ledger) <= session.budget.n_cells
        for name in ("pos", "born"):
            assert np.all(np.diff(ledger[name]) > 0), name
        assert np.all(np.diff(ledger["turn"]) >= 0) and (not len(ledger) or ledger["turn"][-1] <= session.turn)
        check_cells(session)
        self.check_texts()
        view = chat.memory()
        assert view.n_resident == len(ledger) == sum(t.n_resident for t in view)

    def check_texts(self) -> None:
        """What is resident of a message is spelled by a part of its text, in order; its prompt as a whole."""
        ledger, texts = self.chat.session.ledger, {m.id: m for m in self.chat.transcript}
        spoken = np.isin(ledger["role"], [ROLES.index(r) for r in ROLES if r not in ("frame", "thought")])
        for number in np.unique(ledger["message"][spoken]).tolist():
            rows = np.flatnonzero(spoken & (ledger["message"] == number))
            resident = b"".join(self.chat.codec.piece(int(t)) for t in ledger["token"][rows])
            message = texts.get(number)
            if message is None:
                own = ledger["turn"][rows[0]] == 0  # the template's own prompt, or what its sinks hold of it
                assert own or not resident or self.stream is not None, f"message {number} was not said: {resident!r}"
                continue
            assert message.turn == int(ledger["turn"][rows[0]])
            assert ROLES[ledger["role"][rows[0]]] == message.role
            if self.scripted:
                assert is_part(resident.strip(), message.text.encode()), f"{resident!r} is no part of {message.text!r}"
            if message.role == "system" and self.twin.is_prompt((message.turn, message.role, message.text)):
                assert resident.decode().strip() == message.text.strip() and np.all(ledger["pinned"][rows])


def is_part(part: bytes, whole: bytes) -> bool:
    """Whether the bytes of `part` stand in `whole` in that order."""
    rest = iter(whole)
    return all(byte in rest for byte in part)


def check_cells(session: Session) -> None:
    """Ledger and cache hold the same tokens at the same positions (llama.cpp: the same positions)."""
    pos, token = session.ledger["pos"].tolist(), session.ledger["token"].tolist()
    if isinstance(session.engine, ToyEngine):
        assert cached(session.engine, session.seq) == list(zip(pos, token, strict=True)), "ledger and cache disagree"
    else:
        assert positions_of(session.engine.dump(session.seq)) == pos, "ledger and cache disagree"


def positions_of(state: bytes) -> list[int]:
    """The sorted positions in a dumped sequence."""
    positions: list[int] = CellState(unseal(state, _SEQUENCE, {})).pos.tolist()
    return positions


# ---- whole walks -----------------------------------------------------------------------------------


def walk_toy(seed: int) -> None:
    """One walk on the toy, whose words are a script of sentences."""
    rng = random.Random(seed)
    system = rng.choice((None, "Be kind to Ada."))
    host = ToyHost()
    host.release = lambda engine: None  # type: ignore[method-assign]
    options = {"policy": rng.choice(POLICIES), "budget": rng.choice((64, 96, 160, 400)), "system": system}
    options["positions"] = rng.choice(("packed", "gaps"))
    engine = ToyEngine(512, n_ctx_train=rng.choice((700, 4096)), can_pack=options["positions"] == "packed")
    with make_chat(engine=engine, host=host, sampling=SamplingParams(seed=seed), **options) as chat:
        Walk(seed, chat, system, scripted=True).run()


def walk_model(seed: int, model: Any) -> None:
    """One walk on a loaded model."""
    rng = random.Random(seed)
    system = rng.choice((None, "Be kind to Ada."))
    budget, policy = rng.choice((64, 96, 160)), rng.choice(POLICIES[:-2])
    with model.chat(budget=budget, policy=policy, system=system, positions=rng.choice(("packed", "gaps"))) as chat:
        Walk(seed, chat, system, scripted=False).run()
