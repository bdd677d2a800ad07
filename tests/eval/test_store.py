"""Packed rows: they count as plain ones do, whatever is killed and whoever writes meanwhile."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from making import keep, row

from edge_sir.errors import ConfigError
from edge_sir.eval.records import Row
from edge_sir.eval.store import Store, drop_rows, key_of, load_run, pack_rows

CONFIG = {"task": "names", "model": "smollm2", "answer": "rank"}


class Kill(KeyboardInterrupt):
    pass


def group(dialogue: str, n: int = 2, **other: object) -> list[Row]:
    """All rows of one dialogue under one arm."""
    return [row("sir", 128, dialogue, index=i, last=i == n - 1, **other) for i in range(n)]


def made(folder: Path, *groups: Sequence[Row]) -> list[Row]:
    rows = [r for group in groups for r in group]
    keep(folder, "names", rows)
    return rows


def rows_in(folder: Path) -> list[Row]:
    return load_run(folder)[1]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"run.json", "rows.lock"}


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    def kill(*args: object, **kwargs: object) -> None:
        raise Kill

    monkeypatch.setattr(owner, name, kill)


# ---- reading and going on ------------------------------------------------------------------------------


def test_packed_rows_are_the_same_lines_and_count_the_same(tmp_path: Path) -> None:
    rows = made(tmp_path, group("a"), group("b"))
    lines = (tmp_path / "rows.jsonl").read_bytes()
    pack_rows(tmp_path)
    assert files_in(tmp_path) == {"rows.jsonl.gz"}
    assert gzip.decompress((tmp_path / "rows.jsonl.gz").read_bytes()) == lines
    assert rows_in(tmp_path) == Store(tmp_path, CONFIG).rows == rows


def test_a_run_goes_on_in_a_packed_folder(tmp_path: Path) -> None:
    rows = made(tmp_path, group("a"))
    pack_rows(tmp_path)
    packed = (tmp_path / "rows.jsonl.gz").read_bytes()
    store = Store(tmp_path, CONFIG)
    assert store.is_done("sir", 128, "a", "") and not store.is_done("sir", 128, "b", "")
    store.add(group("b"))
    assert (tmp_path / "rows.jsonl.gz").read_bytes() == packed
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2
    assert rows_in(tmp_path) == [*rows, *group("b")]
    pack_rows(tmp_path)
    assert files_in(tmp_path) == {"rows.jsonl.gz"} and rows_in(tmp_path) == [*rows, *group("b")]


def test_a_version_that_was_played_after_packing_is_the_later_one(tmp_path: Path) -> None:
    made(tmp_path, group("a", digest="old", gold_logprob=-1.0), group("a", digest="new", gold_logprob=-2.0))
    pack_rows(tmp_path)
    assert {r.digest for r in rows_in(tmp_path)} == {"new"}
    Store(tmp_path, CONFIG).add(group("a", digest="old", gold_logprob=-1.0))  # changed back, and equal to the letter
    for _ in range(2):
        assert [r.digest for r in rows_in(tmp_path)] == ["old"] * 2
        pack_rows(tmp_path)


def test_a_line_that_a_kill_cut_short_is_not_packed(tmp_path: Path) -> None:
    rows = made(tmp_path, group("a"))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"policy": "sir", "budget": 128, "dial')
    pack_rows(tmp_path)
    assert len(gzip.decompress((tmp_path / "rows.jsonl.gz").read_bytes()).splitlines()) == 2
    Store(tmp_path, CONFIG).add(group("b"))
    assert rows_in(tmp_path) == [*rows, *group("b")]


def test_nothing_to_pack_changes_nothing(tmp_path: Path) -> None:
    keep(tmp_path, "names", [])
    (tmp_path / "rows.jsonl").unlink()
    pack_rows(tmp_path)
    assert files_in(tmp_path) == set() and rows_in(tmp_path) == []
    made(tmp_path, group("a"))
    pack_rows(tmp_path)
    before = (tmp_path / "rows.jsonl.gz").stat()
    pack_rows(tmp_path)
    assert (tmp_path / "rows.jsonl.gz").stat().st_mtime_ns == before.st_mtime_ns


def test_equal_rows_are_equal_files_whenever_they_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, now in (("one", 1e9), ("two", 2e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        made(tmp_path / name, group("a"), group("b"))
        pack_rows(tmp_path / name)
    one, two = ((tmp_path / name / "rows.jsonl.gz").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_damaged_file_is_said_in_one_line(tmp_path: Path) -> None:
    rows = made(tmp_path, group("a"))
    pack_rows(tmp_path)
    whole = (tmp_path / "rows.jsonl.gz").read_bytes()
    for damaged in (whole[:-20], b"no gzip" + whole, whole[:30] + b"\xff" * 40 + whole[70:]):
        (tmp_path / "rows.jsonl.gz").write_bytes(damaged)
        for use in (load_run, lambda folder: Store(folder, CONFIG), lambda folder: drop_rows(folder, ())):
            with pytest.raises(ConfigError, match=r"rows\.jsonl\.gz is damaged; .*[^\n]$"):
                use(tmp_path)
        assert (tmp_path / "rows.jsonl.gz").read_bytes() == damaged
        made(tmp_path, group("b"))
        with pytest.raises(ConfigError, match="is damaged"):
            pack_rows(tmp_path)
        assert (tmp_path / "rows.jsonl").exists()
        (tmp_path / "rows.jsonl").unlink()
    (tmp_path / "rows.jsonl.gz").write_bytes(whole)
    assert rows_in(tmp_path) == rows


# ---- kills ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed_before", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace"), (Path, "unlink")])
def test_a_kill_while_packing_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, packed_before: bool
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        rows = made(folder, group("a"), group("b"))
        if packed_before:
            pack_rows(folder)
            Store(folder, CONFIG).add(group("c"))
            rows += group("c")
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name)
        with pytest.raises(Kill):
            pack_rows(killed)
    assert (killed / "rows.jsonl").exists()
    assert (killed / "rows.jsonl.gz").exists() == (packed_before or name == "unlink")
    assert rows_in(killed) == rows
    store = Store(killed, CONFIG)
    assert store.rows == rows and store.is_done("sir", 128, "b", "")
    for folder in (undisturbed, killed):
        Store(folder, CONFIG).add(group("d"))
        pack_rows(folder)
        assert files_in(folder) == {"rows.jsonl.gz"} and rows_in(folder) == [*rows, *group("d")]
    assert (killed / "rows.jsonl.gz").read_bytes() == (undisturbed / "rows.jsonl.gz").read_bytes()


# ---- others beside -------------------------------------------------------------------------------------


def test_rows_that_are_added_while_packing_wait_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made(tmp_path, group("a"))
    store, real = Store(tmp_path, CONFIG), os.fsync
    other = threading.Thread(target=store.add, args=(group("b"),))

    def while_packing(handle: int) -> None:
        other.start()
        other.join(0.3)  # after what is to be packed was read, before the plain file goes
        real(handle)

    monkeypatch.setattr(os, "fsync", while_packing)
    pack_rows(tmp_path)
    other.join()
    assert rows_in(tmp_path) == [*rows, *group("b")]


@pytest.mark.parametrize("read", [rows_in, lambda folder: Store(folder, CONFIG).rows])
def test_who_reads_while_another_packs_finds_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], list[Row]]
) -> None:
    rows = made(tmp_path, group("a"))
    real, packed = Path.read_bytes, []

    def pack_after_the_first(path: Path) -> bytes:
        try:
            return real(path)
        finally:
            if path.name.startswith("rows.") and not packed:
                packed.append(path)
                pack_rows(tmp_path)

    monkeypatch.setattr(Path, "read_bytes", pack_after_the_first)
    assert read(tmp_path) == rows and packed and not (tmp_path / "rows.jsonl").exists()


# ---- dropping ------------------------------------------------------------------------------------------


def test_rows_are_dropped_where_they_are(tmp_path: Path) -> None:
    made(tmp_path, group("a"), group("b"))
    pack_rows(tmp_path)
    Store(tmp_path, CONFIG).add(group("c"))
    Store(tmp_path, CONFIG).add(group("d"))
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files_in(tmp_path)}
    every = {key_of(r) for r in rows_in(tmp_path)}
    assert drop_rows(tmp_path, every) == 0
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files_in(tmp_path)} == before
    wanted = {key for key in every if key[2] in "bc"}
    assert drop_rows(tmp_path, wanted) == 4
    assert rows_in(tmp_path) == [*group("b"), *group("c")]
    lines = gzip.decompress((tmp_path / "rows.jsonl.gz").read_bytes()).splitlines()
    assert [Row.from_json(json.loads(line)) for line in lines] == group("b")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2
    assert drop_rows(tmp_path, ()) == 4 and rows_in(tmp_path) == []
    store = Store(tmp_path, CONFIG)
    assert not store.is_done("sir", 128, "b", "")
    store.add([replace(r, seconds=1.0) for r in group("b")])
    assert [r.seconds for r in rows_in(tmp_path)] == [1.0, 1.0]


def test_a_kill_while_dropping_leaves_the_packed_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made(tmp_path, group("a"), group("b"))
    pack_rows(tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, Path, "replace")
        with pytest.raises(Kill):
            drop_rows(tmp_path, ())
    assert rows_in(tmp_path) == rows
    assert drop_rows(tmp_path, ()) == 4 and files_in(tmp_path) == {"rows.jsonl.gz"}
