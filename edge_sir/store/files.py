"""Files that are whole or not there: all that is done to snapshots and blobs goes through here."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["FILE_MODE", "FOLDER_MODE", "TEMPORARY", "Files"]

FOLDER_MODE, FILE_MODE = 0o700, 0o600
TEMPORARY = ".tmp"

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


class Files:
    """The steps, each a method, so that a test can note them, drop what was not synced, or let the disk be full.

    All raise OSError.
    """

    def put(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Writes a file, in place of an earlier one; on return it is whole and durable, before that it has no name."""
        temporary = path.with_name(path.name + TEMPORARY)
        try:
            self.write(temporary, chunks)
            self.rename(temporary, path)
            self.sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                self.unlink(temporary)
            raise

    def remove(self, paths: Iterable[Path], *, durably: bool = False) -> list[Path]:
        """Removes files and returns those that could not be. durably: power loss does not bring them back."""
        kept, folders = [], set()
        for path in paths:
            try:
                self.unlink(path)
            except FileNotFoundError:
                pass
            except OSError:
                kept.append(path)
            folders.add(path.parent)
        for folder in folders if durably else ():
            with suppress(OSError):
                self.sync_folder(folder)
        return kept

    def link(self, pairs: Iterable[tuple[Path, Path]]) -> None:
        """Gives files second names, durable on return; a copy where the file system knows no such.

        What was a file of the new name is replaced. A file that is missing is left out.
        """
        folders = set()
        for source, target in pairs:
            with suppress(FileNotFoundError):
                self.unlink(target)
            try:
                os.link(source, target)
            except FileNotFoundError:
                continue
            except OSError:
                self.put(target, (self.read(source),))
            folders.add(target.parent)
        for folder in folders:
            self.sync_folder(folder)

    def read(self, path: Path) -> bytes:
        """All of a file."""
        return path.read_bytes()

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Writes and syncs a file that only its owner may read. Its name is not durable yet."""
        descriptor = os.open(path, _WRITE, FILE_MODE)
        try:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            self.sync(descriptor, path)
        finally:
            os.close(descriptor)

    def sync_file(self, path: Path) -> None:
        """Makes what others wrote to a file durable, its length too."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            self.sync(descriptor, path)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file another name, in place of whatever had it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Removes a file's name."""
        path.unlink()

    def sync_folder(self, folder: Path) -> None:
        """Makes the names in a folder durable. Windows has no such call, and needs none."""
        if os.name == "nt":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            self.sync(descriptor, folder)
        finally:
            os.close(descriptor)

    def sync(self, descriptor: int, path: Path) -> None:
        """fsync that reaches the medium, of an open file or folder: on macOS plain fsync stops at the drive's cache."""
        try:
            import fcntl

            full = getattr(fcntl, "F_FULLFSYNC", None)
            if full is not None:
                fcntl.fcntl(descriptor, full)
                return
        except (ImportError, OSError):  # no fcntl on Windows; some file systems do not know F_FULLFSYNC
            pass
        os.fsync(descriptor)
