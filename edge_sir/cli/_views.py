"""What commands show: lines of styled text, laid out as columns. One layout for terminals, pipes and tests."""

import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from edge_sir.chat import ChatStats
from edge_sir.chat.commands import Found, Why
from edge_sir.cli._counts import many, numbered
from edge_sir.cli._losses import first_words, shown
from edge_sir.memory.evictions import Loss
from edge_sir.memory.view import Memory, TurnMemory, never_said
from edge_sir.text.boundaries import pattern_of

__all__ = [
    "Row",
    "View",
    "colours",
    "digest",
    "find_view",
    "losses_view",
    "memory_view",
    "n_columns",
    "print_view",
    "stats_view",
    "why_view",
]

Styled = tuple[str, str]
"""Text and style: "" or "dim"."""

_N_EXCERPT = 150  # characters of a sentence that was found
_N_LOSING = 10  # turns that are shown of those that lost something
_N_GAP = 2  # blanks between columns
_N_LEAST_TEXT = 16  # columns; where fewer are left for text, it goes below its cells

WHO = {"user": "you", "assistant": "model", "thought": "thought", "system": "system", "tool": "tool"}


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
        cells = [cell + " " * (width - n_columns(cell)) for cell, width in zip(row.cells, widths, strict=False)]
        text = " ".join(shown("".join(part for part, _ in row.text)).split())
        print("  ".join([*cells, text]).rstrip())
    sys.stdout.flush()


def _print_rich(view: View) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    styled = colours(True)
    console = Console(highlight=False, markup=False, emoji=False, color_system="auto" if styled else None)
    if view.title:
        console.print(Text(shown(view.title)))
    widths = _widths(view.rows)
    room = console.width - sum(widths) - _N_GAP * len(widths)
    longest = max((sum(len(part) for part, _ in row.text) for row in view.rows), default=0)
    stacked = room < min(_N_LEAST_TEXT, longest)
    table = Table.grid(padding=(0, _N_GAP, 0, 0))
    for width in widths:
        table.add_column(no_wrap=True, width=width)
    table.add_column(ratio=1, overflow="fold")
    for row in view.rows:
        cells = [Text(cell, "dim" if row.dim else "") for cell in row.cells]
        text = Text.assemble(*((shown(part), "dim" if row.dim else style) for part, style in row.text))
        if not stacked:
            table.add_row(*cells, *[Text()] * (len(widths) - len(cells)), text)
            continue
        if any(row.cells):
            console.print(Text(" " * _N_GAP).join(cell for cell in cells if cell))
        if text:
            console.print(Padding(text, (0, 0, 0, _N_GAP)))
    if not stacked:
        console.print(table)


def _widths(rows: Iterable[Row]) -> list[int]:
    rows = list(rows)
    n = max((len(row.cells) for row in rows), default=0)
    return [max((n_columns(row.cells[i]) for row in rows if i < len(row.cells)), default=0) for i in range(n)]


def n_columns(text: str) -> int:
    """How wide a terminal shows a text without line breaks: two columns for 東, none for a combining accent."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text if not unicodedata.combining(c))


# ---- memory --------------------------------------------------------------------------------------


def memory_view(memory: Memory, last: int | None = None, *, scores: bool = False) -> View:
    """The conversation by turn: what is resident readable, what was dropped folded to its size.

    last: only that many of the newest turns. scores: with the mean surprisal of what is resident, which is
    not what every policy ranks by.
    """
    turns = memory.turns if last is None else memory.turns[-last:] if last else ()
    n_known = sum(t.state != "none" for t in memory if t.turn)
    n_whole = sum(t.state == "whole" for t in memory if t.turn)
    said = sum(1 for t in memory if t.turn)
    title = f"{memory.n_resident} of {memory.budget} cells hold {n_known} of {said} turns"
    # Of most of them a policy may have left no more than a word.
    title += f", {'all' if n_whole == said else n_whole or 'none'} whole" if n_known else ""
    title += f"; {many(memory.n_pinned, 'cell')} pinned" if memory.n_pinned else ""
    title += f"; {many(memory.n_archived, 'evicted token')} can come back" if memory.n_archived else ""
    view = View(f"{title}; {memory.policy} evicts" + (f", ranking by {memory.ranks_by}" if scores else ""))
    if turns:
        view.rows.append(Row(("TURN", "TOKENS", *(["MEAN SURPRISAL"] if scores else []), "WHO"), dim=True))
    for dropped, group in groupby(turns, key=lambda t: t.state == "none"):
        if dropped:
            view.rows.append(_folded(list(group)))
        else:
            for turn in group:
                view.rows.extend(_turn_rows(turn, scores))
    return view


def _turn_rows(turn: TurnMemory, scores: bool) -> list[Row]:
    size = str(turn.n_content) if turn.state == "whole" else f"{turn.n_content_resident}/{turn.n_content}"
    head = [str(turn.turn), size]
    if scores:
        head.append("" if turn.score is None else f"{turn.score:.2f} nats")
    rows: list[Row] = []
    n_dropped = turn.n_content_dropped
    for role, passages in groupby(turn.passages, key=lambda p: p.role):
        parts: list[Styled] = []
        pins = set()
        for passage in passages:
            if passage.n_before:
                parts.append((f"{'' if _ends_blank(parts) else ' '}[{passage.n_before} dropped] ", "dim"))
                n_dropped -= passage.n_before
            if text := digest(passage.text, role, after_blank=_ends_blank(parts)):
                parts.append((text, ""))
            pins.add(passage.pinned)
        mark = "" if pins == {False} else "pinned" if pins == {True} else "in part pinned"
        rows.append(Row((*head, WHO.get(role, role), mark), tuple(parts)))
        head = [""] * len(head)
    if not rows:
        rows.append(Row((*head, "", ""), (("(no words)", "dim"),)))
    if n_dropped > 0 and turn.passages:
        last = rows[-1]
        note = f"{'' if _ends_blank(last.text) else ' '}[{n_dropped} dropped]"
        rows[-1] = Row(last.cells, (*last.text, (note, "dim")))
    if mark := _can_come_back([turn]):
        rows.append(Row(("",) * len(rows[0].cells), ((mark, "dim"),)))
    return rows


def _can_come_back(turns: Sequence[TurnMemory]) -> str:
    """How much of what was dropped of these turns can come back; empty where there is no archive."""
    n = sum(t.n_archived or 0 for t in turns)
    n_dropped = sum(loss.n_content for t in turns for loss in t.losses if loss.why == "room")
    if not n_dropped or all(t.n_archived is None for t in turns):
        return ""
    return "all of it can come back" if n >= n_dropped else f"{n} of {n_dropped} can come back" if n else "text only"


def _ends_blank(parts: Sequence[Styled]) -> bool:
    return not parts or parts[-1][0].endswith(" ")


def digest(text: str, role: str, *, after_blank: bool = True) -> str:
    """On one line, blanks at its ends kept: a pin may begin or end between words.

    Without the role that a template writes as words before its own system prompt.
    """
    line = re.sub(r"\s+", " ", text)
    return (line.lstrip() if after_blank else line).removeprefix("system " if role == "system" else "")


def _folded(turns: Sequence[TurnMemory]) -> Row:
    first, last = turns[0].turn, turns[-1].turn
    number = str(first) if first == last else f"{first}-{last}"
    words = [w for w in (first_words(t.said) for t in turns) if w]
    shown_words = words if len(words) <= 4 else [*words[:2], "...", words[-1]]
    why = "forgotten" if all(x.why == "forgotten" for t in turns for x in t.losses if x.n_content) else "dropped"
    mark = "" if why == "forgotten" else _can_come_back(turns)
    text = " · ".join([*shown_words, *([f"({mark})"] if mark else [])])
    return Row((number, f"0/{sum(t.n_content for t in turns)}", why), ((text, "dim"),), dim=True)


def find_view(found: Found) -> View:
    """Whether the words are still resident, all or which of them, where, and since when not."""
    text, matches = found.text, found.matches
    if not matches:
        return View(never_said(text, found.forgotten))
    whole = {m.passage.turn for m in matches if m.state == "whole"}
    best = max(matches, key=lambda m: len(m.words))
    if whole:
        view = View(f"yes, “{text}” is in memory: {numbered(whole)}")
    elif best.words:
        view = View(f"in part: of “{text}” turn {best.passage.turn} still has “{' … '.join(best.words)}”")
    else:
        view = View(f"no, “{text}” is not in memory any more: say it again, and /pin it")
    for match, loss in zip(matches, found.lost, strict=True):
        passage, who = match.passage, WHO[match.passage.role]
        if match.state == "none":
            said = _excerpt(passage.said, [text])
            cells = str(passage.turn), f"evicted in {loss.when}" if loss else "dropped"
            view.rows.append(Row(cells, ((f"{who}: {said}", ""),), dim=True))
        else:
            state = "has it" if match.state == "whole" else "in part"  # the words asked for: the turn may have holes
            left = _excerpt(passage.text, [text, *sorted(match.words, key=len, reverse=True)])
            view.rows.append(Row((str(passage.turn), state), ((f"{who}: {left}", ""),)))
    return view


def _excerpt(text: str, wanted: Sequence[str]) -> str:
    """Some two lines around the first of the words wanted that is there; a long paste is one sentence."""
    line = " ".join(text.split())
    hit = next((found for words in wanted if (found := pattern_of(words).search(line))), None)
    start = max(0, min((hit.start() if hit else 0) - _N_EXCERPT // 2, len(line) - _N_EXCERPT))
    stop = start + _N_EXCERPT
    if start > 0:
        start = line.find(" ", start, start + _N_EXCERPT // 4) + 1 or start  # a word may be as long as the line
    if stop < len(line):
        stop = max(line.rfind(" ", stop - _N_EXCERPT // 4, stop), 0) or stop
    return f"{'... ' * (start > 0)}{line[start:stop]}{' ...' * (stop < len(line))}"


def why_view(why: Why) -> View:
    """The numbers behind what a turn lost: value, the cut, and what they are."""
    turn = why.turn
    losses = [loss for loss in turn.losses if loss.n_content]
    words = first_words(turn.said)
    name = f"turn {turn.turn} ({words})" if words else f"turn {turn.turn}"
    view = View(f"{name}: {turn.n_content_resident} of {turn.n_content} tokens are resident")
    view.rows.append(Row(("IN", "TOKENS"), (("WHY", ""),), dim=True))
    for loss in _merged(losses):
        view.rows.append(Row((loss.when, f"-{loss.n_content}"), ((_reason(loss), ""),)))
    if n_pinned := sum(p.n_resident for p in turn.passages if p.pinned):
        view.rows.append(Row(("now", str(n_pinned)), (("pinned: never evicted", ""),)))
    if turn.score is not None:
        text = f"mean surprisal {turn.score:.3g} nats; {why.policy} ranks by {why.ranks_by}"
        view.rows.append(Row(("now", str(turn.n_content_resident)), ((text, ""),)))
    return view


def _merged(losses: Sequence[Loss]) -> list[Loss]:
    """One row for what was dropped in one turn for one reason: their means, and the least that stayed in the end."""
    merged = []
    for _, group in groupby(losses, key=lambda x: (x.turn_now, x.undone, x.why, x.lowered, x.policy, x.thinned)):
        parts = list(group)
        values = [(x.value, x.n_content) for x in parts]
        surprisals = [(x.surprisal, x.n_content) for x in parts]
        n_content = sum(x.n_content for x in parts)
        merged.append(replace(parts[-1], n_content=n_content, value=_mean(values), surprisal=_mean(surprisals)))
    return merged


def _mean(parts: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(x, n) for x, n in parts if x is not None]
    return sum(x * n for x, n in known) / sum(n for _, n in known) if known else None


def losses_view(turns: Sequence[TurnMemory]) -> View:
    """What was dropped last, and why: the newest losses, by turn; `turns` are those that lost something."""
    newest: list[tuple[TurnMemory, Loss]] = []
    for turn in turns:
        losses = [loss for loss in turn.losses if loss.n_content]
        newest += [(turn, losses[-1])] if losses else []
    newest.sort(key=lambda pair: (-pair[1].at, pair[0].turn))
    if not newest:
        n = sum(loss.n_template for turn in turns for loss in turn.losses)
        return View("nothing was dropped so far" + (f" but {many(n, 'template token')}" if n else ""))
    n_more = len(newest) - _N_LOSING
    view = View("what was dropped last (/memory why TURN shows all that a turn lost)")
    view.rows.append(Row(("TURN", "TOKENS", "WHEN"), (("WHY", ""),), dim=True))
    for turn, loss in newest[:_N_LOSING]:
        words = first_words(turn.said)
        text = f"{words}: {_reason(loss)}" if words else _reason(loss)
        view.rows.append(Row((str(turn.turn), f"-{loss.n_content}", f"in {loss.when}"), ((text, ""),)))
    if n_more > 0:
        view.rows.append(Row(("", "", ""), ((f"and {many(n_more, 'more turn')}", ""),), dim=True))
    return view


def _reason(loss: Loss) -> str:
    if loss.why == "forgotten":
        return "forgotten because you asked for it"
    text = "evicted because the budget was lowered" if loss.lowered else "evicted to make room"
    if loss.surprisal is not None:
        text += f": mean surprisal {loss.surprisal:.3g} nats"
    if loss.value is None:
        return f"{text}; {loss.policy} ranks by {loss.ranks_by}" if loss.policy else text
    age = loss.turn_now - loss.turn
    text += f"; {loss.policy} ranks by {loss.ranks_by}: {_figure(loss.value)}, {many(age, 'turn')} old"
    if loss.thinned:
        text += ", with the rest of its unit, which stayed: it was thinned from its end"
    elif loss.cut is not None:
        text += f"; the least that stayed had {_figure(loss.cut)}"
    return text


def _figure(value: float) -> str:
    """Three significant digits, and all that stand before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def stats_view(stats: ChatStats, run: ChatStats) -> View:
    """The figures of the present conversation, in words; of the run only if it had others before."""
    seconds = _seconds(stats)
    rows = {
        "cells": f"{stats.resident} of {stats.budget} occupied, at most {stats.max_resident}, "
        f"mean {stats.mean_resident:g}; {stats.n_ctx} allocated ({stats.kv_bytes / 1e6:.1f} MB)",
        "turns": f"{stats.turns}; {many(stats.tokens_in, 'token')} read, {stats.tokens_out} generated",
        "evicted": f"{many(stats.evicted, 'token')} in {many(stats.evictions, 'eviction')}, "
        "template tokens and thoughts included",
        "time": f"{seconds:.1f} s: decoding {stats.decode_s:.1f}, scores {stats.score_s:.2f}, "
        f"evictions {stats.evict_s:.2f}",
        "policy": f"{stats.policy}, {stats.position_mode} positions",
        "model": stats.model,
    }
    if stats.archive_bytes:
        rows["outside"] = f"{stats.archive_bytes / 1e6:.1f} MB of evicted cells, which can come back"
    if run.conversations > 1:
        rows["in all"] = (
            f"{run.conversations} conversations, {many(run.turns, 'turn')}; "
            f"{many(run.tokens_in, 'token')} read, {run.tokens_out} generated, {run.evicted} evicted; "
            f"{_seconds(run):.1f} s"
        )
    return View("", [Row((name,), ((text, ""),)) for name, text in rows.items()])


def _seconds(stats: ChatStats) -> float:
    return stats.decode_s + stats.score_s + stats.evict_s
