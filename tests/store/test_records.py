"""What is written is what is read, in this process and in the next."""

from dataclasses import replace
from pathlib import Path

import pytest
from store.parts import new_session, snapshot, texts, turn

from edge_sir.errors import ConfigError, SessionError, StoreError
from edge_sir.memory.transcript import Message
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import EARLIER, ON_PATH, TAKEN_BACK, Record


def test_a_record_is_read_back_by_another_opening(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    assert store.write(turn(1, 0, "My name is Ada.", "Hello Ada.")) == 1
    record = replace(turn(2, 2, "Bye\0 \ud800.", "Tromsø 東京"), pieces={7: b"piece", 2**63 - 1: b"last"})
    assert store.write(record) == 2
    folder.close()
    store.close()
    with StateFolder(tmp_path / "state") as folder, folder.open("ADA") as store:
        stored = store.read()
        assert texts(stored) == ["My name is Ada.", "Hello Ada.", "Bye\0 ?.", "Tromsø 東京"]
        assert [m.message.id for m in stored.path] == [10, 11, 20, 21]
        assert [m.parent for m in stored.path] == [None, *(m.row for m in stored.path[:-1])]
        assert stored.entries == (b"entry 1", b"entry 2") and stored.record == 2
        assert stored.pieces == {7: b"piece", 2**63 - 1: b"last"}
        assert stored.state == {"turn": 2} and stored.unsent == ()
        assert store.changes() == [b"changes 1", b"changes 2"] and store.changes(1) == [b"changes 2"]
        info = store.info
        assert (info.name, info.n_turns, info.n_messages, info.record, info.n_bytes) == ("ada", 2, 4, 2, 0)
        assert info.options == {"budget": 512} and info.created <= info.used
        assert folder.verify() == []


def test_what_is_taken_back_stays_as_a_row(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "one", "two"))
    store.write(turn(2, 2, "three", "four"))
    store.write(replace(turn(2, 2, "three", "four"), n_kept=2))  # regenerated, and the same came
    store.write(Record(1, (), b"", {}, 0))  # undone, nothing new
    store.write(turn(1, 1, "other"))
    rows = store.messages()
    assert [m.message.text for m in rows] == ["one", "two", "three", "four", "three", "four", "other"]
    assert [m.on_path for m in rows] == [True, False, False, False, False, False, True]
    assert rows[-1].parent == rows[0].row and rows[4].parent == rows[1].row
    assert texts(store.read()) == ["one", "other"]
    assert folder.verify() == []
    folder.close()


def test_a_cleared_chat_begins_another_conversation(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(replace(turn(1, 0, "old ham", "old spam"), pieces={1: b"piece"}))
    store.put_blobs({1: b"cells"})
    store.write_snapshot(snapshot(1))
    store.write(replace(turn(1, 0, "new ham"), cleared=True))
    store.write(turn(2, 0, "newer ham"))
    stored = store.read()
    assert texts(stored) == ["newer ham"] and stored.record == 3
    assert stored.entries == (b"entry 1", b"entry 2") and stored.pieces == {}
    assert store.changes() == [b"changes 1", b"changes 2"]
    assert store.snapshots() == [] and store.blob_keys() == [] and store.info.n_bytes == 0
    assert not any(store.read().path[0].row == m.row for m in store.messages()[:-1])
    assert [m.conversation for m in store.messages()] == [1, 1, 2, 2]
    states = [found.state for found in folder.search("ham")]
    assert states == [ON_PATH, TAKEN_BACK, EARLIER]
    assert folder.verify() == []
    folder.close()


@pytest.mark.parametrize(
    "record",
    [
        Record(3, (Message(1, "user", "x"),), b"", {}, 1),
        Record(1, (), b"", {}, 1, cleared=True),
    ],
)
def test_a_record_that_does_not_fit_adds_nothing(tmp_path: Path, record: Record) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "one", "two"))
    before = store.read(), store.messages(), store.info
    with pytest.raises(ValueError):
        store.write(record)
    with pytest.raises(ValueError):
        store.write(turn(2, 2, "x"), snapshot(3))
    assert (store.read(), store.messages(), store.info) == before
    folder.close()


def test_pieces_leave_with_their_blobs(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.put_blobs({1: b"cells of 1", 2: b"cells of 2"})
    store.put_blobs({2: b"other cells of 2"})
    store.write(replace(turn(1, 0, "one"), pieces={1: b"a", 2: b"b", 3: b"c"}))
    store.write(replace(turn(2, 1, "two"), pieces={3: b"d"}, dropped=(1, 9)))
    assert store.read().pieces == {2: b"b", 3: b"d"}
    assert store.blob(1) is None and store.blob(2) == b"other cells of 2" and store.blob_keys() == [2]
    assert len(list((tmp_path / "state" / "blobs").iterdir())) == 1
    store.write(replace(turn(3, 2, "three"), lost=(2, 5)))
    assert store.blob(2) is None and not list((tmp_path / "state" / "blobs").iterdir())
    folder.close()


def test_what_got_no_reply_is_kept_until_the_next_record(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.note_unsent(["are you there?", "hello \ud800"])
    with StateFolder(tmp_path / "state", read_only=True) as other:
        assert other.open("ada").read().unsent == ("are you there?", "hello \ud800")
    store.write(replace(turn(1, 0, "are you there?", "yes"), unsent=("hello \ud800",)))
    assert store.read().unsent == ("hello \ud800",)
    store.write(turn(2, 2, "hello"))
    assert store.read().unsent == ()
    folder.close()


def test_two_snapshots_are_kept(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    for number in range(1, 5):
        store.write(turn(number, 0, "x"), snapshot(number) if number % 2 else None)
        store.write_snapshot(snapshot(number))
    rows = store.snapshots()
    assert [row.record for row in rows] == [4, 3] and rows[0].number > rows[1].number
    assert store.read_snapshot(rows[0]) == snapshot(4).parts
    assert len(list((tmp_path / "state" / "snapshots").iterdir())) == 2
    assert (
        store.info.n_bytes == sum(row.n_bytes for row in rows) == sum(len(p) for n in (3, 4) for p in snapshot(n).parts)
    )
    with pytest.raises(ValueError):
        store.write_snapshot(snapshot(5))
    file = tmp_path / "state" / "snapshots" / f"1-{rows[0].number}"
    data = bytearray(file.read_bytes())
    for at in (3, 20, 200, len(data) - 1):
        data[at] ^= 1
        file.write_bytes(data)
        with pytest.raises(StoreError, match="is damaged; the next chat goes on without it"):
            store.read_snapshot(rows[0])
        data[at] ^= 1
    file.write_bytes(data + b"x")
    with pytest.raises(StoreError, match="is damaged"):
        store.read_snapshot(rows[0])
    file.unlink()
    with pytest.raises(StoreError):
        store.read_snapshot(rows[0])
    assert store.read_snapshot(rows[1]) == snapshot(3).parts
    assert [problem.where for problem in folder.verify()] == ["ada"]
    folder.close()


def test_a_damaged_blob_is_none(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.put_blobs({4: snapshot(1).parts[0], 5: b"plain"})
    for file in (tmp_path / "state" / "blobs").iterdir():
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    assert store.blob(4) is None and store.blob(5) is None
    assert len(folder.verify("ada")) == 2
    folder.close()


def test_a_closed_store_writes_no_more(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.close()
    with pytest.raises(ConfigError, match="read-only"):
        store.write(turn(1, 0, "x"))
    folder.close()
    folder.close()
    with pytest.raises(SessionError, match="closed"):
        store.read()


def test_an_error_about_damaged_text_does_not_show_it(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, "first\nmy secret plan"))
    folder.close()
    file = tmp_path / "state" / "edge-sir.db"
    file.write_bytes(file.read_bytes().replace(b"first\nmy secret", b"f\xffrst\nmy secret"))
    with StateFolder(tmp_path / "state") as folder:
        for use in (lambda: folder.search("plan"), lambda: folder.open("ada", read_only=True).read()):
            with pytest.raises(StoreError, match=r"is damaged \(text that is no UTF-8\)") as caught:
                use()
            assert "secret" not in str(caught.value)
        assert any("not what was written" in p.what or "UTF-8" in p.what for p in folder.verify())
