"""Where things are in a state folder. Names of files are made of numbers, never of what a user typed."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Layout"]

_NAME = re.compile(r"(\d+)-\d+(\.tmp)?")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below the folder `root`."""

    root: Path

    @property
    def database(self) -> Path:
        """SQLite's file; its write-ahead log and index lie beside it."""
        return self.root / "edge-sir.db"

    @property
    def wal(self) -> Path:
        """SQLite's write-ahead log."""
        return self.root / "edge-sir.db-wal"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those below the root."""
        return self.root / "snapshots", self.root / "blobs", self.root / "locks"

    @property
    def writer_lock(self) -> Path:
        """Held while the database is written."""
        return self.root / "locks" / "writer.lock"

    def session_lock(self, session: int) -> Path:
        """Held while a process has the session open for writing."""
        return self.root / "locks" / f"{session}.lock"

    def snapshot(self, session: int, number: int) -> Path:
        """A snapshot's file: its parts, one after the other."""
        return self.root / "snapshots" / f"{session}-{number}"

    def blob(self, session: int, number: int) -> Path:
        """A blob's file."""
        return self.root / "blobs" / f"{session}-{number}"

    def files(self, session: int | None = None) -> Iterator[tuple[int, Path]]:
        """All snapshots and blobs on disk, unfinished ones too, each with its session; or those of one session."""
        for folder in self.folders[:2]:
            with suppress(FileNotFoundError):
                for path in folder.iterdir():
                    found = _NAME.fullmatch(path.name)
                    if found and session in (None, int(found[1])):
                        yield int(found[1]), path
