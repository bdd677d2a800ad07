"""What a chat went on from, or began, in a line or two; what was said last; what the session keeps."""

import json
from collections.abc import Mapping
from typing import Any

from edge_sir.chat import Begun, Chat, Resumed
from edge_sir.cli._counts import many
from edge_sir.cli._found import moment
from edge_sir.cli._losses import shown
from edge_sir.cli._views import WHO, n_columns

__all__ = ["flags_text", "keeps_limit", "last_lines", "session_lines"]

_MOST = 60  # characters of a message that is named


def session_lines(chat: Chat) -> list[str]:
    """What is said of its session when a chat begins; nothing of a chat without one."""
    if chat.begun is not None:
        return _begun_lines(chat.begun)
    return [] if chat.resumed is None else _resumed_lines(chat.resumed, read_only=chat.is_looking)


def _begun_lines(begun: Begun) -> list[str]:
    like = f"; did you mean {shown(begun.like)}?" if begun.like else ""
    lines = [f"{shown(begun.name)}: a new session{like}"]
    return lines + ([f"it keeps {flags_text(begun.changed)}"] if begun.changed else [])


def _resumed_lines(resumed: Resumed, *, read_only: bool) -> list[str]:
    line = f"{shown(resumed.name)}: {many(resumed.n_turns, 'turn')}, last used {moment(resumed.used)}; {_how(resumed)}"
    lines = [line + ("; nothing is saved" if read_only else "")]
    if resumed.kept:
        lines.append(f"it keeps {flags_text(resumed.kept)}, until you give others")
    if resumed.changed and not read_only:
        lines.append(f"from now on it keeps {flags_text(resumed.changed)}")
    if resumed.unsent:
        texts = ", ".join(f"“{_short(text)}”" for text in resumed.unsent)
        goes = "it goes in" if len(resumed.unsent) == 1 else "they go in"
        lines.append(f"you said {texts} and got no reply; {goes} with your next message, and /regen asks for one now")
    elif resumed.is_cut:
        lines.append("the last reply was stopped before its end; /regen asks for another")
    return lines


def last_lines(chat: Chat, width: int) -> list[str]:
    """What was said last in a session that goes on, a line for each message, cut at the terminal's width."""
    said = () if chat.resumed is None else chat.resumed.last
    return [_cut(f"{WHO.get(m.role, m.role)}: {' '.join(shown(m.text).split())}", width) for m in said]


def keeps_limit(chat: Chat) -> bool:
    """Whether the length of replies is what the session keeps, and was not given now."""
    return chat.resumed is not None and "max_tokens" in chat.resumed.kept


def flags_text(terms: Mapping[str, Any]) -> str:
    """Options as flags: --budget 96 --stop "a b"."""
    return " ".join(flag for name, value in terms.items() for flag in _flags(name, value))


def _flags(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, Mapping):
        return [f"--{name.removesuffix('s').replace('_', '-')} {key}={json.dumps(one)}" for key, one in value.items()]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"{flag} {_quoted(str(one))}" for one in values]


def _quoted(text: str) -> str:
    return text if text.isprintable() and " " not in text else json.dumps(text, ensure_ascii=False)


def _how(resumed: Resumed) -> str:
    if resumed.how == "exact":
        return "exactly where it stopped"
    if resumed.how == "replayed":
        left_out = f", without {many(resumed.n_left_out, 'recalled token')}" if resumed.n_left_out else ""
        n = min(resumed.n_replayed, resumed.n_turns)
        what = {0: "it", 1: "the last turn"}.get(n, f"the last {n} turns")
        return f"{what} {'were' if n > 1 else 'was'} decoded again{left_out}"
    if resumed.how == "rebuilt":
        return "rebuilt: what was in the cells was read again"
    return "its text was read again"


def _short(text: str) -> str:
    return _cut(" ".join(shown(text).split()), _MOST)


def _cut(line: str, width: int) -> str:
    if n_columns(line) <= width:
        return line
    n = next(n for n in range(min(len(line), width), -1, -1) if n_columns(line[:n]) < width)
    return f"{line[:n].rstrip()}…"
