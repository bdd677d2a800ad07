"""Every option once: its name, type, range, default and help. Flags, environment and TOML keys follow from here.

What the command line alone has (`edge_sir/cli/_options.py`) is no part of the library's.

pydantic-settings (2.16) was tried in place of `gather`: it ignores an unknown EDGE_SIR_ variable, splits the text of
--stop at its commas, wants JSON in EDGE_SIR_STOP, and does not tell where a value came from.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edge_sir.core.recall_mode import WantedRecall
from edge_sir.engine import SamplingParams
from edge_sir.errors import ConfigError
from edge_sir.policies import from_spec, names

__all__ = ["ENV_PREFIX", "Options", "Sourced", "config_file", "gather", "nearest", "parse_bytes", "state_folder"]

ENV_PREFIX = "EDGE_SIR_"
_SAMPLING = SamplingParams()
_PLAIN = {"int_parsing": "must be a whole number", "float_parsing": "must be a number"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_OF_TEMPLATES = ("messages", "add_generation_prompt", "bos_token", "eos_token")  # set by edge-sir itself
_OTHER_ENV = ("API_KEY", "CONFIG", "MODELS_DIR")  # read elsewhere, no options
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


class Options(BaseModel):
    """What a conversation is made from. Raises ConfigError, in one line, for a value out of range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(
        default="qwen2.5-coder-0.5b-instruct",
        description="name from `edge-sir models list`, path of a GGUF file, or hf:OWNER/REPO:FILE",
    )
    budget: int = Field(
        default=1024,
        ge=1,
        description="most KV-cache cells ever occupied",
    )
    policy: str = Field(default="sir", description=f"what to evict: name[:key=value,...] of {', '.join(names())}")
    recall: WantedRecall = Field(
        default="auto",
        description="what was evicted and matches a message comes back for its turn: its cells, or its text, which is "
        "read again; auto: cells for policy sir, off for others",
    )
    archive: int | None = Field(
        default=None,
        ge=0,
        description="most bytes that evicted cells take outside the cache, in the whole process: 500M, 2GB; 0 keeps "
        "text only; not given, a quarter of the free memory",
        json_schema_extra={"metavar": "SIZE"},
    )
    recall_index: Literal["terms", "dense"] = Field(
        default="terms",
        description="how recall finds what a message asks about: by its words, or (dense) by its meaning, too; dense "
        "needs `pip install 'edge-sir[recall-dense]'`",
    )
    positions: Literal["packed", "gaps", "auto"] = Field(
        default="auto", description="renumber what stays (packed), or leave holes (gaps); auto packs where that is safe"
    )
    system: str | None = Field(default=None, description="system prompt; it is pinned")
    max_tokens: int = Field(default=256, ge=1, description="longest reply in tokens")
    temperature: float = Field(
        default=_SAMPLING.temperature, ge=0, le=10, description="0 always takes the likeliest token"
    )
    top_k: int = Field(default=_SAMPLING.top_k, ge=0, description="draw among the k likeliest tokens; 0 for all")
    top_p: float = Field(
        default=_SAMPLING.top_p, gt=0, le=1, description="draw among the likeliest tokens that sum up to p"
    )
    min_p: float = Field(
        default=_SAMPLING.min_p, ge=0, lt=1, description="drop tokens less likely than this share of the best"
    )
    repeat_penalty: float = Field(
        default=_SAMPLING.repeat_penalty, gt=0, le=10, description="make recent tokens less likely; 1 for off"
    )
    frequency_penalty: float = Field(
        default=_SAMPLING.frequency_penalty,
        ge=-10,
        le=10,
        description="make recent tokens less likely, the more the oftener they came; 0 for off",
    )
    presence_penalty: float = Field(
        default=_SAMPLING.presence_penalty, ge=-10, le=10, description="make recent tokens less likely; 0 for off"
    )
    repeat_last_n: int = Field(
        default=_SAMPLING.repeat_last_n, ge=0, lt=2**31, description="how many generated tokens are recent; 0 for none"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="of all draws; equal seeds give equal replies")
    stop: tuple[str, ...] = Field(default=(), description="end a reply before this text; may be given several times")
    threads: int = Field(default=0, ge=0, le=512, description="CPU threads; 0 chooses")
    gpu_layers: int = Field(default=-1, ge=-1, lt=2**31, description="layers on the GPU; -1 for all that fit")
    kv_k: Literal["f16", "q8_0", "q4_0"] = Field(
        default="f16", description="type of the K cache; quantized keys cannot be renumbered (positions=gaps)"
    )
    kv_v: Literal["f16", "q8_0", "q4_0"] = Field(default="f16", description="type of the V cache")
    flash_attn: Literal["auto", "on", "off"] = Field(default="auto", description="flash attention; auto: not on a CPU")
    chunk: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="most tokens decoded at once; 0 chooses by the size of the vocabulary",
    )
    chat_template: Path | None = Field(default=None, description="file with a Jinja chat template")
    template_args: dict[str, Any] = Field(
        default={},
        description="what the chat template may ask for, KEY=VALUE: enable_thinking=true, reasoning_effort=low; "
        "may be given several times",
    )
    session: str | None = Field(
        default=None,
        description="go on with the conversation of this name, or begin it; each turn is saved before it counts as "
        "finished",
        json_schema_extra={"metavar": "NAME"},
    )
    state_dir: Path | None = Field(
        default=None,
        description="folder of the sessions; not given, the user's",
        json_schema_extra={"metavar": "DIR"},
    )
    archive_on_disk: bool = Field(
        default=False,
        description="evicted cells of a session are on disk, too, and need not be read again after a restart; this "
        "writes much more",
    )
    read_only: bool = Field(
        default=False, description="go on with a session as it stands, also while another process has it; save nothing"
    )
    change_model: bool = Field(
        default=False, description="go on with a session that another model held; its text is read again"
    )
    resume_s: float = Field(
        default=10.0,
        gt=0,
        description="seconds that going on with a session may take after a power cut; less writes its cells more often",
    )
    trace: Path | None = Field(default=None, description="new file that records evictions, for `edge-sir replay`")
    quiet: bool = Field(default=False, description="only replies and errors")

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_one_line(error, {})) from error

    @field_validator("policy")
    @classmethod
    def _policy_exists(cls, spec: str) -> str:
        try:
            from_spec(spec)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return spec

    @field_validator("archive", mode="before")
    @classmethod
    def _sizes_have_units(cls, value: object) -> object:
        return parse_bytes(value) if isinstance(value, str) else value

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("template_args", mode="before")
    @classmethod
    def _arguments_are_named(cls, value: object) -> object:
        texts = [value] if isinstance(value, str) else value
        if isinstance(value, dict):
            given = value
        elif isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
            given = _arguments(texts)
        else:
            raise ValueError(f"{value!r} is no table of arguments; write KEY=VALUE")
        for name in given:
            if not isinstance(name, str) or not name.isidentifier() or name in _OF_TEMPLATES:
                raise ValueError(f"{name!r} is no argument of a chat template; write KEY=VALUE")
        return given

    @property
    def sampling(self) -> SamplingParams:
        """How replies are drawn."""
        names = {field.name for field in fields(SamplingParams)} & set(type(self).model_fields)
        return SamplingParams(**{name: getattr(self, name) for name in names})

    @classmethod
    def names(cls) -> dict[str, str]:
        """Field name by public name: as in TOML and, with dashes, on the command line."""
        return {field.alias or name: name for name, field in cls.model_fields.items()}


def parse_bytes(text: str) -> int:
    """`2G`, `900MiB`, `1.5 GB` in bytes. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", text.upper(), re.ASCII)
    if found is None or found[2] == "I":
        raise ValueError(f"{text!r} is no size; write it like 900M, 2G or 1.5GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def _arguments(texts: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` texts; a value is JSON where it can be read as that, else text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} gives {text} no value; write KEY=VALUE")
        try:
            found[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            found[name.strip()] = value
    return found


AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True, slots=True)
class Sourced(Generic[AnyOptions]):
    """Validated options, and for each public name where its value came from."""

    options: AnyOptions
    sources: dict[str, str]


def config_file(chosen: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The TOML file to read: the chosen one, $EDGE_SIR_CONFIG, ./edge-sir.toml or the user's, if there is one."""
    explicit = chosen or environ.get(ENV_PREFIX + "CONFIG")
    if explicit:
        try:
            return Path(explicit).expanduser()
        except RuntimeError:  # ~somebody who does not exist
            return Path(explicit)
    usual = (Path("edge-sir.toml"), Path(platformdirs.user_config_dir("edge-sir")) / "config.toml")
    return next((path for path in usual if path.is_file()), None)


def state_folder(chosen: Path | None = None) -> Path:
    """The folder of the sessions: the chosen one, else the user's."""
    folder = chosen or Path(platformdirs.user_state_dir("edge-sir"))
    try:
        return folder.expanduser()
    except RuntimeError:  # ~somebody who does not exist
        return folder


def gather(
    kind: type[AnyOptions],
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Sourced[AnyOptions]:
    """Flags over environment over TOML over defaults. `flags` holds only what was given.

    Raises ConfigError for an unknown or invalid option, naming where it came from.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(kind.names(), "default")
    file_layer = _from_toml(file)
    for source, layer in (
        (str(file), file_layer),
        ("environment", _from_environment(environ)),
        ("flag", flags),
    ):
        for key, value in layer.items():
            name = key.replace("-", "_")
            if name not in sources:
                raise ConfigError(f"unknown option '{key}' ({source}){nearest(name, sources)}")
            typed = name == "stop" and layer is not file_layer  # on a command line, where a line break cannot be typed
            values[name], sources[name] = _unescaped(value) if typed else value, source
    try:
        return Sourced(kind.model_validate(values), sources)
    except ConfigError as error:
        if isinstance(error.__cause__, ValidationError):
            raise ConfigError(_one_line(error.__cause__, sources)) from None
        raise


def _unescaped(value: Any) -> Any:
    r"""With \n, \r, \t, \\ and \uXXXX read as in TOML; other backslashes stay."""
    if isinstance(value, list):
        return [_unescaped(text) for text in value]
    if not isinstance(value, str):
        return value

    def read(match: re.Match[str]) -> str:
        return _ESCAPES.get(match[1]) or chr(int(match[1][1:], 16))

    return re.sub(r"\\([nrt\\]|u[0-9a-fA-F]{4})", read, value)


def nearest(word: str, valid: Iterable[str]) -> str:
    """`; did you mean ...?` with the valid name closest to `word`, nothing if none is close."""
    close = difflib.get_close_matches(word.replace("-", "_"), valid, n=1, cutoff=0.5)
    return f"; did you mean '{close[0].replace('_', '-')}'?" if close else ""


def _from_toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = {key.removeprefix(ENV_PREFIX): value for key, value in environ.items() if key.startswith(ENV_PREFIX)}
    return {name.lower(): value for name, value in names.items() if value and name not in _OTHER_ENV}


def _one_line(error: ValidationError, sources: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"unknown option '{name}'{nearest(name, Options.names())}"
    message = _PLAIN.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "value_error" else f", not {first['input']!r}"
    return f"{name.replace('_', '-')} ({sources.get(name, 'given')}): {message}{given}"
