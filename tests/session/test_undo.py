"""The last turn taken back, or answered again. On the toy."""

import pytest
from chatting import fill, make_chat, said, script, transcript
from driving import agrees

from edge_sir.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.errors import ComputeError, ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.testing import ToyEngine


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_undo_is_as_if_never_said_and_tells_what_it_cost(positions: str) -> None:
    chat = make_chat(["ok"], budget=160, policy="streaming", positions=positions)
    chat.reply("I am Anna.")
    fill(chat, 1)
    before = chat.session.ledger["token"].tolist()
    chat.engine.script[:] = script("Yes.")  # type: ignore[attr-defined]
    chat.reply("y" * 50)
    undone = chat.undo()
    assert undone.turn == 3
    assert undone.messages == (Message(3, "user", "y" * 50), Message(3, "assistant", "Yes."))
    assert undone.n_tokens > 50
    assert {loss.turn for loss in undone.lost} <= {0, 1, 2}
    n_lost = sum(loss.n_tokens for loss in undone.lost)
    assert n_lost == len(before) - len(chat.session.ledger) > 0
    assert chat.session.ledger["token"].tolist() == before[:4] + before[4 + n_lost :]
    assert chat.session.turn == 2 and len(chat.memory().turns) == 3
    assert agrees(chat.session)


def test_a_message_has_a_number_that_no_other_gets() -> None:
    chat = make_chat(["One.", "Two.", "Three."], system="Be kind.")
    chat.reply("First.")
    before = {m.id: m for m in chat.transcript}
    chat.undo()
    chat.reply("First.")
    list(chat.regenerate())
    after = {m.id: m for m in chat.transcript}
    assert [m.text for m in after.values()] == ["Be kind.", "First.", "Three."]
    assert len(before) == len(after) == 3 and len(before.keys() & after.keys()) == 1  # the system prompt's
    ids = {*before, *after}
    chat.clear()
    assert not ids & {m.id for m in chat.transcript} and 0 not in ids
    assert set(chat.session.ledger["message"].tolist()) >= {m.id for m in chat.transcript}


def test_there_must_be_something_to_undo() -> None:
    chat = make_chat(["ok"], system="Be kind.")
    with pytest.raises(ConfigError, match="nothing to undo"):
        chat.undo()
    with pytest.raises(ConfigError, match="no message of yours"):
        next(chat.regenerate())
    chat.reply("Hi")
    chat.undo()
    assert transcript(chat) == "<s><|im_start|>system\nBe kind.<|im_end|>\n"
    with pytest.raises(ConfigError, match="nothing to undo"):
        chat.undo()


def test_a_message_that_was_never_read_is_undone_first() -> None:
    engine = ToyEngine(512)
    chat = make_chat(["Hello."], engine=engine)
    stream = chat.stream("Hi")
    next(stream)
    engine.fail_next = ComputeError("made up")
    with pytest.raises(ComputeError):
        list(stream)
    engine.fail_next = ComputeError("made up")
    with pytest.raises(ComputeError):
        chat.reply("Lost?")
    assert [m.text for m in chat.undo().messages] == ["Lost?"]
    assert "Hi" in said(chat, "user")
    engine.script[:] = script("Fine.")
    assert chat.reply("How?").text == "Fine."
    assert said(chat, "user") == "HiHow?"


def test_regenerate_draws_again_and_undo_with_the_same_words_does_not() -> None:
    def chat() -> Chat:
        return make_chat(sampling=SamplingParams(temperature=1.0, seed=3), max_tokens=20, budget=256)

    one, other = chat(), chat()
    first = one.reply("Tell me.").text
    assert other.reply("Tell me.").text == first
    texts = {first}
    for n in range(1, 4):
        stream = one.regenerate()
        assert "".join(p.text for p in stream).strip() == stream.reply.text
        assert stream.undone is not None and stream.undone.turn == 1
        texts.add(stream.reply.text)
        assert len(texts) == n + 1
    assert one.session.turn == 1
    assert [m.role for m in one.transcript] == ["user", "assistant"]
    other.undo()
    assert other.reply("Tell me.").text == first


def test_regenerate_at_temperature_zero_says_the_same() -> None:
    chat = make_chat(sampling=SamplingParams(temperature=0), max_tokens=12, budget=256)
    text = chat.reply("Tell me.").text
    stream = chat.regenerate()
    list(stream)
    assert stream.reply.text == text
