"""Dialogues that are a range of one long stream, named by it: `rock-0-60`, `text-0-20`."""

import re
from collections.abc import Collection

__all__ = ["apart", "range_id"]


def range_id(stream: str, first: int, end: int) -> str:
    """The name of `first` .. `end` of a stream."""
    return f"{stream}-{first}-{end}"


def apart(ids: Collection[str]) -> set[str]:
    """Those of `ids` that share nothing with a longer one of their stream; of equally long ones the first counts."""
    kept: list[re.Match[str]] = []
    for found in sorted(map(_parse, ids), key=lambda found: (-len(_range(found)), found.string)):
        same = [_range(other) for other in kept if other["stream"] == found["stream"]]
        if not any(range(max(r.start, _range(found).start), min(r.stop, _range(found).stop)) for r in same):
            kept.append(found)
    return {found.string for found in kept}


def _parse(name: str) -> re.Match[str]:
    found = re.fullmatch(r"(?P<stream>.*)-(?P<first>\d+)-(?P<end>\d+)", name)
    if found is None:
        raise ValueError(f"'{name}' names no range")
    return found


def _range(found: re.Match[str]) -> range:
    return range(int(found["first"]), int(found["end"]))
