"""Counts and numbers as a sentence has them: one token, two tokens."""

import math
from collections.abc import Collection

from edge_sir.text.reply import Reply

__all__ = ["cut", "empty", "many", "numbered", "shortcomings", "size_text"]


def many(n: int, what: str) -> str:
    """How many of `what`, a noun whose plural just has an s."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def numbered(turns: Collection[int]) -> str:
    """Turns by number: turn 3; turns 3, 4."""
    return f"turn{'' if len(turns) == 1 else 's'} {', '.join(map(str, sorted(turns)))}"


def cut(reply: Reply, max_tokens: int, kept: bool = False) -> tuple[str, str]:
    """Where a reply was cut, and by what; both empty if it was not. kept: the limit was not given now."""
    if reply.finish != "length":
        return "", ""
    limit = f"--max-tokens {max_tokens}, which this session keeps" if kept else "--max-tokens"
    why = limit if reply.n_generated >= max_tokens else "no cell is left"
    return f"cut at {many(reply.n_generated, 'token')}", why


def empty(reply: Reply) -> str:
    """That a reply has no text, and how long a thought came before; "" if it has."""
    if reply.text:
        return ""
    return f"empty after {many(reply.n_thought, 'token')} of thought" if reply.n_thought else "empty"


def shortcomings(reply: Reply, max_tokens: int, kept: bool = False) -> str:
    """What a reader of a reply's text alone would not see: that it is cut, or empty after a thought; else nothing."""
    nothing = empty(reply)
    where, why = cut(reply, max_tokens, kept)
    found = [nothing] * bool(nothing) + [f"{where} ({why})"] * bool(where)
    return f"the reply of turn {reply.turn} is {' and '.join(found)}" if found else ""


def size_text(n_bytes: float, *, up: bool = False) -> str:
    """Bytes in the unit that fits. up: rounded up, so that what is named does suffice."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{math.ceil(10 * n_bytes / factor) / 10 if up else n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"
