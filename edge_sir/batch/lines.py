"""The lines of a job's input, one at a time: the file is never held, nor is a line beyond all bounds."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge_sir.errors import ConfigError

__all__ = ["MOST_BYTES", "count_lines", "numbered_lines", "open_input"]

MOST_BYTES = 2**26
"""Of one line: a dialogue of 50,000 turns has room many times over."""

_BLOCK = 2**20
_BOM = b"\xef\xbb\xbf"


def open_input(path: Path) -> BinaryIO:
    """The file, to be read from its beginning. Raises ConfigError."""
    try:
        return path.expanduser().open("rb")
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {path} ({reason}); name a file of lines of JSON") from None


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Each line that is not blank, with its number from 1 on; None in place of one of more than `MOST_BYTES`."""
    number = 0
    while line := file.readline(MOST_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) == MOST_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(_BLOCK)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line.strip():
            yield number, line.rstrip(b"\r\n")


def count_lines(path: Path) -> int | None:
    """How many lines a file has, blank ones too; None for what is no file, which could be read only once."""
    if not path.expanduser().is_file():
        return None
    with open_input(path) as file:
        n, last = 0, b"\n"
        while block := file.read(_BLOCK):
            n, last = n + block.count(b"\n"), block[-1:]
    return n + (last != b"\n")
