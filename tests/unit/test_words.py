"""Retired words: the field has terms, and one word means one thing. The glossary says what stands in their place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RETIRED = {
    r"\bl(et|ets|etting)\b[^.]{0,40}\bgo\b": "evict",
    r"nobody's words": "template tokens, no content",
    r"person's hands": "say what one can do",
    r"\bgone\b|_gone\b": "evicted, or dropped",
    r"lets? (it )?loose": "unpin",
    r"forgets by": "evicts by",
    r"loss ?book": "the log of evictions",
    r"\bstretch(es)?\b": "passage",
    r"\btold for\b|\bis told\b": "kept for, or gets",
}
# What other people say, and what the evaluation's dialogues are made of.
SPOKEN = ("eval/tasks/_paper/", "eval/_words")
FILES = [
    path
    for path in [
        *sorted((ROOT / "edge_sir").rglob("*.py")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ]
    if not any(part in path.as_posix() for part in SPOKEN) and path.name != "report.md"
]


@pytest.mark.parametrize("pattern", RETIRED)
def test_retired_words_are_found_nowhere(pattern: str) -> None:
    found = []
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line, re.IGNORECASE):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, f"say {RETIRED[pattern]!r}:\n" + "\n".join(found)


def test_the_list_would_find_them() -> None:
    assert len(FILES) > 100
    assert re.search(next(iter(RETIRED)), "the oldest tokens were let go")
