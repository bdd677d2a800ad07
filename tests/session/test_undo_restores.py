"""An undone turn leaves the state before it, where a chat recalls: what older ones gave up is back. On the toy."""

import contextlib
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from chatting import CODEC, evict, make_chat, script
from driving import EVICTING, agrees
from numpy.typing import NDArray
from walks import saying, sentence

from edge_sir.chat import Chat
from edge_sir.core.ledger import COLUMNS, ROLES
from edge_sir.engine import SamplingParams, Slice
from edge_sir.errors import BudgetError, ComputeError, ConfigError
from edge_sir.memory.evictions import Restored
from edge_sir.testing import ToyEngine


@dataclass
class State:
    """The ledger, the row after a token that comes next, and what the views say."""

    columns: dict[str, NDArray[Any]]
    following: NDArray[np.float32]
    n_evicted: int
    turns: list[tuple[int, int, int]]

    def check_same(self, other: "State", *, moved: bool) -> None:
        for name, _ in COLUMNS:
            if name != "pos" or not moved:
                np.testing.assert_array_equal(self.columns[name], other.columns[name], name)
        if not moved:
            np.testing.assert_allclose(self.following, other.following, atol=1e-4)
        assert self.n_evicted == other.n_evicted and self.turns == other.turns


def state_of(chat: Chat) -> State:
    session, engine = chat.session, chat.engine
    columns = {name: column.copy() for name, column in session.ledger.columns().items()}
    engine.copy(0, 1)
    token, unknown = np.array([65], np.int32), np.array([-1], np.int32)
    row = engine.decode([Slice(1, token, session.ledger.next_pos, unknown, frozenset(), True)])[0].logits
    engine.remove(1, 0, -1)
    assert row is not None
    turns = [(t.turn, t.n_content, t.n_content_dropped) for t in chat.memory()]
    return State(columns, row, chat.evictions.n_evicted, turns)


def recalling(seed: int) -> tuple[random.Random, Chat]:
    rng = random.Random(seed)
    options: dict[str, Any] = {"policy": rng.choice((*EVICTING, "sir")), "budget": rng.choice((96, 160, 240))}
    options["positions"] = rng.choice(("packed", "gaps"))
    options["system"] = rng.choice((None, "Be kind to Ada."))
    engine = ToyEngine(700, n_ctx_train=1 << 20, can_pack=options["positions"] == "packed" or rng.random() < 0.5)
    return rng, make_chat(engine=engine, recall="cells", sampling=SamplingParams(seed=seed), **options)


def converse(rng: random.Random, chat: Chat) -> None:
    """A turn whose reply may think, end at a stop string or be left early."""
    thought = "<think>Hm, hm.</think>" if rng.random() < 0.3 else ""
    chat.engine.script[:] = script(thought + " ".join(sentence(rng) for _ in range(rng.choice((1, 2, 4)))))
    stop = [" boats"] if rng.random() < 0.3 else []
    stream = chat.stream(saying(rng), max_tokens=rng.choice((3, 60)), stop=stop)
    n_most = rng.choice((1, 5, 1000, 1000))
    for _, _ in zip(range(n_most), stream, strict=False):
        pass
    stream.close()


def meddle(rng: random.Random, chat: Chat) -> None:
    """Something between two turns."""
    what: int | str = rng.choice(["Ada", "Eve", "Bob paints", rng.randint(1, max(1, chat.session.turn))])
    step = rng.choice((chat.pin, chat.unpin, chat.forget, chat.recall, None, None, None))
    if step is not None:
        with contextlib.suppress(ConfigError, BudgetError):
            step(what)


@pytest.mark.parametrize("seed", range(60))
def test_a_reply_and_an_undo_leave_what_was_there_before(seed: int) -> None:
    rng, chat = recalling(seed)
    n_checked = n_back = 0
    for _ in range(12):
        try:
            converse(rng, chat)
            meddle(rng, chat)
            before, n_shifts, mode = state_of(chat), chat.session.stats.kshifts, chat.session.mode
            # The last token is decoded again; beside a hole it moves up to its neighbour.
            moved = len(chat.session.ledger) > 1 and np.diff(chat.session.ledger["pos"])[-1] > 1
            converse(rng, chat)
            if rng.random() < 0.2:
                chat.engine.script[:] = script(saying(rng))
                stream = chat.regenerate(max_tokens=20)
                for _ in stream:
                    pass
        except BudgetError:
            break
        undone = chat.undo()
        moved = mode == "gaps" and bool(moved or chat.session.stats.kshifts > n_shifts)  # positions that others had
        before.check_same(state_of(chat), moved=moved)
        assert agrees(chat.session) and not undone.lost
        n_checked, n_back = n_checked + 1, n_back + sum(undone.restored.values())
        converse(rng, chat)
    assert n_checked > 2


def crowded(said: str) -> Chat:
    """A chat that gave up something of what was `said` first for its last turn."""
    chat = make_chat(policy="streaming", budget=160, recall="cells")
    chat.engine.script[:] = script("Noted.")
    chat.reply(said)
    chat.engine.script[:] = script("Well.")
    chat.reply("y" * 90)
    return chat


def test_what_was_forgotten_meanwhile_does_not_come_back() -> None:
    chat = crowded("I am Anna. I live in Bergen.")
    chat.forget("Anna")
    undone = chat.undo()
    words = b"".join(CODEC.piece(int(token)) for token in chat.session.ledger["token"])
    assert b"Anna" not in words and agrees(chat.session)
    assert all(loss.why == "room" for loss in undone.lost)


def test_only_what_was_evicted_since_comes_back_and_a_pin_that_was_taken_off_stays_off() -> None:
    chat = make_chat(["Fine."], budget=400, recall="cells")
    chat.reply("My name is Ada and my sister is Eve.")
    user = chat.session.ledger["role"] == ROLES.index("user")
    first = np.flatnonzero(user)[:5]
    chat.pin(1)
    evict(chat, np.isin(np.arange(len(user)), first))  # saved whole, while it is pinned
    chat.unpin()
    before = state_of(chat)
    chat.engine.script[:] = script("Well.")
    chat.reply("Hm?")
    ledger = chat.session.ledger
    evict(chat, (ledger["turn"] == 1) & (ledger["role"] == ROLES.index("user")))
    undone = chat.undo()
    before.check_same(state_of(chat), moved=False)
    assert undone.restored == {1: int(user.sum()) - 5} and not chat.session.ledger["pinned"][4:].any()


def test_an_engine_error_while_it_is_put_back_leaves_the_turn_taken_back_and_says_what_is_lost() -> None:
    chat = crowded("I am Anna, and this is rather long.")
    restore = ToyEngine.restore

    def fails(*_: Any, **__: Any) -> None:
        raise ComputeError("made up")

    chat.engine.restore = fails
    undone = chat.undo()
    chat.engine.restore = lambda *args: restore(chat.engine, *args)
    assert undone.lost and not undone.restored and chat.session.turn == 1 and agrees(chat.session)
    assert not any(isinstance(entry, Restored) for entry in chat.evictions)
    chat.engine.script[:] = script("Yes.")
    assert chat.reply("And now?").text == "Yes."
