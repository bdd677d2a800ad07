"""A disk that is full, processes that are killed, and damaged bytes."""

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store.parts import new_session, snapshot, texts, turn
from store.test_folder import python

from edge_sir.errors import StoreError
from edge_sir.memory.transcript import Message
from edge_sir.store.files import Files
from edge_sir.store.folder import StateFolder
from edge_sir.store.layout import Layout
from edge_sir.store.values import Record


class FullDisk(Files):
    """Files on a disk that takes half of what is written, once it is full."""

    is_full = False

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        if self.is_full:
            super().write(path, [b"".join(chunks)[:10]])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as os.write does
        super().write(path, chunks)


def test_a_snapshot_on_a_full_disk_costs_nothing_older(tmp_path: Path) -> None:
    files = FullDisk()
    with StateFolder(tmp_path / "state", files=files) as folder:
        store = folder.create("ada", model="m", fingerprint="f")
        store.write(turn(1, 0, "one"), snapshot(1))
        store.put_blobs({1: b"cells"})
        files.is_full = True
        for use, file in (
            (lambda: store.write_snapshot(snapshot(1)), "snapshots/1-"),
            (lambda: store.write(turn(2, 1, "two"), snapshot(2)), "snapshots/1-"),
            (lambda: store.put_blobs({1: b"others", 2: b"cells"}), "blobs/1-"),
        ):
            said = rf"cannot use .*{file}.*free some space; what was saved before is intact"
            with pytest.raises(StoreError, match=said):
                use()
        assert folder.verify() == [] and texts(store.read()) == ["one"] and store.blob(1) == b"cells"
        assert store.read_snapshot(store.snapshots()[0]) == snapshot(1).parts
        files.is_full = False
        assert store.write(turn(2, 1, "two"), snapshot(2)) == 2
        assert folder.verify() == []


class NoCheckpoint:
    """A connection on which a checkpoint fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if "wal_checkpoint" in statement:
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)


def test_after_a_checkpoint_that_failed_others_are_waited_for(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    connection = folder._database._connection
    folder._database._connection = NoCheckpoint(connection)  # type: ignore[assignment]
    folder._database._checkpoint_at = 0
    store.write(turn(1, 0, "one"))
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
    folder._database._connection = connection
    folder.close()


def test_a_folder_that_cannot_be_listed_is_an_error_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = new_session(tmp_path / "state")

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "state" / "blobs"))

    monkeypatch.setattr(Layout, "files", refuse)
    with pytest.raises(StoreError, match="make the folder writable"):
        StateFolder(tmp_path / "state")
    assert any("make the folder writable" in problem.what for problem in folder.verify())
    folder.close()


FILL = """
import sys
from store.parts import turn, texts, snapshot
from edge_sir.errors import StoreError
from edge_sir.store.folder import StateFolder
folder = StateFolder(sys.argv[1])
store = folder.create("ada", model="m", fingerprint="f")
n = 0
if sys.argv[2] == "limit":
    import resource, signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
try:
    while True:
        n = store.write(turn(n + 1, n, f"text {n + 1} " + "é " * 3000), snapshot(n + 1) if n % 5 == 0 else None)
except StoreError as error:
    print(error)
for again in range(3):
    try:
        print(store.write(turn(n + 1, n, "x" * 200_000)))
    except StoreError as error:
        print("still full")
assert len(texts(store.read())) == n > 10
assert folder.search("text 1")
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    __import__("os").unlink(sys.argv[3])
n = store.write(turn(n + 1, n, "there is room again"))
print(n)
"""


def check_filled(path: Path, run: "subprocess.Popen[str]") -> None:
    out, said = run.communicate(timeout=120)
    lines = out.splitlines()
    assert run.returncode == 0 and len(lines) == 5, (out, said)
    assert "cannot use" in lines[0] and lines[1:4] == ["still full"] * 3
    with StateFolder(path) as folder:
        assert folder.verify() == []
        assert texts(folder.open("ada").read())[-1] == "there is room again" and folder.sessions()[0].record == int(
            lines[4]
        )


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    check_filled(tmp_path / "state", python(FILL, tmp_path / "state", "limit"))


def test_a_small_file_system_that_fills_up(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("may not mount a file system here")
    try:
        ballast = mount / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        run = python(FILL, mount / "state", "disk", ballast)
        check_filled(mount / "state", run)
    finally:
        subprocess.run(["umount", mount], check=True)


LOOP = """
import sys
from dataclasses import replace
from store.parts import turn, snapshot
from edge_sir.store.folder import StateFolder
folder = StateFolder(sys.argv[1])
store = folder.open("ada")
n = store.info.record
while True:
    record = replace(turn(n + 1, n, f"text {n + 1}"), pieces={n % 40: b"p" * 500}, dropped=((n + 20) % 40,))
    n = store.write(record, snapshot(n + 1, 40_000) if n % 3 == 0 else None)
    print(n, flush=True)
    store.put_blobs({n % 40: b"%d" % n * 500})
    store.note_unsent([f"text {n + 1}"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    random_ = random.Random(1)
    folder, store = new_session(tmp_path / "state")
    store.close()
    folder.close()
    acknowledged = 0
    for _ in range(20):
        run = python(LOOP, tmp_path / "state")
        assert run.stdout is not None
        assert run.stdout.readline(), run.communicate()
        time.sleep(random_.uniform(0, 0.15))
        run.kill()
        lines = run.communicate()[0].split()
        acknowledged = max(acknowledged, *map(int, lines)) if lines else acknowledged + 1
        with StateFolder(tmp_path / "state") as folder, folder.open("ada") as store:
            stored = store.read()
            assert stored.record >= acknowledged
            assert texts(stored) == [f"text {n}" for n in range(1, stored.record + 1)]
            assert store.changes() == [b"changes %d" % n for n in range(1, stored.record + 1)]
            assert stored.unsent in ((), (f"text {stored.record + 1}",))
            newest = store.snapshots()[0]
            assert (
                newest.record > stored.record - 4
                and store.read_snapshot(newest) == snapshot(newest.record, 40_000).parts
            )
            assert all(store.blob(key) for key in store.blob_keys())
            assert folder.verify() == []
            acknowledged = stored.record
    assert acknowledged > 60


# ---- damaged bytes -----------------------------------------------------------------------------

MUTATE = """
import random, sys
from pathlib import Path
from store.test_failures import damage, use
begin, end = map(int, sys.argv[2:])
outcomes = {}
for seed in range(begin, end):
    print("seed", seed, file=sys.stderr, flush=True)
    damage(Path(sys.argv[1]) / ("with log", "whole")[seed % 2], Path(sys.argv[1]) / f"bad{begin}", random.Random(seed))
    for outcome in use(Path(sys.argv[1]) / f"bad{begin}"):
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
print(outcomes)
"""


def damage(source: Path, target: Path, random_: random.Random) -> None:
    """A copy of a state folder whose database is not what was written."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    log = target / "edge-sir.db-wal"
    file = log if log.exists() else target / "edge-sir.db"
    data = bytearray(file.read_bytes())
    kind = random_.randrange(6)
    at = random_.randrange(len(data))
    page = at // 4096 * 4096
    if kind == 0:
        for _ in range(random_.randrange(1, 20)):
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    elif kind == 1:
        data[at : at + random_.randrange(1, 300)] = random_.randbytes(100)
        del data[file.stat().st_size :]
    elif kind == 2:
        data[page : page + 4096] = bytes(4096)
    elif kind == 3:
        other = random_.randrange(len(data)) // 4096 * 4096
        data[page : page + 4096] = data[other : other + 4096]
    elif kind == 4:
        del data[at:]
    else:  # a page's head, where its cells are counted
        for _ in range(3):
            data[min(page + random_.randrange(16), len(data) - 1)] = random_.randrange(256)
    file.write_bytes(data)


def use(path: Path) -> Iterable[str]:
    """Does with a state folder all that can be done; gives what each use came to."""
    from edge_sir.errors import EdgeSirError

    try:
        folder = StateFolder(path)
    except EdgeSirError as error:
        yield f"open: {type(error).__name__}"
        return
    stores: list[object] = []

    def go_on() -> None:
        store = folder.open("ada")
        stores.append(store)
        store.read(), store.messages(), store.changes()
        for row in store.snapshots():
            store.read_snapshot(row)
        for key in store.blob_keys():
            store.blob(key)

    def write() -> None:
        store = folder.open("other")
        stores.append(store)
        store.write(Record(0, (Message(1, "user", "new text", 1),), b"c", {}, 1), snapshot(store.info.record + 1))
        store.put_blobs({3: b"x"})

    uses = {
        "list": folder.sessions,
        "go on": go_on,
        "search": lambda: (folder.search("needle"), folder.search("ne")),
        "write": write,
        "verify": folder.verify,
        "rename": lambda: folder.rename("third", "fourth"),
        "create": lambda: folder.create("new", model="m", fingerprint="f"),
        "backup": lambda: folder.backup(path / "copy"),
        "rescue": lambda: folder.rescue_to(path / "rescued"),
        "remove": lambda: folder.remove("third"),
    }
    for name, what in uses.items():
        try:
            what()
            yield f"{name}: done"
        except EdgeSirError as error:
            assert "\n" not in str(error) and "needle" not in str(error).replace("'needle'", "")
            yield f"{name}: {type(error).__name__}"
    folder.close()


def test_two_thousand_damaged_databases_end_no_process(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    for name in ("other", "third"):
        other = folder.create(name, model="m", fingerprint="f")
        other.write(turn(1, 0, "a needle", "b" * 5000), snapshot(1))
    for n in range(1, 30):
        record = turn(n, n - 1, f"text {n} needle é" * n)
        store.write(replace(record, pieces={n: b"p" * 700}), snapshot(n) if n % 9 == 0 else None)
    store.put_blobs({1: b"cells", 2: b"others"})
    shutil.copytree(tmp_path / "state", tmp_path / "with log")  # nearly all stands in the log
    store.close()
    folder.close()
    shutil.copytree(tmp_path / "state", tmp_path / "whole")
    runs = [python(MUTATE, tmp_path, begin, begin + 250) for begin in range(0, 500, 250)]
    runs_left = list(range(500, 2000, 250))
    outcomes = ""
    while runs:
        run = runs.pop(0)
        out, said = run.communicate(timeout=600)
        assert run.returncode == 0, said[-3000:]
        outcomes += out
        if runs_left:
            begin = runs_left.pop(0)
            runs.append(python(MUTATE, tmp_path, begin, begin + 250))
    assert "open: DamagedError" in outcomes and "go on: DamagedError" in outcomes and "write: done" in outcomes


def test_eight_thousand_damaged_snapshots_and_blobs(tmp_path: Path) -> None:
    random_ = random.Random(0)
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "x"), snapshot(1, 300))
    store.write_snapshot(snapshot(1, 200))
    newest, older = store.snapshots()
    blob = snapshot(5, 300).parts[0]
    store.put_blobs({1: blob})
    (blob_file,) = (tmp_path / "state" / "blobs").iterdir()
    for file in (tmp_path / "state" / "snapshots" / f"1-{newest.number}", blob_file):
        good = file.read_bytes()
        for _ in range(4000):
            data = bytearray(good)
            at = random_.randrange(len(data))
            if random_.random() < 0.2:
                data = data[:at] if random_.random() < 0.7 else data + data[:at]
            else:
                data[at] ^= 1 << random_.randrange(8)
            if data == good:
                continue
            file.write_bytes(data)
            if file is blob_file:
                assert store.blob(1) is None
            else:
                with pytest.raises(StoreError, match="is damaged; the next chat goes on without it"):
                    store.read_snapshot(newest)
        file.write_bytes(good)
    assert store.read_snapshot(newest) == snapshot(1, 200).parts and store.blob(1) == blob
    assert store.read_snapshot(older) == snapshot(1, 300).parts
    folder.close()
