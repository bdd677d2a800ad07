"""What a search found, as rows: in one session of a chat, or in all of them."""

import re
import time
from collections.abc import Sequence

from edge_sir.cli._counts import many
from edge_sir.cli._views import WHO, Row, View
from edge_sir.store.values import ON_PATH, Found

__all__ = ["day", "moment", "search_view"]


def search_view(words: str, found: Sequence[Found], *, named: bool = False, limit: int | None = None) -> View:
    """Messages that hold the words, newest first.

    named: of several sessions, so that each row says of which. limit: there may be more, if as many were found.
    """
    quoted = _quoted(words)
    if not found:
        return View(f"nothing that was said holds {quoted}")
    newest = "the newest " if len(found) == limit else ""
    view = View(f"{newest}{many(len(found), 'message')} {'holds' if len(found) == 1 else 'hold'} {quoted}")
    has_places = any(message.where or message.state != ON_PATH for message in found)
    for message in found:
        cells = (f"turn {message.turn}", day(message.said), *([_where(message)] if has_places else []))
        cells = (message.session, *cells) if named else cells
        aside = message.state != ON_PATH
        view.rows.append(Row(cells, ((f"{WHO.get(message.role, message.role)}: {message.snippet}", ""),), dim=aside))
    return view


def _quoted(words: str) -> str:
    """“tromso”; the words tale, sea; "several words" that are one as they were given."""
    terms = re.findall(r'"[^"]+"|[^\s"]+', words)
    if len(terms) > 1:
        return f"the words {', '.join(terms)}"
    return words if words.startswith('"') else f"“{words}”"


def _where(message: Found) -> str:
    """What a chat says about it, unless the present conversation does not hold it at all."""
    return (message.where or "present") if message.state == ON_PATH else message.state


def day(seconds: float) -> str:
    """The local date of a moment in unix seconds, as 2026-11-27."""
    return time.strftime("%Y-%m-%d", _local(seconds))


def moment(seconds: float) -> str:
    """The local date and time of a moment in unix seconds, as 2026-11-27 08:53."""
    return time.strftime("%Y-%m-%d %H:%M", _local(seconds))


def _local(seconds: float) -> time.struct_time:
    try:
        return time.localtime(seconds)
    except (OverflowError, ValueError, OSError):  # a clock that was wrong by millennia
        return time.localtime(0)
