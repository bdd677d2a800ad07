"""What a reply left early, or an error, leaves of a chat."""

from typing import Any

import pytest
from chatting import END, make_chat, said, script, transcript
from driving import agrees, role_rows

from edge_sir.engine import Slice
from edge_sir.errors import AbortedError, BatchError, ComputeError, NoSlotError, PoisonedError, ShiftError
from edge_sir.testing import ToyEngine


def test_leaving_early_keeps_what_was_said_closed() -> None:
    chat = make_chat(["Hello Anna, how are you?", "Fine."])
    stream = chat.stream("Hi")
    shown = "".join(next(stream).text for _ in range(5))
    stream.close()
    assert chat.last_reply is not None
    assert (chat.last_reply.finish, chat.last_reply.text) == ("interrupted", shown)
    assert transcript(chat).endswith("assistant\nHello<|im_end|>\n")
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = script("Fine.")
    assert chat.reply("And?").text == "Fine."
    assert agrees(chat.session)


def test_the_last_token_of_a_reply_left_early_is_counted() -> None:
    chat = make_chat(["Hello Anna."])
    stream = chat.stream("Hi")
    for _ in range(5):
        next(stream)
    stream.close()
    assert chat.last_reply is not None
    assert chat.last_reply.n_tokens == chat.stats().tokens_out == len(role_rows(chat.session, "assistant")) == 5


def test_a_stream_that_is_never_read_says_nothing() -> None:
    chat = make_chat(["Hello."])
    before = transcript(chat)
    chat.stream("Hi").close()
    assert transcript(chat) == before
    assert chat.session.turn == 0


@pytest.mark.parametrize("error", [ComputeError, AbortedError, NoSlotError, BatchError, ShiftError])
def test_a_message_is_not_lost_when_its_decode_fails(error: type[Exception]) -> None:
    engine = ToyEngine(512)
    chat = make_chat(["Hello.", "Fine."], engine=engine)
    engine.fail_next = error("made up")
    with pytest.raises(error):
        chat.reply("Hi")
    assert agrees(chat.session)
    assert chat.reply("How?").text == "Hello."
    assert said(chat, "user") == "HiHow?"
    assert agrees(chat.session)


def test_a_failure_in_mid_reply_leaves_what_was_said_closed() -> None:
    engine = ToyEngine(512)
    chat = make_chat(["Hello Anna.", "Fine."], engine=engine)
    stream = chat.stream("Hi")
    for _ in range(3):
        next(stream)
    engine.fail_next = ComputeError("made up")
    with pytest.raises(ComputeError):
        next(stream)
    assert chat.last_reply is not None
    assert (chat.last_reply.finish, chat.last_reply.text) == ("interrupted", "Hell")
    assert transcript(chat).endswith("assistant\nHell<|im_end|>\n")  # closing it decoded the token that failed
    assert agrees(chat.session)


def test_thoughts_leave_even_if_closing_the_reply_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ToyEngine(512)
    chat = make_chat(["<think>Hm.</think>Hello.", "Fine."], engine=engine)
    decode, failures = engine.decode, [ComputeError("made up")]

    def fail_once_at_the_end(slices: list[Slice]) -> Any:
        if failures and slices[0].tokens[0] == END:
            raise failures.pop()
        return decode(slices)

    monkeypatch.setattr(engine, "decode", fail_once_at_the_end)
    with pytest.raises(ComputeError):
        chat.reply("Hi")
    assert chat.reply("How?").text == "Fine."
    assert len(role_rows(chat.session, "thought")) == 0
    assert "Hello.<|im_end|>\n<|im_start|>user" in transcript(chat)


def test_a_poisoned_chat_says_so_at_every_call() -> None:
    chat = make_chat(["Hello."])
    chat.reply("Hi")
    stream = chat.stream("How?")
    next(stream)
    chat.engine.remove(0, 3, -1)
    with pytest.raises(PoisonedError):
        list(stream)
    for call in (lambda: chat.reply("x"), lambda: chat.add("user", "x"), lambda: chat.truncate(1)):
        with pytest.raises(PoisonedError):
            call()


def test_a_closed_chat_closes_only_the_engine_it_owns() -> None:
    engine = ToyEngine(512)
    with make_chat(engine=engine) as chat:
        chat.add("user", "Hi")
    assert engine.pos_range(0)[1] > 0
    with make_chat(engine=engine, owns_engine=True, seq=1) as chat:
        chat.add("user", "Hi")
    assert engine.pos_range(0) == (-1, -1)
    chat.close()
