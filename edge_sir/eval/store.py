"""Where an evaluation is kept: a folder with run.json (what was asked) and rows.jsonl (what came out).

Several processes may write rows to one folder. A killed run goes on where it stopped: the rows of a dialogue
under one arm are written at once, and count only if its last row is there. Rows that were packed are in
rows.jsonl.gz, the same lines a dozen times smaller; new ones still go to rows.jsonl, and both are read.
"""

import gzip
import io
import json
import os
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from edge_sir.errors import ConfigError
from edge_sir.eval.records import Row

__all__ = ["Key", "Store", "drop_rows", "key_of", "load_run", "pack_rows"]

_PLAIN, _PACKED = "rows.jsonl", "rows.jsonl.gz"

_SAME = (
    *("task", "model_sha256", "answer", "metrics", "seed", "lead", "n_tokens", "positions", "room"),
    "data_sha256",
)

Key = tuple[str, int, str, str]
"""Of a dialogue under an arm: policy, budget, dialogue, digest."""


class Store:
    """An evaluation's folder; with `folder` None, rows are kept in memory alone.

    Raises ConfigError if the folder holds an evaluation that was asked otherwise.
    """

    def __init__(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self._done: set[Key] = set()
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file; --out names a folder")
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / "run.json"
        if known.exists():
            before = _read_json(known)
            for key in _SAME:
                if before.get(key) != config.get(key):
                    raise ConfigError(
                        f"{folder} holds an evaluation with {key} {before.get(key)!r}, not {config.get(key)!r}; "
                        "give another folder with --out"
                    )
        else:
            _write_json(known, config)
        self.rows = _whole_groups(_read_rows(folder))
        self._done = _finished(self.rows)

    def is_done(self, policy: str, budget: int, dialogue: str, digest: str) -> bool:
        """Whether this dialogue was played to its end under this arm, both as they are now."""
        return (policy, budget, dialogue, digest) in self._done

    def add(self, rows: Sequence[Row]) -> None:
        """Keeps all rows of one dialogue under one arm."""
        # As a later run will read them, so that both say the same.
        rows = [Row.from_json(row.to_json()) for row in rows]
        self.rows += rows
        self._done |= _finished(rows)
        if self.folder is not None:
            with _locked(self.folder):
                _append(self.folder / _PLAIN, [row.to_json() for row in rows])

    def note(self, record: Mapping[str, Any]) -> None:
        """Keeps a line about this process's run: when, how long, how fast."""
        if self.folder is not None:
            _append(self.folder / "passes.jsonl", [record])


def load_run(folder: Path) -> tuple[dict[str, Any], list[Row], list[dict[str, Any]]]:
    """(run.json, rows, passes) of a folder. Raises ConfigError if it holds no evaluation.

    run.json's mapping gets `asked`: the dialogues that all passes together were asked for, (offset, n) ranges.
    """
    if not (folder / "run.json").is_file():
        raise ConfigError(f"{folder} holds no evaluation (no run.json in it)")
    passes = _read_lines(folder / "passes.jsonl")
    config = _read_json(folder / "run.json")
    asked = _merged([(p["offset"], p["n"]) for p in passes if "offset" in p and "n" in p])
    return config | {"asked": asked}, _whole_groups(_read_rows(folder)), passes


def drop_rows(folder: Path, wanted: Collection[Key]) -> int:
    """Leaves only the rows of `wanted` in a folder, packed and plain ones, and returns how many went."""
    dropped = 0
    with _locked(folder):
        for file in (folder / _PACKED, folder / _PLAIN):
            lines = _read_lines(file)
            kept = [line for row, line in zip(_as_rows(file, lines), lines, strict=True) if key_of(row) in wanted]
            if len(kept) < len(lines):
                _replace(file, kept)
            dropped += len(lines) - len(kept)
    return dropped


def pack_rows(folder: Path) -> None:
    """Moves the rows of a folder's rows.jsonl into its rows.jsonl.gz; does nothing if there is no rows.jsonl.

    Other processes may be writing rows meanwhile. Equal rows make equal files (with the same zlib). A kill loses
    nothing: the plain file goes last, and until then its rows are there twice, which counts as once.
    Raises ConfigError if the packed file is damaged.
    """
    packed, plain = folder / _PACKED, folder / _PLAIN
    if not plain.exists():
        return
    with _locked(folder):
        if records := _read_lines(packed) + _read_lines(plain):
            # Of equal lines (left by a kill) the later one, as the order says which version of a dialogue counts.
            latest = {json.dumps(record): record for record in reversed(records)}
            _replace(packed, [*reversed(latest.values())])
        plain.unlink(missing_ok=True)


def _merged(asked: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(offset, n) ranges in order, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for offset, n in sorted(asked):
        if found and offset <= sum(found[-1]):
            first = found[-1][0]
            found[-1] = (first, max(sum(found[-1]), offset + n) - first)
        else:
            found.append((offset, n))
    return found


def _finished(rows: Sequence[Row]) -> set[Key]:
    return {key_of(row) for row in rows if row.last}


def key_of(row: Row) -> Key:
    """The dialogue under an arm that a row belongs to."""
    return row.policy, row.budget, row.dialogue, row.digest


def _whole_groups(rows: Sequence[Row]) -> list[Row]:
    """Rows of dialogues that were finished, each counted once; of two versions of a dialogue the later one."""
    groups: dict[Key, dict[int, Row]] = {}
    for row in rows:
        group = groups.pop(key_of(row), {})  # a version that was played again is the latest
        group.setdefault(row.index, row)
        groups[key_of(row)] = group
    whole = {key: group for key, group in groups.items() if _is_whole(group)}
    latest = {key[:3]: key for key in whole}
    return [row for key in latest.values() for row in whole[key].values()]


def _is_whole(group: Mapping[int, Row]) -> bool:
    return any(row.last and row.index + 1 == len(group) for row in group.values())


def _read_rows(folder: Path) -> list[Row]:
    # The plain file is read first: what is packed in between is then found twice, and not missed.
    plain = _as_rows(folder / _PLAIN, _read_lines(folder / _PLAIN))
    return _as_rows(folder / _PACKED, _read_lines(folder / _PACKED)) + plain


def _as_rows(file: Path, lines: Sequence[dict[str, Any]]) -> list[Row]:
    try:
        return [Row.from_json(line) for line in lines]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file} was written by another version ({error}); give another folder with --out") from None


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """One mapping per line; a line that a kill cut short is left out."""
    found = []
    for line in _text(file).splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _text(file: Path) -> str:
    """What a file holds, packed or not; nothing if it is not there."""
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    except FileNotFoundError:
        return ""
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ConfigError(f"{file} is damaged; put back a copy of it, or give another folder with --out") from None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not {"task", "model", "answer"} <= found.keys():
            raise ValueError
        return found
    except ValueError:
        raise ConfigError(f"{file} is damaged; give another folder with --out") from None


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    part.replace(file)


def _replace(file: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes all of a file anew, packed if its name says so; a kill leaves the old one or the new one, whole."""
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as out:
        out.write(_packed(data) if file.suffix == ".gz" else data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def _packed(data: bytes) -> bytes:
    """With no name and no time in it, so that equal rows are equal files."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as out:
        out.write(data)
    return packed.getvalue()


def _locked(folder: Path) -> FileLock:
    """For `with`: one process at a time writes this folder's rows. A kill releases it."""
    return FileLock(folder / "rows.lock")


def _append(file: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """One write, so that lines of several processes do not mix; it starts a line if a kill left half of one."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with file.open("ab+") as out:
        if out.tell() and not _ends_a_line(file):
            text = "\n" + text
        out.write(text.encode())


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as data:
        data.seek(-1, os.SEEK_END)
        return data.read(1) == b"\n"
