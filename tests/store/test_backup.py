"""Backups open as state folders, and threads share a store."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from store.parts import new_session, snapshot, texts, turn

from edge_sir.errors import ConfigError
from edge_sir.store.folder import StateFolder


@pytest.mark.parametrize("read_only", [False, True])
def test_a_backup_opens_as_a_state_folder(tmp_path: Path, read_only: bool) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "one", "two"), snapshot(1))
    store.put_blobs({1: b"cells", 2: b"others"})
    with StateFolder(tmp_path / "state", read_only=read_only) as other:
        target = other.backup(tmp_path / "copies" / "monday")
    store.write(turn(2, 2, "three"))
    shutil.rmtree(tmp_path / "state" / "snapshots")
    with StateFolder(target) as copy:
        assert copy.verify() == []
        opened = copy.open("ada")
        assert texts(opened.read()) == ["one", "two"] and opened.blob(2) == b"others"
        assert opened.read_snapshot(opened.snapshots()[0]) == snapshot(1).parts
        assert len(copy.search("two")) == 1 and opened.write(turn(2, 2, "x")) == 2
    folder.close()


def test_a_backup_goes_without_files_that_are_missing(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "one"), snapshot(1))
    store.put_blobs({1: b"cells", 2: b"others"})
    (tmp_path / "state" / "blobs" / "1-2").unlink()
    (tmp_path / "state" / "snapshots" / "1-1").unlink()
    with StateFolder(folder.backup(tmp_path / "copy")) as copy:
        opened = copy.open("ada")
        assert copy.verify() == [] and opened.snapshots() == [] and opened.blob_keys() == [2]
    folder.close()


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    folder, _ = new_session(tmp_path / "state")
    (tmp_path / "there").mkdir()
    folder.backup(tmp_path / "there")
    before = (tmp_path / "there" / "edge-sir.db").read_bytes()
    for target in (tmp_path / "there", tmp_path / "there" / "edge-sir.db", tmp_path / "state"):
        with pytest.raises(ConfigError, match="back up to a new one"):
            folder.backup(target)
    assert (tmp_path / "there" / "edge-sir.db").read_bytes() == before
    folder.close()


def test_threads_take_turns(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    errors: list[BaseException] = []

    def snapshots() -> None:
        try:
            for _ in range(20):
                store.write_snapshot(snapshot(store.info.record, 100_000))
                folder.search("text")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=snapshots) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(1, 40):
        store.write(replace(turn(n, n - 1, f"text {n}"), pieces={n: b"p"}))
    for thread in threads:
        thread.join()
    assert errors == [] and folder.verify() == []
    assert texts(store.read()) == [f"text {n}" for n in range(1, 40)] and len(store.snapshots()) == 2
    folder.close()
