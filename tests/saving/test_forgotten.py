"""What was forgotten on request stands in no file: neither its letters nor its tokens, packed or not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chatting import FILLER, script
from keeping import NAME, die, open_kept, picture, same_picture
from traces import traces

from edge_sir.chat import Chat
from edge_sir.errors import BudgetError, ComputeError, ConfigError, StoreError
from edge_sir.memory.transcript import Message
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore

SECRET = "QXZJQ"  # no other text has one of these letters
SAID = f"My code is {SECRET}. Mind it."
TOKENS = list(SECRET.encode())


def say(chat: Chat, text: str, reply: str = "Well.") -> Any:
    chat.engine.script[:] = script(reply)  # type: ignore[attr-defined]
    return chat.reply(text)


def fill(chat: Chat, n: int = 5) -> None:
    for _ in range(n):
        say(chat, FILLER)


def resident(chat: Chat) -> int | str:
    say(chat, SAID)
    return SECRET


def whole_turn(chat: Chat) -> int | str:
    say(chat, SAID, f"So {SECRET} it is.")
    return chat.session.turn


def evicted(chat: Chat) -> int | str:
    say(chat, SAID)
    fill(chat)
    return SECRET


def evicted_turn(chat: Chat) -> int | str:
    say(chat, SAID, f"So {SECRET} it is.")
    fill(chat)
    return 1


def partly_evicted(chat: Chat) -> int | str:
    for _ in range(3):
        say(chat, SAID)
        fill(chat, 1)
    return SECRET


def recalled(chat: Chat) -> int | str:
    say(chat, SAID)
    fill(chat)
    assert say(chat, "What is my code? Mind it.", f"It is {SECRET}.").recalled
    fill(chat, 2)
    return SECRET


def put_back(chat: Chat) -> int | str:
    say(chat, SAID)
    fill(chat)
    if chat.engine.spec.can_restore:
        chat.pin(1)
    return SECRET


def taken_back(chat: Chat) -> int | str:
    say(chat, SAID)
    chat.undo()
    say(chat, SAID)
    return SECRET


def taken_back_alone(chat: Chat) -> int | str:
    say(chat, "Hello.")
    say(chat, SAID, f"So {SECRET} it is.")
    chat.undo()
    return SECRET


def taken_back_before(chat: Chat) -> int | str:
    say(chat, "Hello.")
    say(chat, SAID)
    fill(chat)
    chat.truncate(1)
    fill(chat, 1)
    return SECRET


def taken_back_turn(chat: Chat) -> int | str:
    say(chat, SAID)
    chat.undo()
    say(chat, "Hello.")
    return 1


def regenerated(chat: Chat) -> int | str:
    say(chat, "Hello.", f"So {SECRET} it is.")
    chat.engine.script[:] = script(f"Well, {SECRET}.")  # type: ignore[attr-defined]
    list(chat.regenerate())
    chat.engine.script[:] = script("Well.")  # type: ignore[attr-defined]
    list(chat.regenerate())
    return SECRET


def earlier_conversation(chat: Chat) -> int | str:
    evicted(chat)
    chat.clear()
    say(chat, "Hello.")
    return SECRET


def earlier_conversation_too(chat: Chat) -> int | str:
    evicted(chat)
    chat.clear()
    fill(chat, 1)
    return evicted(chat)


def at_once_after(chat: Chat) -> int | str:
    evicted(chat)
    chat.clear()
    return SECRET


def thought(chat: Chat) -> int | str:
    say(chat, SAID, f"<think>So {SECRET} it is.</think>Well.")
    return SECRET


def thought_of_turn(chat: Chat) -> int | str:
    say(chat, SAID, f"<think>So {SECRET} it is.</think>Well.")
    fill(chat)
    return 1


def thought_of_another_turn(chat: Chat) -> int | str:
    say(chat, SAID)
    say(chat, "What is it?", f"<think>So {SECRET} it is.</think>I keep that.")
    return SECRET


def stopped(chat: Chat) -> int | str:
    """What was drawn and taken back for a stop text was never said."""
    chat.engine.script[:] = script(f"Oh, {SECRET} it is.")  # type: ignore[attr-defined]
    chat.reply(SAID, stop=(SECRET[2:],))
    return SECRET


def old_prompt(chat: Chat) -> int | str:
    chat.set_system(SAID)
    say(chat, "Hello.")
    chat.set_system("Be kind.")
    return SECRET


def cut_off(chat: Chat) -> int | str:
    chat.engine.script[:] = script(f"So {SECRET} it is.")  # type: ignore[attr-defined]
    stream = chat.stream(SAID)
    for _ in range(8):
        next(stream)
    stream.close()
    return SECRET


def not_read(chat: Chat) -> int | str:
    """An error came while it was read, and it goes in with the next message."""
    chat.engine.fail_next = ComputeError("the machine is on fire")  # type: ignore[attr-defined]
    with pytest.raises(ComputeError):
        say(chat, SAID)
    say(chat, "Hello.")
    return SECRET


def at_the_end(chat: Chat) -> int | str:
    """The last words of a text are looked at again, for where the next sentence begins."""
    say(chat, "Hello.")
    say(chat, f"It is {SECRET}", f"So it is {SECRET}")
    chat.undo()
    return SECRET


def at_the_end_and_cut_off(chat: Chat) -> int | str:
    say(chat, "Hello.")
    chat.engine.script[:] = script(f"It is {SECRET} and more.")  # type: ignore[attr-defined]
    chat.reply("What?", max_tokens=len(f"It is {SECRET}"))
    chat.undo()
    return SECRET


def twice(chat: Chat) -> int | str:
    evicted(chat)
    chat.forget("Mind it")
    return SECRET


CASES = (
    resident,
    whole_turn,
    evicted,
    evicted_turn,
    partly_evicted,
    recalled,
    put_back,
    taken_back,
    taken_back_alone,
    taken_back_before,
    taken_back_turn,
    regenerated,
    earlier_conversation,
    earlier_conversation_too,
    at_once_after,
    thought,
    thought_of_turn,
    thought_of_another_turn,
    stopped,
    old_prompt,
    cut_off,
    not_read,
    at_the_end,
    at_the_end_and_cut_off,
    twice,
)
MADE: dict[str, dict[str, Any]] = {
    "in memory": {},
    "on disk": {"on_disk": True, "resume_s": 1e-9},
    "as text": {"recall": "text", "resume_s": 0.02},
    "gaps": {"positions": "gaps", "on_disk": True},
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_nothing_of_it_is_left(case: Callable[[Chat], int | str], made: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    options = {"recall": "cells", "budget": 128} | MADE[made]
    chat = open_kept(path, **options)
    what = case(chat)
    chat.snapshot()
    assert traces(path, SECRET, TOKENS)
    chat.forget(what)
    assert traces(path, SECRET, TOKENS) == []
    then = picture(chat)
    die(chat)
    with open_kept(path, **options) as other:
        assert other._saver.going_on.how == "exact"  # type: ignore[union-attr]
        same_picture(picture(other), then, ("held",))
        fill(other, 3)
        other.undo()
    assert traces(path, SECRET, TOKENS) == []
    with StateFolder(path) as folder:
        assert folder.verify() == []


def test_what_was_not_answered_yet_can_be_forgotten(tmp_path: Path) -> None:
    """The power went while it was answered: it is no message of the transcript, and goes in with the next one."""
    path = tmp_path / "state"
    chat = open_kept(path)
    say(chat, "Hello.")
    next(chat.stream(f"{SAID} And this."))
    die(chat)
    with open_kept(path) as other:
        assert traces(path, SECRET, TOKENS)
        assert other.forget(SECRET) == () and other._unsent == ["Mind it. And this."]
        assert traces(path, SECRET, TOKENS) == []
        other.forget("Mind it")
        with pytest.raises(ConfigError, match="nobody said"):
            other.forget(SECRET)
    with open_kept(path) as other:
        assert other._unsent == ["And this."] and other.forget("this") == () and not other.awaits
    with open_kept(path) as other:
        assert not other.awaits


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_nothing_is_left_of_a_session_that_is_removed(
    case: Callable[[Chat], int | str], made: str, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    with open_kept(path, **{"recall": "cells", "budget": 128} | MADE[made]) as chat:
        case(chat)
    with StateFolder(path) as folder:
        folder.remove(NAME)
        assert traces(path, SECRET, TOKENS) == []
        assert folder.sessions() == [] and folder.verify() == []
        assert not list((path / "snapshots").iterdir()) and not list((path / "blobs").iterdir())


def test_what_was_said_and_is_to_go_in_again_is_forgotten_in_both(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state")
    say(chat, SAID)
    chat.engine.script[:] = script("Well.")  # type: ignore[attr-defined]
    next(chat.stream(f"{SAID} Where is it?"))
    die(chat)
    other = open_kept(tmp_path / "state")
    assert other.awaits and traces(tmp_path / "state", SECRET, TOKENS)
    other.forget(SECRET)
    assert other._unsent == ["Mind it. Where is it?"]
    assert traces(tmp_path / "state", SECRET, TOKENS) == []
    with pytest.raises(ConfigError):
        other.forget(SECRET)
    die(other)
    with open_kept(tmp_path / "state") as third:
        assert third._unsent == ["Mind it. Where is it?"]


@pytest.mark.parametrize("system", [None, "Be kind."])
def test_a_turn_s_number_is_of_the_present_conversation_alone(system: str | None, tmp_path: Path) -> None:
    """Right after /clear no row is of the present one, and the turn of the one before lost its text."""
    with open_kept(tmp_path / "state", system=system) as chat:
        say(chat, SAID)
        chat.clear()
        with pytest.raises(ConfigError, match="there is no turn 1"):
            chat.forget(1)
        assert [found.text for found in chat.search(SECRET)] == [SAID]
        chat.forget(SECRET)
        assert chat.search(SECRET) == []


@pytest.mark.parametrize("command", [Chat.undo, Chat.clear], ids=["undo", "clear"])
def test_what_was_taken_back_before_it_was_answered_leaves_the_files(
    command: Callable[[Chat], object], tmp_path: Path
) -> None:
    """It is in no row any more, and stood in pages that were written before."""
    chat = open_kept(tmp_path / "state")
    say(chat, "Hello.")
    next(chat.stream(SAID))
    die(chat)
    with open_kept(tmp_path / "state") as other:
        command(other)
        assert traces(tmp_path / "state", SECRET, TOKENS)
        with pytest.raises(ConfigError, match="nobody said"):
            other.forget(SECRET)
        assert traces(tmp_path / "state", SECRET, TOKENS) == []


def test_what_is_read_only_forgets_nothing_of_it_on_disk(tmp_path: Path) -> None:
    with open_kept(tmp_path / "state") as chat:
        taken_back_alone(chat)
    with open_kept(tmp_path / "state", read_only=True) as other:
        with pytest.raises(ConfigError, match="nobody said"):
            other.forget(SECRET)
        assert len(other.search(SECRET)) == 2


def test_what_was_forgotten_while_the_disk_failed_does_not_get_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells waited to be written with an earlier record, and were, after the one that forgot them."""
    path = tmp_path / "state"
    with open_kept(path, on_disk=True, recall="cells", budget=128) as chat:
        say(chat, "Hello.")
        with monkeypatch.context() as broken:
            broken.setattr(SessionStore, "write", lambda *_, **__: _fail())
            chat.forget(evicted(chat))
        chat.stats()
        assert chat._saver.problem == "" and traces(path, SECRET, TOKENS) == []  # type: ignore[union-attr]
        left = {piece.number for piece in chat._archive or () if not piece.is_text}
        assert set(chat._saver.store.blob_keys()) == left != set()  # type: ignore[union-attr]


def _fail() -> None:
    raise StoreError("no space left on the disk; free some")


def test_of_a_transcript_that_was_refused_nothing_is_left(tmp_path: Path) -> None:
    """The end of the text before a sentence was kept for the next one, also by a conversation that began anew."""
    with open_kept(tmp_path / "state", policy="keep-all", budget=128) as chat:
        with pytest.raises(BudgetError):
            chat.load([Message(1, "user", f"It is {SECRET}"), Message(2, "user", FILLER * 9)])
        with pytest.raises(ConfigError, match="nobody said"):
            chat.forget(SECRET)
        assert traces(tmp_path / "state", SECRET, TOKENS) == []
