"""A chat whose session cannot be written goes on, says so once, and saves all of it when that works again."""

import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from keeping import NAME, die, open_kept, picture, same_picture

from edge_sir.chat import Chat
from edge_sir.errors import ConfigError, SessionBusyError, StoreError
from edge_sir.recall.store import ByteStore
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("edge_sir")]


def check_all_is_on_disk(chat: Chat, path: Path, *but: str, **options: Any) -> None:
    then = picture(chat)
    die(chat)
    with open_kept(path, **options) as other:
        same_picture(picture(other), then, but=but)


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    """As on a full disk: what is there can be written over, and nothing can be added. Python ignores SIGXFSZ."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on files")
def test_a_full_disk_costs_no_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"resume_s": 1e-9, "on_disk": True, "recall": "cells", "budget": 128}
    chat = open_kept(tmp_path / "state", **options)
    chat.reply("My name is Ada.", max_tokens=3)
    assert told(caplog) == [] and chat._saver.problem == ""  # type: ignore[union-attr]
    with no_file_may_grow():
        for i in range(12):
            chat.reply(f"My locker has the number {i}. It is green.", max_tokens=3)
        assert chat._saver.problem  # type: ignore[union-attr]
        assert chat.session.stats.evicted > 0 and chat.session.turn == 13
    assert len(told(caplog)) == 1 and "is not saved" in told(caplog)[0]
    chat.stats()  # any call tries again
    assert told(caplog)[1:] == ["all that was said is saved again"]
    check_all_is_on_disk(chat, tmp_path / "state", **options)


def test_what_fails_at_any_call_of_the_store_is_saved_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for n, names in enumerate((("write", "note_unsent"), ("write_snapshot",), ("put_blobs",))):
        path, options = tmp_path / str(n), {"resume_s": 1e-9, "on_disk": True, "recall": "cells", "budget": 128}
        chat = open_kept(path, **options)

        def fails(*_: Any, **__: Any) -> None:
            raise StoreError("no space left on the disk; free some")

        caplog.clear()
        with monkeypatch.context() as broken:
            for name in names:
                broken.setattr(SessionStore, name, fails)
            for i in range(10):
                chat.reply(f"My locker has the number {i}. It is green.", max_tokens=3)
            chat.undo()
            chat.forget("number 3")
        assert len([text for text in told(caplog) if "no space left" in text]) == 1, names
        chat.reply("And?", max_tokens=3)
        check_all_is_on_disk(chat, path, *["held"] * ("put_blobs" in names), **options)
        assert b"number 3" not in b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


def test_while_the_disk_fails_it_is_not_tried_at_every_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try may wait a minute for another process that writes."""
    calls: list[str] = []

    def fails(*_: Any, **__: Any) -> None:
        calls.append("tried")
        raise StoreError("no space left on the disk; free some")

    with open_kept(tmp_path / "state") as chat:
        for name in ("write", "note_unsent"):
            monkeypatch.setattr(SessionStore, name, fails)
        chat.engine.script[:] = list(b"A long reply, of many tokens.")  # type: ignore[attr-defined]
        assert chat.reply("My name is Ada.", max_tokens=29).text.startswith("A long")
        n_tried = len(calls)
        monkeypatch.undo()
        assert 1 <= n_tried <= 4


def test_cells_that_wait_for_the_disk_take_no_more_memory_than_the_archive_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record that waited held its own, so that a full disk filled the memory, too."""
    chat = open_kept(tmp_path / "state", on_disk=True, recall="cells", budget=128)
    store = ByteStore(2000)
    chat._archive._store = store  # type: ignore[union-attr]
    with monkeypatch.context() as broken:
        broken.setattr(SessionStore, "write", lambda *_, **__: _fail())
        for i in range(20):
            chat.reply(f"My locker has the number {i}. It is green.", max_tokens=3)
        assert 0 < store.n_bytes <= 2000
    chat.stats()
    on_disk = [path.stat().st_size for path in (tmp_path / "state" / "blobs").iterdir()]
    assert 0 < sum(on_disk) <= 2000
    chat.close()


def _fail() -> None:
    raise StoreError("no space left on the disk; free some")


def test_what_was_said_is_on_disk_before_it_is_read(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state")
    stream = chat.stream("My name is Ada.", max_tokens=3)
    next(stream)
    with open_kept(tmp_path / "state", read_only=True) as other:
        assert other._unsent == ["My name is Ada."] and other.awaits
    for _ in stream:
        pass
    with open_kept(tmp_path / "state", read_only=True) as other:
        assert other._unsent == [] and [m.role for m in other.transcript] == ["user", "assistant"]
    chat.close()


def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = open_kept(tmp_path / "state")
    for i in range(3):
        monkeypatch.setattr(time, "time", lambda i=i: 1e9 - 1e8 * i)
        chat.reply(f"My locker has the number {i}.", max_tokens=3)
    check_all_is_on_disk(chat, tmp_path / "state")


def test_one_process_writes_and_others_look(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state")
    chat.reply("My name is Ada.", max_tokens=3)
    with StateFolder(tmp_path / "state") as folder, pytest.raises(SessionBusyError, match="this process"):
        folder.open(NAME)
    with open_kept(tmp_path / "state", read_only=True) as other:
        other.reply("What is my name?", max_tokens=3)
        assert not other.is_saved and other.session.turn == 2
        assert [found.text for found in other.search("Ada")] == ["My name is Ada."]
    assert chat.is_saved
    check_all_is_on_disk(chat, tmp_path / "state")


def test_a_chat_without_a_session_has_nothing_to_search(tmp_path: Path) -> None:
    from chatting import make_chat

    with make_chat(["Hello."]) as chat:
        for call in (lambda: chat.search("Ada"), chat.snapshot):
            with pytest.raises(ConfigError, match="--session NAME"):
                call()
