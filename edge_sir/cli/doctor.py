"""`edge-sir doctor`: what this machine has, and what a model on it can do, needs and reaches."""

import argparse
import json
import sqlite3
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sir.cli._counts import size_text
from edge_sir.cli._flags import flag_arguments
from edge_sir.cli._options import CliOptions
from edge_sir.errors import CapabilityError, ConfigError, TemplateError
from edge_sir.models import ResolvedModel
from edge_sir.options import Options, config_file, gather
from edge_sir.options import parse_bytes as parse_size
from edge_sir.runtime import Model, ensure_model
from edge_sir.store.database import sqlite_warning

if TYPE_CHECKING:
    from edge_sir.llama.engine import LlamaEngine
    from edge_sir.llama.footprint import MemoryNeed
    from edge_sir.llama.gguf.header import GGUFHeader
    from edge_sir.llama.kshift.gate import RestoreTest, ShiftTest

__all__ = ["add_parser", "parse_bytes", "run"]

_OPTIONS = ("budget", "archive", "threads", "gpu_layers", "kv_k", "kv_v", "flash_attn", "chunk", "chat_template")
_SPEED_S = 10.0
_BESIDE_CELL = 60  # bytes per archived token: its row, and what llama.cpp writes to keys and values

Report = dict[str, Any]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `doctor` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine and a model on it can do",
        description="Shows llama.cpp's devices and, with a model, the gate's verdict, the memory that a budget "
        "takes and the speed.",
        allow_abbrev=False,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as for `edge-sir chat --model`")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON document")
    parser.add_argument("--memory", metavar="SIZE", help="find the largest budget that fits into, e.g., 2G or 900MiB")
    parser.add_argument("--no-speed", action="store_true", help=f"leave out the speed check of {_SPEED_S:.0f} seconds")
    for name in _OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, **flag_arguments(Options.model_fields[name]))
    parser.add_argument("--config", metavar="FILE", help="TOML file with options")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns 0. Raises UserError for what the caller can mend."""
    given = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    options = gather(CliOptions, given, file=config_file(args.config)).options
    limit = None if args.memory is None else parse_bytes(args.memory)
    found = None if args.model is None else ensure_model(args.model, quiet=args.as_json)
    from edge_sir.llama import survey

    machine: Report = {"llama_cpp": survey.system_info(), "devices": [asdict(device) for device in survey.devices()]}
    machine["sqlite"] = {"version": sqlite3.sqlite_version, "warning": sqlite_warning()}
    report: Report = {"machine": machine}
    if found is not None:
        report |= _examine(found, options, limit, speed=not args.no_speed, backends=_backends(machine))
    if args.as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return 0


def parse_bytes(text: str) -> int:
    """`2G`, `900MiB`, `1.5 GB` in bytes. Raises ConfigError."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigError(f"--memory {error}") from None


def _backends(machine: Report) -> list[str]:
    return [device["backend"] for device in machine["devices"]]


def _examine(found: ResolvedModel, options: Options, limit: int | None, *, speed: bool, backends: list[str]) -> Report:
    from edge_sir.llama.footprint import measure_memory
    from edge_sir.llama.survey import measure_speed

    with Model(found, options, options.budget) as model:
        engine = model.open_engine(options.budget)
        rates = measure_speed(engine, _SPEED_S) if speed else None
        gate = _gate(model, engine, options, backends)
        model.release(engine)
        need = measure_memory(model.native, model.loaded, model.engine_options())
        return {
            "model": _describe(model),
            "gate": gate,
            "template": _template(model),
            "memory": _memory(need, options, limit, model.header.n_ctx_train, can_restore=engine.spec.can_restore),
            "speed": None if rates is None else asdict(rates),
        }


def _gate(model: Model, engine: "LlamaEngine", options: Options, backends: list[str]) -> Report:
    from edge_sir.llama.kshift.gate import packing_verdict

    spec, trials = engine.spec, model.trials
    f16 = packing_verdict(model.header, spec.n_ctx, spec.n_swa, engine.can_shift, test=trials.shift)
    return {
        "mode": "packed" if spec.can_pack else "gaps",
        "why": spec.why,
        "trial": _outcome(trials.shift),
        "restore": {"allowed": spec.can_restore, "why": spec.why_restore, "trial": _outcome(trials.restore)},
        "kv_types": _kv_types(model.header, options, backends, can_pack=f16.allowed),
    }


def _template(model: Model) -> Report:
    """How the chat template is followed: the model's own, or the one given. problem: why it cannot be."""
    try:
        template = model.template
    except TemplateError as error:
        return {"problem": str(error), "differences": [], "thoughts": None, "asks_for": []}
    tags = template.thoughts
    thoughts = None if tags is None else {"open": tags.open, "close": tags.close}
    return {
        "problem": None,
        "differences": list(template.differences),
        "thoughts": thoughts,
        "asks_for": sorted(template.asks_for),
    }


def _outcome(test: "ShiftTest | RestoreTest | None") -> Report | None:
    return None if test is None else asdict(test) | {"tolerance": test.tolerance, "passed": test.passed}


def _describe(model: Model) -> Report:
    header = model.header
    return {
        "path": str(header.path),
        "name": header.name,
        "architecture": header.architecture,
        "size_bytes": header.size_bytes,
        "n_ctx_train": header.n_ctx_train,
        "n_vocab": model.native.n_vocab,
        "n_layer": header.n_layer,
        "fingerprint": header.fingerprint,
        "warning": header.warning,
    }


def _memory(need: "MemoryNeed", options: Options, limit: int | None, n_ctx_train: int, *, can_restore: bool) -> Report:
    """A limit is for all of it: an archive of a given size is taken off, else it gets what a budget leaves."""
    budget, reserved = options.budget, options.archive or 0
    memory: Report = asdict(need.loaded) | {
        "chunk": need.chunk,
        "cell_bytes": need.cell_bytes,
        "budget": budget,
        "cells_bytes": need.cells(budget),
        "buffers_bytes": need.buffers(budget),
        "beside_bytes": need.beside(budget),
        "budget_bytes": need.of(budget),
    }
    if limit is not None:
        largest = need.largest_budget(max(0, limit - reserved), n_ctx_train)
        memory |= {"limit_bytes": limit, "reserved_bytes": reserved}
        memory |= {"largest_budget": largest, "least_bytes": need.of(1) + reserved}
    per_token = need.cell_bytes + _BESIDE_CELL if can_restore else None
    return memory | {"archive": _archive(per_token, options.archive, limit, need.of(budget))}


def _archive(per_token: float | None, bound: int | None, limit: int | None, taken: int) -> Report:
    """What the archive may take, and how many tokens that holds; None where cells cannot be put back."""
    from edge_sir.recall.store import default_bound

    if bound is None:
        bound = default_bound() if limit is None else max(0, limit - taken)
    report: Report = {"bytes": bound, "bytes_per_token": per_token}
    report["tokens"] = None if per_token is None else int(bound / per_token)
    if limit is not None:
        report["left_bytes"] = max(0, limit - taken)
    return report


def _kv_types(header: "GGUFHeader", options: Options, backends: list[str], *, can_pack: bool) -> list[Report]:
    """What the gate allows with what. can_pack: its verdict on f16 keys."""
    from edge_sir.llama.kshift.gate import KV_TYPES, backend_note, check_kv_types

    rows = []
    for kv_k, (_, k_bytes) in KV_TYPES.items():
        for kv_v, (_, v_bytes) in KV_TYPES.items():
            try:
                check_kv_types(header, kv_k, kv_v, options.flash_attn)
                note = backend_note(backends, kv_k, kv_v)
                allowed = "packed or gaps" if can_pack and kv_k == "f16" else "gaps"
            except CapabilityError as refusal:
                allowed, note = "no", str(refusal)
            per_cell = header.kv_bytes_per_cell(k_bytes, v_bytes)
            rows.append({"k": kv_k, "v": kv_v, "allowed": allowed, "bytes_per_cell": per_cell, "note": note})
    return rows


# ---- for people ----------------------------------------------------------------------------------


def _print(report: Report) -> None:
    print(report["machine"]["llama_cpp"])
    for d in report["machine"]["devices"]:
        print(f"  {d['name']} ({d['kind']}, {d['backend']}): {d['description']}{_room_on(d)}")
    sqlite = report["machine"]["sqlite"]
    print(sqlite["warning"] or f"SQLite {sqlite['version']}")
    if "model" not in report:
        print("Give a model to see what it can do here: edge-sir doctor MODEL", file=sys.stderr)
        return
    model, gate, speed = (report[part] for part in ("model", "gate", "speed"))
    about = f"{model['architecture']}, {size_text(model['size_bytes'])}, {model['n_vocab']:,} tokens in its vocabulary"
    print(f"\n{Path(model['path']).name}: {about}, trained on {model['n_ctx_train']:,} positions")
    if model["warning"]:
        print(f"  warning: it {model['warning']}")
    print(f"  positions: {gate['mode']}, since {gate['why']}")
    restored = "put back without reading them again" if gate["restore"]["allowed"] else "read again from their text"
    print(f"  evicted cells: {restored}, since {gate['restore']['why']}")
    print("  types of K and V, and the positions that go with them:")
    for row in gate["kv_types"]:
        note = f"  {row['note']}" if row["note"] else ""
        print(f"    {row['k']:>5} {row['v']:>5}  {row['bytes_per_cell']:10,.0f} bytes per cell  {row['allowed']}{note}")
    _print_template(report["template"])
    _print_memory(report["memory"], model["n_vocab"])
    if speed is not None:
        print(f"  speed: reads {speed['read_per_s']:.1f} and writes {speed['write_per_s']:.1f} tokens per second")


def _print_template(template: Report) -> None:
    if template["problem"] is not None:
        print(f"  chat template: {template['problem']}")
        return
    differences = template["differences"]
    print(f"  chat template: {'followed, with differences' if differences else 'followed to the letter'}")
    for difference in differences:
        print(f"    {difference}")
    if template["thoughts"] is not None:
        print(f"    thoughts stand between {template['thoughts']['open']!r} and {template['thoughts']['close']!r}")
    if template["asks_for"]:
        print(f"    it asks for (--template-arg): {', '.join(template['asks_for'])}")


def _room_on(device: Report) -> str:
    free, total = device["free_bytes"], device["total_bytes"]
    if not total or free == total:  # llama.cpp does not know what of the main memory is free
        return f", {size_text(total)}" if total else ""
    return f", {size_text(free)} of {size_text(total)} free"


def _print_memory(memory: Report, n_vocab: int) -> None:
    print(f"  memory: a budget of {memory['budget']} cells takes {size_text(memory['budget_bytes'])}")
    repacked = memory["repacked_bytes"]
    copies = f", {size_text(repacked)} of them laid out anew for this processor" if repacked else ""
    parts = [
        ("weights_bytes", f"weights{copies}"),
        ("cells_bytes", f"cells, {memory['cell_bytes']:,.0f} bytes each"),
        ("buffers_bytes", f"buffers, most of them for the logits of {memory['chunk']} tokens at once (--chunk)"),
        ("vocabulary_bytes", f"llama.cpp's vocabulary of {n_vocab:,} tokens"),
        ("python_bytes", "Python and its packages"),
    ]
    for key, what in parts:
        if memory[key]:
            print(f"    {size_text(memory[key]):>9}  {what}")
    python = memory["python_bytes"]
    more = f", {size_text(memory['beside_bytes'] - python)} without Python" if python else ", Python not counted"
    print(f"    beside weights and cells: {size_text(memory['beside_bytes'])}{more}")
    _print_archive(memory["archive"])
    if "limit_bytes" in memory:
        n = memory["largest_budget"]
        least = size_text(memory["least_bytes"], up=True)
        fits = f"a budget of {n} cells at most" if n else f"not even the smallest budget, which takes {least}"
        left, reserved = memory["archive"]["left_bytes"], memory["reserved_bytes"]
        beside = f", beside an archive of {size_text(reserved)}," if reserved else ""
        print(f"    {size_text(memory['limit_bytes'])} hold{beside} {fits}")
        print(f"    beside a budget of {memory['budget']} cells {size_text(left)} of it are left for the archive")


def _print_archive(archive: Report) -> None:
    if archive["tokens"] is None:
        print("    archive: text only, since evicted cells cannot be put back")
        return
    print(
        f"    archive: {archive['bytes_per_token']:,.0f} bytes per token, {size_text(archive['bytes'])} hold about "
        f"{archive['tokens']:,} tokens of evicted text (--archive)"
    )
