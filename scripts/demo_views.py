"""What scripts/demo shows: a table for people, one object for programs, the picture and the Markdown for the README."""

import io
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from demo_talk import Answer, Played, Talk
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["document", "markdown", "page", "svg"]

_WIDTH = 100
_MARK = {True: ("✓ ", "green"), False: ("✗ ", "red")}
_NO_LIMIT = 10_000  # columns; a row of Markdown is one line


def page(talk: Talk, played: Sequence[Played]) -> RenderableType:
    """The whole run for people: what was told, what was said since, and the table."""
    return Group(_said(talk), _table(talk, played, box.SIMPLE_HEAD), _note(talk, played))


def svg(talk: Talk, played: Sequence[Played]) -> str:
    """`page` as a picture 100 columns wide. It loads nothing from elsewhere."""
    console = Console(
        record=True,
        width=_WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
    )
    console.print(page(talk, played))
    # The web fonts go: what shows the picture has a monospace font, too.
    return re.sub(r"\s*@font-face\s*\{[^}]*\}", "", console.export_svg(title="scripts/demo"))


def markdown(talk: Talk, played: Sequence[Played]) -> str:
    """The table in Markdown, one line per row."""
    console = Console(file=io.StringIO(), width=_NO_LIMIT, color_system=None)
    with console.capture() as captured:
        console.print(_table(talk, played, box.MARKDOWN))
    return "\n".join(line.rstrip() for line in captured.get().strip().splitlines()) + "\n"


def document(talk: Talk, played: Sequence[Played]) -> dict[str, Any]:
    """The whole run for programs, in plain types."""
    return {
        "turns": len(talk.turns),
        "questions": [question.model_dump() for question in talk.questions],
        "played": [asdict(p) | {"n_right": p.n_right, "n_in_cache": p.n_in_cache} for p in played],
    }


# ---- parts ---------------------------------------------------------------------------------------


def _said(talk: Talk) -> Table:
    """The turns that tell something in full, the others folded."""
    n, n_all = talk.n_telling, len(talk.turns)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for i, text in enumerate(talk.turns[:n]):
        grid.add_row(str(i + 1), Text(text))
    if n < n_all:
        more = f" and {n_all - n - 1} more about other things" if n_all - n > 1 else ""
        grid.add_row(f"{n + 1}-{n_all}" if more else str(n_all), Text(f"{talk.turns[n]}{more}", "dim"))
    return grid


def _table(talk: Talk, played: Sequence[Played], style: box.Box) -> Table:
    plain = style is box.MARKDOWN
    table = Table(box=style, pad_edge=plain, padding=(0, 1))
    for heading in ("told", f"asked after turn {len(talk.turns)}", *(p.policy for p in played)):
        table.add_column(heading if plain else Text(heading, "bold"), overflow="fold")
    for i, question in enumerate(talk.questions):
        table.add_row(Text(question.told), Text(question.ask), *(_answer(p.answers[i], plain) for p in played))
    if not plain:
        table.add_section()
    n = len(talk.questions)
    for name, values in (
        ("right", [f"{p.n_right} of {n}" for p in played]),
        ("answers still in the cache", [f"{p.n_in_cache} of {n}" for p in played]),
        ("tokens read and written", [f"{p.n_tokens:,}" for p in played]),
        ("cells in use", [f"{p.n_resident:,} of {p.n_cells:,}" for p in played]),
    ):
        table.add_row("", Text(name, "bold"), *(Text(value, "bold") for value in values))
    return table


def _answer(answer: Answer, plain: bool) -> Text:
    mark, colour = _MARK[answer.right]
    words = " ".join(answer.text.split()) or "(nothing)"
    return Text.assemble((mark, colour), words.replace("|", "\\|") if plain else words)


def _note(talk: Talk, played: Sequence[Played]) -> Text:
    first = played[0]
    took = " and ".join(f"{p.took_s:.0f} s" for p in played)
    return Text(
        f"{first.model}, temperature 0, played in {took}. Every question was taken back before the next.", "dim"
    )
