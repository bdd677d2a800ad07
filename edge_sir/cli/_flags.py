"""The flags of the command line's options, derived from their fields."""

import argparse
import types
import typing
from collections.abc import Collection
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from edge_sir.cli._options import CliOptions
from edge_sir.errors import ConfigError
from edge_sir.options import Sourced, config_file, gather, nearest

__all__ = ["add_flags", "flag_arguments", "from_args", "refuse_unknown"]


def add_flags(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Adds one flag per option, and --config. Values stay text: pydantic checks them all alike.

    without: fields of options that the command has no use for.
    """
    for public, name in CliOptions.names().items():
        if name in without:
            continue
        field = CliOptions.model_fields[name]
        flag = public.removesuffix("s") if _is_dict(field) else public  # one of them at a time
        parser.add_argument(f"--{flag.replace('_', '-')}", dest=public, **flag_arguments(field))
    parser.add_argument("--config", metavar="FILE", help="TOML file with options")


def from_args(args: argparse.Namespace) -> Sourced[CliOptions]:
    """The effective options: flags given, over environment, over TOML, over defaults. Raises ConfigError."""
    given = {key: value for key in CliOptions.names() if (value := getattr(args, key, None)) is not None}
    return gather(CliOptions, given, file=config_file(args.config))


def refuse_unknown(word: str, command: str, flags: Collection[str]) -> NoReturn:
    """Raises ConfigError for an argument that no parser took. flags: what the command takes, with their dashes."""
    hint = ""
    if word.startswith("--"):
        names = [flag.removeprefix("--").replace("-", "_") for flag in flags]
        hint = nearest(word.lstrip("-").partition("=")[0], names).replace("'", "'--", 1)
    raise ConfigError(f"unknown argument '{word}'{hint} (`edge-sir {command} --help` shows the options)")


def flag_arguments(field: FieldInfo) -> dict[str, Any]:
    """What argparse needs to know of an option."""
    default = field.get_default()
    shown = "" if default is None or default is False or default in ((), {}) else f" (default: {default})"
    settings: dict[str, Any] = {"help": f"{field.description}{shown}".replace("%", "%%"), "default": None}
    kind = field.annotation
    if isinstance(field.json_schema_extra, dict):
        return settings | field.json_schema_extra
    if kind is bool:
        return settings | {"action": argparse.BooleanOptionalAction}
    if _is_dict(field):
        return settings | {"action": "append", "metavar": "KEY=VALUE"}
    if typing.get_origin(kind) is tuple:
        return settings | {"action": "append", "metavar": "TEXT"}
    if typing.get_origin(kind) is typing.Literal:
        return settings | {"metavar": "|".join(typing.get_args(kind))}
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]
    return settings | {"metavar": {int: "N", float: "X", str: "TEXT"}.get(typing.cast(type, kind), "FILE")}


def _is_dict(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is dict
