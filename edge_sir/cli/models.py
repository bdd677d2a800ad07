"""`edge-sir models`: list, fetch, check and locate the model files."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_sir.errors import ModelFileError
from edge_sir.models import (
    ModelEntry,
    entry_path,
    fetch,
    hub,
    load_manifest,
    model_state,
    resolve,
    verify,
)

__all__ = ["add_parser", "run"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `models` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser("models", help="list, fetch, check and locate model files", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document on stdout")

    actions.add_parser("list", parents=[common], help="show the known models and their state")
    get = actions.add_parser("get", parents=[common], help="download models that are not here yet")
    get.add_argument("names", nargs="+", metavar="NAME", help="of `models list`, or hf:OWNER/REPO:FILE")
    get.add_argument("--accept-licence", action="store_true", help="accept the terms of the models named")
    get.add_argument("--quiet", action="store_true", help="print nothing but errors")
    check = actions.add_parser("verify", parents=[common], help="compare checksums; exit code 2 if one is wrong")
    check.add_argument("names", nargs="*", metavar="NAME", help="default: every model that is here")
    where = actions.add_parser("path", parents=[common], help="print where a model's file lies")
    where.add_argument("name", metavar="NAME", help="of `models list`, or hf:OWNER/REPO:FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action and return the exit code. Raises ModelError for the caller to print."""
    actions = {"list": _list, "get": _get, "verify": _verify, "path": _path}
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    manifest = load_manifest()
    if args.json:
        _print_json([_describe(entry, default=entry.name == manifest.default) for entry in manifest.models])
        return 0
    rows = [
        (e.name, f"{e.size_bytes / 1e6:.0f} MB", e.licence, str(e.n_ctx_train), model_state(e)) for e in manifest.models
    ]
    _print_table([("NAME", "SIZE", "LICENCE", "CONTEXT", "STATE"), *rows])
    return 0


def _get(args: argparse.Namespace) -> int:
    # Every name is looked up before the first download: a typo should not surface minutes later.
    manifest = load_manifest()
    wanted = {name: hub.parse(name) or manifest.entry(name) for name in args.names}
    paths = {}
    for name, entry in wanted.items():
        if isinstance(entry, hub.HubFile):
            paths[name] = str(hub.fetch(entry, quiet=args.quiet))
            continue
        if entry.accept_licence and not args.quiet and model_state(entry) != "ready":
            print(_terms(entry), file=sys.stderr)
        paths[entry.name] = str(fetch(entry, accept_licence=args.accept_licence, quiet=args.quiet))
    if args.json:
        _print_json([{"name": name, "path": path} for name, path in paths.items()])
    elif not args.quiet:
        print(*paths.values(), sep="\n")
    return 0


def _verify(args: argparse.Namespace) -> int:
    entries = _entries(args.names) or [e for e in load_manifest().models if model_state(e) != "absent"]
    results = [verify(entry) for entry in entries]
    if args.json:
        _print_json([{"name": r.entry.name, "path": str(r.path), "sha256": r.sha256, "ok": r.ok} for r in results])
    elif results:
        words = {True: "ok", False: "WRONG"}
        _print_table([(r.entry.name, words[r.ok] if r.sha256 else "absent") for r in results])
    else:
        print("no model is here yet; `edge-sir models list` shows what there is", file=sys.stderr)
    if absent := [r.entry.name for r in results if r.sha256 is None]:
        raise ModelFileError(f"not here: {', '.join(absent)}; run `edge-sir models get {' '.join(absent)}`")
    if wrong := [str(r.path) for r in results if not r.ok]:
        raise ModelFileError(f"wrong checksum: {', '.join(wrong)}; delete and run `edge-sir models get` again")
    return 0


def _path(args: argparse.Namespace) -> int:
    path = str(_where(args.name))
    if args.json:
        _print_json({"name": args.name, "path": path})
    else:
        print(path)
    return 0


def _where(name: str) -> Path:
    file = hub.parse(name)
    if file is None:
        return resolve(name).path
    if not file.path.is_file():
        raise ModelFileError(f"{name} is not here yet; run `edge-sir models get {name}`")
    return file.path


def _entries(names: Sequence[str]) -> list[ModelEntry]:
    manifest = load_manifest()
    return [manifest.entry(name) for name in names]


def _terms(entry: ModelEntry) -> str:
    return "\n".join(line for line in (f"{entry.licence}: {entry.licence_url}", entry.notice) if line)


def _describe(entry: ModelEntry, *, default: bool) -> dict[str, object]:
    fields = {"name", "file", "size_bytes", "licence", "licence_url", "accept_licence", "n_ctx_train"}
    return {
        **entry.model_dump(include=fields),
        "sources": [str(source) for source in entry.sources],
        "default": default,
        "state": model_state(entry),
        "path": str(entry_path(entry)),
    }


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
