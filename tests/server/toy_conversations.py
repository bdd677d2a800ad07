"""Conversations on the toy engine, found by a key or by their whole history: enough for what the server does."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_sir.chat.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.policies import from_spec
from edge_sir.server.asked import Asked
from edge_sir.server.incoming import Said
from edge_sir.server.outcome import Choice, Match, Outcome, Shown
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate

History = tuple[str, tuple[Said, ...]]


class ToyConversations:
    """At most `n_live` requests at a time, each conversation in an engine of its own.

    script: what each new conversation says. before_step: called before each decode, so that a test can hold the worker,
    or have it fail.
    """

    def __init__(self, n_live: int = 2, before_step: Callable[[], None] = lambda: None) -> None:
        self.n_live, self.before_step = n_live, before_step
        self.script = list(b"abc def ghi. " * 400)
        self.chats: dict[History, tuple[str, Chat]] = {}
        self.busy: set[str] = set()
        self.ended: list[str] = []
        self.n_decoded = 0
        self.closed = threading.Event()
        self.threads: set[int] = set()

    def begin(self, asked: Asked) -> "ToyAnswering | None":
        self.threads.add(threading.get_ident())
        incoming = asked.incoming
        at = max((i + 1 for i, said in enumerate(incoming.messages) if said.role == "assistant"), default=0)
        past = (incoming.namespace + incoming.system, incoming.messages[:at])
        session, chat = self.chats.get(past, ("", None)) if at else ("", None)
        if len(self.busy) >= self.n_live or session in self.busy:
            return None
        match: Match = "exact" if chat is not None else "new"
        if chat is None:
            session, chat = f"s{len(self.chats) + len(self.busy)}", new_chat(incoming.system, self.script)
        text = "\n".join(said.text for said in incoming.messages[at:])
        self.busy.add(session)
        return ToyAnswering(self, session, match, chat, text, asked)

    def rest(self) -> float | None:
        return None

    def close(self) -> None:
        self.closed.set()


class ToyAnswering:
    def __init__(self, home: ToyConversations, session: str, match: Match, chat: Chat, text: str, asked: Asked) -> None:
        self.session, self.match = session, match
        self._home, self._chat, self._asked = home, chat, asked
        self._n_held = len(chat.session.ledger)
        sampling = replace(SamplingParams(temperature=0), **asked.terms.sampling)
        try:
            self._turn = chat.turn(text, sampling=sampling, max_tokens=asked.terms.max_tokens, stop=asked.terms.stop)
        except Exception:
            home.busy.discard(session)
            raise
        self._is_cancelled = False

    def step(self) -> Sequence[Shown] | None:
        self._home.threads.add(threading.get_ident())
        try:
            self._home.before_step()
            piece = None if self._is_cancelled and not self._turn.is_open else self._turn.next_slice()
            if piece is None:
                self._end()
                return None
            self._home.n_decoded += 1
            pieces = self._turn.commit(self._chat.engine.decode([piece])[0])
        except Exception:
            self._home.busy.discard(self.session)
            raise
        return [Shown(thought=p.text) if p.role == "thought" else Shown(p.text) for p in pieces]

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._turn.is_open:
            self._turn.cancel()

    def _end(self) -> None:
        home, incoming = self._home, self._asked.incoming
        home.busy.discard(self.session)
        home.ended.append(self._turn.finish)
        if self._turn.phase == "done":
            past = (*incoming.messages, Said("assistant", self._turn.reply.text))
            home.chats[incoming.namespace + incoming.system, past] = self.session, self._chat

    def outcome(self) -> Outcome:
        if self._turn.phase != "done":  # cancelled before anything was written
            return Outcome((Choice("", "cancelled"),), self._n_held, 0, 0)
        reply = self._turn.reply
        choice = Choice(reply.text, reply.finish, reply.thought)
        return Outcome(
            (choice,),
            self._n_held,
            reply.n_read,
            reply.n_generated,
            reply.n_thought,
            reply.resident,
            reply.evicted,
            reply.recalled,
        )


def new_chat(system: str, script: list[int]) -> Chat:
    codec = ByteTokenizer()
    template = ChatTemplate(codec.CHAT_TEMPLATE, bos=codec.bos_text, eos=codec.eos_text)
    engine = ToyEngine(256, n_seq_max=1, script=script)
    return Chat(engine, codec, template, from_spec("streaming"), 256, max_tokens=16, system=system or None)
