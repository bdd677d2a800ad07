"""The files that `--data` gives: found, read and checked, with one line that names the remedy where they are wrong."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge_sir.errors import ConfigError

__all__ = ["Item", "check_range", "find", "item", "read_jsonl", "read_text"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the paper's files: a question (or something to say) with options, and the number of the right one."""

    id: str
    stem: str
    options: tuple[str, ...]
    gold: int


def find(data: Path, name: str) -> Path:
    """The file called `name`: `data` itself, or in the folder `data`. Raises ConfigError if there is none."""
    path = data / name if data.is_dir() else data
    if not path.is_file():
        raise ConfigError(f"no file {path}: give --data the file {name} or the folder that holds it")
    return path


def read_jsonl(path: Path, parse: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    """Every line of `path` through `parse`. Raises ConfigError for a line that is no JSON object of that form."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(parse(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"line {number} of {path} is not as this task's file has it: give the file with --data unchanged"
            ) from None
    if not found:
        raise ConfigError(f"{path} is empty: give a file with data with --data")
    return tuple(found)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises ConfigError for other bytes or if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: give another file with --data") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}): give another file with --data") from None


def item(row: dict[str, Any]) -> Item:
    """A row with `id`, `question` (`stem`, `choices` of `label` and `text`) and `answerKey`.

    Raises KeyError, TypeError or ValueError if it has another form.
    """
    question = row["question"]
    labels = [choice["label"] for choice in question["choices"]]
    options = tuple(str(choice["text"]).strip() for choice in question["choices"])
    return Item(str(row["id"]), str(question["stem"]).strip(), options, labels.index(row["answerKey"]))


def check_range(n_there: int, first: int, end: int, what: str) -> None:
    """Raises ConfigError unless `first` .. `end` (half-open) of the `n_there` things called `what` are there."""
    if not 0 <= first <= end <= n_there:
        raise ConfigError(f"the data has {n_there} {what}, not {end}: lower --n or --offset")
