"""What a chat went on from, in one line, and what the user said that got no reply."""

from edge_sir.chat import Resumed
from edge_sir.cli._counts import many
from edge_sir.cli._found import moment
from edge_sir.cli._losses import shown

__all__ = ["resumed_lines"]

_MOST = 60  # characters of a message that is named


def resumed_lines(resumed: Resumed, *, read_only: bool = False) -> list[str]:
    """The lines; read_only: nothing is saved."""
    line = f"{shown(resumed.name)}: {many(resumed.n_turns, 'turn')}, last used {moment(resumed.used)}; {_how(resumed)}"
    lines = [line + ("; nothing is saved" if read_only else "")]
    if resumed.unsent:
        texts = ", ".join(f"“{_short(text)}”" for text in resumed.unsent)
        goes = "it goes in" if len(resumed.unsent) == 1 else "they go in"
        lines.append(f"you said {texts} and got no reply; {goes} with your next message, and /regen asks for one now")
    return lines


def _how(resumed: Resumed) -> str:
    if resumed.how == "exact":
        return "exactly where it stopped"
    if resumed.how == "replayed":
        left_out = f", without {many(resumed.n_left_out, 'recalled token')}" if resumed.n_left_out else ""
        return f"replayed {many(resumed.n_replayed, 'turn')}{left_out}"
    if resumed.how == "rebuilt":
        return "rebuilt: what was in the cells was read again"
    return "its text was read again"


def _short(text: str) -> str:
    line = " ".join(shown(text).split())
    return line if len(line) <= _MOST else line[: _MOST - 1] + "…"
