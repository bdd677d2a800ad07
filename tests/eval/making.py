"""Rows that no model made."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_sir.eval.records import Row
from edge_sir.eval.report.runs import Run
from edge_sir.eval.report.summary import Summary, summarize


def row(policy: str, budget: int, dialogue: str, *, index: int = 0, right: bool = True, **other: Any) -> Row:
    """One answer; the right option is number 0 of four."""
    values: dict[str, Any] = {
        "turn": 10,
        "metric": "recall",
        "gold": 0,
        "chosen": 0 if right else 1,
        "correct": right,
        "logprobs": (-1.0, -2.0, -3.0, -4.0),
        "gold_logprob": -1.0,
        "gold_resident": 1.0,
        "distance": 500,
        "resident": budget or 1200,
        "tokens": 1200,
        "evicted": 1200 - budget if budget else 0,
        "seconds": 20.0,
    }
    return Row(policy=policy, budget=budget, dialogue=dialogue, index=index, **values | other)


def arm(policy: str, budget: int, right: Sequence[int], gold: Sequence[float], **other: Any) -> list[Row]:
    """One question per dialogue, `right` [n] 0 or 1, `gold` [n] nats."""
    return [
        row(policy, budget, f"d{i}", right=bool(r), gold_logprob=g, **other)
        for i, (r, g) in enumerate(zip(right, gold, strict=True))
    ]


def read(policy: str, budget: int, index: int, logprob: float, **other: Any) -> Row:
    """A piece of plain text."""
    plain = {"gold": -1, "chosen": -1, "gold_resident": None, "distance": None, "metric": "log_probability"}
    return row(
        policy,
        budget,
        "text-0-20",
        index=index,
        right=False,
        logprobs=(logprob,),
        gold_logprob=logprob,
        **plain | other,
    )


def keep(folder: Path, task: str, rows: Sequence[Row], **other: object) -> None:
    """An evaluation as a run leaves it."""
    folder.mkdir(exist_ok=True)
    run = {"task": task, "model": "smollm2", "answer": "rank"} | other
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "rows.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in rows))


def run(found: Summary, name: str = "", **config: object) -> Run:
    """An evaluation as reports take it, in a folder called as its task."""
    return Run(name or found.task, found, config)


def summary(rows: Sequence[Row], *, task: str = "grocery", metrics: Sequence[str] = ("recall",)) -> Summary:
    return summarize(rows, task=task, model="smollm2", answer="rank", metrics=metrics, chance=0.25)[0]
