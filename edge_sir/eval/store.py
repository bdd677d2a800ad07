"""Where an evaluation is kept: a folder with run.json (what was asked) and rows.jsonl (what came out).

Several processes may write rows to one folder. A killed run goes on where it stopped: the rows of a dialogue
under one arm are written at once, and count only if its last row is there.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.eval.records import Row

__all__ = ["Key", "Store", "drop_rows", "key_of", "load_run"]

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
        self.rows = _whole_groups(_read_rows(folder / "rows.jsonl"))
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
            _append(self.folder / "rows.jsonl", [row.to_json() for row in rows])

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
    return config | {"asked": asked}, _whole_groups(_read_rows(folder / "rows.jsonl")), passes


def drop_rows(folder: Path, wanted: Collection[Key]) -> int:
    """Leaves only the rows of `wanted` in a folder, and returns how many went. No process may be writing there."""
    file = folder / "rows.jsonl"
    rows = _read_rows(file)
    kept = [row for row in rows if key_of(row) in wanted]
    if len(kept) < len(rows):
        part = file.with_suffix(".part")
        part.write_text("".join(json.dumps(row.to_json()) + "\n" for row in kept), encoding="utf-8")
        part.replace(file)
    return len(rows) - len(kept)


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


def _read_rows(file: Path) -> list[Row]:
    try:
        return [Row.from_json(line) for line in _read_lines(file)]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file} was written by another version ({error}); give another folder with --out") from None


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """One mapping per line; a line that a kill cut short is left out."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


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
