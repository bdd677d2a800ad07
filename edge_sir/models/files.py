"""Where the files of models lie, and which file a name or a path means.

"name or path" ──resolve()──> ResolvedModel: a file that is there, and what the manifest says of it
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from edge_sir.errors import ModelFileError
from edge_sir.models import manifest as known
from edge_sir.models.manifest import Manifest, ModelEntry

__all__ = [
    "ModelState",
    "ResolvedModel",
    "VerifyResult",
    "entry_path",
    "file_sha256",
    "find_model",
    "model_state",
    "models_dir",
    "ready_models",
    "resolve",
    "verify",
]

ModelState = Literal["ready", "absent", "damaged size"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class ResolvedModel:
    """A model file that is there; `entry` is None for a file the manifest does not know."""

    path: Path
    entry: ModelEntry | None = None

    @property
    def chat_template(self) -> str | None:
        """The manifest's jinja template, or None if the file's own is to be used."""
        return self.entry.chat_template if self.entry else None

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a reply, beyond the model's own end token."""
        return self.entry.stop if self.entry else ()


@dataclass(frozen=True)
class VerifyResult:
    """What a full read of a model's file found; `sha256` is None if the file is absent."""

    entry: ModelEntry
    path: Path
    sha256: str | None

    @property
    def ok(self) -> bool:
        """Whether the file is there and is the one that the manifest promises."""
        return self.sha256 == self.entry.sha256


def models_dir() -> Path:
    """The weights folder: $EDGE_SIR_MODELS_DIR, else the checkout's models/, else the user's data folder."""
    if override := os.environ.get("EDGE_SIR_MODELS_DIR", "").strip():
        return Path(override).expanduser()
    if known.manifest_path() == known.CHECKOUT:
        return known.CHECKOUT.parent
    return Path(platformdirs.user_data_dir("edge-sir")) / "models"


def entry_path(entry: ModelEntry) -> Path:
    """Where the model's file lies, or would lie."""
    return models_dir() / entry.file


def model_state(entry: ModelEntry) -> ModelState:
    """Judge by the file's size alone, which costs nothing; `verify` reads the content."""
    try:
        n_bytes = entry_path(entry).stat().st_size
    except OSError:
        return "absent"
    return "ready" if n_bytes == entry.size_bytes else "damaged size"


def ready_models(manifest: Manifest) -> list[str]:
    """The names of the models whose files are here."""
    return [entry.name for entry in manifest.models if model_state(entry) == "ready"]


def find_model(name_or_path: str, manifest: Manifest | None = None) -> ModelEntry | Path:
    """Tell a path (it names a file, contains a separator or ends in .gguf) from a name.

    A folder that happens to share a model's name hides nothing. Raises ModelError for an unknown name.
    """
    looks_like_path = name_or_path.lower().endswith(".gguf") or {"/", os.sep} & {*name_or_path}
    # No user "~nobody", too long a name, a NUL in it: then it is no file, and no model's name either.
    manifest = manifest or known.load_manifest()
    no_folder = {"", *(entry.name for entry in manifest.models)}  # Path("") would be the folder we are in
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        path = Path(name_or_path).expanduser()
        if looks_like_path or path.is_file() or (path.is_dir() and name_or_path.lower() not in no_folder):
            return path
    return manifest.entry(name_or_path)


def resolve(name_or_path: str) -> ResolvedModel:
    """Find the file of a model given by name or path, and the manifest's entry for it.

    A path to a file that has a manifest file's name and size gets that entry as well, so that a model
    keeps its template and stop strings wherever its file lies.
    Raises ModelError (unknown name) or ModelFileError (absent or of a wrong size); what is in the file is
    judged when it is loaded.
    """
    manifest = known.load_manifest()
    found = find_model(name_or_path, manifest)
    if isinstance(found, Path):
        if found.is_dir():
            raise ModelFileError(f"{found} is a folder; give the .gguf file in it")
        if not found.is_file():
            raise ModelFileError(f"{found} is no file; check the path, or see `edge-sir models list`")
        is_it = (found.name, found.stat().st_size)
        entries = (e for e in manifest.models if (e.file, e.size_bytes) == is_it)
        return ResolvedModel(found, next(entries, None))
    path, state = entry_path(found), model_state(found)
    if state != "ready":
        trouble = "is not here yet" if state == "absent" else f"has a file of the wrong size, {path}"
        raise ModelFileError(f"{found.name} {trouble}; run `edge-sir models get {found.name}`")
    return ResolvedModel(path, found)


def verify(entry: ModelEntry) -> VerifyResult:
    """Read the model's whole file and take its sha256. Raises ModelFileError if it cannot be read."""
    path = entry_path(entry)
    try:
        return VerifyResult(entry, path, file_sha256(path))
    except FileNotFoundError:
        return VerifyResult(entry, path, None)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a whole file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
