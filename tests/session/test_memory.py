"""What a person sees of a chat's memory, and what is pinned. On the toy."""

import json

import numpy as np
import pytest
from chatting import CODEC, FILLER, fill, make_chat, transcript
from driving import EVICTING, n_evicted

from edge_sir.core.records import Eviction
from edge_sir.errors import BudgetError, ConfigError
from edge_sir.memory.transcript import Message

# ---- the view ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVICTING)
def test_the_view_adds_up(policy: str) -> None:
    events: list[Eviction] = []
    chat = make_chat(["Hello."], budget=256, policy=policy, on_evict=events.append, system="Be kind.")
    chat.reply("I am Anna.")
    chat.pin(1)
    fill(chat)
    memory = chat.memory()
    assert [t.turn for t in memory] == list(range(10))
    assert sum(t.n_resident for t in memory) == memory.n_resident == len(chat.session.ledger)
    assert sum(t.n_dropped for t in memory) == n_evicted(events) > 0
    assert sum(t.n_pinned for t in memory) == memory.n_pinned
    for turn in memory:
        assert sum(p.n_resident for p in turn.passages) <= turn.n_resident
        assert sum(p.n_before for p in turn.passages) <= turn.n_dropped
        assert sum(loss.n_tokens for loss in turn.losses) == turn.n_dropped
        if turn.state == "whole" and turn.turn:
            assert [p.text for p in turn.passages] == [m.text for m in turn.said]
    assert memory.turn(1).state == "whole"  # type: ignore[union-attr]
    assert {t.state for t in memory} >= {"whole", "none"} or {t.state for t in memory} >= {"whole", "partly"}
    assert (memory.budget, memory.policy, memory.turn_now) == (256, policy, 9)


def test_what_was_said_and_by_whom() -> None:
    chat = make_chat(["Hello Anna."], system="Be kind.")
    chat.reply("I am Anna.")
    memory = chat.memory()
    assert memory.turn(0).said == (Message(0, "system", "Be kind."),)  # type: ignore[union-attr]
    assert memory.turn(1).said == (Message(1, "user", "I am Anna."), Message(1, "assistant", "Hello Anna."))  # type: ignore[union-attr]
    assert memory.turn(2) is None
    assert [t.turn for t in memory.saying("anna")] == [1]
    assert memory.saying("ann") == ()


def test_the_numbers_behind_an_eviction() -> None:
    """Streaming ranks by birth, so value and cut are known beforehand."""
    chat = make_chat(budget=200, policy="streaming")
    chat.reply("I am Anna.", max_tokens=9)
    fill(chat, 4)
    losses = chat.memory().turn(1).losses  # type: ignore[union-attr]
    assert losses[0].why == "room" and losses[0].turn_now > 1
    assert losses[0].cut is not None and losses[0].value is not None and losses[0].value < losses[0].cut
    assert losses[0].policy == "streaming"


def test_a_loss_tells_what_units_ranked_it_by() -> None:
    chat = make_chat(budget=256, policy="units:decay=0.5")
    fill(chat, 10)
    losses = [loss for turn in chat.memory() for loss in turn.losses]
    assert losses
    for loss in losses:
        assert loss.value is not None and loss.cut is not None
        assert loss.value <= loss.cut + 1e-5  # values are rounded, the cut is not
        whole = [x for x in losses if x.turn == loss.turn]
        if loss.surprisal is None:  # markers alone
            assert loss.value == -1
        elif len(whole) == 1:  # the unit is the turn, and all of it went at once
            age = loss.turn_now - loss.turn
            assert loss.value == pytest.approx(loss.surprisal * 0.5**age, rel=0.02)


@pytest.mark.parametrize(("policy", "thins"), [("sir", False), ("units", True), ("sirllm", False)])
def test_only_a_policy_of_units_thins_one(policy: str, thins: bool) -> None:
    chat = make_chat(budget=200, policy=policy)
    fill(chat, 10)
    losses = [loss for turn in chat.memory() for loss in turn.losses]
    assert losses and any(loss.thinned for loss in losses) == thins
    assert {loss.ranks_by for loss in losses} == {chat.session.policy.ranks_by}


def test_the_view_is_plain_json() -> None:
    chat = make_chat(budget=200)
    fill(chat, 6)
    plain = json.loads(json.dumps(chat.memory().as_dict(), allow_nan=False))
    for turn in plain["turns"]:  # one unit: what the state says is what the counts beside it say
        assert turn["state"] == _state(turn["n_content"], turn["n_content_resident"])
        assert turn["n_content_resident"] + turn["n_content_dropped"] == turn["n_content"]
        assert "n_dropped_before" not in turn
    first = chat.transcript.of(6)[0]
    assert plain["turns"][-1]["said"][0] == {"turn": 6, "role": "user", "text": FILLER, "id": first.id}


def _state(n: int, n_resident: int) -> str:
    return "whole" if n_resident == n else "partly" if n_resident else "none"


def test_a_character_cut_in_two_is_left_out() -> None:
    chat = make_chat(["ok"], policy="streaming", budget=200)
    chat.reply("Grüße 👋")
    rows = np.flatnonzero(chat.session.ledger["token"] == "👋".encode()[1])
    chat.session.forget(rows)
    assert "�" not in chat.memory().turn(1).text  # type: ignore[union-attr]


# ---- pins ----------------------------------------------------------------------------------------


def test_a_sentence_is_pinned_with_its_markers_and_nothing_else() -> None:
    chat = make_chat(["ok"], budget=200)
    chat.reply("The sky is blue. My code is 4417. Mind it.")
    (passage,) = chat.pin("CODE is 4417")
    assert (passage.turn, passage.role, passage.text) == (1, "user", "My code is 4417.")
    ledger = chat.session.ledger
    pinned = b"".join(CODEC.piece(int(t)) for t in ledger["token"][ledger["pinned"] & (ledger["turn"] == 1)])
    assert pinned.decode() == "user\n My code is 4417.\n"
    fill(chat, 12)
    assert "My code is 4417." in transcript(chat)
    assert "The sky" not in transcript(chat)


def test_a_pin_survives_two_hundred_turns() -> None:
    chat = make_chat(["ok"], budget=256)
    chat.reply("My code is 4417.")
    before = chat.pin(1)
    fill(chat, 200)
    assert chat.find(1) == before
    assert chat.find("4417")[0].text == "My code is 4417."


def test_what_was_evicted_cannot_be_pinned_and_says_since_when() -> None:
    chat = make_chat(["ok"], budget=128, policy="streaming")
    chat.reply("My code is 4417.")
    fill(chat, 6)
    for what in (1, "4417"):
        with pytest.raises(ConfigError, match=r"any more \(turn 1 was dropped in turn \d\); say it again"):
            chat.pin(what)
    with pytest.raises(ConfigError, match="nobody said “4418”"):
        chat.pin("4418")
    with pytest.raises(ConfigError, match="no turn 99; this conversation has turns 0 to 7"):
        chat.pin(99)


def test_a_pin_that_does_not_fit_is_refused_loudly() -> None:
    chat = make_chat(["ok"], budget=128)
    chat.reply("x" * 90)
    before = chat.session.ledger["pinned"].copy()
    with pytest.raises(BudgetError, match="pinning turn 1"):
        chat.pin(1)
    assert np.array_equal(chat.session.ledger["pinned"], before)


def test_unpin_spares_the_system_prompt() -> None:
    chat = make_chat(["ok", "ok"], system="Be kind.", budget=256)
    chat.reply("One.")
    chat.reply("Two.")
    chat.pin(1)
    chat.pin("Two")
    assert {p.turn for p in chat.unpin()} == {1, 2}
    assert chat.memory().n_pinned == chat.memory().turn(0).n_pinned > 0  # type: ignore[union-attr]
    for what in (0, 1, "Two"):
        with pytest.raises(ConfigError, match="is pinned"):
            chat.unpin(what)
