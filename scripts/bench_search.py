"""The figures about searching 100,000 messages: words that the index knows by their trigrams, and shorter ones.

The words are made of syllables and are as frequent as words are (Zipf). The figure is the slowest kind's: common words
are found at once, since the newest 50 messages suffice; a word that was never said is sought to the end.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench_rig import Setup, say
from bench_stats import Figure, bootstrap

from edge_sir.memory.transcript import Message
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import Record

__all__ = ["KEYS", "searching"]

KEYS = ("search_ms_100k", "search_ms_100k_short")

_N_MESSAGES, _N_EACH = 100_000, 2_000
_N_WORDS, _SHORTEST, _LONGEST = 20_000, 4, 40  # vocabulary; words of a message
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def searching(setup: Setup, n_rounds: int, keys: Sequence[str] = KEYS, n_messages: int = _N_MESSAGES) -> list[Figure]:
    """Milliseconds of the slowest kind of search, for words of 3 characters and more, and for shorter ones."""
    random = np.random.default_rng(0)
    words = _vocabulary(random)
    with tempfile.TemporaryDirectory(prefix="edge-sir-") as path, StateFolder(Path(path) / "state") as folder:
        say(f"writing {n_messages} messages")
        started = time.perf_counter()
        texts = _fill(folder, random, words, n_messages)
        said_s = time.perf_counter() - started
        folder.search("warm up")
        long, short = _queries(random, words, texts)
        sizes = {"messages": n_messages, "text_mb": sum(map(len, texts)) / 1e6, "writing_s": said_s}
        return [
            _figure(setup, folder, key, kinds, n_rounds, sizes) for key, kinds in zip(keys, (long, short), strict=True)
        ]


def _vocabulary(random: np.random.Generator) -> list[str]:
    """Different words of 2 to 5 syllables, without "zu": that is never said."""
    words: dict[str, None] = {}
    while len(words) < _N_WORDS:
        word = "".join(random.choice(_SYLLABLES, random.integers(2, 6)))
        if "zu" not in word:
            words[word] = None
    return list(words)


def _fill(folder: StateFolder, random: np.random.Generator, words: Sequence[str], n_messages: int) -> list[str]:
    """Says all of it in one session; the texts."""
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()
    texts: list[str] = []
    with folder.create("bench", model="none", fingerprint="none") as store:
        while len(texts) < n_messages:
            n = min(_N_EACH, n_messages - len(texts))
            lengths = random.integers(_SHORTEST, _LONGEST + 1, n)
            chosen = np.split(random.choice(len(words), lengths.sum(), p=weights), np.cumsum(lengths)[:-1])
            new = [" ".join(words[i] for i in one) for one in chosen]
            at = len(texts)
            messages = [Message(at + i, ("user", "assistant")[i % 2], text, at + i + 1) for i, text in enumerate(new)]
            store.write(Record(at, tuple(messages), b"", {}, at + n))
            texts += new
    return texts


def _queries(
    random: np.random.Generator, words: Sequence[str], texts: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Words to search for, by kind: long ones and short ones."""
    syllables = random.permutation(_SYLLABLES)
    old = [text.split()[0] for text in texts[:20]]
    long = {
        "common": list(words[:10]),
        "rare": list(words[-10:]),
        "old": old[:10],
        "never_said": ["".join(random.choice(_SYLLABLES, 2)) + "zu" for _ in range(10)],
        "two_words": [f"{words[i]} {words[-1 - i]}" for i in range(10)],
        "three_letters": [one + other[0] for one, other in zip(syllables[:10], syllables[10:20], strict=True)],
    }
    short = {"common": list(syllables[:10]), "never_said": ["zu", "qx", "東京", "xq", "wy"]}
    return long, short


def _figure(
    setup: Setup,
    folder: StateFolder,
    key: str,
    kinds: dict[str, list[str]],
    n_rounds: int,
    sizes: dict[str, float],
) -> Figure:
    say(f"searching, {key}")
    times = {
        kind: [_search_ms(setup, folder, query) for _ in range(n_rounds) for query in kinds[kind]] for kind in kinds
    }
    medians = {f"{kind}_ms": float(np.median(taken)) for kind, taken in times.items()}
    slowest = np.array(max(times.values(), key=np.median))
    low, high = bootstrap(len(slowest), lambda i: float(np.median(slowest[i])))
    spread = f"95 % of {len(slowest)} searches of the slowest kind"
    return Figure(key, float(np.median(slowest)), low, high, spread, detail=medians | sizes)


def _search_ms(setup: Setup, folder: StateFolder, query: str) -> float:
    started = setup.clock()
    folder.search(query)
    return 1e3 * (setup.clock() - started)
