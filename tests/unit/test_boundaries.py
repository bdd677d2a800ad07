"""Where sentences end and words begin: of tokens as they come, and of text by the same rule."""

import numpy as np
import pytest

from edge_sir.core.ledger import ROLES
from edge_sir.session.pending import PendingTokens
from edge_sir.testing import ByteTokenizer
from edge_sir.text.boundaries import TextBorders, contains, sentences, words


class Pieces:
    """A codec whose tokens are indices of these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def piece(self, token: int) -> bytes:
        return self.pieces[token]


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([" ban", "anas", " and", " sh", "rimp", "."], [" bananas", " and", " shrimp", "."]),
        (["don", "'t", " ask"], ["don't", " ask"]),
        (["A", "7", "-", "9", "3"], ["A7", "-93"]),
        (["Troms", "ø", "\n", "x"], ["Tromsø", "\n", "x"]),
        (["Stra", "ß", "en", "bahn"], ["Straßenbahn"]),
        (["नम", "स्ते"], ["नमस्ते"]),
        (["东", "京", "です"], ["东", "京", "です"]),  # no spaces between words: each token by itself
    ],
)
def test_text_tells_where_words_begin(pieces: list[str], words: list[str]) -> None:
    starts = TextBorders(Pieces(*(piece.encode() for piece in pieces)))(np.arange(len(pieces))).word_starts  # type: ignore[arg-type]
    found = [""] * int(starts.cumsum()[-1] + (not starts[0]))
    for piece, number in zip(pieces, starts.cumsum() - starts[0], strict=True):
        found[number] += piece
    assert found == words


def test_a_character_of_several_tokens_is_not_torn() -> None:
    crab = "\N{CRAB}".encode()
    borders = TextBorders(Pieces(b" ", crab[:2], crab[2:], b"", b" x"))  # type: ignore[arg-type]
    assert borders(np.arange(5, dtype=np.int32)).word_starts.tolist() == [True, True, False, True, True]


def test_text_tells_where_sentences_end() -> None:
    borders = TextBorders(Pieces(b"so", b".", b"? ", b"\n", " 。".encode(), b","))  # type: ignore[arg-type]
    assert borders(np.arange(6, dtype=np.int32)).sentence_ends.tolist() == [False, True, True, True, True, False]
    assert borders(np.arange(0, dtype=np.int32)).sentence_ends.tolist() == []


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I met Dr. Okonkwo. He is in.", ["I met Dr. Okonkwo.", " He is in."]),
        ("J. K. Rowling wrote. Prof. Lee read.", ["J. K. Rowling wrote.", " Prof. Lee read."]),
        ("Hello.\nDr. Lee read.", ["Hello.", "\n", "Dr. Lee read."]),
        ("It costs 3.5 euros. Fine.", ["It costs 3.5 euros.", " Fine."]),
        ("So did I! You too? Yes.\nGood", ["So did I!", " You too?", " Yes.", "\n", "Good"]),
    ],
)
def test_points_that_end_no_sentence(text: str, found: list[str], at_once: bool) -> None:
    tokens = np.arange(len(text), dtype=np.int32)
    borders, queue = TextBorders(Pieces(*(char.encode() for char in text))), PendingTokens()  # type: ignore[arg-type]
    queue.start_message()
    for piece in [tokens] if at_once else np.split(tokens, len(tokens)):
        queue.feed(piece, ROLES.index("user"), 0, False, borders(piece))
    assert texts_by(queue, text) == found
    assert sentences(ByteTokenizer(), text) == found  # a text is split as its tokens are


def texts_by(queue: PendingTokens, text: str) -> list[str]:
    """The text of each sentence number, in order; a token is a letter of `text`."""
    numbers = queue.head(len(text))["sentence"].tolist()
    return ["".join(c for c, number in zip(text, numbers, strict=True) if number == n) for n in sorted(set(numbers))]


@pytest.mark.parametrize("text", ["Grüße. 👋 Zoë!\n\nSo.", " Well, e.g. this; that.", "東京です。はい。", ""])
def test_the_sentences_of_a_text_are_the_text(text: str) -> None:
    assert "".join(sentences(ByteTokenizer(), text)) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name is  Ada.", ["name", "is", "Ada", "."]),
        ("don't ask -93 A7", ["don't", "ask", "-93", "A7"]),
        ("Grüße an Zoë, 👋", ["Grüße", "an", "Zoë", ",", "👋"]),
        ("東京 x", ["東", "京", "x"]),
        (" . ", ["."]),
        ("", []),
    ],
)
def test_the_words_of_a_text(text: str, found: list[str]) -> None:
    assert [text[a:b] for a, b in words(text)] == found


def test_words_are_found_whole_in_any_case_and_with_any_blanks() -> None:
    assert contains("My  NAME is Ada's.", "name is ada") and not contains("One category only.", "cat")
    assert not contains("x", " ")
