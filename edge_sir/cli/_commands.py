"""Lines that begin with /: read, done by `edge_sir.chat.commands`, and shown. For the terminal and for piped lines."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tqdm import tqdm

from edge_sir.chat import Chat, ReplyStream, Undone, commands
from edge_sir.cli._counts import many, numbered
from edge_sir.cli._found import search_view
from edge_sir.cli._help import HELP, help_view, unknown_command
from edge_sir.cli._views import WHO, Row, View, digest, find_view, losses_view, memory_view, stats_view, why_view
from edge_sir.errors import BudgetError, ConfigError, EdgeSirError
from edge_sir.memory.transcript import Message

__all__ = ["Outcome", "back_of", "complaint", "cost_of", "is_command", "perform"]


_ALL_THERE = "all that matches is in memory"
_DISK_UNCHANGED = "in this chat alone: the session on disk is unchanged (--read-only)"
_DISK_SEARCHED = "only the session on disk was searched: what is said in this chat is not saved (--read-only)"
_NO_PROMPT = "no system prompt of yours (/system TEXT)"
_N_DIGITS = 9  # Python refuses to read a number of some thousands


@dataclass(frozen=True)
class Outcome:
    """What a command led to: something to show, for people and as plain values; a reply to stream; the end."""

    view: View = field(default_factory=View)
    document: dict[str, Any] = field(default_factory=dict)
    stream: ReplyStream | None = None
    as_json: bool = False
    leave: bool = False


def is_command(text: str) -> bool:
    """Whether a line is a command; one that begins with // is said with one stroke less."""
    return text.startswith("/") and not text.startswith("//")


def complaint(error: EdgeSirError) -> str:
    """What is wrong, for a person in a chat: flags that a remedy names are commands here."""
    return re.sub(r"--(budget|policy)\b", r"/\1", str(error)) if isinstance(error, BudgetError) else str(error)


def perform(chat: Chat, line: str) -> Outcome:
    """Does what the line says. Raises UserError for a mistake in it; nothing has changed then."""
    name, _, rest = line.strip()[1:].partition(" ")
    action = _ACTIONS.get(name.lower())
    if action is None:
        raise unknown_command(name)
    if rest.strip() and not HELP[name.lower()][0]:  # a word too many may be another command's, or a message's
        raise ConfigError(f"/{name.lower()} takes no argument; nothing was done")
    return action(chat, rest.strip())


def _help(chat: Chat, rest: str) -> Outcome:
    view, document = help_view(" ".join(rest.lower().removeprefix("/").split()))
    return Outcome(view, {"commands": document})


def _memory(chat: Chat, rest: str) -> Outcome:
    words = rest.split()
    as_json, scores = "--json" in words, "--scores" in words
    words = [w for w in words if w not in ("--json", "--scores")]
    if words[:1] == ["find"]:
        found = commands.find(chat, _given(" ".join(words[1:]), "/memory find TEXT: find what?"))
        document = {"find": found.text, "turns": [match.as_dict() for match in found.matches]}
        return Outcome(find_view(found), document, as_json=as_json)
    if words == ["why"]:
        losing = commands.losses(chat)
        return Outcome(losses_view(losing), {"turns": [turn.as_dict() for turn in losing]}, as_json=as_json)
    if words[:1] == ["why"] and len(words) == 2:
        why = commands.why(chat, _number(words[1], "/memory why TURN"))
        return Outcome(why_view(why), why.turn.as_dict(), as_json=as_json)
    if len(words) > 1:
        raise ConfigError("/memory takes [N] [--scores] [--json], find TEXT, or why [TURN]")
    last = _number(words[0], "/memory N") if words else None
    memory = commands.memory(chat)
    return Outcome(memory_view(memory, last, scores=scores), memory.as_dict(), as_json=as_json)


def _pin(chat: Chat, rest: str) -> Outcome:
    pinned = commands.pin(chat, _what(chat, rest, "/pin TEXT|TURN"))
    n, outcome = pinned.n_evicted, _affected("pinned", pinned)
    outcome.document.update(n_evicted=n, n_restored=pinned.n_restored)
    if pinned.n_restored:
        note = f"{many(pinned.n_restored, 'token')} of it had been evicted and came back"
        outcome.view.rows.append(Row(("", ""), ((note, ""),), dim=True))
    if n and any(p.role != "system" for p in pinned.passages):  # a system prompt is whole, or was replaced
        were, them = ("was", "it") if n == 1 else ("were", "them")
        evicted = f"{many(n, 'more token')} of it {were} evicted already, and a pin cannot bring {them} back"
        note = f"{evicted}: say it again to have it whole"
        outcome.view.rows.append(Row(("", ""), ((note, ""),)))
    return outcome


def _unpin(chat: Chat, rest: str) -> Outcome:
    return _affected("unpinned", commands.unpin(chat, _what(chat, rest, "/unpin TEXT|TURN") if rest else None))


def _forget(chat: Chat, rest: str) -> Outcome:
    forgotten = commands.forget(chat, _what(chat, rest, "/forget TEXT|TURN"))
    n, n_pinned = forgotten.n_resident, forgotten.n_pinned
    outcome = _affected("forgotten", forgotten, forgotten.n_evicted)
    outcome.document["n_evicted"] = forgotten.n_evicted
    if not n:  # at most template tokens
        view = View("it was not in memory any more; the transcript has lost it, too")
        outcome = replace(outcome, view=view)
    if chat.is_looking:
        outcome.view.rows.insert(0, Row((), ((_DISK_UNCHANGED, ""),)))
    if not n:
        return outcome
    if n_pinned:
        pinned = "it was" if n_pinned == n else f"{n_pinned} of them were"
        outcome = replace(outcome, view=replace(outcome.view, title=f"{outcome.view.title}; {pinned} pinned"))
    note = "replies made while it was known may still reflect it; your input history keeps what it holds"
    outcome.view.rows.append(Row(("", ""), ((note, ""),), dim=True))
    return outcome


def _affected(verb: str, affected: commands.Affected, n_evicted: int = 0) -> Outcome:
    n = affected.n_resident
    still = f"{n} of {n + n_evicted} tokens, the others were evicted already" if n_evicted else many(n, "token")
    view = View(f"{verb}: {still}" if n else f"nothing to be {verb}")
    for p in affected.passages:
        text = digest(p.text, p.role) if p.role == "system" else p.text
        view.rows.append(Row((f"turn {p.turn}", f"{p.n_resident}"), ((f"{WHO[p.role]}: {text}", ""),)))
    return Outcome(view, {verb: [p.as_dict() for p in affected.passages]})


def _recall(chat: Chat, rest: str) -> Outcome:
    recalled = commands.recall(chat, _what(chat, rest, "/recall TEXT|TURN"))
    n = sum(r.n_tokens for r in recalled)
    view = View(f"back in memory: {many(n, 'token')} of {numbered({r.turn for r in recalled})}" if n else _ALL_THERE)
    view.rows.extend(Row((f"turn {r.turn}", f"{r.n_tokens}"), ((r.text, ""),)) for r in recalled)
    if n:
        note = "the next turn has it; after that it may be evicted again (/pin it to keep it)"
        view.rows.append(Row(("", ""), ((note, ""),), dim=True))
    return Outcome(view, {"recalled": [r.as_dict() for r in recalled]})


def _search(chat: Chat, rest: str) -> Outcome:
    if not rest.strip("\"' "):
        raise ConfigError("/search WORDS: search for what?")
    found = chat.search(rest)
    document = {"search": rest, "found": [dataclasses.asdict(message) for message in found]}
    view = search_view(rest, found)
    if chat.is_looking:
        view.rows.append(Row((), ((_DISK_SEARCHED, ""),), dim=True))
    return Outcome(view, document)


def _undo(chat: Chat, rest: str) -> Outcome:
    undone = commands.undo(chat)
    return Outcome(_undone_view(undone), dataclasses.asdict(undone))


def _undone_view(undone: Undone) -> View:
    said = next((m.text for m in undone.messages if m.role == "user"), "")
    freed = f" ({many(undone.n_tokens, 'cell')} free again)" if undone.n_tokens else ""
    view = View(f"took back turn {undone.turn}{freed}" + (f": “{said}”" if said else ""))
    for line in (back_of(undone), cost_of(undone)):  # template tokens are no content
        if line:
            view.rows.append(Row((), ((line, ""),), dim=True))
    return view


def back_of(undone: Undone) -> str:
    """What older turns gave up for a turn that was taken back, and have again; empty if nothing."""
    n = sum(undone.restored.values())
    return f"back in memory: {many(n, 'token')} of {numbered(undone.restored)}" if n else ""


def cost_of(undone: Undone) -> str:
    """What older turns gave up for a turn that was taken back; empty if nothing."""
    lost = {loss.turn for loss in undone.lost if loss.n_content}
    n = sum(loss.n_content for loss in undone.lost)
    return f"evicted meanwhile, and not put back: {many(n, 'token')} of {numbered(lost)}" if lost else ""


def _regen(chat: Chat, rest: str) -> Outcome:
    return Outcome(stream=commands.regenerate(chat))


def _budget(chat: Chat, rest: str) -> Outcome:
    now = commands.budget(chat, _number(rest, "/budget N") if rest else None)
    # What that evicted is shown as after any eviction.
    back = f"; {many(now.restored, 'evicted token')} came back" if now.restored else ""
    restored = {"restored": now.restored} if now.restored else {}
    view = View(f"budget {now.budget} cells, {now.resident} occupied; {now.allocated} allocated{back}")
    return Outcome(view, {"budget": now.budget, "evicted": now.evicted} | restored)


def _policy(chat: Chat, rest: str) -> Outcome:
    now = commands.policy(chat, rest or None)
    view = View(f"policy {now.policy}" if rest else f"policy {now.policy}; there are {', '.join(now.names)}")
    if now.n_unknown:
        have = "has" if now.n_unknown == 1 else "have"
        note = f"{many(now.n_unknown, 'resident token')} {have} no score of the kind it needs"
        view.rows.append(Row((), ((note, ""),), dim=True))
    return Outcome(view, {"policy": now.policy, "unknown": now.n_unknown})


def _system(chat: Chat, rest: str) -> Outcome:
    now = commands.system(chat, _unquoted(rest) if rest else None)
    own = digest(now.template, "system").strip()
    title = f"system prompt (turn {now.turn}, pinned): {now.text}" if now.text else _NO_PROMPT
    if not now.text and own:
        title += f"; the template's own: {own}"
    return Outcome(View(title), {"system": now.text, "turn": now.turn})


def _stats(chat: Chat, rest: str) -> Outcome:
    stats = commands.stats(chat)
    document = dataclasses.asdict(stats.conversation) | {"run": dataclasses.asdict(stats.run)}
    return Outcome(stats_view(stats.conversation, stats.run), document)


def _save(chat: Chat, rest: str) -> Outcome:
    saved = commands.save(chat, _given(rest, "/save FILE: which file?"))
    pins = "; not the pins" if saved.left_out_pins else ""
    return Outcome(View(f"saved {many(saved.n_messages, 'message')} to {saved.path}{pins}"), {"saved": str(saved.path)})


def _load(chat: Chat, rest: str) -> Outcome:
    loaded = commands.load(chat, _given(rest, "/load FILE: which file?"), _progress)
    text = f"read {many(loaded.n_turns, 'turn')}; {loaded.resident} of {loaded.budget} cells occupied"
    text += "; pins are not saved: /pin again what must stay" if loaded.pins_cleared else ""
    return Outcome(View(text), {"loaded": loaded.n_turns})


def _progress(messages: Sequence[Message]) -> Iterable[Message]:
    """The model reads every word again, which takes a while; a terminal shows how far it is, once it has begun."""
    yield from tqdm(messages, desc="reading", unit="message", leave=False, disable=None)


def _clear(chat: Chat, rest: str) -> Outcome:
    n = commands.clear(chat)
    return Outcome(View(f"a new conversation; {many(n, 'turn')} cleared"), {"cleared": n})


def _bye(chat: Chat, rest: str) -> Outcome:
    return Outcome(leave=True)


_ACTIONS: dict[str, Callable[[Chat, str], Outcome]] = {
    "help": _help,
    "memory": _memory,
    "pin": _pin,
    "unpin": _unpin,
    "forget": _forget,
    "recall": _recall,
    "search": _search,
    "undo": _undo,
    "regen": _regen,
    "budget": _budget,
    "policy": _policy,
    "system": _system,
    "stats": _stats,
    "save": _save,
    "load": _load,
    "clear": _clear,
    "bye": _bye,
}


def _what(chat: Chat, text: str, usage: str) -> int | str:
    """A turn's number, or words: a number beyond the last turn, or in quotes, is something that was said."""
    is_turn = _is_number(text) and int(text) <= chat.session.turn
    return int(text) if is_turn else _given(text, f"{usage}: which?")


def _given(text: str, question: str) -> str:
    """The argument without its quotes; `question` is the complaint where there is none."""
    if not (text := _unquoted(text)).strip():
        raise ConfigError(question)
    return text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _number(text: str, usage: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{usage}: '{text}' is not a whole number")
    if not _is_number(text):
        raise ConfigError(f"{usage}: a number of {len(text)} digits is too large")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _N_DIGITS
