"""A copy of a session up to a message: its rows, its files, what is not in it, and what a kill in between leaves."""

from pathlib import Path

import pytest
from store.parts import new_session, snapshot, turn

from edge_sir.errors import ConfigError
from edge_sir.store.folder import StateFolder


def two_turns(path: Path) -> StateFolder:
    folder, store = new_session(path)
    store.write(turn(1, 0, "hello", "hi"), snapshot(1))
    store.write(turn(2, 2, "an elephant", "indeed"))
    store.put_blobs({7: b"cells"})
    store.close()
    return folder


def test_a_copy_has_the_cells_and_the_messages_up_to_there(tmp_path: Path) -> None:
    with two_turns(tmp_path / "state") as folder:
        with folder.open("ada") as source:
            path = [row.message for row in source.read().path]
        info = folder.copy("ada", "eve", last=path[1].id)
        assert info.record == 2 and folder.verify() == []
        with folder.open("ada") as source, folder.open("eve") as copy:
            assert [row.message.text for row in copy.read().path] == [m.text for m in path[:2]]
            assert copy.changes() == source.changes() and copy.read().state == source.read().state
            assert copy.read_snapshot(copy.snapshots()[0]) == source.read_snapshot(source.snapshots()[0])
            assert copy.blob(7) == b"cells"
        assert [one.session for one in folder.search("elephant")] == ["ada"]
        assert {one.session for one in folder.search("hello")} == {"ada", "eve"}


def test_each_can_be_removed_without_the_other(tmp_path: Path) -> None:
    with two_turns(tmp_path / "state") as folder:
        folder.copy("ada", "eve", last=1)
        folder.remove("ada")
        with folder.open("eve") as copy:
            assert copy.blob(7) == b"cells" and copy.read_snapshot(copy.snapshots()[0])
            copy.write(turn(3, len(copy.read().path), "more"))
        assert folder.verify() == []


def test_where_files_have_one_name_only_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr("os.link", refuse)
    with two_turns(tmp_path / "state") as folder:
        folder.copy("ada", "eve", last=1)
        with folder.open("eve") as copy:
            assert copy.blob(7) == b"cells"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with two_turns(tmp_path / "state") as folder:

        def fail(*_: object) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            folder.copy("ada", "eve", last=1, also=fail)
        assert folder.names() == ["ada"] and folder.verify() == []
        with pytest.raises(ConfigError, match="already"):
            folder.copy("ada", "ada", last=1)
        with pytest.raises(ConfigError, match="no session"):
            folder.copy("nobody", "eve", last=1)
        assert folder.names() == ["ada"]
