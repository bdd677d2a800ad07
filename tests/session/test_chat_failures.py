"""What a reply left early, or an error, leaves of a chat."""

from typing import Any

import pytest
from chatting import END, ToyHost, make_chat, said, script, transcript
from driving import agrees, role_rows

from edge_sir.engine import SamplingParams, Slice
from edge_sir.errors import (
    AbortedError,
    BatchError,
    ComputeError,
    ConfigError,
    NoSlotError,
    PoisonedError,
    SessionError,
    ShiftError,
)
from edge_sir.testing import ToyEngine


def test_leaving_early_keeps_what_was_said_closed() -> None:
    chat = make_chat(["Hello Anna, how are you?", "Fine."])
    stream = chat.stream("Hi")
    shown = "".join(next(stream).text for _ in range(5))
    stream.close()
    assert (stream.reply.finish, stream.reply.text) == ("cancelled", shown)
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
    assert stream.reply.n_generated == chat.stats().tokens_out == len(role_rows(chat.session, "assistant")) == 5


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
    assert (stream.reply.finish, stream.reply.text) == ("cancelled", "Hel")
    assert transcript(chat).endswith("assistant\nHel<|im_end|>\n")  # closing it decoded the token that failed
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


def test_a_stream_is_over_when_another_call_goes_on() -> None:
    chat = make_chat(["Hello Anna.", "Fine."])
    first, second = chat.stream("Hi"), chat.stream("How?")
    assert next(first).text == "H"
    chat.engine.script[:] = script("Fine.")  # type: ignore[attr-defined]
    assert next(second).text == "F"
    with pytest.raises(SessionError, match="another call ended this reply"):
        next(first)
    assert "".join(piece.text for piece in second) == "ine."
    assert [(m.role, m.text) for m in chat.transcript] == [
        ("user", "Hi"),
        ("assistant", "H"),
        ("user", "How?"),
        ("assistant", "Fine."),
    ]
    assert agrees(chat.session)


@pytest.mark.parametrize("leave", ["close", "drop", "go on"])
def test_a_chat_that_is_closed_ends_its_stream(leave: str) -> None:
    chat = make_chat(["Hello Anna."], host=ToyHost())
    stream = chat.stream("Hi")
    next(stream)
    chat.close()
    if leave == "close":
        stream.close()
    elif leave == "drop":
        del stream
    else:
        with pytest.raises(SessionError, match="the chat is closed"):
            next(stream)
    with pytest.raises(SessionError, match="the chat is closed"):
        chat.reply("How?")
    chat.close()


def test_a_closed_chat_refuses_whatever_needs_the_engine() -> None:
    chat = make_chat(["Hi."], host=ToyHost())
    chat.reply("Hi")
    chat.close()
    calls = (
        lambda: chat.reply("x"),
        lambda: chat.add("user", "x"),
        lambda: chat.truncate(1),
        lambda: chat.clear(),
        lambda: chat.set_system("x"),
        lambda: chat.forget("Hi"),
        lambda: chat.undo(),
        lambda: chat.regenerate(),
        lambda: chat.set_budget(200),
    )
    for call in calls:
        with pytest.raises(SessionError, match="the chat is closed"):
            call()
    assert [m.text for m in chat.transcript] == ["Hi", "Hi."] and not chat.awaits


def test_what_cannot_be_said_leaves_nothing_behind() -> None:
    chat = make_chat(["Fine."])
    with pytest.raises(ConfigError, match="a message is text"):
        chat.reply(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed -1"):
        SamplingParams(seed=-1)
    assert not chat.awaits and chat.reply("Hi", stop="END").text == "Fine."


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        ({"max_tokens": "x"}, "max_tokens is a whole number, not 'x'"),
        ({"max_tokens": 2.5}, "max_tokens is a whole number, not 2.5"),
        ({"stop": 5}, "stop is a text or a list of texts, not 5"),
        ({"stop": [None]}, "stop is a text or a list of texts"),
        ({"sampling": 5}, "sampling is a SamplingParams, not int"),
    ],
)
def test_terms_of_a_wrong_type_leave_nothing_behind(terms: dict[str, Any], match: str) -> None:
    chat, plain = make_chat(["Fine."]), make_chat(["Fine."])
    with pytest.raises(ConfigError, match=match):
        chat.reply("Lost", **terms)
    assert not chat.awaits and chat.reply("Hi").turn == plain.reply("Hi").turn == 1
    assert transcript(chat) == transcript(plain)
    with pytest.raises(ConfigError, match="a message is text"):
        chat.add("user", None)  # type: ignore[arg-type]
    assert transcript(chat) == transcript(plain)


def test_a_reply_regenerated_late_takes_nothing_else_back() -> None:
    chat = make_chat(["One.", "Two."])
    chat.reply("A")
    stream = chat.regenerate()
    chat.engine.script[:] = script("Two.")  # type: ignore[attr-defined]
    chat.reply("B")
    with pytest.raises(SessionError, match="the conversation went on"):
        next(stream)
    assert [m.text for m in chat.transcript if m.role == "user"] == ["A", "B"]


def test_a_reply_is_there_once_it_is_finished() -> None:
    chat = make_chat(["Hi!"])
    stream = chat.stream("Hi")
    for _ in range(2):
        with pytest.raises(SessionError, match="not"):
            _ = stream.reply
        next(stream)
    assert list(stream)[-1].text == "!" and stream.reply.text == stream.text == "Hi!"


def test_a_turn_that_others_drive_is_the_same_turn() -> None:
    alone, driven = (make_chat(sampling=SamplingParams(temperature=1, seed=4), max_tokens=12) for _ in range(2))
    for text in ("Hi", "And you?"):
        expected = alone.reply(text)
        turn, shown = driven.turn(text, max_tokens=12), ""
        while (piece := turn.next_slice()) is not None:
            [result] = driven.engine.decode([piece])
            shown += "".join(bit.text for bit in turn.commit(result))
        assert turn.next_slice() is None
        assert turn.reply == expected and shown.strip() == expected.text
    assert transcript(alone) == transcript(driven)


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
    with make_chat(engine=engine, host=ToyHost(), seq=1) as chat:
        chat.add("user", "Hi")
    assert engine.pos_range(0) == (-1, -1)
    chat.close()
