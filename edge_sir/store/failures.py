"""What SQLite and the disk report, as errors of edge-sir: one line with path and remedy."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sir.errors import DamagedError, StoreError

__all__ = ["VERIFY", "damaged", "decoding", "reporting"]

VERIFY = "'edge-sir sessions verify' says what can be done"
"""The remedy that a person is given where the database is damaged, unless it is `verify` that says so."""

_DAMAGED = ("malformed", "not a database", "corrupt")
_REMEDIES = (
    (("readonly", "permission denied", "read-only file system"), "make the folder writable, or open it read-only"),
    (("disk is full", "no space left", "file too large", "quota"), "free some space; what was saved before is intact"),
    (_DAMAGED, VERIFY),
    (("locked", "busy"), "end the other program that uses it"),
)
_OTHERWISE = "check that the disk works and has space"


def _failed(path: Path, reason: str) -> StoreError:
    reason = " ".join(reason.split())
    remedy = next((what for words, what in _REMEDIES if any(w in reason.lower() for w in words)), _OTHERWISE)
    what = f"cannot use {path} ({reason})"
    return DamagedError(what, VERIFY) if remedy == VERIFY else StoreError(f"{what}; {remedy}")


def damaged(path: Path, what: str) -> DamagedError:
    """For content that cannot be what was written."""
    return DamagedError(f"{path} is damaged ({what})", VERIFY)


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turns what SQLite and the disk raise into StoreError. Mistakes in the use of SQLite stay as they are."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        if str(error).startswith("Could not decode"):  # Python's words; the text follows, and may be private
            raise damaged(path, "text that is no UTF-8") from error
        raise _failed(path, str(error)) from error
    except UnicodeDecodeError as error:  # SQLite's words about a damaged name
        raise damaged(path, "names that are no text") from error
    except OSError as error:
        reason = error.strerror or str(error) or errno.errorcode.get(error.errno or 0, "error")
        raise _failed(Path(error.filename or path), reason) from error


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """For code that reads what a row holds: whatever a damaged value makes it raise becomes StoreError."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise damaged(path, str(error) or type(error).__name__) from error
