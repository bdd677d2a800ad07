"""How a model marks its thoughts: `<think>`, `[THINK]`, channels and whatever else a template or a vocabulary shows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "KNOWN_TAGS",
    "MARKER",
    "ThoughtTags",
    "first_marker",
    "marker_end",
    "marker_start",
    "n_common",
    "tags_around",
    "tags_in_source",
    "tags_of_empty",
]

MARKER = re.compile(r"<[^<>\s]{1,80}>|\[/?[A-Z_]{2,}\]|〈[^〈〉\s]{1,80}〉")
"""What is likely to be one token of a template; a text is not split inside."""


@dataclass(frozen=True, slots=True)
class ThoughtTags:
    """What opens a thought and what closes it, without blanks around.

    open: empty where only the template opens thoughts. close: may hold more than one token, as between channels.
    """

    open: str
    close: str

    def is_opened_by(self, generation: str) -> bool:
        """Whether a reply that `generation` opens begins inside a thought."""
        if not self.open:
            return True
        opened = generation.rfind(self.open)
        return opened >= 0 and self.close not in generation[opened:]


KNOWN_TAGS = (
    ThoughtTags("<think>", "</think>"),
    ThoughtTags("[THINK]", "[/THINK]"),
    ThoughtTags("<thinking>", "</thinking>"),
    ThoughtTags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ThoughtTags("<|channel>thought", "<channel|>"),
    ThoughtTags("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""For templates that do not say how a thought is written; the first is taken where nothing tells."""


def tags_around(before: str, after: str, opening: str, history: str) -> ThoughtTags | None:
    """The tags, if `before` stands between a user message and a thought and `after` between that and the answer.

    opening: what opens a reply. history: what stands there before a reply without a thought.
    """
    close = after.strip()
    if not MARKER.search(close):
        return None
    base = marker_start(before, min(n_common(before, opening), n_common(before, history)))
    tag = before[base:].strip()
    if not tag and (mirrored := re.fullmatch(r"([<\[])/(.*)", close, re.DOTALL)):
        tag = "".join(mirrored.groups())
    if not tag and before.rstrip() != opening.rstrip():
        return None
    return ThoughtTags(tag, close)


def tags_of_empty(opening: str, history: str) -> ThoughtTags | None:
    """The tags, if a reply's opening, or that which history has, holds a thought that was left empty."""
    for text, other in ((opening, history), (history, opening)):
        block = text[marker_start(text, n_common(text, other)) :].strip()
        marks = list(MARKER.finditer(block))
        if len(marks) == 2 and marks[0].start() == 0 and marks[1].end() == len(block):
            return ThoughtTags(block[: marks[1].start()].strip(), marks[1].group())
    return None


def tags_in_source(source: str) -> ThoughtTags | None:
    """The first tags in use that the text of a template mentions."""
    return next((tags for tags in KNOWN_TAGS if _mentions(source, (tags.open, tags.close))), None)


def n_common(a: str, b: str) -> int:
    """How many characters both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def marker_start(text: str, at: int) -> int:
    """`at`, or where the marker begins that it stands inside of."""
    return next((m.start() for m in MARKER.finditer(text) if m.start() < at < m.end()), at)


def marker_end(text: str, at: int) -> int:
    """`at`, or where the marker ends that it stands inside of."""
    return next((m.end() for m in MARKER.finditer(text) if m.start() < at < m.end()), at)


def first_marker(text: str) -> str:
    """`text` up to its first marker and the blanks behind it; nothing where it has none."""
    found = MARKER.search(text)
    return "" if found is None else text[: found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())]


def _mentions(source: str, tags: Iterable[str]) -> bool:
    return any(tag and tag in source for tag in tags)
