"""Counts and numbers as a sentence has them: one token, two tokens."""

from collections.abc import Collection

__all__ = ["many", "numbered"]


def many(n: int, what: str) -> str:
    """How many of `what`, a noun whose plural just has an s."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def numbered(turns: Collection[int]) -> str:
    """Turns by number: turn 3; turns 3, 4."""
    return f"turn{'' if len(turns) == 1 else 's'} {', '.join(map(str, sorted(turns)))}"
