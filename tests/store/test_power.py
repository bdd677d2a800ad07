"""The power is cut after every step on files, and what was not synced is lost: all that was acknowledged is there."""

import ctypes.util
import pickle
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from store.parts import on_disk, snapshot, texts
from store.test_folder import python

from edge_sir.store.folder import StateFolder

power = pytest.importorskip("store.power", exc_type=ImportError)

SECRET = "xqzjv-wkpfy"

RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from store import power
from store.parts import new_session, snapshot, texts, turn
from edge_sir.store import database
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import Forgotten, Record
database._CHECKPOINT_BYTES = 200_000
root, SECRET = Path(sys.argv[1]), sys.argv[3]
power.watch_sqlite()
def state(store):
    stored = store.read()
    return (texts(stored), stored.entries, stored.pieces, store.changes(), stored.unsent)
folder = StateFolder(root, files=power.NotedFiles())
power.note("try", 1)
store = folder.create("ada", model="m", fingerprint="f")
power.note("ack", 0, state(store), [], [], 0)
def did():
    rows = store.snapshots()
    power.note("ack", store.info.record, state(store), store.blob_keys(), [r.record for r in rows], 0)
def write(record, snapshot=None):
    power.note("try")
    store.write(record, snapshot)
    did()
n = 0
for n in range(1, 16):
    text = f"text {n} " + SECRET * (n == 5)
    write(replace(turn(n, n - 1, text * 9), pieces={n: b"p" * 300}), None if n % 4 else snapshot(n, 9000))
    if n % 3 == 0:
        power.note("try")
        store.put_blobs({n: (b"cells" + SECRET.encode() * (n == 15)) * 100, n - 1: b"others" * 80}); did()
        power.note("try")
        store.note_unsent([f"unsent {n}"]); did()
    if n % 5 == 0:
        power.note("try")
        store.write_snapshot(snapshot(n, 5000)); did()
    if n == 8:
        store.close(); folder.close()
        folder = StateFolder(root, files=power.NotedFiles()); store = folder.open("ada"); did()
write(Record(3, (), b"undone", {}, 3, dropped=(3, 4)))
rows = {m.row: "" for m in store.messages() if SECRET in m.message.text}
assert rows
power.note("try")
forgotten = Forgotten(rows, lambda changes: b"blank", (b"kept",))
store.write(Record(3, (), b"", {}, 3, dropped=(14, 15), forgotten=forgotten), snapshot(17))
power.note("ack", store.info.record, state(store), store.blob_keys(), [17], 1)
write(replace(turn(1, 0, "new"), cleared=True))
write(turn(2, 1, "newer"))
store.close(); folder.close()
did = None
power.save(sys.argv[2])
"""


def lay(files: dict[str, bytes], source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for name in ("snapshots", "blobs", "locks"):
        (target / name).mkdir(0o700, parents=True)
    target.chmod(0o700)
    for path, content in files.items():
        place = target / Path(path).relative_to(source)
        place.touch(0o600)
        place.write_bytes(content)


def check(path: Path, acknowledged: tuple[Any, ...], is_at_rest: bool) -> None:
    _, record, state, blobs, snapshots, forgotten = acknowledged
    with StateFolder(path) as folder:
        store = folder.open("ada")
        stored = store.read()
        assert stored.record in (record, record + 1), "an acknowledged record is missing"
        assert all(store.blob(key) is not None for key in store.blob_keys())
        for row in store.snapshots():
            assert store.read_snapshot(row)[1] == snapshot(row.record).parts[1]
        if is_at_rest:
            found = texts(stored), stored.entries, stored.pieces, store.changes(), stored.unsent
            assert (stored.record, found, store.blob_keys()) == (record, state, blobs)
            assert [row.record for row in store.snapshots()] == snapshots
        assert folder.verify() == []
        store.close()
    if forgotten:
        assert on_disk(path, SECRET.encode()) == []


def is_watchable() -> bool:
    """Whether Python uses the library that ctypes finds."""
    name = ctypes.util.find_library("sqlite3")
    maps = Path("/proc/self/maps")
    return bool(name and sqlite3.sqlite_version and maps.exists() and name in maps.read_text())


@pytest.mark.skipif(not is_watchable(), reason="SQLite is no library of its own in this Python")
def test_the_power_may_be_cut_at_any_step(tmp_path: Path) -> None:
    source, target, notes = tmp_path / "state", tmp_path / "after", tmp_path / "notes"
    _, said = (run := python(RUN, source, notes, SECRET)).communicate(timeout=120)
    assert run.returncode == 0, said
    steps = pickle.loads(notes.read_bytes())
    kinds = {step[0] for step in steps}
    assert {"create", "write", "truncate", "sync", "sync folder", "rename", "unlink", "note"} <= kinds
    assert any(step[0] == "write" and step[1].endswith(".db") for step in steps), "no checkpoint was seen"
    assert sum(step[0] == "note" and step[1] == "ack" for step in steps) > 30
    disk, random_ = power.Disk(), random.Random(0)
    acknowledged, is_at_rest, n_cuts, secret_left = None, False, 0, False
    for step in steps:
        became_durable = disk.step(step)
        if step[0] == "note":
            is_at_rest = step[1] == "ack"
            acknowledged = step[1:] if is_at_rest else acknowledged
        if acknowledged is None:
            continue
        for cut in ([disk.cut()] if became_durable or step[0] == "note" else []) + [disk.cut(random_)]:
            if is_at_rest and acknowledged[-1]:
                assert not any(SECRET.encode() in content for content in cut.values()), (
                    "it came back without an opening"
                )
            lay(cut, source, target)
            secret_left |= bool(on_disk(target, SECRET.encode()))
            check(target, acknowledged, is_at_rest)
            n_cuts += 1
    assert n_cuts > 300 and secret_left


def test_the_model_of_a_disk_loses_what_was_not_synced() -> None:
    """The control: without syncs nothing stays, and a rename does not sync what it names."""
    disk = power.Disk()
    for step in (("create", "/f/a"), ("write", "/f/a", 0, b"one")):
        disk.step(step)
    assert disk.cut() == {}
    disk.step(("rename", "/f/a", "/f/b"))
    disk.step(("sync folder", "/f"))
    assert disk.cut() == {"/f/b": b""}
    disk.step(("sync", "/f/b"))
    disk.step(("write", "/f/b", 1, b"xxxx"))
    assert disk.cut() == {"/f/b": b"one"} and disk.seen["/f/b"].seen == b"oxxxx"
    disk.step(("unlink", "/f/b"))
    assert disk.cut() == {"/f/b": b"one"}
    disk.step(("sync folder", "/f"))
    assert disk.cut() == {}
