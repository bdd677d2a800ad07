"""What scripts/long-session measured, in Markdown: early turns beside late ones, each process, bytes, the facts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from long_session_play import Settings, conversation, read_rows

from edge_sir.eval.report.markdown import NONE, grid, short, table

__all__ = ["report", "windows"]

Row = dict[str, Any]

_EARLY = (30, 70)  # turns that are compared with as many at the end, the questions left out
_MB = 1e6


def report(folder: Path) -> str:
    """All tables of what is there."""
    rows = read_rows(folder)
    turns = [row for row in rows if "turn" in row]
    if not turns:
        return "# A long session\n\nNothing was played yet.\n"
    settings = Settings(**rows[0]["settings"])
    parts = ["# A long session", _introduction(settings, turns), "## Early turns and late ones"]
    parts += [_speeds(windows(turns)), "## Processes", _processes(rows), "## Bytes", _bytes(rows, turns)]
    return "\n\n".join([*parts, "## Facts", _facts(settings, turns)]) + "\n"


def windows(turns: Sequence[Row]) -> dict[str, list[Row]]:
    """The turns that are compared, by what they are called; of a short run a quarter each."""
    talk = [row for row in turns if row["kind"] != "question"]
    n = min(_EARLY[1] - _EARLY[0], max(1, len(turns) // 4))
    first = min(_EARLY[0], len(turns) // 4)
    early = [row for row in talk if first <= row["turn"] < first + n]
    late = [row for row in talk if row["turn"] > turns[-1]["turn"] - n] or talk[-n:]
    return {_span(found): found for found in (early, late) if found}


def _span(turns: Sequence[Row]) -> str:
    return f"{turns[0]['turn']} to {turns[-1]['turn']}"


def _introduction(settings: Settings, turns: Sequence[Row]) -> str:
    n_tokens = sum(row["read"] + row["written"] for row in turns)
    return (
        f"Made by `scripts/long-session`. {Path(settings.model).name}, {settings.budget} cells, recall of cells, "
        f"evicted cells {'on disk, too' if settings.on_disk else 'in memory alone'}. {turns[-1]['turn']:,} of "
        f"{settings.turns:,} turns, {n_tokens:,} tokens read and written, in {settings.processes} processes; every "
        f"other one was killed after its last turn. Replies of at most {settings.max_tokens} tokens at temperature 0, "
        f"{settings.threads} thread(s)."
    )


# ---- speed -----------------------------------------------------------------------------------------


def _speeds(compared: Mapping[str, Sequence[Row]]) -> str:
    note = (
        "Seconds: medians of the wall's. Beside decode: all of a turn but llama_decode, saving included. CPU: that of "
        "the chat's thread outside the engine's decode, which others on the machine disturb little; asking for it "
        "takes some of it. Plain: of turns in which nothing was recalled and no snapshot written; what recall finds "
        "grows with what was said, up to its share of the cells."
    )
    return note + "\n\n" + grid(compared.items(), _COLUMNS)


def _median(of: Callable[[Row], float]) -> Callable[[tuple[str, Sequence[Row]]], str]:
    return lambda item: f"{np.median([of(row) for row in item[1]]):.3f}" if item[1] else NONE


def _mean(of: Callable[[Row], float]) -> Callable[[tuple[str, Sequence[Row]]], str]:
    return lambda item: short(float(np.mean([of(row) for row in item[1]])))


def _tokens(row: Row) -> int:
    return int(row["read"] + row["written"])


def _back(row: Row) -> int:
    return sum(n for _, n in row["recalled"])


def _plain(item: tuple[str, Sequence[Row]]) -> tuple[str, Sequence[Row]]:
    return item[0], [row for row in item[1] if not (row["snapshots"] or row["recalled"])]


_COLUMNS: dict[str, Callable[[tuple[str, Sequence[Row]]], str]] = {
    "turns": lambda item: item[0],
    "s per turn": _median(lambda row: row["seconds"]),
    "beside decode": _median(lambda row: row["beside_s"]),
    "CPU": _median(lambda row: row["cpu_s"]),
    "beside decode, plain": lambda item: _median(lambda row: row["beside_s"])(_plain(item)),
    "CPU, plain": lambda item: _median(lambda row: row["cpu_s"])(_plain(item)),
    "plain ones": lambda item: str(len(_plain(item)[1])),
    "tokens per s": lambda item: short(sum(map(_tokens, item[1])) / sum(row["seconds"] for row in item[1])),
    "tokens per turn": _mean(_tokens),
    "recalled per turn": _mean(_back),
    "resident": _mean(lambda row: row["resident"]),
}


# ---- processes, bytes ------------------------------------------------------------------------------


def _processes(rows: Sequence[Row]) -> str:
    found: list[Row] = []
    for row in rows[1:]:
        if "how" in row:
            found.append(row | {"turns": []})
        elif "turn" in row:
            found[-1]["turns"].append(row)
        else:
            found[-1]["ended"] = row
    return grid(
        found,
        {
            "process": lambda one: str(one["process"]),
            "turns": lambda one: _span(one["turns"]) if one["turns"] else NONE,
            "went on": lambda one: one["how"] + (f" {one['n_replayed']}" if one["n_replayed"] else "") or "anew",
            "loading s": lambda one: f"{one['load_s']:.2f}",
            "resume s": lambda one: f"{one['open_s']:.2f}",
            "ended by": lambda one: one["ended"]["end"] if "ended" in one else "(cut)",
            "close s": lambda one: f"{one['ended']['seconds']:.2f}" if one.get("ended", {}).get("seconds") else NONE,
            "first turn, beside decode": lambda one: f"{one['turns'][0]['beside_s']:.3f}" if one["turns"] else NONE,
            "database MB": lambda one: f"{one['turns'][-1]['database_bytes'] / _MB:.2f}" if one["turns"] else NONE,
            "RSS MB, begin": lambda one: f"{one['rss'] / _MB:.0f}",
            "end": lambda one: f"{one['turns'][-1]['rss'] / _MB:.0f}" if one["turns"] else NONE,
            "median beside decode": lambda one: _median(lambda row: row["beside_s"])(("", one["turns"])),
            "its CPU": lambda one: _median(lambda row: row["cpu_s"])(("", one["turns"])),
        },
    )


def _bytes(rows: Sequence[Row], turns: Sequence[Row]) -> str:
    ends = [row for row in rows if "end" in row]
    lines = []
    if ends:
        last, n = ends[-1], turns[-1]["turn"]
        lines.append(
            f"Database: {last['database_bytes'] / _MB:.2f} MB, {last['database_bytes'] / n:,.0f} bytes per turn."
        )
        for name in ("blobs", "snapshots"):
            size, files = last[f"{name}_bytes"], last[f"{name}_files"]
            lines.append(
                f"{name.capitalize()}: {size / _MB:.1f} MB in {files:,} files, {size / n:,.0f} bytes per turn."
            )
    if "disk_bytes" in turns[0]:
        plain = [row for row in turns if not row["snapshots"]] or turns
        lines.append(
            f"Written per turn: {np.mean([row['disk_bytes'] for row in turns]) / 1e3:,.0f} kB of pages for the disk, "
            f"{np.mean([row['passed_bytes'] for row in turns]) / 1e3:,.0f} kB by calls that write; without a snapshot "
            f"(median) {np.median([row['disk_bytes'] for row in plain]) / 1e3:,.0f} and "
            f"{np.median([row['passed_bytes'] for row in plain]) / 1e3:,.0f} kB."
        )
    n_snapshots = sum(row["snapshots"] for row in turns)
    lines.append(f"Snapshots in turns: {n_snapshots:,}, one every {len(turns) / max(1, n_snapshots):.1f} turns.")
    return "\n".join(f"- {line}" for line in lines)


# ---- facts -----------------------------------------------------------------------------------------


def _facts(settings: Settings, turns: Sequence[Row]) -> str:
    asked = [row for row in turns if row["kind"] == "question"]
    if not asked:
        return "Nothing was asked yet."
    scenario, _ = conversation(settings)
    told = {row["fact"]: row["turn"] for row in turns if row["kind"] == "fact"}
    lines = [
        [
            scenario.facts[row["fact"]].ask,
            scenario.facts[row["fact"]].told,
            str(told.get(row["fact"], NONE)),
            "yes" if told.get(row["fact"]) in {turn for turn, _ in row["recalled"]} else "no",
            "yes" if row["right"] else "no",
            " ".join(row["reply"].split()),
        ]
        for row in asked
    ]
    n_right = sum(row["right"] for row in asked)
    head = ["asked", "right", "told in turn", "that came back", "answered", "reply"]
    return f"{n_right} of {len(asked)} answered.\n\n{table(head, lines)}"
