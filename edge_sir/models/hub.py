"""Files of the hub's repositories, fetched with huggingface_hub and from then on plain local files.

    hf:acme/tiny-GGUF:q4/tiny.gguf  ──parse()──> HubFile ──fetch()──> models_dir()/hf/acme/tiny-GGUF/q4/tiny.gguf
    a HubSource of the manifest                 ──transfer()──> the part file of that model

A transfer goes to a part file, which a later one goes on with (`hf_hub_download` itself begins anew since
huggingface_hub 2). Only `fetch` and `transfer` import the library; a file that is there needs neither it nor the
network. `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN` are the library's own.
"""

import contextlib
import difflib
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from edge_sir.errors import DownloadError, LicenceError, ModelError
from edge_sir.models.files import file_sha256, models_dir
from edge_sir.models.progress import Progress

__all__ = ["HubFile", "fetch", "parse", "transfer"]

_PREFIX = "hf:"
# No part of a name begins with a dot: neither `..` nor a hidden folder can be meant.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SPEC = re.compile(rf"hf:({_NAME})/({_NAME}):((?:{_NAME}/)*{_NAME}\.gguf)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 18
_PATIENCE_S = 10.0
_TRIES = 3  # in a row in which nothing came

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository on the hub."""

    repo: str
    file: str

    @property
    def path(self) -> Path:
        """Where the file lies, or would lie."""
        return models_dir().joinpath("hf", *self.repo.split("/"), *self.file.split("/"))

    def __str__(self) -> str:
        return f"{_PREFIX}{self.repo}:{self.file}"


def parse(name: str) -> HubFile | None:
    """The file that `name` means, None if it does not begin with `hf:`. Raises ModelError if it is malformed."""
    if not name.lower().startswith(_PREFIX):
        return None
    found = _SPEC.fullmatch(name)
    if found is None or len(name) > 400:
        raise ModelError(f"{name[:200]!r} names no model file; write hf:OWNER/REPO:FILE.gguf")
    return HubFile(f"{found[1]}/{found[2]}", found[3])


def fetch(wanted: HubFile, *, quiet: bool) -> Path:
    """The file's path, after downloading it if it is not here. Progress goes to stderr unless `quiet`.

    Raises DownloadError (no such file, no network, offline mode, no room, a wrong checksum; what was transferred is
    kept and the next call resumes it), LicenceError for a repository whose terms must be accepted first.
    """
    target = wanted.path
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two processes must not append to one file; the second finds the first one's result.
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not target.is_file():
                _download(wanted, quiet=quiet)
    except OSError as error:
        trouble = f"cannot write {wanted.file} to {target.parent} ({error.strerror or error})"
        raise DownloadError(f"{trouble}; mend that or set EDGE_SIR_MODELS_DIR to another folder") from error
    return target


def transfer(wanted: HubFile, part: Path, progress: Progress, *, size: int, sha256: str, patience_s: float) -> None:
    """Appends to `part`, whose bytes so far are taken as right, what is missing of a file of `size` bytes.

    Raises DownloadError where the hub does not answer within `patience_s` seconds, has another file under this name
    or breaks off; what came is kept. OSError is the local disk's.
    """
    hub = _library()
    if hub.constants.HF_HUB_OFFLINE:
        raise DownloadError("HF_HUB_OFFLINE forbids to ask it")
    opened = time.monotonic()
    with _explained(hub, wanted):
        meta = _within(patience_s, lambda: hub.get_hf_file_metadata(hub.hf_hub_url(wanted.repo, wanted.file)))
        if meta.size != size or (_SHA256.fullmatch(meta.etag or "") and meta.etag != sha256):
            raise DownloadError("has another file under this name now")
        _stream(hub, wanted, meta, part, progress, first_s=max(0.5, patience_s - (time.monotonic() - opened)))


def _download(wanted: HubFile, *, quiet: bool) -> None:
    hub = _library()
    if hub.constants.HF_HUB_OFFLINE:
        raise DownloadError(
            f"{wanted.file} is not here and HF_HUB_OFFLINE forbids to fetch it; unset it, or put the file at "
            f"{wanted.path}"
        )
    with _asked(wanted), _explained(hub, wanted):
        url = hub.hf_hub_url(wanted.repo, wanted.file)
        meta = _within(_PATIENCE_S, lambda: hub.get_hf_file_metadata(url))
        tag = re.sub(r"[^0-9a-zA-Z]", "", meta.etag or "unknown")[:16]  # another version is another part
        part = wanted.path.with_name(f".{wanted.path.name}.{tag}.part")
        n_there = part.stat().st_size if part.exists() else 0
        _require_space(wanted, meta.size, n_there)
        if not quiet:
            sys.stderr.write(_announcement(hub, wanted, meta.size, n_there))
        with Progress(wanted.path.name, meta.size, quiet=quiet) as progress:
            _stream(hub, wanted, meta, part, progress, first_s=_PATIENCE_S)
    _check(part, wanted, meta.size, meta.etag)
    part.replace(wanted.path)
    for leftover in wanted.path.parent.glob(f".{wanted.path.name}.*.part"):
        leftover.unlink()


def _library() -> Any:
    import huggingface_hub as hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    return hub


# ---- bytes ---------------------------------------------------------------------------------------


def _stream(hub: Any, wanted: HubFile, meta: Any, part: Path, progress: Progress, *, first_s: float) -> None:
    """Appends to `part` until it has all bytes; a line that breaks is taken up again where it broke.

    first_s: seconds until the first answer must have come.
    """
    url = hub.hf_hub_url(wanted.repo, wanted.file, revision=meta.commit_hash)
    failures = 0
    with _disk():
        file = part.open("ab")
    with file:
        n_begun = file.tell()
        while meta.size is None or file.tell() < meta.size:
            before = file.tell()
            try:
                _receive(hub, url, file, progress, first_s if file.tell() == n_begun else _PATIENCE_S)
                if meta.size is None or file.tell() >= meta.size:
                    break
                raise ConnectionError("the line broke off")
            except _DiskError:
                raise
            except Exception as error:
                came = file.tell() > before
                failures = 1 if came else failures + 1
                # A source that never gave a byte is not worth waiting for.
                if failures >= _TRIES or file.tell() == n_begun:
                    raise _BrokenError from error
                time.sleep(0.5 * failures)
            finally:
                with _disk():
                    file.flush()
                    os.fsync(file.fileno())


def _receive(hub: Any, url: str, file: Any, progress: Progress, answer_s: float) -> None:
    """One request for what is missing, which must be answered within `answer_s` seconds."""
    start = file.tell()
    headers = hub.utils.build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = hub.utils.get_session().stream("GET", url, headers=headers, timeout=_PATIENCE_S, follow_redirects=True)
    response = _within(answer_s, request.__enter__)
    try:
        hub.utils.hf_raise_for_status(response)
        if start and response.status_code != 206:  # the server does not know ranges and sends everything
            file.truncate(0)
        for block in response.iter_bytes(_BLOCK_BYTES):
            with _disk():
                file.write(block)
            progress.show(file.tell())
    finally:
        request.__exit__(None, None, None)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises, if it does so in time: looking up a name knows no time limit of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    done, value = outcome[0]
    if not done:
        raise value
    result: T = value
    return result


# ---- errors --------------------------------------------------------------------------------------


class _DiskError(OSError):
    """A full disk or a folder that cannot be written, rather than the network."""


class _BrokenError(Exception):
    """A transfer was given up; its cause says why."""


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """An OSError in here is the local disk's; whatever the network raises has another name."""
    try:
        yield
    except OSError as error:
        if isinstance(error, _DiskError):
            raise
        raise _DiskError(error.errno, error.strerror) from error


@contextlib.contextmanager
def _asked(wanted: HubFile) -> Iterator[None]:
    """Names the file in what a transfer complains of, and what to do."""
    try:
        yield
    except LicenceError:
        raise
    except DownloadError as error:
        text = str(error)
        if text.endswith("network up?"):
            text += " What came is kept, and trying again resumes it"
        raise DownloadError(f"{wanted}: {text}") from None


@contextlib.contextmanager
def _explained(hub: Any, wanted: HubFile) -> Iterator[None]:
    """Turns what the library raises into one line each."""
    errors = hub.errors
    hub.utils.logging.set_verbosity_error()
    try:
        yield
    except errors.GatedRepoError:
        raise LicenceError(
            f"{wanted.repo} has terms that must be accepted on its page; do that and set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(f"there is no public repository {wanted.repo}; check the name") from None
    except errors.EntryNotFoundError:
        raise DownloadError(f"{wanted.repo} has no file {wanted.file}{_nearest(hub, wanted)}") from None
    except Exception as error:  # of the HTTP library under the hub's, which differs from version to version
        if isinstance(error, ModelError | _DiskError):
            raise
        error = error.__cause__ if isinstance(error, _BrokenError) and isinstance(error.__cause__, Exception) else error
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
        raise DownloadError(f"the transfer failed ({reason}); is the network up?") from None


def _nearest(hub: Any, wanted: HubFile) -> str:
    with contextlib.suppress(Exception):  # only a hint
        siblings = [file.rfilename for file in hub.model_info(wanted.repo).siblings or ()]
        names = [name for name in siblings if name.lower().endswith(".gguf")]
        if found := difflib.get_close_matches(wanted.file, names, n=1, cutoff=0.0):
            return f"; did you mean {found[0]!r}?"
    return "; check the name on the repository's page"


def _announcement(hub: Any, wanted: HubFile, size: int | None, n_there: int) -> str:
    licence = "unknown, see the repository's page"
    with contextlib.suppress(Exception):  # only a word to the reader
        tags = hub.model_info(wanted.repo).tags or []
        licence = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), licence)
    amount = "" if size is None else f": {size / 1e6:.0f} MB"
    amount += f" ({n_there / 1e6:.0f} MB are here already)" if n_there else ""
    return f"Downloading {wanted.file}{amount} from {wanted.repo}\nto {wanted.path.parent}. Licence: {licence}\n"


def _require_space(wanted: HubFile, size: int | None, n_there: int) -> None:
    folder = wanted.path.parent
    free = shutil.disk_usage(folder).free
    if size is not None and size - n_there > free:
        raise DownloadError(
            f"{wanted.file} needs {size / 1e6:.0f} MB, only {free / 1e6:.0f} MB are free in {folder}; make room or "
            "set EDGE_SIR_MODELS_DIR"
        )


def _check(got: Path, wanted: HubFile, size: int | None, etag: str | None) -> None:
    """Large files' etags are their SHA-256. A file that is wrong is removed."""
    wrong = size is not None and got.stat().st_size != size
    if not wrong and etag is not None and _SHA256.fullmatch(etag):
        wrong = file_sha256(got) != etag
    if wrong:
        got.unlink()
        raise DownloadError(f"{wanted.file} came with the wrong size or checksum; nothing was kept, try again")
