"""Models named `hf:OWNER/REPO:FILE`: fetched once with huggingface_hub (the extra `hf`), then plain local files.

    hf:acme/tiny-GGUF:q4/tiny.gguf  ──>  models_dir()/hf/acme/tiny-GGUF/q4/tiny.gguf

A download goes to a `.part` file beside the target, which a later one goes on with (`hf_hub_download` itself begins
anew since huggingface_hub 2), and moves into place once its size and checksum are right. A file that is there is
used as it is, without the library and the network.
"""

import contextlib
import difflib
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sir.errors import DownloadError, LicenceError, ModelError
from edge_sir.models import models_dir

__all__ = ["HubFile", "fetch", "parse"]

_PREFIX = "hf:"
# No part of a name begins with a dot: neither `..` nor a hidden folder can be meant.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SPEC = re.compile(rf"hf:({_NAME})/({_NAME}):((?:{_NAME}/)*{_NAME}\.gguf)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository on the hub."""

    repo: str
    file: str

    @property
    def path(self) -> Path:
        """Where the file lies, or would lie."""
        return models_dir().joinpath("hf", *self.repo.split("/"), *self.file.split("/"))


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
    hub = _library(wanted)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two processes must not append to one file; the second finds the first one's result.
        with hub.utils.WeakFileLock(target.with_name(f".{target.name}.lock")):
            if not target.is_file():
                _download(hub, wanted, quiet=quiet)
    except OSError as error:
        trouble = f"cannot write {wanted.file} to {target.parent} ({error.strerror or error})"
        raise DownloadError(f"{trouble}; mend that or set EDGE_SIR_MODELS_DIR to another folder") from error
    return target


def _download(hub: Any, wanted: HubFile, *, quiet: bool) -> None:
    with _explained(hub, wanted):
        url = hub.hf_hub_url(wanted.repo, wanted.file)
        meta = hub.get_hf_file_metadata(url)
        tag = re.sub(r"[^0-9a-zA-Z]", "", meta.etag or "unknown")[:16]  # another version is another part
        part = wanted.path.with_name(f".{wanted.path.name}.{tag}.part")
        n_there = part.stat().st_size if part.exists() else 0
        _require_space(wanted, meta.size, n_there)
        if not quiet:
            sys.stderr.write(_announcement(hub, wanted, meta.size, n_there))
        else:
            hub.utils.disable_progress_bars()
        if meta.size is None or n_there < meta.size:
            with part.open("ab") as file:
                hub.file_download.http_get(
                    hub.hf_hub_url(wanted.repo, wanted.file, revision=meta.commit_hash),
                    file,
                    resume_size=n_there,
                    headers=hub.utils.build_hf_headers(),
                    expected_size=meta.size,
                    displayed_filename=wanted.path.name,
                )
                file.flush()
                os.fsync(file.fileno())
    _check(part, wanted, meta.size, meta.etag)
    part.replace(wanted.path)
    for leftover in wanted.path.parent.glob(f".{wanted.path.name}.*.part"):
        leftover.unlink()


def _library(wanted: HubFile) -> Any:
    try:
        import huggingface_hub as hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.file_download
        import huggingface_hub.utils
    except ImportError:
        raise DownloadError(
            f"{wanted.file} is not here, and fetching it needs huggingface_hub; run `pip install 'edge-sir[hf]'` "
            f"(a clone: scripts/setup hf), or put the file at {wanted.path}"
        ) from None
    if hub.constants.HF_HUB_OFFLINE:
        raise DownloadError(
            f"{wanted.file} is not here and HF_HUB_OFFLINE forbids to fetch it; unset it, or put the file at "
            f"{wanted.path}"
        )
    return hub


@contextlib.contextmanager
def _explained(hub: Any, wanted: HubFile) -> Iterator[None]:
    """Turns what the library raises into one line each."""
    errors, asked = hub.errors, f"hf:{wanted.repo}:{wanted.file}"
    hub.utils.logging.set_verbosity_error()
    try:
        yield
    except errors.GatedRepoError:
        raise LicenceError(
            f"{wanted.repo} has terms that must be accepted on its page; do that and set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(f"there is no public repository {wanted.repo}; check the name in {asked}") from None
    except errors.EntryNotFoundError:
        raise DownloadError(f"{wanted.repo} has no file {wanted.file}{_nearest(hub, wanted)}") from None
    except (errors.HfHubHTTPError, errors.FileMetadataError, ConnectionError, TimeoutError) as error:
        raise DownloadError(_broken(asked, error)) from None
    except OSError as error:
        if error.errno is not None:  # ours: a full disk, a folder that cannot be written
            raise
        raise DownloadError(_broken(asked, error)) from None
    except Exception as error:  # of the HTTP library under the hub's, which differs from version to version
        if isinstance(error, ModelError):
            raise
        raise DownloadError(_broken(asked, error)) from None


def _broken(asked: str, error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    return f"could not fetch {asked} ({reason}); is the network up? What came is kept, and trying again resumes it"


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
        digest = hashlib.sha256()
        with got.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        wrong = digest.hexdigest() != etag
    if wrong:
        got.unlink()
        raise DownloadError(f"{wanted.file} came with the wrong size or checksum; nothing was kept, try again")
