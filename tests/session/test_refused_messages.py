"""What is refused changes nothing, and waits nowhere to be refused again. On the toy."""

from typing import Any

import pytest
from chatting import CODEC, make_chat, said, script, transcript
from driving import agrees, columns

from edge_sir.chat import Chat
from edge_sir.engine import Tokens
from edge_sir.errors import BudgetError, CapabilityError
from edge_sir.testing import ByteTokenizer, ToyEngine

LONG = "A message that is longer than the cells that are left for it, by far. " * 4


def keep_all(**options: Any) -> Chat:
    chat = make_chat(["Hello.", "Fine."], policy="keep-all", budget=256, **options)
    chat.reply("Hi")
    return chat


def state(chat: Chat) -> Any:
    texts = [(m.turn, m.role, m.text) for m in chat.transcript]
    return texts, columns(chat.session, "token", "pos", "turn", "pinned"), chat.session.turn, chat.awaits


@pytest.mark.parametrize("call", ["reply", "stream", "add", "set_system"])
def test_a_message_that_keep_all_has_no_room_for_is_refused_before_anything_is_fed(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = keep_all()
    before = state(chat)
    monkeypatch.setattr(chat.engine, "decode", None)  # whoever asks for a decode fails
    given = {"add": ["user", LONG]}.get(call, [LONG])
    with pytest.raises(BudgetError, match="keep-all: the context is full"):
        for _ in getattr(chat, call)(*given) if call != "reply" else [chat.reply(LONG)]:
            pass
    assert state(chat) == before and chat.session.n_pending == 0
    monkeypatch.undo()
    chat.set_budget(250)
    assert chat.reply("And?").text == "Fine." and agrees(chat.session)


def test_a_reply_to_what_just_fits_is_cut_and_ended() -> None:
    chat = keep_all()
    room = chat.session.budget.n_cells - len(chat.session.ledger)
    around = len(transcript(keep_all())) and len(CODEC.encode("<|im_start|>user\n<|im_end|>\n", special=True))
    opening = len(CODEC.encode("<|im_start|>assistant\n", special=True))
    n_close = len(CODEC.encode("<|im_end|>\n", special=True))
    text = "x" * (room - around - opening - n_close - 1)
    with pytest.raises(BudgetError):
        chat.reply(text + "x")
    reply = chat.reply(text)
    assert (reply.text, reply.finish, len(chat.session.ledger)) == ("F", "length", 256)
    assert agrees(chat.session)


def test_a_text_that_cannot_be_encoded_is_not_tried_again() -> None:
    class Choosy(ByteTokenizer):
        def encode(self, text: str, *, special: bool) -> Tokens:
            if "2 GB" in text:
                raise CapabilityError("too long")
            return super().encode(text, special=special)

    chat = make_chat(["Fine."], codec=Choosy())
    with pytest.raises(CapabilityError):
        chat.reply("2 GB")
    assert not chat.awaits and len(chat.transcript) == 0
    assert chat.reply("Hi").text == "Fine." and said(chat, "user") == "Hi"


def test_another_reply_that_has_no_room_leaves_the_first() -> None:
    chat = make_chat(["Fine."], policy="streaming", budget=128)
    chat.reply(LONG)  # of which the most is evicted
    chat.set_policy("keep-all")
    before = state(chat)
    with pytest.raises(BudgetError, match="keep-all: the context is full"):
        list(chat.regenerate())
    assert state(chat) == before and agrees(chat.session)


def test_a_policy_changed_in_the_middle_of_a_reply_ends_it() -> None:
    chat = make_chat(["Hello."], policy="streaming", budget=128)
    stream = chat.stream(LONG)
    next(stream)
    chat.set_policy("keep-all")
    assert stream.is_finished and stream.reply.text == "H" and agrees(chat.session)
    chat.set_policy("sir")
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = script("Fine.")
    assert chat.reply("How?").text == "Fine."


def test_a_system_prompt_too_long_for_keep_all_changes_nothing() -> None:
    chat = make_chat(policy="keep-all", budget=128, system="Be kind.")
    before = state(chat)
    with pytest.raises(BudgetError, match="the system prompt"):
        chat.set_system(LONG)
    assert state(chat) == before and chat.system == "Be kind."


def test_a_truncation_of_nothing_leaves_an_open_reply_alone() -> None:
    chat = make_chat(["Hello."])
    stream = chat.stream("Hi")
    assert next(stream).text == "H" and chat.truncate(2) == 0
    assert "".join(piece.text for piece in stream) == "ello." and agrees(chat.session)


def test_what_a_removed_system_prompt_said_can_be_forgotten() -> None:
    chat = make_chat(["Fine."], system="Ada is my sister.")
    chat.reply("Hi")
    chat.set_system("")
    chat.forget("Ada")
    assert [m.text for m in chat.transcript if m.role == "system"] == [""]
