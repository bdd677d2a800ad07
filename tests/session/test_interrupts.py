"""Ctrl-C in the middle of a chat's work: cells, turns, transcript and figures still tell one story. On the toy."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from chatting import CODEC, make_chat, said, script, transcript
from driving import agrees

from edge_sir.chat import Chat
from edge_sir.cli import _terminal
from edge_sir.cli._losses import Losses
from edge_sir.engine import Tokens
from edge_sir.memory.transcript import Message
from edge_sir.recall.archive import Archive
from edge_sir.recall.store import ByteStore
from edge_sir.session import Session
from edge_sir.testing import ByteTokenizer, ToyEngine


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def interrupting(chat: Chat, at: int = 1, call: str = "decode") -> Iterator[None]:
    """Ctrl-C comes in the engine's `call` number `at`."""
    original, n = getattr(chat.engine, call), 0

    def interrupt(*args: Any) -> Any:
        nonlocal n
        n += 1
        if n == at:
            signal.raise_signal(signal.SIGINT)
        return original(*args)

    setattr(chat.engine, call, interrupt)
    yield
    setattr(chat.engine, call, original)


def interrupted(chat: Chat, action: Callable[[], Any], at: int = 1, call: str = "decode") -> None:
    """Runs `action`, and Ctrl-C ends it."""
    with interrupting(chat, at, call), pytest.raises(KeyboardInterrupt):
        action()


def two_turns(**options: Any) -> Chat:
    chat = make_chat(["Hello.", "Fine."], system="Be kind.", **options)
    chat.reply("Hi")
    chat.reply("How?")
    return chat


def answer(chat: Chat, text: str) -> str:
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = script("Well.")
    reply = chat.reply(text).text
    assert agrees(chat.session)
    return reply


class Reader:
    """A person who types one line and leaves."""

    shows_state, typed = True, False

    def __init__(self, line: str) -> None:
        self._lines = [line]

    def read(self) -> str:
        if not self._lines:
            raise EOFError
        return self._lines.pop()


def texts(chat: Chat) -> list[str]:
    return [m.text for m in chat.transcript]


class InterruptingTokenizer(ByteTokenizer):
    """Ctrl-C comes while `text` is encoded."""

    text = ""

    def encode(self, text: str, *, special: bool) -> Tokens:
        if self.text and self.text in text:
            self.text = ""
            signal.raise_signal(signal.SIGINT)
        return super().encode(text, special=special)


# ---- taken back ----------------------------------------------------------------------------------


def test_undo_is_done_with_cells_turn_and_transcript_or_not_at_all() -> None:
    chat = two_turns()
    interrupted(chat, chat.undo)
    assert chat.session.turn == 1 and len(chat.memory().turns) == 2
    assert texts(chat) == ["Be kind.", "Hi", "Hello."]
    assert not chat.awaits and agrees(chat.session)
    assert chat.undo().turn == 1


def test_regenerate_keeps_the_message_that_it_took_back() -> None:
    chat = two_turns()
    interrupted(chat, lambda: list(chat.regenerate()))
    assert (chat.session.turn, texts(chat), chat.awaits) == (1, ["Be kind.", "Hi", "Hello."], True)
    assert answer(chat, "And?") == "Well."
    assert texts(chat) == ["Be kind.", "Hi", "Hello.", "How?", "And?", "Well."]
    assert transcript(chat).count("How?") == 1 and not chat.awaits


def test_a_message_taken_back_by_an_interrupted_regenerate_is_answered_by_the_next() -> None:
    chat = two_turns()
    interrupted(chat, lambda: list(chat.regenerate()))
    chat.engine.script[:] = script("So so.")  # type: ignore[attr-defined]
    list(chat.regenerate())
    assert texts(chat)[-2:] == ["How?", "So so."] and chat.session.turn == 2
    interrupted(chat, lambda: list(chat.regenerate()))
    assert chat.undo().messages == (Message(2, "user", "How?"),)
    assert not chat.awaits


def test_a_session_alone_goes_back_in_turn_and_rows() -> None:
    chat = two_turns()
    interrupted(chat, lambda: chat.session.truncate(2))
    assert (chat.session.turn, int(chat.session.ledger["turn"].max())) == (1, 1)


@pytest.mark.parametrize("at", [1, 2])
def test_a_truncation_that_takes_the_prompt_along_puts_it_back(at: int) -> None:
    chat = two_turns()
    chat.set_system("Be rude.")
    interrupted(chat, lambda: chat.truncate(2), at)
    assert chat.system_turn == chat.session.turn == 2 and texts(chat)[-1] == "Be rude."
    answer(chat, "And?")
    assert transcript(chat).count("Be rude.") == 1 and "Be kind." not in transcript(chat)


@pytest.mark.parametrize(
    ("line", "notice"), [("/regen", "goes in with your next message"), ("/undo", ""), ("/clear", "is empty")]
)
def test_a_person_is_told_what_ctrl_c_left(
    line: str, notice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_terminal, "rich_reader", lambda chat: Reader(line))
    chat = two_turns()
    with interrupting(chat):
        _terminal.talk(chat, Losses(chat), quiet=True)
    told = capsys.readouterr().err
    assert notice in told and bool(told) == bool(notice)


@pytest.mark.parametrize("line", ["Tell me.", "/regen"])
@pytest.mark.parametrize("at", [3, 6, 9])
def test_a_stopped_reply_is_marked_and_shown_as_far_as_it_is_known(
    line: str, at: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_terminal, "rich_reader", lambda chat: Reader(line))
    chat = two_turns()
    chat.engine.script[:] = script("They sail across the ocean.")  # type: ignore[attr-defined]
    with interrupting(chat, at):
        _terminal.talk(chat, Losses(chat), quiet=False)
    out, err = capsys.readouterr()
    assert "(stopped)" in err.splitlines() and "They sail across the ocean.".startswith(texts(chat)[-1])
    assert out.split("\n")[0].strip() == texts(chat)[-1] == said(chat, "assistant").rpartition(".")[2].strip() != ""
    assert agrees(chat.session)


# ---- begun anew ----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["remove", "decode"])
def test_clear_empties_and_opens_or_neither(call: str) -> None:
    chat, fresh = two_turns(), make_chat(system="Be kind.")
    interrupted(chat, chat.clear, call=call)
    assert chat.session.turn == 0 and texts(chat) == ["Be kind."]
    for one in (chat, fresh):
        answer(one, "Hi")
    assert transcript(chat) == transcript(fresh)
    assert (chat.stats().turns, chat.run_stats().turns, chat.run_stats().conversations) == (1, 3, 2)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_transcript_is_loaded_or_not(at: int) -> None:
    chat, fresh = make_chat(system="Be rude."), make_chat(system="Be rude.")
    messages = [Message(0, "system", "Be kind."), Message(1, "user", "x" * 100), Message(1, "assistant", "Fine.")]
    interrupted(chat, lambda: chat.load(messages), at)
    assert (chat.session.turn, texts(chat), chat.awaits) == (0, ["Be rude."], False)
    assert (chat.run_stats().turns, chat.run_stats().conversations) == (0, 1)
    for one in (chat, fresh):
        assert one.load(messages) == 1
    assert transcript(chat) == transcript(fresh) and agrees(chat.session)


def test_a_new_system_prompt_is_in_force_with_what_is_told_of_it() -> None:
    chat = two_turns()
    interrupted(chat, lambda: chat.set_system("Be rude."))
    assert (chat.system, chat.system_turn, texts(chat)[-1]) == ("Be rude.", 3, "Be rude.")
    answer(chat, "And?")
    assert "Be kind." not in transcript(chat) and transcript(chat).count("Be rude.") == 1


def test_what_is_forgotten_leaves_cells_and_transcript() -> None:
    chat = two_turns()
    interrupted(chat, lambda: chat.forget(1), call="remove")
    assert texts(chat) == ["Be kind.", "How?", "Fine."] and "Hi" not in transcript(chat)
    assert agrees(chat.session)


# ---- being read ----------------------------------------------------------------------------------


def test_a_message_stopped_while_it_is_encoded_is_said_once_and_in_one_turn() -> None:
    codec = InterruptingTokenizer()
    chat = make_chat(["Hello."], codec=codec)
    codec.text = "A long paste."
    with pytest.raises(KeyboardInterrupt):
        chat.reply("A long paste.")
    assert chat.awaits and chat.session.turn == 0 and texts(chat) == []
    assert chat.reply("And?").text == "Hello."
    assert [(m.turn, m.text) for m in chat.transcript] == [(1, "A long paste."), (1, "And?"), (1, "Hello.")]
    assert transcript(chat).count("A long paste.") == 1 and not chat.awaits


def test_a_message_stopped_while_it_is_read_awaits_the_next() -> None:
    chat = make_chat()
    interrupted(chat, lambda: chat.reply("x" * 200), at=2)
    assert chat.awaits
    answer(chat, "And?")
    assert not chat.awaits and transcript(chat).count("x" * 200) == 1


def test_a_new_system_prompt_does_not_take_what_waits_to_be_said() -> None:
    codec = InterruptingTokenizer()
    chat = make_chat(codec=codec)
    codec.text = "Mind this."
    with pytest.raises(KeyboardInterrupt):
        chat.reply("Mind this.")
    chat.set_system("Be kind.")
    answer(chat, "And?")
    assert "Mind this." in transcript(chat)
    assert CODEC.bos_text + "<|im_start|>system\nBe kind." in transcript(chat)


def archiving(**options: Any) -> tuple[Chat, ByteStore]:
    """A chat in which bees were spoken of and left their cells, and the store of its archive."""
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy="streaming", budget=240, recall="cells", **options)
    archive = chat._memory.archive
    assert isinstance(archive, Archive)
    archive._store = ByteStore(10**9)
    chat.reply("My sister Ottilie keeps bees in Bergen.")
    for i in range(10):
        chat.reply(f"Today is day {i}, and it rains a lot.")
    return chat, archive._store


def test_ctrl_c_while_a_message_is_saved_leaves_no_bytes_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    chat, store = archiving()
    put = ByteStore.put

    def interrupted(self: ByteStore, blob: bytes) -> int:
        key = put(self, blob)
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return key

    monkeypatch.setattr(ByteStore, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        for i in range(10):
            chat.reply(f"Today is day {i}, and the sun shines.")
    assert store.n_bytes == sum(store.size(piece.key) for piece in chat._memory.archive)  # type: ignore[attr-defined]
    chat.clear()
    assert store.n_bytes == 0


def test_ctrl_c_while_rows_are_displaced_leaves_each_of_them_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    chat, _ = archiving()
    session, take_out = chat.session, Session._take_out

    def interrupted(self: Session, rows: Any) -> None:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        take_out(self, rows)

    monkeypatch.setattr(Session, "_take_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.reply("Where does Ottilie keep her bees?")
    displaced = [born for columns in session._displaced.columns() for born in columns["born"].tolist()]
    assert displaced and not set(displaced) & set(session.ledger["born"].tolist()) and agrees(session)
    assert "bees in Bergen" not in transcript(chat) and chat.awaits
    chat.reply("Hello?")
    assert not session.is_recalling and set(displaced) & set(session.ledger["born"].tolist())
