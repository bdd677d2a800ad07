"""What a chat goes on from: small cases of what the walks do at random."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from keeping import die, open_kept, picture, same_picture

from edge_sir.chat import Chat
from edge_sir.errors import StateError, StoreError
from edge_sir.store.session import SessionStore
from edge_sir.testing import ToyEngine


def test_after_a_new_conversation_began_the_log_is_of_that_alone(tmp_path: Path) -> None:
    """It held the end of the old one's rows, which no ledger of the new one has: nothing could be done again."""
    chat = open_kept(tmp_path / "state")
    chat.reply("My name is Ada.", max_tokens=3)
    chat.clear()
    chat.reply("My name is Eve.", max_tokens=3)
    then = picture(chat)
    die(chat)
    with open_kept(tmp_path / "state") as other:
        assert other._saver.going_on.how == "replayed"  # type: ignore[union-attr]
        same_picture(picture(other), then)


def test_scores_that_an_earlier_policy_asked_for_are_still_computed_after_a_snapshot(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state", policy="entropy")
    chat.reply("My name is Ada.", max_tokens=3)
    chat.set_policy("streaming")
    chat.close()
    with open_kept(tmp_path / "state") as other:
        assert other._saver.going_on.how == "exact"  # type: ignore[union-attr]
        other.reply("My name is Eve.", max_tokens=3)
        assert other.set_policy("entropy") == 0


def test_what_was_rebuilt_need_not_be_rebuilt_again(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state")
    chat.reply("My name is Ada.", max_tokens=3)
    chat.close()
    for snapshot in (tmp_path / "state" / "snapshots").iterdir():
        snapshot.write_bytes(b"damaged")
    other = open_kept(tmp_path / "state")
    assert other._saver.going_on.how == "rebuilt"  # type: ignore[union-attr]
    then = picture(other)
    die(other)
    with open_kept(tmp_path / "state") as third:
        assert third._saver.going_on.how == "exact"  # type: ignore[union-attr]
        same_picture(picture(third), then)


def test_a_message_that_was_forgotten_whole_keeps_no_earlier_one_on_the_path(tmp_path: Path) -> None:
    """It stays on the path as an empty row, and leaves that with the turns before it."""
    chat = open_kept(tmp_path / "state")
    for text in ("My name is Ada.", "I sell boats.", "My sister is Eve."):
        chat.reply(text, max_tokens=3)
    chat.forget(3)
    chat.truncate(1)
    chat.reply("My name is Finn.", max_tokens=3)
    then = picture(chat)
    die(chat)
    with open_kept(tmp_path / "state") as other:
        same_picture(picture(other), then)


def chat_that_evicted(path: Path) -> Chat:
    chat = open_kept(path, recall="cells", budget=128)
    for i in range(10):
        chat.reply(f"My locker has the number {i}. It is green.", max_tokens=3)
    return chat


def damage(path: Path, statement: str) -> None:
    with sqlite3.connect(path / "edge-sir.db") as database:
        assert database.execute(statement).rowcount > 0
    database.close()


def test_a_damaged_piece_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chat = chat_that_evicted(tmp_path / "state")
    n_pieces, said = len(list(chat._archive or ())), picture(chat)["said"]
    chat.close()
    damage(tmp_path / "state", "UPDATE pieces SET body = x'0102' WHERE key = (SELECT min(key) FROM pieces)")
    with open_kept(tmp_path / "state", recall="cells") as other:
        assert len(list(other._archive or ())) == n_pieces - 1 and picture(other)["said"] == said
        other.reply("And?", max_tokens=3)
    assert "cannot be recalled" in caplog.text


def test_with_a_damaged_log_something_can_be_forgotten(tmp_path: Path) -> None:
    """Every later call of the chat failed, and nothing was saved any more."""
    chat_that_evicted(tmp_path / "state").close()
    damage(tmp_path / "state", "UPDATE records SET changes = x'0102' WHERE number = 3")
    chat = open_kept(tmp_path / "state", recall="cells")
    chat.forget("number 4")
    chat.reply("And?", max_tokens=3)
    then = picture(chat)
    chat.close()
    with open_kept(tmp_path / "state", recall="cells") as other:
        assert other._saver.going_on.how == "exact"  # type: ignore[union-attr]
        same_picture(picture(other), then, ("held",))
    for snapshot in (tmp_path / "state" / "snapshots").iterdir():
        snapshot.unlink()
    with pytest.raises(StateError):
        open_kept(tmp_path / "state", recall="cells")


def test_a_damaged_piece_with_its_cells_on_disk_is_not_needed_to_do_turns_again(tmp_path: Path) -> None:
    """All that was archived was read for each recall that was done again, and one damaged piece ended that."""
    kept: dict[str, Any] = {"recall": "cells", "budget": 128, "on_disk": True}
    chat = open_kept(tmp_path / "state", **kept)
    for i in range(10):
        chat.reply(f"My locker has the number {i}. It is green.", max_tokens=3)
    chat.snapshot()
    assert chat.reply("What was the number 7?", max_tokens=3).recalled
    here = chat.session.ledger["token"].tolist()
    die(chat)
    damage(tmp_path / "state", "UPDATE pieces SET body = x'0102' WHERE key = (SELECT min(key) FROM blobs)")
    with open_kept(tmp_path / "state", **kept) as other:
        going_on = other._saver.going_on  # type: ignore[union-attr]
        assert going_on is not None and (going_on.how, going_on.n_left_out) == ("replayed", 0)
        assert other.session.ledger["token"].tolist() == here


def test_a_budget_that_was_lowered_right_before_the_power_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last snapshot was of the larger one, which the next process has no cells for: it could not go on at all."""
    chat = open_kept(tmp_path / "state", budget=256)
    chat.reply("My name is Ada.", max_tokens=3)
    chat.snapshot()
    with monkeypatch.context() as cut:
        cut.setattr(SessionStore, "write_snapshot", lambda *_: fail())
        chat.set_budget(128)
    then = picture(chat)
    die(chat)
    with open_kept(tmp_path / "state", ToyEngine(128)) as other:
        assert other._saver.going_on.how == "replayed"  # type: ignore[union-attr]
        same_picture(picture(other), then)


def fail() -> None:
    raise StoreError("no space left on the disk; free some")


def test_a_damaged_log_leaves_the_text(tmp_path: Path) -> None:
    chat_that_evicted(tmp_path / "state").close()
    damage(
        tmp_path / "state",
        "UPDATE records SET entries = CAST(substr(entries, 1, length(entries) - 3) || x'000102' AS BLOB)"
        " WHERE number = (SELECT max(number) FROM records WHERE length(entries) > 9)",
    )
    with pytest.raises(StateError):  # `Named` has the text read again then
        open_kept(tmp_path / "state", recall="cells")


def chat_with_unsent(path: Path, text: str) -> Chat:
    """A chat that goes on after it was cut while it read this."""
    chat = open_kept(path)
    chat.reply("My name is Ada.", max_tokens=3)
    next(chat.stream(text, max_tokens=3))
    die(chat)
    other = open_kept(path)
    assert other._unsent == [text]
    return other


@pytest.mark.parametrize("what", ["pin", "set_system", "set_budget", "forget"])
def test_a_command_keeps_what_is_unsent_in_its_own_record(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record took it from the disk, and a power cut before it was noted again lost it."""
    chat = chat_with_unsent(tmp_path / "state", "Where is my locker?")
    monkeypatch.setattr(SessionStore, "note_unsent", lambda *_: None)
    getattr(chat, what)({"pin": 1, "set_system": "Be kind.", "set_budget": 200, "forget": "Ada"}[what])
    die(chat)
    with open_kept(tmp_path / "state") as other:
        assert other._unsent == ["Where is my locker?"]


def test_what_is_unsent_goes_with_its_record(tmp_path: Path) -> None:
    chat = chat_with_unsent(tmp_path / "state", "Where is my locker?")
    chat.reply("And my key?", max_tokens=3)
    die(chat)
    with open_kept(tmp_path / "state") as other:
        assert other._unsent == [] and [m.role for m in other.transcript][-3:] == ["user", "user", "assistant"]
