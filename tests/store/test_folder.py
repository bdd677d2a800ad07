"""Sessions in a folder: names, locks, other processes, other versions."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store.parts import new_session, snapshot, texts, turn

from edge_sir.errors import ConfigError, SessionBusyError, SessionError, StoreError
from edge_sir.store import sessions
from edge_sir.store.database import sqlite_warning
from edge_sir.store.folder import StateFolder

TESTS = Path(__file__).resolve().parents[1]


def python(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """Another process that runs code with edge_sir and the tests at hand."""
    path = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("name", ["a", "Ada's".replace("'", "_"), "trip to Rome", "東京-2.0", "नमस्ते", "x" * 64, "9.b"])
def test_names_of_any_script(tmp_path: Path, name: str) -> None:
    folder, store = new_session(tmp_path / "state", name)
    assert store.info.name == name and folder.find(name) is not None
    assert len(name) == 1 or all(name not in path.name for path in (tmp_path / "state").rglob("*"))
    folder.close()


@pytest.mark.parametrize(
    "name", ["", " a", "a ", ".a", "-a", "x" * 65, "a/b", "a\\b", "a\nb", "a\0b", "a\u202eb", "\ud800", "a'b", "a%b"]
)
def test_other_names_get_the_rule(tmp_path: Path, name: str) -> None:
    with StateFolder(tmp_path / "state") as folder:
        with pytest.raises(ConfigError, match=r"1 to 64 letters, digits, '-', '_', '.' and blanks") as caught:
            folder.create(name, model="m", fingerprint="f")
        assert "\n" not in str(caught.value)
        assert folder.find(name) is None and folder.sessions() == []


def test_names_are_compared_without_case_and_composition(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state", "Tromsö")
    with pytest.raises(ConfigError, match="already; choose another name"):
        folder.create("TROMSO\u0308", model="m", fingerprint="f")
    folder.rename("tromsö", "TROMSÖ")
    assert store.info.name == "TROMSÖ"
    other = folder.create("b", model="m", fingerprint="f")
    with pytest.raises(ConfigError, match="already"):
        folder.rename("B", "tromsö")
    with pytest.raises(ConfigError, match="no session 'c'"):
        folder.rename("c", "d")
    assert other.info.id != store.info.id
    folder.close()


def test_a_session_is_open_once(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    code = "import sys; from edge_sir.store.folder import StateFolder; StateFolder(sys.argv[1]).open('ada')"
    other = python(code, tmp_path / "state")
    _, said = other.communicate()
    assert f"SessionBusyError: the session 'ada' is open in process {os.getpid()}; close it there" in said
    with pytest.raises(SessionBusyError, match="this process"):
        folder.open("ada")
    with pytest.raises(SessionBusyError):
        folder.remove("ada")
    reader = folder.open("ada", read_only=True)
    store.write(turn(1, 0, "x"))
    assert texts(reader.read()) == ["x"] and reader.read_only
    with pytest.raises(ConfigError, match="read-only"):
        reader.write(turn(2, 1, "y"))
    store.close()
    folder.open("ada").close()
    folder.remove("ada")
    with pytest.raises(ConfigError, match="removed"):
        reader.read()
    folder.close()


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    new_session(tmp_path / "state")[0].close()
    code = (
        "import sys; from edge_sir.store.folder import StateFolder\n"
        "f = StateFolder(sys.argv[1]); s = f.open('ada'); print('open', flush=True); sys.stdin.read()"
    )
    other = python(code, tmp_path / "state")
    assert other.stdout is not None and other.stdout.readline() == "open\n"
    folder = StateFolder(tmp_path / "state")
    with pytest.raises(SessionBusyError, match=f"process {other.pid};"):
        folder.open("ada")
    other.kill()
    other.communicate()
    folder.open("ada").close()
    folder.close()


def test_processes_write_different_sessions_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from store.parts import turn, snapshot; from edge_sir.store.folder import StateFolder\n"
        "f = StateFolder(sys.argv[1]); s = f.create(sys.argv[2], model='m', fingerprint='f')\n"
        "for n in range(60):\n"
        " assert s.write(turn(n, n, sys.argv[2] * 2000), None if n % 7 else snapshot(n + 1)) == n + 1"
    )
    others = [python(code, tmp_path / "state", name) for name in ("a", "b", "c")]
    for other in others:
        _, said = other.communicate(timeout=120)
        assert other.returncode == 0, said
    with StateFolder(tmp_path / "state") as folder:
        assert folder.verify() == []
        assert {i.name: (i.record, i.n_messages) for i in folder.sessions()} == dict.fromkeys("abc", (60, 60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_uses_nothing_and_harms_nothing(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "x"))
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (store.read, folder.sessions, lambda: store.write(turn(2, 1, "y")), lambda: store.info):
            try:
                use()
            except SessionError:
                refused += 1
        store.close()
        folder.close()
        del folder, store, use
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    with pytest.raises(SessionBusyError):  # the child gave nothing up
        StateFolder(tmp_path / "state").open("ada")
    store.write(turn(2, 1, "y"))
    assert texts(store.read()) == ["x", "y"] and folder.verify() == []
    folder.close()


def test_removal_leaves_the_other_sessions(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    other = folder.create("other", model="m", fingerprint="f")
    for s in (store, other):
        s.write(turn(1, 0, f"hello from {s.info.name}"), snapshot(1))
        s.put_blobs({1: b"cells"})
    store.close()
    folder.remove("ada")
    assert [info.name for info in folder.sessions()] == ["other"]
    assert [found.session for found in folder.search("hello from")] == ["other"]
    assert texts(other.read()) == ["hello from other"] and other.blob(1) == b"cells"
    assert folder.verify() == []
    again = folder.create("ada", model="m", fingerprint="f")
    assert again.info.id > other.info.id and texts(again.read()) == []
    folder.close()


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder, store = new_session(tmp_path / "new" / "state")
        store.write(turn(1, 0, "x"), snapshot(1))
        store.put_blobs({1: b"x"})
        root = tmp_path / "new" / "state"
        modes = {p: stat.S_IMODE(p.stat().st_mode) for p in [root, *root.rglob("*")]}
        assert len(modes) >= 10
        assert set(modes.values()) == {0o600, 0o700}
        assert all((mode == 0o700) == path.is_dir() for path, mode in modes.items())
        (root / "edge-sir.db").chmod(0o644)
        assert [p.what for p in folder.verify()] == ["others may use it (mode 644); run chmod 600 on it"]
        folder.close()
    finally:
        os.umask(old)


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with StateFolder(tmp_path) as folder:
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
        assert [problem.where for problem in folder.verify()] == [str(tmp_path)]


def test_the_clock_may_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = new_session(tmp_path / "state")
    for number, now in enumerate((5e9, 1.0, 4e9, -3.0), 1):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        store.write(turn(number, number - 1, f"text {number}"), snapshot(number))
    assert texts(store.read()) == [f"text {n}" for n in range(1, 5)]
    assert [f.text for f in folder.search("text")] == [f"text {n}" for n in range(4, 0, -1)]
    assert [row.record for row in store.snapshots()] == [4, 3] and store.info.used == -3.0
    assert folder.verify() == []
    folder.close()


def test_what_is_no_state_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="no folder; choose another"):
        StateFolder(tmp_path / "file")
    with pytest.raises(ConfigError, match="holds no sessions"):
        StateFolder(tmp_path, read_only=True)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "edge-sir.db").write_text("no database, but rather long text" * 200)
    with pytest.raises(StoreError, match="not a database"):
        StateFolder(tmp_path / "text")
    with pytest.raises(StoreError, match="not a database"):
        StateFolder(tmp_path / "text", read_only=True)


NOBODY = 65534


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "hello"), snapshot(1))
    folder.close()
    for path in (tmp_path / "state").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in (tmp_path / "state", tmp_path, *tmp_path.parents):
        if path != Path("/tmp") and path.stat().st_uid == 0 and "pytest" in str(path):
            path.chmod(0o755)
    code = (
        "import os, sys; from edge_sir.store.folder import StateFolder; from edge_sir.errors import StoreError\n"
        f"os.seteuid({NOBODY})\n"
        "try: StateFolder(sys.argv[1])\n"
        "except StoreError as error: print(error)\n"
        "f = StateFolder(sys.argv[1], read_only=True); s = f.open('ada')\n"
        "print([m.message.text for m in s.read().path], len(s.read_snapshot(s.snapshots()[0])), len(f.search('hello')))"
    )
    out, said = python(code, tmp_path / "state").communicate()
    first, second = out.splitlines() or [said, ""]
    assert "edge-sir.db" in first or "writer.lock" in first
    assert first.endswith("make the folder writable, or open it read-only")
    assert second == "['hello'] 2 1", said


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ((3, 36, 0), "cannot hold sessions"),
        ((3, 40, 1), "may damage"),
        ((3, 44, 5), "may damage"),
        ((3, 44, 6), ""),
        ((3, 50, 6), "may damage"),
        ((3, 50, 7), ""),
        ((3, 51, 2), "may damage"),
        ((3, 51, 3), ""),
        ((3, 54, 1), ""),
    ],
)
def test_what_is_said_about_sqlite(version: tuple[int, int, int], says: str) -> None:
    found = sqlite_warning(version)
    assert says in found and bool(says) == bool(found)


def test_sessions_are_listed_last_used_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = new_session(tmp_path / "state")
    monkeypatch.setattr(sessions.time, "time", lambda: 9e9)
    folder.create("later", model="m", fingerprint="f")
    assert [info.name for info in folder.sessions()] == ["later", "ada"]
    monkeypatch.setattr(sessions.time, "time", lambda: 9.1e9)
    store.write(turn(1, 0, "x"))
    assert [info.name for info in folder.sessions()] == ["ada", "later"]
    folder.close()
