"""What scripts/long-chat measured, in Markdown: right answers with Wilson's 95 % intervals, time, bytes, drift."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from long_chat_play import ARMS, equal_cells, file_of, read_run
from long_chat_talk import Scenario, shares_a_word

from edge_sir.errors import ConfigError
from edge_sir.eval.report.markdown import NONE, grid, short, table
from edge_sir.eval.report.stats import wilson

__all__ = ["Played", "played", "report", "speeds"]

Row = dict[str, Any]
_WINDOW = 20  # turns whose median time is shown; as many as there are questions


@dataclass(frozen=True, slots=True)
class Played:
    """All runs of one arm. turns: of each run, in order. asked: the questions' turns of all runs."""

    name: str
    runs: Sequence[Sequence[Row]]

    @property
    def turns(self) -> list[list[Row]]:
        return [[row for row in rows if "turn" in row] for rows in self.runs]

    @property
    def asked(self) -> list[Row]:
        return [row for rows in self.turns for row in rows if row["kind"] == "question"]

    @property
    def figures(self) -> list[Row]:
        return [rows[-1]["figures"] for rows in self.runs]


def played(folder: Path) -> list[Played]:
    """The arms of which a run is there, with their runs by seed."""
    found = []
    for name in ARMS:
        seeds = sorted(int(seed) for file in folder.glob(f"{name}-*.jsonl") if (seed := _seed(file, name)).isdigit())
        runs = [rows for seed in seeds if (rows := read_run(file_of(folder, name, seed))) is not None]
        if runs:
            found.append(Played(name, runs))
    return found


def _seed(file: Path, name: str) -> str:
    return file.stem.removeprefix(f"{name}-")


def report(folder: Path, scenario: Scenario) -> str:
    """All tables of a folder. Raises ConfigError if its runs had another scenario than this one."""
    arms = played(folder)
    for arm in arms:
        _check(arm, scenario)
    parts = ["# A long chat in a small cache", _introduction(arms)]
    if arms:
        parts += ["## Right answers", _right(arms, scenario), "## What was found", _found(arms, scenario)]
        parts += ["## Time and bytes", _costs(arms), *_equal_bytes(folder, arms), "## Question by question"]
        parts += [_by_question(arms, scenario)]
    return "\n\n".join([*parts, *_drift(folder)]) + "\n"


def _check(arm: Played, scenario: Scenario) -> None:
    texts = {(row["fact"], row["said"]) for row in arm.asked}
    if any(fact >= len(scenario.facts) or scenario.facts[fact].ask != said for fact, said in texts):
        raise ConfigError(f"the runs of {arm.name} asked other questions; give their file with --talk")


def _introduction(arms: Sequence[Played]) -> str:
    if not arms:
        return "Nothing was played to its end yet."
    settings = arms[0].runs[0][0]["settings"]
    return (
        f"Made by `scripts/long-chat`. {settings['model']}, {settings['budget']} cells, {settings['turns']} turns, "
        f"replies of at most {settings['max_tokens']} tokens at temperature 0, {settings['threads']} thread(s). "
        "Intervals: Wilson, 95 %, over questions. Seconds: of one core with one thread, else of the wall."
    )


# ---- right answers ---------------------------------------------------------------------------------


def _right(arms: Sequence[Played], scenario: Scenario) -> str:
    groups = _groups(scenario)
    return grid(
        arms,
        {"arm": lambda arm: f"`{arm.name}`", "seeds": lambda arm: str(len(arm.runs))}
        | {name: _column(lambda row: bool(row["right"]), among) for name, among in groups.items()},
    )


def _groups(scenario: Scenario) -> dict[str, Callable[[Row], bool]]:
    """Which questions a column is about."""
    shared = [shares_a_word(fact) for fact in scenario.facts]
    return {
        "right of all": lambda row: True,
        "a word in common": lambda row: shared[row["fact"]],
        "none in common": lambda row: not shared[row["fact"]],
        "asked before it was told": lambda row: scenario.facts[row["fact"]].early,
        "corrected": lambda row: bool(scenario.facts[row["fact"]].earlier),
    }


def _column(holds: Callable[[Row], bool], among: Callable[[Row], bool]) -> Callable[[Played], str]:
    def show(arm: Played) -> str:
        rows = [row for row in arm.asked if among(row)]
        return share(sum(map(holds, rows)), len(rows))

    return show


def share(n_right: int, n: int) -> str:
    """`n_right` of `n`, with its interval."""
    if not n:
        return NONE
    low, high = wilson(n_right, n)
    return f"{n_right} of {n} [{low:.2f}, {high:.2f}]"


def _found(arms: Sequence[Played], scenario: Scenario) -> str:
    """Whether the turn that told the fact is among what came back, or was pasted."""
    able = [arm for arm in arms if ARMS[arm.name].pastes or ARMS[arm.name].recall != "off"]
    if not able:
        return "No arm that recalls was played yet."
    told = {arm.name: [_told_in(rows) for rows in arm.turns] for arm in able}

    def right_turn(arm: Played, among: Callable[[Row], bool]) -> str:
        marks = [
            told[arm.name][i][row["fact"]] in {one["turn"] for one in row["recalled"]}
            for i, rows in enumerate(arm.turns)
            for row in rows
            if row["kind"] == "question" and among(row)
        ]
        return share(sum(marks), len(marks))

    columns: dict[str, Callable[[Played], str]] = {"right turn among it": lambda arm: f"`{arm.name}`"}
    for title, among in _groups(scenario).items():
        columns[title.removeprefix("right of ")] = lambda arm, among=among: right_turn(arm, among)  # type: ignore[misc]
    columns["turns of chatter with something recalled"] = _in_chatter
    return grid(able, columns)


def _told_in(turns: Sequence[Row]) -> dict[int, int]:
    return {row["fact"]: row["turn"] for row in turns if row["kind"] == "fact"}


def _in_chatter(arm: Played) -> str:
    marks = [bool(row["recalled"]) for rows in arm.turns for row in rows if row["kind"] == "chatter"]
    return f"{sum(marks)} of {len(marks)}"


def _by_question(arms: Sequence[Played], scenario: Scenario) -> str:
    rows = []
    for i, fact in enumerate(scenario.facts):
        marks = [[row["right"] for row in arm.asked if row["fact"] == i] for arm in arms]
        rows.append([fact.ask, fact.told, *(f"{sum(found)}/{len(found)}" for found in marks)])
    return table(["asked", "right", *(f"`{arm.name}`" for arm in arms)], rows)


# ---- time and bytes --------------------------------------------------------------------------------


def speeds(turns: Sequence[Row]) -> tuple[float, float]:
    """Tokens read per second and tokens written per second: least squares of the turns' seconds on both counts."""
    counts = np.array([[row["tokens_in"], row["tokens_out"]] for row in turns], float)
    seconds = np.array([row["seconds"] for row in turns])
    found = np.linalg.lstsq(counts, seconds, rcond=None)[0]
    read_s, write_s = (float(value) if value > 0 else np.nan for value in found)  # of few turns, noise
    return 1 / read_s, 1 / write_s


def _costs(arms: Sequence[Played]) -> str:
    def mean(of: Callable[[list[Row]], float]) -> Callable[[Played], str]:
        def show(arm: Played) -> str:
            value = float(np.mean([of(rows) for rows in arm.turns]))
            return NONE if np.isnan(value) else short(value)

        return show

    def figure(of: Callable[[Row], float]) -> Callable[[Played], str]:
        return lambda arm: f"{np.mean([of(one) for one in arm.figures]):,.0f}"

    def megabytes(of: Callable[[Row], float]) -> Callable[[Played], str]:
        return lambda arm: f"{np.mean([of(one) for one in arm.figures]) / 1e6:.1f}"

    return grid(
        arms,
        {
            "mean of the runs": lambda arm: f"`{arm.name}`",
            "tokens read": figure(lambda one: one["tokens_in"]),
            "written": figure(lambda one: one["tokens_out"]),
            "read and written per s": mean(
                lambda rows: sum(r["tokens_in"] + r["tokens_out"] for r in rows) / sum(r["seconds"] for r in rows)
            ),
            "read per s": mean(lambda rows: speeds(rows)[0]),
            "written per s": mean(lambda rows: speeds(rows)[1]),
            f"s per turn, first {_WINDOW}": mean(lambda rows: float(np.median(_seconds(rows[:_WINDOW])))),
            f"last {_WINDOW}": mean(lambda rows: float(np.median(_seconds(rows[-_WINDOW:])))),
            "s in all": mean(lambda rows: sum(_seconds(rows))),
            "most cells": figure(lambda one: one["max_resident"]),
            "their MB": megabytes(lambda one: one["max_resident"] * one["kv_bytes"] / one["n_ctx"]),
            "archive MB": megabytes(lambda one: one["archive_bytes"]),
        },
    )


def _seconds(rows: Sequence[Row]) -> list[float]:
    return [row["seconds"] for row in rows]


def _equal_bytes(folder: Path, arms: Sequence[Played]) -> list[str]:
    """How many cells the bytes of `sir-cells` make, and whether the whole conversation fits them."""
    whole = {row[0]["settings"]["seed"]: row for arm in arms if arm.name == "keep-all" for row in arm.runs}
    ours = {row[0]["settings"]["seed"]: row for arm in arms if arm.name == "sir-cells" for row in arm.runs}
    lines = []
    for seed in ours:
        n_equal = equal_cells(folder, seed)
        line = f"Seed {seed}: the cells and the archive of `sir-cells` are the bytes of {n_equal:,} cells"
        if seed in whole:
            n = whole[seed][-1]["figures"]["max_resident"]
            fits = n <= n_equal
            line += f"; `keep-all` took {n:,} cells"
            line += ", so that in as many `streaming` evicts nothing and is the same." if fits else ", more than these."
        lines.append(line)
    return ["\n".join(lines)] if lines else []


# ---- drift -----------------------------------------------------------------------------------------


def _drift(folder: Path) -> list[str]:
    file = folder / "drift.jsonl"
    if not file.is_file():
        return []
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "cells compared": lambda row: row["what"],
        "n": lambda row: str(row["n"]),
        "K-shifts asked for": lambda row: f"{row['kshifts']:,}",
        "mean difference": lambda row: _tiny(row["mean"]),
        "largest": lambda row: _tiny(row["max"]),
        "KL of what comes next": lambda row: _tiny(row.get("kl")),
        "largest logit difference": lambda row: _tiny(row.get("logit")),
    }
    note = (
        "The difference of a cell's keys from those that were computed once and rotated at most once: the L2 norm of "
        "the difference over all layers, over the norm of the keys."
    )
    return ["## Drift of the keys", note, grid(rows, columns)]


def _tiny(value: float | None) -> str:
    return NONE if value is None else f"{value:.2g}"
