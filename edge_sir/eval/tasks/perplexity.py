"""Reads plain text, and values the log-probability of what comes next.

The text is one stream, never reset, read in pieces of about 64 tokens, each a turn of its own. `--n` and `--offset`
count thousands of tokens of it: `--n 20`, the default, is the paper's 20,000. Without data the text is our own, made
of sentence templates from a seed: easier than what people write, so its perplexity compares arms and nothing else.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from edge_sir.errors import ConfigError
from edge_sir.eval.task import Dialogue, Read, Setup, Task
from edge_sir.eval.tasks._paper import ranges
from edge_sir.eval.tasks._paper.files import find, read_text
from edge_sir.eval.tasks._paper.prose import prose

__all__ = ["Perplexity"]

PIECE = 64
"""Tokens of a step, about."""
UNIT = 1_000
"""Tokens that `--n 1` stands for; fewer if `n_tokens` is less."""

_WORD = re.compile(r"\s*\S{1,48}|\s+")  # a word with the space before it; parts of it where there are no spaces


class Perplexity(Task):
    """Log-probability of plain text, one stream of --n thousand tokens (any UTF-8 file, or our own prose)."""

    metrics = ("log_probability",)
    chance = 0.0
    data_files = "any text file in UTF-8"

    def files(self, data: Path) -> tuple[Path, ...]:
        return (_given(data),)

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        """Thousand number `index` on its own."""
        return _read(setup, 1, index)

    def dialogues(self, setup: Setup, n: int, offset: int) -> Iterator[Dialogue]:
        """One dialogue of `n` thousand tokens."""
        yield _read(setup, n, offset)

    def counted(self, ids: Collection[str]) -> Collection[str]:
        return ranges.apart(ids)


def _read(setup: Setup, n: int, offset: int) -> Dialogue:
    unit = min(UNIT, setup.n_tokens)
    first, end = offset * unit, (offset + n) * unit
    if setup.data is None:
        text: Iterable[str] = prose(setup.rng(0))
    else:
        text = [read_text(_given(setup.data))]
    steps = []
    n_read = 0
    for piece, n_tokens in _pieces(text, setup):
        if first <= n_read < end:
            steps.append(Read(piece))
        n_read += n_tokens
        if n_read >= end:
            break
    if n_read < end:
        raise ConfigError(f"the text has {n_read} tokens, not {end}: lower --n or --offset, or give a longer one")
    return Dialogue(ranges.range_id("text", offset, offset + n), tuple(steps), None)


def _given(path: Path) -> Path:
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give --data a text file")
    return find(path, path.name)


def _pieces(text: Iterable[str], setup: Setup) -> Iterator[tuple[str, int]]:
    """(piece, tokens) of about PIECE tokens, cut before a word; together they are the text."""
    known: dict[str, int] = {}
    piece, n_tokens = "", 0
    for part in text:
        for word in _WORD.findall(part):
            if word not in known:
                known[word] = setup.count_tokens(word)
            n = known[word]
            if piece and n_tokens + n > PIECE:
                yield piece, n_tokens
                piece, n_tokens = "", 0
            piece += word
            n_tokens += n
    if piece:
        yield piece, n_tokens
