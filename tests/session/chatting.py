"""Chats on the toy engine, whose words are a script."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from driving import role_rows
from numpy.typing import NDArray

from edge_sir.chat import Chat
from edge_sir.cli._commands import perform
from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import Engine
from edge_sir.policies import from_spec
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate

CODEC = ByteTokenizer()
TEMPLATE = ChatTemplate(CODEC.CHAT_TEMPLATE, bos=CODEC.bos_text, eos=CODEC.eos_text)
FILLER = "Something else entirely, and rather long at that."
SENTENCE = "My name is Ada and my sister is Eve."
N_TOKENS = len(SENTENCE) + 1  # a token is a byte, and the blank before it belongs to a sentence
END = 256 + CODEC.SPECIALS.index("<|im_end|>")


class ToyHost:
    """Makes toys for chats, and closes what it gets back. made: all of them, in order."""

    def __init__(self, seed: int = 0) -> None:
        self.made: list[ToyEngine] = []
        self._seed = seed

    def open_engine(self, n_cells: int) -> ToyEngine:
        self.made.append(ToyEngine(n_cells, seed=self._seed))
        return self.made[-1]

    def release(self, engine: Engine) -> None:
        engine.close()


def script(*replies: str) -> list[int]:
    """Tokens of replies that the model will give, each with its end."""
    return [token for reply in replies for token in [*CODEC.encode(reply, special=True).tolist(), END]]


def make_chat(replies: Iterable[str] = (), *, policy: str = "sir", budget: int = 256, **options: Any) -> Chat:
    engine = options.pop("engine", None) or ToyEngine(512)
    engine.script[:] = script(*replies)
    options = {"codec": CODEC, "template": TEMPLATE} | options
    return Chat(engine, policy=from_spec(policy), budget=budget, **options)


def transcript(chat: Chat) -> str:
    """What is resident, control tokens spelled out."""
    spelled = [
        CODEC.SPECIALS[token - 256].encode() if token >= 256 else bytes([token])
        for token in chat.session.ledger["token"].tolist()
    ]
    return b"".join(spelled).decode("utf-8", "replace")


def said(chat: Chat, role: str) -> str:
    """What is resident of one role."""
    tokens = chat.session.ledger["token"][role_rows(chat.session, role)]
    return b"".join(CODEC.piece(int(t)) for t in tokens).decode("utf-8", "replace")


def told(chat: Chat, line: str) -> list[str]:
    """What a command shows: its title, and row by row."""
    view = perform(chat, line).view
    rows = ["  ".join([*row.cells, "".join(text for text, _ in row.text)]).strip() for row in view.rows]
    return [view.title, *rows]


def evict(chat: Chat, rows: NDArray[np.bool_], why: str = "room") -> int:
    """Lets these rows go as a policy does, and returns how many those are."""
    plan = EvictionPlan(np.flatnonzero(rows), chat.session.ledger.epoch, why)
    chat.session.evict(plan)
    return len(plan)


def fill(chat: Chat, n: int = 8) -> None:
    assert isinstance(chat.engine, ToyEngine)
    for _ in range(n):
        chat.engine.script[:] = script("Well, fine.")
        chat.reply(FILLER)


def thinned(gone: str = " is", *, said: str = SENTENCE, budget: int = 512) -> Chat:
    """A chat in which these letters of a sentence went to make room, wherever they stand in it."""
    chat = make_chat(["Fine."], budget=budget)
    chat.reply(f"Hello there. {said} Mind it.")
    session = chat.session
    text = bytes(min(t, 255) for t in session.ledger["token"].tolist())
    start, letters = text.index(said.encode()), gone.encode()
    starts = [start + match.start() for match in re.finditer(re.escape(letters), said.encode())]
    rows = np.array([at + i for at in starts for i in range(len(letters))])
    session.evict(EvictionPlan(rows, session.ledger.epoch, "room"))
    return chat
