"""What was forgotten or removed stands on disk nowhere: looked for in the bytes of every file."""

import random
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from store.parts import new_session, on_disk, texts, turn

from edge_sir.errors import StoreError
from edge_sir.memory.transcript import Message
from edge_sir.store.database import Database
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import Forgotten, Record, Snapshot

SECRET = "xqzjv-wkpfy"
RUN = b"\x11\x22\x33\x44\x55\x66\x77\x88"  # of token ids


def indexed(path: Path, trigrams: Sequence[str]) -> list[str]:
    """Which of these the index of words knows."""
    with closing(sqlite3.connect(path / "edge-sir.db")) as connection:
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, messages_fts, row)")
        return [t for t in trigrams if connection.execute("SELECT 1 FROM temp.words WHERE term = ?", (t,)).fetchone()]


def trigrams(text: str) -> list[str]:
    return [text[i : i + 3] for i in range(len(text) - 2)]


def secret_record(number: int) -> Record:
    record = turn(number, 0, f"my secret is {SECRET}", "I see")
    return replace(
        record,
        changes=b"a" + RUN + b"b",
        entries=(b"evicted " + SECRET.encode(),),
        pieces={1: SECRET.encode(), 2: b"harmless"},
        state={"last": SECRET},
    )


def test_nothing_forgotten_stands_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "state"
    folder, store = new_session(path)
    store.note_unsent([f"my secret is {SECRET}"])
    store.write(secret_record(1), Snapshot(1, "f", (RUN, SECRET.encode())))
    store.put_blobs({1: RUN * 50, 2: b"cells"})
    store.write(replace(turn(2, 2, "and", "more"), changes=RUN))
    store.write_snapshot(Snapshot(2, "f", (RUN,)))
    assert on_disk(path, SECRET.encode()) and on_disk(path, RUN) and indexed(path, trigrams(SECRET))
    row = store.read().path[0].row
    forgotten = Forgotten({row: "my secret is ..."}, lambda changes: changes.replace(RUN, b"-"), (b"kept entry",))
    number = store.write(Record(4, (), b"d", {"last": ""}, 2, dropped=(1,), forgotten=forgotten))
    assert on_disk(path, SECRET.encode()) == on_disk(path, RUN) == []
    assert indexed(path, trigrams(SECRET)) == []
    stored = store.read()
    assert texts(stored) == ["my secret is ...", "I see", "and", "more"] and stored.record == number
    assert stored.entries == (b"kept entry",) and stored.pieces == {2: b"harmless"}
    assert store.changes() == [b"a-b", b"-", b"d"] and store.snapshots() == [] and store.blob(2) == b"cells"
    assert folder.search(SECRET) == [] and len(folder.search("my secret")) == 1
    assert folder.verify() == []
    folder.close()
    assert on_disk(path, SECRET.encode()) == []


def test_a_snapshot_that_comes_with_the_forgetting_stays(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(secret_record(1), Snapshot(1, "f", (RUN,)))
    forgotten = Forgotten({}, lambda changes: b"", ())
    store.write(Record(2, (), b"", {}, 1, dropped=(1,), forgotten=forgotten), Snapshot(2, "f", (b"clean",)))
    assert [store.read_snapshot(row) for row in store.snapshots()] == [(b"clean",)]
    assert on_disk(tmp_path / "state", RUN) == []
    folder.close()


def test_only_rows_of_the_session_are_forgotten(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "one"))
    other = folder.create("other", model="m", fingerprint="f")
    row = store.read().path[0].row
    with pytest.raises(ValueError, match="no rows of this session"):
        other.write(Record(0, (), b"", {}, 0, forgotten=Forgotten({row: ""}, bytes, ())))
    assert texts(store.read()) == ["one"] and other.info.record == 0
    folder.close()


def test_a_removed_session_stands_on_disk_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "state"
    folder, store = new_session(path, "named-" + SECRET)
    other = folder.create("other", model="m", fingerprint="f")
    other.write(turn(1, 0, "something else"))
    store.write(secret_record(1), Snapshot(1, "f", (RUN,)))
    store.put_blobs({1: RUN})
    store.write(replace(turn(2, 0, "new", SECRET), cleared=True))
    store.close()
    assert on_disk(path, SECRET.encode())
    folder.remove("named-" + SECRET)
    assert on_disk(path, SECRET.encode()) == on_disk(path, RUN) == [] and indexed(path, trigrams(SECRET)) == []
    assert folder.verify() == [] and texts(other.read()) == ["something else"]
    assert {p.name for p in path.rglob("*") if p.is_file() and p.parent != path} == {"writer.lock", "2.lock"}
    folder.close()


def test_a_reader_delays_the_log_and_it_is_emptied_later(tmp_path: Path) -> None:
    path = tmp_path / "state"
    folder, store = new_session(path)
    store.write(secret_record(1))
    with closing(sqlite3.connect(path / "edge-sir.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        row = store.read().path[0].row
        forgotten = Forgotten({row: ""}, lambda changes: b"", ())
        store.write(Record(2, (), b"", {}, 1, dropped=(1,), forgotten=forgotten))
        assert on_disk(path, SECRET.encode())  # the reader still reads it
        reader.execute("COMMIT")
        store.write(turn(2, 2, "next"))
        assert on_disk(path, SECRET.encode()) == []
    folder.close()


def test_files_of_writes_that_failed_are_forgotten_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was whole, and its row found no space: it stayed until the session was opened next."""
    path = tmp_path / "state"
    folder, store = new_session(path)
    store.write(secret_record(1))
    with monkeypatch.context() as full:
        full.setattr(Database, "writing", lambda _: _fail())
        for use in (lambda: store.put_blobs({1: RUN, 2: RUN}), lambda: store.write_snapshot(Snapshot(1, "f", (RUN,)))):
            with pytest.raises(StoreError):
                use()
    assert len(on_disk(path / "blobs", RUN)) == 2 and len(on_disk(path / "snapshots", RUN)) == 1
    forgotten = Forgotten({store.read().path[0].row: ""}, lambda changes: b"", ())
    store.write(Record(2, (), b"", {}, 1, dropped=(1,), forgotten=forgotten))
    assert on_disk(path, RUN) == []
    folder.close()


def _fail() -> None:
    raise StoreError("no space left on the disk; free some")


def test_a_reader_delays_the_log_of_a_process_that_was_killed_too(tmp_path: Path) -> None:
    """Opened while somebody read, the log was left as it was until it was large, or the folder was closed."""
    path = tmp_path / "state"
    folder, store = new_session(path)
    store.write(turn(1, 0, SECRET))
    copy = shutil.copytree(path, tmp_path / "killed", ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    folder.close()
    with closing(sqlite3.connect(copy / "edge-sir.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        folder = StateFolder(copy)
        assert (copy / "edge-sir.db-wal").stat().st_size
        reader.execute("COMMIT")
    folder.open("ada").note_unsent(["next"])
    assert not (copy / "edge-sir.db-wal").stat().st_size
    folder.close()


@pytest.mark.parametrize("seed", range(4))
def test_many_forgettings_among_many_messages(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)
    path = tmp_path / "state"
    folder, store = new_session(path)
    secrets: dict[int, str] = {}
    lengths = [5, 30, 200, 3000, 9000]
    for number in range(1, 80):
        secret = f"<{number:03}{random_.randbytes(5).hex()}>"
        text = ("filler é " if number % 3 else "filler ") * random_.choice(lengths) + secret
        at = random_.randrange(len(text) - len(secret))
        text = text[at:] + text[:at] if random_.random() < 0.5 and at < len(text) - 20 else text
        n_kept = random_.choice([len(store.read().path)] * 4 + [0])
        store.write(Record(n_kept, (Message(number, "user", text, number),), secret.encode(), {}, 1))
        secrets[store.messages()[-1].row] = secret
        if random_.random() < 0.3:
            rows = random_.sample(sorted(secrets), min(len(secrets), random_.randrange(1, 6)))
            words = {row: random_.choice(["", "short", "long " * 900]) for row in rows}
            store.write(Record(0, (), b"", {}, 1, forgotten=Forgotten(words, lambda changes: b"", ())))
            for row in rows:
                assert on_disk(path, secrets.pop(row).strip("<>").encode()) == [], (row, number)
            assert folder.verify() == []
    for row, secret in secrets.items():
        assert on_disk(path, secret.encode()) or secret not in next(
            m.message.text for m in store.messages() if m.row == row
        )
    folder.close()


def test_forgetting_is_finished_after_a_power_cut(tmp_path: Path) -> None:
    """Files that could not be removed any more, and the log, are dealt with when the folder is opened next."""
    path = tmp_path / "state"
    folder, store = new_session(path)
    store.write(turn(1, 0, "x"))
    (path / "snapshots" / "1-77").write_bytes(RUN)
    (path / "blobs" / "1-78.tmp").write_bytes(RUN)
    (path / "blobs" / "99-1").write_bytes(RUN)
    assert len(folder.verify()) == 3 + 3 * (oct((path / "blobs" / "99-1").stat().st_mode)[-2:] != "00")
    store.close()
    folder.close()
    with StateFolder(path) as folder:
        assert len(on_disk(path, RUN)) == 2  # nobody has the session open: its writer may be about to name them
        folder.open("ada").close()
        assert on_disk(path, RUN) == []
