"""A saved chat whose conversation grows: which messages are new, and what finding that takes. On the toy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chatting import CODEC, TEMPLATE, script

from edge_sir.chat import Chat
from edge_sir.chat.saving import Saver
from edge_sir.memory import transcript
from edge_sir.policies import from_spec
from edge_sir.store.folder import StateFolder
from edge_sir.testing import ToyEngine

Open = Callable[[], Chat]


@pytest.fixture
def open_ada(tmp_path: Path) -> Open:
    """Opens the session "ada", or goes on with it; close it before the next."""

    def open_() -> Chat:
        engine, folder = ToyEngine(256), StateFolder(tmp_path / "state")
        if folder.find("ada") is None:
            store = folder.create("ada", model="toy", fingerprint=engine.spec.fingerprint)
        else:
            store = folder.open("ada")
        saver = Saver(folder, store, terms={})
        saver.resume(engine, CODEC, frozenset())
        return Chat(engine, CODEC, TEMPLATE, from_spec("sir"), 256, saver=saver)

    return open_


def say(chat: Chat, text: str, reply: str = "Well, fine.") -> None:
    chat.engine.script[:] = script(reply)  # type: ignore[attr-defined]
    chat.reply(text)


def on_path(chat: Chat) -> list[tuple[int, str]]:
    """What is on disk of the conversation: the number and the text of each message."""
    assert chat._saver is not None
    return [(row.message.id, row.message.text) for row in chat._saver.store.read().path]


def now(chat: Chat) -> list[tuple[int, str]]:
    return [(message.id, message.text) for message in chat.transcript]


def test_a_turn_late_in_a_conversation_looks_at_no_more_messages_than_an_early_one(
    open_ada: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    class Counted(transcript.Message):
        """A message that counts how often its number is asked for."""

        def __getattribute__(self, name: str) -> Any:
            nonlocal reads
            reads += name == "id"
            return super().__getattribute__(name)

    monkeypatch.setattr(transcript, "Message", Counted)
    chat = open_ada()
    counts = []
    for _ in range(12):
        before = reads
        say(chat, "Hello there.")
        counts.append(reads - before)
    assert counts[-1] == counts[1] > 0
    chat.close()
    chat = open_ada()
    before = reads
    say(chat, "Hello there.")
    assert reads - before == counts[1]
    assert on_path(chat) == now(chat) and len(on_path(chat)) == 26
    chat.close()


def test_a_message_that_says_the_same_as_one_that_was_taken_back_is_another(open_ada: Open) -> None:
    chat = open_ada()
    say(chat, "Hello there.")
    say(chat, "My name is Ada.")
    before = on_path(chat)
    for _ in range(2):
        chat.engine.script[:] = script("Well, fine.")  # type: ignore[attr-defined]
        for _ in chat.regenerate():
            pass
        assert [text for _, text in on_path(chat)] == [text for _, text in before]
        assert on_path(chat) == now(chat) != before
        chat.close()
        chat = open_ada()
        assert on_path(chat) == now(chat)
    chat.close()


def test_what_was_forgotten_whole_stays_out_of_later_turns(open_ada: Open) -> None:
    chat = open_ada()
    for text in ("Hello there.", "My name is Ada.", "It rains."):
        say(chat, text)
    chat.forget(2)
    say(chat, "It snows.")
    chat.close()
    chat = open_ada()
    say(chat, "It is cold.")
    assert "".join(text for _, text in on_path(chat)).count("Ada") == 0
    assert [one for one in on_path(chat) if one[1]] == now(chat)
    chat.close()
