"""Search: what a message must hold to be found, in any script, and how long it takes."""

import random
import time
from pathlib import Path

import pytest
from store.parts import new_session, turn

from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.store.folding import fold
from edge_sir.store.search import snippet
from edge_sir.store.values import Record

TEXTS = (
    "We flew to Tromsø in winter.",
    "昨日、東京タワーへ行きました。",
    "서울에서 한국 음식을 먹었다",
    "Die Straße heißt GROẞE Weite",
    "İstanbul ve ılık su",
    "Ёлка и йод",
    "हिन्दी में नमस्ते",
    'He said "hello world" twice; 100% sure_',
    "cafe\u0301 Đà Nẵng ﬁne",
    "before\0after the NUL",
    "ABC only ASCII",
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tromso", [0]),
        ("TROMSØ", [0]),
        ("ø", [0, 3, 7, 9, 10]),
        ("東京", [1]),
        ("東京タワー", [1]),
        ("京", [1]),
        ("한국", [2]),
        ("서울에서", [2]),
        ("strasse", [3]),
        ("grosse weite", [3]),
        ("istanbul", [4]),
        ("ilik", [4]),
        ("елка", [5]),
        ("नमस्ते", [6]),
        ('"hello world"', [7]),
        ('"world hello"', []),
        ("world hello", [7]),
        ("100%", [7]),
        ("%", [7]),
        ("_", [7]),
        ("café", [8]),
        ("da nang", [8]),
        ("fine", [8]),
        ("after", [9]),
        ("abc", [10]),
        ("only abc AS", [10]),
        ("abc xyz", []),
        ("nowhere", []),
        ("NEAR(", []),
        ("w", [0, 3, 7]),
    ],
)
def test_a_message_is_found_by_what_stands_in_it(tmp_path: Path, words: str, expected: list[int]) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(turn(1, 0, *TEXTS))
    found = folder.search(words)
    assert [TEXTS.index(f.text) for f in found] == sorted(expected, reverse=True)
    assert all(any(fold(w.strip('"')) in fold(f.snippet) for w in words.split()) for f in found)
    folder.close()


def test_a_result_says_where_it_stands(tmp_path: Path) -> None:
    folder, store = new_session(tmp_path / "state")
    store.write(Record(0, (Message(3, "user", "a needle here", 17),), b"", {}, 1))
    other = folder.create("other", model="m", fingerprint="f")
    other.write(turn(1, 0, "a needle there"))
    first, second = folder.search("needle")
    assert (first.session, second.session) == ("other", "ada")
    assert (second.number, second.turn, second.role, second.snippet) == (17, 3, "user", "a needle here")
    assert second.row == store.read().path[0].row and second.where == ""
    assert [f.session for f in folder.search("needle", session="ADA")] == ["ada"]
    assert [f.session for f in folder.search("ne", session="ADA")] == ["ada"]
    assert len(folder.search("needle", limit=1)) == 1
    for words, session, limit in (("", None, 1), (' "" ', None, 1), ("x", "nobody", 1), ("x", None, 0)):
        with pytest.raises(ConfigError):
            folder.search(words, session=session, limit=limit)
    folder.close()


def test_a_snippet_is_one_line_around_the_first_word() -> None:
    text = "ß" * 100 + "\nthe Needle\tis here" + " x" * 100
    cut = snippet(text, ["is here", "needle"])
    assert cut.startswith("…ß") and cut.endswith("x…") and "the Needle is here" in cut and len(cut) < 95
    assert snippet("short", ["short"]) == "short"
    assert snippet("e\u0301" * 60 + "needle", ["needle"]).endswith("needle")


def test_search_agrees_with_looking_at_every_text(tmp_path: Path) -> None:
    random_ = random.Random(3)
    folder, store = new_session(tmp_path / "state")
    texts = ["".join(random_.choices("aAbø ß京é", k=random_.randrange(30))) for _ in range(400)]
    store.write(turn(1, 0, *texts))
    for _ in range(300):
        text = random_.choice(texts)
        at = random_.randrange(len(text) + 1)
        words = text[at : at + random_.randrange(1, 9)].swapcase()
        wanted = [fold(word) for word in words.split()]
        if wanted:
            expected = [t for t in texts if all(w in fold(t) for w in wanted)]
            assert sorted(f.text for f in folder.search(words, limit=1000)) == sorted(expected), words
    folder.close()


def test_a_hundred_thousand_messages_are_searched_at_once(tmp_path: Path) -> None:
    random_ = random.Random(5)
    vocabulary = ["".join(random_.choices("etaoinshrdlu", k=random_.randrange(2, 9))) for _ in range(8000)]
    folder, store = new_session(tmp_path / "state")
    texts = [" ".join(random_.choices(vocabulary, k=20)) for _ in range(100_000)]
    texts[70], texts[500] = "we saw 東京 and Tromsø", "a qzx needle in the hay"
    for start in range(0, len(texts), 10_000):
        store.write(turn(1, start, *texts[start : start + 10_000]))
    slowest = 0.0
    for words in ("tromso", "needle qzx", "東京", "qz", vocabulary[-1] + " " + vocabulary[7], "e", vocabulary[5]):
        begun = time.perf_counter()
        folder.search(words)
        took = time.perf_counter() - begun
        slowest = max(slowest, took)
    assert (
        slowest < 1.0
    )  # the aim is 50 ms; a machine that others use may be slow, and a search without index is slower
    folder.close()
