"""One task, played under many arms and kept in a folder."""

import hashlib
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_sir.core.budget import KEPT_PERCENT, LEAST_BATCH
from edge_sir.errors import ConfigError
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import Arm, digest, play_dialogues
from edge_sir.eval.play.checks import check
from edge_sir.eval.play.contexts import MOST_OPTION, N_SCRATCH, Contexts
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.records import Row
from edge_sir.eval.store import Key, Store, drop_rows, key_of
from edge_sir.eval.task import Answer, Ask, Dialogue, Read, Setup, Step, Task, is_valued
from edge_sir.session import Positions

__all__ = ["Request", "Result", "drop_stale", "evaluate"]


@dataclass(frozen=True, slots=True)
class Request:
    """What an evaluation is asked for; see `edge-sir eval --help`.

    metrics: the questions that are valued, empty for all. n_tokens: about how long a generated dialogue is, None for
    the task's own length. out: its folder, None to keep nothing.
    """

    task: str
    n: int | None = None
    offset: int = 0
    seed: int = 0
    lead: int | None = None
    n_tokens: int | None = None
    answer: Answer = "rank"
    metrics: tuple[str, ...] = ()
    positions: Positions = "auto"
    data: Path | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came out: run.json's mapping, and the rows of the arms and dialogues that were asked for."""

    config: dict[str, Any]
    rows: list[Row]


def evaluate(
    contexts: Contexts,
    arms: Sequence[Arm],
    request: Request,
    *,
    deadline: float = math.inf,
    on_start: Callable[[int], None] = lambda n: None,
    on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
) -> Result:
    """Plays what `request.out` does not hold yet.

    deadline: by time.monotonic; no dialogue is begun after it. on_start: called with the number of (dialogue, arm)
    pairs that are to be played; on_rows: with the rows of each. Raises ConfigError if the folder holds an evaluation
    that was asked otherwise, or for bad data; ConfigError or BudgetError, before anything is played or written, for an
    arm that cannot play a dialogue to its end.
    """
    task = tasks.task(request.task)
    dialogues = _dialogues(contexts, task, request)
    _check_arms(contexts, arms, dialogues, request)
    config = _config(contexts, task, request)
    store = Store(request.out, config)
    wanted = _wanted(arms, dialogues)
    n_todo = sum(not store.is_done(*key) for key in wanted)
    on_start(n_todo)
    if n_todo:  # noted before it is played: a pass that is killed has asked, too
        store.note({"offset": request.offset, "n": _number(task, _setup(contexts, task, request), request)})
    _timed(contexts, store, dialogues, arms, request, deadline, on_rows)
    rows = [row for row in store.rows if key_of(row) in wanted]
    order = {(arm.spec, arm.budget): i for i, arm in enumerate(arms)}
    return Result(config, sorted(rows, key=lambda row: order[row.policy, row.budget]))


def drop_stale(contexts: Contexts, arms: Sequence[Arm], request: Request) -> int:
    """Takes rows out of `request.out` that are none of this request's (any more), and returns how many.

    A policy or the words of a dialogue changed since they were played.
    """
    if request.out is None or not request.out.exists():
        return 0
    return drop_rows(request.out, _wanted(arms, _dialogues(contexts, tasks.task(request.task), request)))


def _dialogues(contexts: Contexts, task: Task, request: Request) -> list[Dialogue]:
    setup = _setup(contexts, task, request)
    tasks.with_metrics({request.task: task}, request.metrics)
    every = task.dialogues(setup, _number(task, setup, request), request.offset)
    dialogues = [_without_probes(dialogue, request.metrics) for dialogue in every]
    if task.needs_data:
        _check_options(contexts, dialogues)
    asked = [step for dialogue in dialogues for step in dialogue.steps if isinstance(step, Ask | Read)]
    if request.metrics and not any(is_valued(step.metric, request.metrics) for step in asked):
        remedy = "choose another --metric" if task.needs_data else "try longer ones (--tokens)"
        raise ConfigError(f"these dialogues ask nothing for {', '.join(request.metrics)}; {remedy}")
    return dialogues


def _check_arms(contexts: Contexts, arms: Sequence[Arm], dialogues: Sequence[Dialogue], request: Request) -> None:
    codec, template = contexts.model.codec, contexts.model.template
    for dialogue in dialogues:
        encoded = EncodedDialogue(dialogue, codec, template, request.answer, request.metrics)
        check(contexts, encoded, [(arm.policy(), arm.budget) for arm in arms])


def _check_options(contexts: Contexts, dialogues: Sequence[Dialogue]) -> None:
    """Raises ConfigError for an answer that is longer than what is valued at once, before anything is played."""
    for dialogue in dialogues:
        for step in dialogue.steps:
            texts = [option + step.close for option in step.options] if isinstance(step, Ask) else []
            if (n := max(map(contexts.count_tokens, texts), default=0)) > MOST_OPTION:
                raise ConfigError(
                    f"dialogue '{dialogue.id}' has an answer or an option of {n} tokens; the most is {MOST_OPTION}"
                )


def _setup(contexts: Contexts, task: Task, request: Request) -> Setup:
    return Setup(
        count_tokens=contexts.count_tokens,
        seed=request.seed,
        lead=request.lead,
        data=request.data,
        n_tokens=request.n_tokens or task.n_tokens,
    )


def _number(task: Task, setup: Setup, request: Request) -> int:
    """How many dialogues are asked for (of some tasks rounds)."""
    return request.n or task.n_usual(setup, request.offset)


def _wanted(arms: Sequence[Arm], dialogues: Sequence[Dialogue]) -> set[Key]:
    return {(arm.spec, arm.budget, d.id, digest(arm, d)) for arm in arms for d in dialogues}


def _without_probes(dialogue: Dialogue, metrics: tuple[str, ...]) -> Dialogue:
    """The dialogue without questions that are not valued and leave no trace."""

    def stays(step: Step) -> bool:
        return not isinstance(step, Ask) or not step.is_probe or is_valued(step.metric, metrics)

    return replace(dialogue, steps=tuple(filter(stays, dialogue.steps)))


def _timed(
    contexts: Contexts,
    store: Store,
    dialogues: Sequence[Dialogue],
    arms: Sequence[Arm],
    request: Request,
    deadline: float,
    on_rows: Callable[[Sequence[Row]], None],
) -> None:
    """Plays, and notes how long that took and which share of it llama.cpp had."""
    started, before = time.perf_counter(), contexts.times()
    n_before = len(store.rows)
    try:
        play_dialogues(
            contexts,
            dialogues,
            arms,
            store,
            answer=request.answer,
            metrics=request.metrics,
            positions=request.positions,
            deadline=deadline,
            on_rows=on_rows,
        )
    finally:
        seconds, after = time.perf_counter() - started, contexts.times()
        if len(store.rows) > n_before:
            store.note(
                {
                    "rows": len(store.rows) - n_before,
                    "seconds": round(seconds, 2),
                    "decode_s": round(after.decode_s - before.decode_s, 2),
                    "score_s": round(after.score_s - before.score_s, 2),
                    "host": _host(),
                }
            )


def _config(contexts: Contexts, task: Task, request: Request) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("edge-sir", "llama-cpp-python", "numpy")}
    return {
        "task": request.task,
        "model": contexts.name,
        "model_given": contexts.given,
        "model_sha256": contexts.sha256,
        "answer": request.answer,
        "metrics": list(request.metrics),
        "seed": request.seed,
        "lead": request.lead,
        "n_tokens": request.n_tokens or task.n_tokens,
        "positions": request.positions,
        "room": f"{KEPT_PERCENT} %, {LEAST_BATCH} cells",
        "data_sha256": _digest(task.files(request.data)) if request.data else None,
        "scratch_cells": N_SCRATCH,
        "versions": {**versions, "python": platform.python_version()},
        "host": _host(),
    }


def _host() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _digest(files: Sequence[Path]) -> str:
    """Of the names and bytes of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
