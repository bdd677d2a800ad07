"""Databases of every version, and of none."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from store.parts import new_session, texts, turn
from store.test_folder import python

from edge_sir.errors import ConfigError, StoreError
from edge_sir.store import migrations
from edge_sir.store.folder import StateFolder

N = len(migrations.MIGRATIONS)
NEXT = "CREATE TABLE another (id INTEGER PRIMARY KEY) STRICT;\nALTER TABLE sessions ADD COLUMN colour TEXT;\n"


def of_version(path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder as that version made it; version 0 is an empty file."""
    path.mkdir(0o700)
    (path / "edge-sir.db").touch(0o600)
    if version:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:version])
            folder, store = new_session(path)
            store.write(turn(1, 0, "written by an old version"))
            folder.close()


@pytest.mark.parametrize("version", range(N + 1))
def test_every_version_becomes_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    path = tmp_path / "state"
    of_version(path, version, monkeypatch)
    with StateFolder(path) as folder:
        assert folder.verify() == []
        if version:
            assert texts(folder.open("ada").read()) == ["written by an old version"]
    with closing(sqlite3.connect(path / "edge-sir.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (N,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_database_from_the_future_is_refused(tmp_path: Path) -> None:
    new_session(tmp_path / "state")[0].close()
    with closing(sqlite3.connect(tmp_path / "state" / "edge-sir.db")) as connection:
        connection.execute(f"PRAGMA user_version = {N + 1}")
    for read_only in (False, True):
        with pytest.raises(ConfigError, match=r"newer edge-sir \(version .*\); update edge-sir"):
            StateFolder(tmp_path / "state", read_only=read_only)


def test_an_older_one_is_not_read_before_it_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_session(tmp_path / "state")[0].close()
    monkeypatch.setattr("edge_sir.store.database.MIGRATIONS", (*migrations.MIGRATIONS, NEXT))
    with pytest.raises(ConfigError, match="older edge-sir; open it once for writing"):
        StateFolder(tmp_path / "state", read_only=True)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "edge-sir.db")) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = (tmp_path / "edge-sir.db").read_bytes()
    with pytest.raises(ConfigError, match="of another program"):
        StateFolder(tmp_path)
    assert (tmp_path / "edge-sir.db").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
@pytest.mark.parametrize("version", range(N + 1))
def test_a_migration_that_is_killed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Killed before every statement of every migration, one more than there are included."""
    code = (
        "import os, signal, sqlite3, sys\n"
        "from edge_sir.store import database, migrations\n"
        "from edge_sir.store.folder import StateFolder\n"
        "left = [int(sys.argv[2])]\n"
        "class Killed(sqlite3.Connection):\n"
        "    def execute(self, sql, *values):\n"
        "        if not sql.startswith(('PRAGMA busy', 'PRAGMA journal')):\n"
        "            left[0] -= 1\n"
        "            if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().execute(sql, *values)\n"
        "connect = sqlite3.connect\n"
        "sqlite3.connect = lambda *a, **k: connect(*a, factory=Killed, **k)\n"
        f"migrations.MIGRATIONS += ({NEXT!r},)\n"
        "database.MIGRATIONS = migrations.MIGRATIONS\n"
        "StateFolder(sys.argv[1])"
    )
    every = (*migrations.MIGRATIONS, NEXT)
    n_killed = 0
    for n in range(0, 60, 3 if version == 0 else 2):
        path = tmp_path / str(n)
        of_version(path, version, monkeypatch)
        other = python(code, path, n)
        other.communicate()
        n_killed += other.returncode == -9
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", every)
            patch.setattr("edge_sir.store.database.MIGRATIONS", every)
            with StateFolder(path) as folder:
                assert folder.verify() == []
                if version:
                    assert texts(folder.open("ada").read()) == ["written by an old version"]
        if other.returncode == 0:
            break
    assert n_killed >= 5 and other.returncode == 0


def test_a_database_that_lost_its_tables_is_damaged(tmp_path: Path) -> None:
    new_session(tmp_path / "state")[0].close()
    with closing(sqlite3.connect(tmp_path / "state" / "edge-sir.db")) as connection:
        connection.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreError, match="already exists"):
        StateFolder(tmp_path / "state")
