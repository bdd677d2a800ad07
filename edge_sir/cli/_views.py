"""What commands show: lines of styled text, laid out as columns. One layout for terminals, pipes and tests."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from edge_sir.cli._losses import shown
from edge_sir.figures import ChatStats
from edge_sir.memory import Loss, Memory, TurnMemory
from edge_sir.transcript import contains

__all__ = ["Row", "View", "colours", "find_view", "memory_view", "print_view", "stats_view", "why_view"]

Styled = tuple[str, str]
"""Text and style: "" or "dim"."""

WHO = {"user": "you", "assistant": "model", "thought": "thought", "system": "system", "tool": "tool"}
_N_WORDS = 5


@dataclass(frozen=True)
class Row:
    """Cells of fixed columns, and text that takes the rest of the line and may wrap."""

    cells: tuple[str, ...] = ()
    text: tuple[Styled, ...] = ()
    dim: bool = False


@dataclass(frozen=True)
class View:
    """A heading and rows."""

    title: str = ""
    rows: list[Row] = field(default_factory=list)


def colours(on_terminal: bool) -> bool:
    """Whether to style at all."""
    return on_terminal and not os.environ.get("NO_COLOR")


def print_view(view: View) -> None:
    """Prints to standard output; wrapped to a terminal's width, in whole lines otherwise."""
    if sys.stdout.isatty():
        _print_rich(view)
        return
    if view.title:
        print(shown(view.title))
    widths = _widths(view.rows)
    for row in view.rows:
        cells = [cell.ljust(width) for cell, width in zip(row.cells, widths, strict=False)]
        text = " ".join(shown("".join(part for part, _ in row.text)).split())
        print("  ".join([*cells, text]).rstrip())
    sys.stdout.flush()


def _print_rich(view: View) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styled = colours(True)
    console = Console(highlight=False, markup=False, emoji=False, color_system="auto" if styled else None)
    if view.title:
        console.print(Text(shown(view.title)))
    table = Table.grid(padding=(0, 2, 0, 0))
    widths = _widths(view.rows)
    for width in widths:
        table.add_column(no_wrap=True, width=width)
    table.add_column(ratio=1, overflow="fold")
    for row in view.rows:
        cells = [Text(cell, "dim" if row.dim else "") for cell in row.cells]
        cells += [Text()] * (len(widths) - len(cells))
        text = Text.assemble(*((shown(part), "dim" if row.dim else style) for part, style in row.text))
        table.add_row(*cells, text)
    console.print(table)


def _widths(rows: Iterable[Row]) -> list[int]:
    rows = list(rows)
    n = max((len(row.cells) for row in rows), default=0)
    return [max((len(row.cells[i]) for row in rows if i < len(row.cells)), default=0) for i in range(n)]


# ---- memory --------------------------------------------------------------------------------------


def memory_view(memory: Memory, last: int | None = None, *, scores: bool = False) -> View:
    """The conversation by turn: what is resident readable, what is gone folded to its size.

    last: only that many of the newest turns. scores: with the mean surprisal, and what decay leaves of it.
    """
    turns = memory.turns if last is None else memory.turns[-last:] if last else ()
    n_known = sum(t.state != "gone" for t in memory if t.turn)
    said = sum(1 for t in memory if t.turn)
    title = f"{memory.n_resident} of {memory.budget} cells hold {n_known} of {said} turns"
    title += f", {memory.n_pinned} tokens pinned" if memory.n_pinned else ""
    view = View(f"{title}; {memory.policy} forgets")
    if turns:
        view.rows.append(Row(("TURN", "TOKENS", *(["SURPRISAL > NOW"] if scores else []), "WHO"), dim=True))
    for gone, group in groupby(turns, key=lambda t: t.state == "gone"):
        if gone:
            view.rows.append(_folded(list(group)))
        else:
            for turn in group:
                view.rows.extend(_turn_rows(turn, memory, scores))
    return view


def _turn_rows(turn: TurnMemory, memory: Memory, scores: bool) -> list[Row]:
    size = str(turn.n_resident) if turn.state == "whole" else f"{turn.n_resident}/{turn.n_tokens}"
    head = [str(turn.turn), size]
    if scores:
        now = None if turn.score is None else turn.score * memory.decay ** (memory.turn_now - turn.turn)
        head.append("" if now is None else f"{turn.score:.2f} > {now:.2f}")
    rows: list[Row] = []
    n_gone = turn.n_gone
    for role, spans in groupby(turn.spans, key=lambda s: s.role):
        parts: list[Styled] = []
        pins = set()
        for span in spans:
            if span.n_gone:
                parts.append((f" [{span.n_gone} gone] ", "dim"))
                n_gone -= span.n_gone
            parts.append((_digest(span.text, role), ""))
            pins.add(span.pinned)
        mark = "" if pins == {False} else "pinned" if pins == {True} else "in part pinned"
        rows.append(Row((*head, WHO.get(role, role), mark), tuple(parts)))
        head = [""] * len(head)
    if not rows:
        rows.append(Row((*head, "", ""), (("(no words)", "dim"),)))
    if n_gone > 0 and turn.spans:
        last = rows[-1]
        rows[-1] = Row(last.cells, (*last.text, (f" [{n_gone} gone]", "dim")))
    return rows


def _digest(text: str, role: str) -> str:
    """On one line; without the role that a template writes as words before its own system prompt."""
    return " ".join(text.split()).removeprefix("system " if role == "system" else "")


def _folded(turns: Sequence[TurnMemory]) -> Row:
    first, last = turns[0].turn, turns[-1].turn
    number = str(first) if first == last else f"{first}-{last}"
    words = [w for w in (_first_words(t) for t in turns) if w]
    shown_words = words if len(words) <= 4 else [*words[:2], "...", words[-1]]
    why = "forgotten" if all(x.why == "forgotten" for t in turns for x in t.losses) else "gone"
    text = " · ".join(shown_words)
    return Row((number, f"0/{sum(t.n_tokens for t in turns)}", why), ((text, "dim"),), dim=True)


def _first_words(turn: TurnMemory) -> str:
    words = next((m.text.split() for m in turn.said if m.role == "user"), [])
    return " ".join(words[:_N_WORDS]) + (" …" if len(words) > _N_WORDS else "")


def find_view(memory: Memory, text: str) -> View:
    """Whether the words are still resident, where, and since when not."""
    hits = memory.saying(text)
    if not hits:
        return View(f"nobody said “{text}” in this conversation")
    resident = [t for t in hits if contains(t.text, text)]
    if resident:
        numbers = ", ".join(str(t.turn) for t in resident)
        view = View(f"yes, “{text}” is in memory: turn{'s' if len(resident) > 1 else ''} {numbers}")
    else:
        view = View(f"no, “{text}” is not in memory any more: say it again, and /pin it")
    for turn in hits:
        if turn in resident:
            words = next((s.text for s in turn.spans if contains(s.text, text)), turn.text)
            view.rows.append(Row((str(turn.turn), turn.state), ((words, ""),)))
        else:
            since = {loss.turn_now for loss in turn.losses if loss.why != "thought"}
            when = f"gone since turn {max(since)}" if since else "gone"
            message = next(m for m in turn.said if contains(m.text, text))
            row = Row((str(turn.turn), when), ((f"{WHO[message.role]}: {message.text}", ""),), dim=True)
            view.rows.append(row)
    return view


def why_view(memory: Memory, turn: TurnMemory) -> View:
    """The numbers behind what a turn lost: value, decay, the cut."""
    losses = [loss for loss in turn.losses if loss.why != "thought"]
    view = View(f"turn {turn.turn}: {turn.n_resident} of {turn.n_tokens} tokens are resident")
    for loss in losses:
        view.rows.append(Row((f"turn {loss.turn_now}", f"-{loss.n_tokens}"), ((_reason(loss), ""),)))
        if loss.text:
            view.rows.append(Row(("", ""), ((f"“{loss.text}”", "dim"),)))
    if turn.n_pinned:
        view.rows.append(Row(("now", str(turn.n_pinned)), (("pinned: never let go", ""),)))
    if turn.n_resident and turn.score is not None:
        age = memory.turn_now - turn.turn
        now = turn.score * memory.decay**age
        text = f"mean surprisal {turn.score:.2f} nats; {_decayed(turn.score, memory.decay, age, now)} at present"
        view.rows.append(Row(("now", str(turn.n_resident)), ((text, ""),)))
    return view


def _reason(loss: Loss) -> str:
    if loss.why == "forgotten":
        return "forgotten because you asked for it"
    text = "let go to make room"
    if loss.surprisal is not None:
        age = loss.turn_now - loss.turn
        decayed = loss.surprisal * loss.decay**age
        text += f": mean surprisal {loss.surprisal:.2f} nats, {_decayed(loss.surprisal, loss.decay, age, decayed)}"
    if loss.value is not None:
        text += f"; {loss.policy} valued it at {loss.value:.2f}"
        if loss.cut is not None and abs(loss.cut - loss.value) < 1e-3:  # rounded
            text += ", with the rest of its unit, which stayed: it was thinned from its end"
        elif loss.cut is not None:
            text += f", the least that stayed had {loss.cut:.2f}"
    elif loss.policy:
        text += f"; {loss.policy} ranks nothing"
    return text


def _decayed(score: float, decay: float, age: int, now: float) -> str:
    return f"{score:.2f} x {decay:g}^{age} turns = {now:.2f}"


def stats_view(stats: ChatStats) -> View:
    """The figures, in words."""
    seconds = stats.decode_s + stats.score_s + stats.evict_s
    rows = {
        "cells": f"{stats.resident} of {stats.budget} occupied, at most {stats.max_resident}, "
        f"mean {stats.mean_resident:g}; {stats.n_ctx} allocated ({stats.kv_bytes / 1e6:.1f} MB)",
        "turns": f"{stats.turns}; {stats.tokens_in} tokens read, {stats.tokens_out} generated",
        "let go": f"{stats.evicted} tokens in {stats.evictions} evictions",
        "time": f"{seconds:.1f} s: decoding {stats.decode_s:.1f}, scores {stats.score_s:.2f}, "
        f"evictions {stats.evict_s:.2f}",
        "policy": f"{stats.policy}, {stats.position_mode} positions",
        "model": stats.model,
    }
    return View("", [Row((name,), ((text, ""),)) for name, text in rows.items()])
