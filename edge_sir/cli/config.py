"""`edge-sir config`: the effective options, and where each came from."""

import argparse
import json

from edge_sir.cli._flags import add_flags, from_args

__all__ = ["add_parser", "run"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `config` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "config",
        help="show the effective options and where each came from",
        description="Shows what `edge-sir chat` would use with the same flags: flags over EDGE_SIR_* "
        "variables over edge-sir.toml over defaults.",
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a table, or with --json one object {option: {"value", "source"}}."""
    sourced = from_args(args)
    values = sourced.options.model_dump(mode="json", by_alias=True)
    if args.json:
        print(json.dumps({k: {"value": v, "source": sourced.sources[k]} for k, v in values.items()}, indent=2))
        return 0
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name.replace('_', '-'):{width}}  {json.dumps(value, ensure_ascii=False):32}  {sourced.sources[name]}")
    return 0
