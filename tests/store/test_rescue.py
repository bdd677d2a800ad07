"""A damaged database gives out all rows that can still be read, and says how many cannot."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from edge_sir.errors import ConfigError, DamagedError
from edge_sir.memory.transcript import Message
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import Record

PAGE = 4096
WORDS = " ".join(["boats"] * 60)
N_TURNS = 60


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two sessions of 60 turns, each of which fills some pages."""
    path = tmp_path / "state"
    with StateFolder(path) as folder:
        for name in ("ada", "eve"):
            with folder.create(name, model="m", fingerprint="f") as store:
                for n in range(1, N_TURNS + 1):
                    store.write(Record(2 * n - 2, said(name, n), b"changes", {}, n))
    return path


def said(name: str, n: int) -> tuple[Message, ...]:
    return tuple(
        Message(n, role, f"{name} {n} {role} {WORDS}", 2 * n + i) for i, role in enumerate(("user", "assistant"))
    )


def all_of(name: str) -> list[Message]:
    return [message for n in range(1, N_TURNS + 1) for message in said(name, n)]


def spoil(state: Path, pages: Iterable[int]) -> None:
    file = state / "edge-sir.db"
    data = bytearray(file.read_bytes())
    for number in pages:
        data[(number - 1) * PAGE : number * PAGE] = b"\xa5" * PAGE
    file.write_bytes(data)


def page_with(state: Path, text: str) -> int:
    return (state / "edge-sir.db").read_bytes().index(text.encode()) // PAGE + 1


def root_of(state: Path, name: str) -> int:
    with closing(sqlite3.connect(state / "edge-sir.db")) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return int(page)


def texts_there(state: Path, name: str) -> list[str]:
    data = (state / "edge-sir.db").read_bytes()
    return [message.text for message in all_of(name) if message.text.encode() in data]


def test_one_damaged_page_costs_what_was_on_it(state: Path) -> None:
    spoil(state, [page_with(state, "ada 20 user"), page_with(state, "ada 40 user")])
    with StateFolder(state, read_only=True) as folder:
        with pytest.raises(DamagedError, match="'edge-sir sessions verify' says what can be done"):
            folder.open("ada", read_only=True).messages()
        ada, eve = folder.rescue()
        assert [message.text for message in ada.conversations[-1]] == texts_there(state, "ada")
        assert 0 < ada.n_lost == 2 * N_TURNS - ada.n_messages < 40 and not ada.is_least
        assert (list(eve.conversations[0]), eve.n_lost) == (all_of("eve"), 0)
        assert folder.rescue("ADA") == [ada]
        with pytest.raises(ConfigError, match="no session 'bob' that can be read"):
            folder.rescue("bob")


@pytest.mark.parametrize("name", ["messages_path", "messages_fts_data", "records", "sqlite_autoindex_sessions_1"])
def test_all_that_was_said_is_there_without_what_is_beside_it(state: Path, name: str) -> None:
    spoil(state, [root_of(state, name)])
    with StateFolder(state, read_only=True) as folder:
        for found in folder.rescue():
            assert (list(found.conversations[-1]), found.n_lost) == (all_of(found.name), 0)


def test_without_the_index_of_paths_what_is_missing_is_counted_as_far_as_it_shows(state: Path) -> None:
    spoil(state, [root_of(state, "messages_path"), page_with(state, "ada 20 user"), page_with(state, "eve 60 user")])
    with StateFolder(state, read_only=True) as folder:
        for found in folder.rescue():
            assert [message.text for message in found.conversations[-1]] == texts_there(state, found.name)
            assert found.is_least and 0 < found.n_lost <= 2 * N_TURNS - found.n_messages


def test_a_session_whose_name_is_lost_gets_another(state: Path) -> None:
    spoil(state, [root_of(state, "sessions")])
    with StateFolder(state, read_only=True) as folder:
        assert [found.name for found in folder.rescue()] == ["session 1", "session 2"]
        assert list(folder.rescue("session 2")[0].conversations[-1]) == all_of("eve")


def test_of_a_table_without_its_root_nothing_is_left(state: Path) -> None:
    spoil(state, [root_of(state, "messages")])
    with StateFolder(state, read_only=True) as folder:
        assert [(found.n_messages, found.n_lost) for found in folder.rescue()] == [(0, 2 * N_TURNS)] * 2


def test_what_can_be_read_is_a_new_state_folder(state: Path, tmp_path: Path) -> None:
    with StateFolder(state) as folder, folder.open("eve") as store:
        store.write(Record(0, (Message(1, "user", "And now?", 900),), b"", {}, 1, cleared=True))
    spoil(state, [page_with(state, "ada 20 user")])
    kept = texts_there(state, "ada")
    with StateFolder(state, read_only=True) as folder:
        with pytest.raises(DamagedError):
            folder.backup(tmp_path / "copy")
        found = folder.rescue_to(tmp_path / "copy")
        assert [one.name for one in found] == ["ada", "eve"]
        with pytest.raises(ConfigError, match="back up to a new one"):
            folder.rescue_to(tmp_path / "copy")
    with StateFolder(tmp_path / "copy") as copy:
        assert copy.verify() == []
        eve = copy.open("eve")
        assert [row.message.text for row in copy.open("ada").messages()] == kept
        assert [row.message.text for row in eve.read().path] == ["And now?"] and len(eve.messages()) == 121
        assert copy.search("eve user") != []


def test_what_is_wrong_is_said_with_what_to_do(state: Path) -> None:
    spoil(state, [page_with(state, "ada 20 user")])
    with StateFolder(state) as folder:
        damage, lost = folder.verify()
        assert damage.where.endswith("edge-sir.db") and "damaged in what was said; copy what can be read" in damage.what
        assert lost.where == "ada" and " of its messages cannot be read, and 1" in lost.what
        for problem in (damage, lost):
            assert "'edge-sir sessions backup DIR'" in problem.what and "verify" not in problem.what


def test_an_index_that_does_not_fit_is_made_anew_in_a_backup(state: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(state / "edge-sir.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO messages_fts (messages_fts, rowid, folded) VALUES ('delete', 1, 'other words')")
    with StateFolder(state) as folder:
        (problem,) = folder.verify()
        assert "the index of words does not fit" in problem.what and "sessions backup DIR" in problem.what
        folder.backup(tmp_path / "copy")
    with StateFolder(tmp_path / "copy") as copy:
        assert copy.verify() == [] and len(copy.search("boats", limit=1000)) == 240
