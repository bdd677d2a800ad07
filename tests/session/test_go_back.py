"""Going back to a message in the middle of a turn, other replies to it, replies that begin as they are told to."""

from typing import Any

import numpy as np
import pytest
from chatting import CODEC, END, make_chat, script, transcript

from edge_sir.chat import Chat
from edge_sir.errors import ConfigError
from edge_sir.memory.evictions import EvictionLog
from edge_sir.memory.transcript import Message
from edge_sir.testing import ToyEngine


def run(chat: Chat, turn: Any) -> str:
    """Drives a turn to its end; what was shown of it."""
    shown = ""
    while (piece := turn.next_slice()) is not None:
        shown += "".join(bit.text for bit in turn.commit(chat.engine.decode([piece])[0]))
    return shown


def numbers(chat: Chat) -> list[int]:
    return [message.id for message in chat.transcript]


def say(chat: Chat, *replies: str) -> None:
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = script(*replies)


def test_another_reply_reads_the_message_no_more() -> None:
    chat = make_chat(["One."])
    chat.reply("Tell me a number, please.")
    n_read, before = chat.session.stats.tokens_in, transcript(chat)
    say(chat, "Two.")
    chat.go_back(numbers(chat)[0])
    assert [m.text for m in chat.transcript] == ["Tell me a number, please."]
    run(chat, chat.answer(is_again=True))
    assert [m.text for m in chat.transcript] == ["Tell me a number, please.", "Two."]
    assert transcript(chat) == before.replace("One.", "Two.")
    opening, close = "<|im_start|>assistant\n", "<|im_end|>\n"
    n_frame = len(CODEC.encode(opening, special=True)) + len(CODEC.encode(close, special=True))
    assert chat.session.stats.tokens_in - n_read == n_frame
    assert chat.session.turn == 1 and chat._tries == 1


def test_what_came_after_is_as_if_never_said() -> None:
    chat, other = make_chat(["One.", "Two.", "Three."]), make_chat(["One."])
    for text in ("a", "b", "c"):
        chat.reply(text)
    other.reply("a")
    chat.go_back(numbers(chat)[1])
    assert transcript(chat) == transcript(other) and chat.session.turn == 1
    np.testing.assert_allclose(chat.session.last_logits, other.session.last_logits)
    assert chat.go_back(numbers(chat)[1]).n_tokens == 0


@pytest.mark.parametrize("last", ["a", "One."])
def test_the_system_prompt_that_was_given_since_stays(last: str) -> None:
    chat = make_chat(["One.", "Two."], system="Be kind.")
    chat.reply("a")
    chat.set_system("Be brief.")
    chat.reply("b")
    number = next(m.id for m in chat.transcript if m.text == last)
    chat.go_back(number)
    assert chat.system == "Be brief." and transcript(chat).count("Be brief.") == 1
    assert "Two." not in transcript(chat) and ("One." in transcript(chat)) == (last == "One.")
    assert chat.go_back(number).n_tokens == 0
    say(chat, "Three.")
    chat.reply("c")
    assert [m.text for m in chat.transcript if m.role == "assistant"] == ["One."] * (last == "One.") + ["Three."]


def test_no_such_message() -> None:
    chat = make_chat(["One."])
    chat.reply("a")
    with pytest.raises(ConfigError, match="no message 99"):
        chat.go_back(99)


def test_nothing_was_said_that_could_be_answered() -> None:
    with pytest.raises(ConfigError, match="nothing was said"):
        make_chat().answer()


def test_going_back_in_the_middle_of_a_reply() -> None:
    chat = make_chat(["A long reply."])
    chat.reply("a")
    last = numbers(chat)[-1]
    say(chat, "Another one.")
    turn = chat.turn("b")
    for _ in range(3):
        piece = turn.next_slice()
        assert piece is not None
        turn.commit(chat.engine.decode([piece])[0])
    chat.go_back(last)
    assert [m.text for m in chat.transcript] == ["a", "A long reply."] and not chat.session.n_pending
    say(chat, "Fine.")
    assert chat.reply("c").text == "Fine."


@pytest.mark.parametrize("begun", ["Well,", "Well, ", "<think>", "Ends in a\n"])
def test_a_reply_that_begins_as_it_is_told_to(begun: str) -> None:
    chat = make_chat()
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = [*CODEC.encode(" and\nmore", special=False).tolist(), END]
    turn = chat.turn("a", begun=begun, stop=["\n\n", "STOP"])
    assert run(chat, turn) == " and\nmore" and turn.reply.text == (begun + " and\nmore").strip()
    assert turn.reply.n_generated == len(" and\nmore") and turn.reply.thought == ""
    assert f"assistant\n{begun} and\nmore<|im_end|>" in transcript(chat)


def test_what_a_tool_says_is_answered_in_its_turn() -> None:
    chat = make_chat(["Call.", "It is cold."])
    chat.reply("What is the weather?")
    chat.add("tool", "3 degrees")
    assert run(chat, chat.answer()) == "It is cold." and chat.session.turn == 1
    assert [m.role for m in chat.transcript] == ["user", "assistant", "tool", "assistant"]
    assert {m.turn for m in chat.transcript} == {1}


def test_a_note_is_evicted_and_forgotten_as_what_a_user_says() -> None:
    chat = make_chat(["One."])
    chat.reply("a")
    chat.add_note("Write like a pirate.")
    assert "system\nWrite like a pirate." in transcript(chat) and not chat.has_pins
    assert not chat.session.ledger["pinned"][chat.session.ledger["turn"] > 0].any()
    assert chat.system is None and chat.forget("pirate")
    assert "pirate" not in transcript(chat)


def test_words_of_a_reply_that_was_taken_back_are_kept_nowhere() -> None:
    chat = make_chat(["An elephant walks through the house. " * 12], recall="cells", budget=200, max_tokens=600)
    chat.reply("Tell me of an animal.")
    user = chat.transcript.of(1)[0].id
    assert len(chat.evictions.words()["born"])
    chat.go_back(user)
    assert not chat.matches("elephant") and chat._archive is not None
    assert all(piece.message <= user for piece in chat._archive)
    again = EvictionLog()
    again.load(list(chat.evictions))
    assert not (again.words()["message"] > user).any()


def test_the_last_message_of_a_transcript() -> None:
    chat = make_chat(["One."])
    assert chat.transcript.last is None
    chat.reply("a")
    assert chat.transcript.last == Message(1, "assistant", "One.")
