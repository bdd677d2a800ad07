"""What `edge-sir sessions` shows, as rows."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from edge_sir.cli._counts import many, size_text
from edge_sir.cli._found import moment
from edge_sir.cli._losses import shown
from edge_sir.cli._views import WHO, Row, View
from edge_sir.store.rescue import Rescued
from edge_sir.store.values import Problem, SessionInfo, StoredMessage

__all__ = ["facts_view", "list_view", "lost_text", "problems_view", "rescued_view", "said_view", "verdicts"]

_NO_MODEL = "none yet"


def list_view(infos: Sequence[SessionInfo]) -> View:
    """One row a session."""
    view = View("", [Row(("NAME", "TURNS", "LAST USED", "ON DISK"), (("MODEL", ""),), dim=True)])
    for info in infos:
        cells = shown(info.name), str(info.n_turns), moment(info.used), size_text(info.n_bytes)
        view.rows.append(Row(cells, ((info.model or _NO_MODEL, ""),)))
    return view


def facts_view(
    info: SessionInfo, messages: Sequence[StoredMessage], n_snapshots: int, unsent: Sequence[str], keeps: str
) -> View:
    """One session's figures. messages: all rows of it. keeps: flags that it keeps."""
    title = f"{info.name}: {many(info.n_turns, 'turn')}, {many(info.n_messages, 'message')}"
    facts = {"model": info.model or _NO_MODEL, "begun": moment(info.created), "last used": moment(info.used)}
    facts["on disk"] = f"{many(n_snapshots, 'snapshot')}; {size_text(info.n_bytes)} beside the database"
    facts |= {"keeps": keeps} if keeps else {}
    if n_others := sum(not stored.on_path for stored in messages):
        facts["also kept"] = f"{many(n_others, 'message')} taken back, or from before a /clear"
    facts |= {"unanswered": " ".join(f"“{text}”" for text in unsent)} if unsent else {}
    return View(title, [Row((name,), ((text, ""),)) for name, text in facts.items()])


def said_view(path: Sequence[StoredMessage]) -> View:
    """What was said, by turn."""
    view = View("", [Row(("TURN", "WHO"), (("", ""),), dim=True)])
    for turn, group in groupby((stored.message for stored in path), key=lambda message: message.turn):
        for i, message in enumerate(group):
            cells = "" if i else str(turn), WHO.get(message.role, message.role)
            view.rows.append(Row(cells, ((message.text, ""),)))
    return view


def problems_view(problems: Sequence[Problem]) -> View:
    """One row a problem. A path is as long as a line, so where it is stands in the text."""
    return View("", [Row((), ((f"{problem.where}: {problem.what}", ""),)) for problem in problems])


def verdicts(names: Sequence[str], problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """What `verify` found, by session. What is wrong with the folder as a whole comes first, with no name."""
    of_folder = [f"{problem.where}: {problem.what}" for problem in problems if problem.where not in names]
    found: list[dict[str, Any]] = [{"name": None, "sound": False, "problems": of_folder}] if of_folder else []
    for name in names:
        own = [problem.what for problem in problems if problem.where == name]
        found.append({"name": name, "sound": not own, "problems": own})
    return found


def rescued_view(found: Sequence[Rescued]) -> View:
    """One row a session of a damaged database."""
    rows = [Row((shown(one.name),), ((f"{many(one.n_messages, 'message')}: {lost_text(one)}", ""),)) for one in found]
    return View("copied what can be read:", rows)


def lost_text(found: Rescued) -> str:
    """How much of a session cannot be read."""
    least = "at least " if found.is_least and found.n_lost else ""
    return f"{least}{many(found.n_lost, 'message')} could not be read" if found.n_lost else "all that was said"
