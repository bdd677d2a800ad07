"""Cells of evicted passages on disk that another build of llama.cpp wrote: they count as what they are, text."""

from pathlib import Path
from typing import Any

import pytest
from chatting import FILLER, script
from keeping import copied, die, open_kept, picture, same_picture

import edge_sir
from edge_sir.chat import Chat
from edge_sir.errors import ConfigError
from edge_sir.llama import engine as llama_engine
from edge_sir.store.session import SessionStore
from edge_sir.testing import ToyEngine

SAID = "My bicycle is a green Bianchi. Mind it."
KEPT: dict[str, Any] = {"on_disk": True, "recall": "cells", "budget": 192, "policy": "streaming"}


def say(chat: Chat, text: str, reply: str = "Well.") -> Any:
    chat.engine.script[:] = script(reply)  # type: ignore[attr-defined]
    return chat.reply(text)


def begun(path: Path, *, is_closed: bool = True) -> None:
    """A session whose first turn was evicted, with its cells on disk."""
    chat = open_kept(path, **KEPT)
    say(chat, SAID)
    for _ in range(5):
        say(chat, FILLER)
    assert chat._memory.where([chat.transcript.of(1)[0].id]) == {chat.transcript.of(1)[0].id: "archived"}
    assert blobs(path)
    if is_closed:
        chat.close()
    else:
        die(chat)


def updated(path: Path, **options: Any) -> Chat:
    """The chat of a process that has another build."""
    return open_kept(path, ToyEngine(640, build="newer"), **(KEPT | options))


def blobs(path: Path) -> list[Path]:
    return sorted((path / "blobs").iterdir())


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "cut"])
def test_they_are_text_and_leave_the_disk(is_closed: bool, tmp_path: Path) -> None:
    begun(tmp_path / "state", is_closed=is_closed)
    chat = updated(tmp_path / "state")
    assert chat._saver.going_on.how == ("rebuilt" if is_closed else "replayed")  # type: ignore[union-attr]
    message = chat.transcript.of(1)[0].id
    assert chat._memory.where([message]) == {message: "text only"}
    assert chat._archive and not any(chat._archive.holds(piece.born).any() for piece in chat._archive)
    assert not blobs(tmp_path / "state")
    [recalled] = say(chat, "Which colour has my bicycle?").recalled
    assert "green Bianchi" in recalled.text
    for _ in range(5):
        say(chat, FILLER)
    assert blobs(tmp_path / "state")  # those that it wrote itself
    then = picture(chat)
    die(chat)
    with updated(tmp_path / "state") as other:
        same_picture(picture(other), then, ("stats",))
        assert any(other._archive.holds(piece.born).all() for piece in other._archive or ())  # type: ignore[union-attr]


def test_nothing_makes_room_for_what_cannot_come_back(tmp_path: Path) -> None:
    """Pinned, put back by hand or by a larger budget, it had evicted what was resident, and then did not come."""
    begun(tmp_path / "state")
    chat = updated(tmp_path / "state")
    here = chat.session.ledger["born"].tolist()
    for call in (lambda: chat.pin(1), lambda: chat.recall(1)):
        with pytest.raises(ConfigError):
            call()
        assert chat.session.ledger["born"].tolist() == here
    chat.set_budget(256)
    assert chat.session.ledger["born"].tolist() == here
    chat.set_budget(192)
    say(chat, FILLER)
    undone = chat.undo()  # it evicted the rest of a message of which the other build had all cells
    assert undone.restored and not undone.lost and chat.session.ledger["born"].tolist() == here
    chat.close()


def test_who_only_looks_leaves_them_on_disk(tmp_path: Path) -> None:
    begun(tmp_path / "state")
    n = len(blobs(tmp_path / "state"))
    with updated(tmp_path / "state", read_only=True) as chat:
        assert chat._archive and not any(chat._archive.holds(piece.born).any() for piece in chat._archive)
        assert say(chat, "Which colour has my bicycle?").recalled
    assert len(blobs(tmp_path / "state")) == n
    with open_kept(tmp_path / "state", **KEPT) as chat:  # the build that wrote them
        assert any(chat._archive.holds(piece.born).all() for piece in chat._archive or ())  # type: ignore[union-attr]


def test_a_power_cut_before_they_left_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path / "state")
    with monkeypatch.context() as cut:
        cut.setattr(SessionStore, "write", lambda *_, **__: pytest.fail("the power is cut"))
        with pytest.raises(pytest.fail.Exception):
            updated(tmp_path / "state")
    path = copied(tmp_path / "state", tmp_path / "copy")
    assert blobs(path)
    with updated(path) as chat:
        assert chat._archive and not any(chat._archive.holds(piece.born).any() for piece in chat._archive)
    assert not blobs(path)


def test_on_llama_cpp(tiny_llama_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading: dict[str, Any] = {
        "quiet": True,
        "threads": 1,
        "budget": 160,
        "max_tokens": 6,
        "policy": "streaming",
        "recall": "cells",
    }
    session: dict[str, Any] = {"session": "ada", "state_dir": tmp_path / "state", "archive_on_disk": True}
    with edge_sir.load(tiny_llama_path, **loading) as model:
        with model.chat(**session) as chat:
            chat.reply(SAID)
            for i in range(6):
                chat.reply(f"{FILLER} {i}")
            n_evicted = chat.session.stats.evicted
        assert n_evicted and blobs(tmp_path / "state")
        monkeypatch.setattr(llama_engine, "build_id", lambda: "another")
        with model.chat(**session) as chat:
            assert chat.resumed is not None and chat.resumed.how == "rebuilt"
            here = chat.session.ledger["born"].tolist()
            with pytest.raises(ConfigError):
                chat.pin(1)
            assert chat.session.ledger["born"].tolist() == here and not blobs(tmp_path / "state")
            assert chat.reply("Which colour has my bicycle?").recalled
