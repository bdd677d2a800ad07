"""Measures what edge-sir costs beside bare llama.cpp.

Nearly every figure is a ratio of things measured in turn in one process (A B A B ..., medians), so that a busy
machine changes both sides alike; on a very busy one use --threads 1. Bare means llama_decode in a loop,
from Python, in a context of the same settings.

    bench.py          arguments, the host, the order      bench_context.py  prefill, overflow, re-reading
    bench_rig.py      bare llama.cpp, clock, text         bench_chat.py     generation, many turns, memory
    bench_stats.py    figures, spread, table, JSON        bench_eval.py     a played dialogue
    bench_restore.py  saved cells that come back          bench_text.py     a megabyte of text
    bench_recall.py   the first token of a turn that recalls
    bench_sessions.py what a session on disk takes        bench_search.py   100,000 messages
    bench_batch.py    many dialogues at once
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_batch
import bench_chat
import bench_context
import bench_eval
import bench_recall
import bench_restore
import bench_search
import bench_sessions
import bench_text
from bench_rig import Setup, clock_of, copy_bytes_per_s, say
from bench_stats import Figure, report, table

from edge_sir import models
from edge_sir.errors import EdgeSirError, ModelError
from edge_sir.llama.native import NativeModel, default_threads
from edge_sir.runtime import ensure_model

_MODEL = "smollm2-135m-instruct"  # by name, so that figures of different days are about one model
_GEMMA = "gemma-3-270m"
_HALF = "qwen2.5-coder-0.5b-instruct"


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    threads = args.threads or default_threads()
    setup = Setup(args.model, threads, args.quick, clock_of(threads))
    logging.getLogger("llama.cpp").addHandler(logging.NullHandler())
    started = time.perf_counter()
    if threads > 1 and os.getloadavg()[0] > 0.5:
        say("other processes are busy, which threads that wait for each other do not stand well; see --threads 1")
    try:
        path = ensure_model(args.model, quiet=True).path
        host = _host(setup, path)
        figures = _batches(setup) if args.part == "batch" else _measure(setup, path)
    except EdgeSirError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    host |= {"load_at_end": round(os.getloadavg()[0], 2), "took_s": round(time.perf_counter() - started)}
    print(json.dumps(report(host, figures)) if args.json else table(host, figures))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What edge-sir costs beside bare llama.cpp.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: at most 7 minutes on two cores")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--part", choices=("all", "batch"), default="all", help="batch: many dialogues at once alone")
    parser.add_argument("--model", default=_MODEL, metavar="M", help="name or GGUF file (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="CPU threads; 0 chooses; with 1 the time on the core is taken, not the wall's",
    )
    return parser


def _measure(setup: Setup, path: Path) -> list[Figure]:
    copy_speed = copy_bytes_per_s(setup.threads)
    say(f"memory copies: {copy_speed / 1e9:.1f} GB/s read and written")
    figures = []
    model = NativeModel(path)
    try:
        taken = bench_context.prefill(model, setup, 2048, setup.pick(1, 6))
        figures.append(bench_context.prefill_figure("prefill_scored_ratio", model, taken))
        figures += bench_context.overflow(model, setup, taken, setup.pick(15, 60), copy_speed)
        figures += bench_restore.restoring(model, setup, setup.pick(15, 60))
        figures.append(bench_text.encoding(model, setup, setup.pick(3, 10)))
        figures += bench_sessions.snapshots(model, setup, setup.pick(15, 50))
    finally:
        model.close()
    figures.append(bench_chat.generation(setup, setup.pick(4, 20), copy_speed))
    figures += bench_chat.turns(setup, setup.pick(3, 8))
    figures += bench_recall.recalling(setup, setup.pick(14, 56))
    figures.append(bench_eval.evaluation(setup, path))
    figures.append(bench_sessions.saving(setup, setup.pick(24, 60), 4))
    figures += bench_search.searching(setup, setup.pick(3, 10))
    return figures + _gemma(setup) + _half(setup, copy_speed) + _batches(setup)


def _gemma(setup: Setup) -> list[Figure]:
    """The prefill of a model with a large vocabulary, where it is here already."""
    key = "prefill_scored_ratio_gemma"
    path = _here(_GEMMA)
    if path is None:
        return [_missing(key, _GEMMA)]
    model = NativeModel(path)
    try:
        taken = bench_context.prefill(model, setup, setup.pick(1024, 2048), setup.pick(1, 3))
        return [bench_context.prefill_figure(key, model, taken)]
    finally:
        model.close()


def _half(setup: Setup, copy_speed: float) -> list[Figure]:
    """What a person notices, on a model of half a billion parameters, where it is here already."""
    path = _here(_HALF)
    keys = [f"{name}_0.5b" for name in ("decode_vs_bare", "prefill_scored_ratio", "reread_over_overflow")]
    restore_keys = [f"{name}_0.5b" for name in bench_restore.KEYS]
    recall_keys = [f"{name}_0.5b" for name in bench_recall.KEYS]
    session_keys = [f"{name}_0.5b" for name in bench_sessions.KEYS]
    if path is None:
        return [_missing(key, _HALF) for key in keys + restore_keys + session_keys + recall_keys]
    figures = [bench_chat.generation(replace(setup, model=str(path)), setup.pick(2, 8), copy_speed, key=keys[0])]
    model = NativeModel(path)
    try:
        taken = bench_context.prefill(model, setup, setup.pick(1024, 2048), setup.pick(1, 3))
        figures.append(bench_context.prefill_figure(keys[1], model, taken))
        _, reread = bench_context.overflow(model, setup, taken, setup.pick(15, 60), copy_speed)
        restored = bench_restore.restoring(model, setup, setup.pick(15, 60), restore_keys)
        resumed = bench_sessions.snapshots(model, setup, setup.pick(15, 50), session_keys)
    finally:
        model.close()
    recalled = bench_recall.recalling(replace(setup, model=str(path)), setup.pick(14, 42), recall_keys)
    return [*figures, replace(reread, key=keys[2]), *restored, *resumed, *recalled]


def _batches(setup: Setup) -> list[Figure]:
    """Many dialogues at once, on both models."""
    figures = bench_batch.batches(setup, setup.pick(1, 3))
    keys = [f"{name}_0.5b" for name in bench_batch.KEYS]
    path = _here(_HALF)
    if path is None:
        return figures + [_missing(key, _HALF) for key in keys]
    return figures + bench_batch.batches(replace(setup, model=str(path)), setup.pick(1, 3), keys)


def _here(name: str) -> Path | None:
    """The file of a model of the manifest, None if it was not fetched."""
    try:
        return models.resolve(name).path
    except ModelError:
        return None


def _missing(key: str, name: str) -> Figure:
    return Figure(key, None, note=f"{name} is not here; `edge-sir models get {name}` fetches it")


def _host(setup: Setup, path: Path) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": setup.threads,
        "clock": "thread CPU time" if setup.threads == 1 else "wall",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "llama_cpp_python": importlib.metadata.version("llama-cpp-python"),
        "model": path.name,
        "quick": setup.quick,
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
