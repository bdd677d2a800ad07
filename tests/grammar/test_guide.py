"""Which tokens can come next: all that go on in the grammar, and no others; an end only where the text may end."""

import numpy as np
import pytest

from edge_sir.errors import ConfigError
from edge_sir.grammar.gbnf import parse_gbnf
from edge_sir.grammar.guide import Grammar, Guide
from edge_sir.grammar.matcher import DEAD, Matcher
from edge_sir.grammar.vocabulary import Vocabulary

PIECES = ["", "", "a", "ab", "b", "abc", " ", "ä", "x", "\n", "日本"]
BYTES = [*(text.encode() for text in PIECES), *(bytes([b]) for b in range(0x80, 0x100))]
END, OTHER = 0, 1
VOCABULARY = Vocabulary(BYTES, lambda token: token == END)
RNG = np.random.default_rng(0)


def texts(guide: Guide, n: int = len(BYTES)) -> list[bytes]:
    logits = RNG.normal(size=len(BYTES)).astype(np.float32)
    return [BYTES[token] or (b"END" if token == END else b"other") for token in guide.best(logits, n)]


def guide_for(rule: str, **more: object) -> Guide:
    return Guide(Grammar(f"root ::= {rule}", **more), VOCABULARY)  # type: ignore[arg-type]


def test_tokens_that_go_on() -> None:
    assert texts(guide_for('"ab" [cd]')) == [b"a", b"ab", b"abc"]
    assert texts(guide_for('"a" | "x"')) == [b"a", b"x"]


def test_an_end_comes_only_where_the_text_may_end() -> None:
    guide = guide_for('"a" "b"?')
    assert texts(guide) == [b"a", b"ab"]
    guide.accept(PIECES.index("a"))
    assert texts(guide) == [b"END", b"b"]
    guide.accept(PIECES.index("b"))
    assert texts(guide) == [b"END"]
    guide.accept(END)
    assert texts(guide) == [b"END"]


def test_other_tokens_may_end_it_too() -> None:
    guide = guide_for('"a"', ends=[OTHER])
    assert texts(guide) == [b"a"]
    guide.accept(PIECES.index("a"))
    assert texts(guide) == [b"END", b"other"]


def test_what_is_begun_and_what_comes_before_it() -> None:
    assert texts(guide_for('"ab"', begun="a")) == [b"b"]
    with pytest.raises(ConfigError, match="begins with"):
        guide_for('"ab"', begun="b")
    guide = guide_for('"ab"', after=2)
    assert guide.is_waiting and guide.allows(PIECES.index("x"))
    guide.accept(PIECES.index("x"))
    guide.accept(END)
    assert not guide.is_waiting
    assert texts(guide) == [b"a", b"ab"]


def test_parts_of_a_character() -> None:
    guide = guide_for('[ä-ö] "x"')
    firsts = texts(guide)
    assert firsts == ["ä".encode(), b"\xc3"]  # not \xe3, nor \xc1 and \xe0, which begin nothing that is written so
    guide.accept(BYTES.index(b"\xc3"))
    assert texts(guide) == [bytes([b]) for b in range(0xA4, 0xB7)]
    guide.accept(BYTES.index(b"\xb6"))
    assert texts(guide) == [b"x"]


def test_an_emoji_byte_by_byte() -> None:
    guide = guide_for('"😀"')
    for byte in "😀".encode():
        assert texts(guide) == [bytes([byte])]
        guide.accept(BYTES.index(bytes([byte])))
    assert texts(guide) == [b"END"]


def test_the_likeliest_are_given_and_those_that_are_asked_for() -> None:
    guide = guide_for("[a-z]+")
    logits = np.zeros(len(BYTES), np.float32)
    logits[[PIECES.index("x"), PIECES.index("ab"), PIECES.index(" ")]] = [3, 2, 9]
    assert [PIECES[t] for t in guide.best(logits, 2)] == ["ab", "x"]
    assert [PIECES[t] for t in guide.best(logits, 1, [PIECES.index("a"), PIECES.index(" ")])] == ["a", "x"]
    logits[PIECES.index("x")] = -np.inf  # as a bias may say
    assert [PIECES[t] for t in guide.best(logits, 1)] == ["ab"]


def test_nothing_that_could_come_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing that this model"):
        texts(guide_for('"q"'))
    with pytest.raises(ConfigError, match="does not fit"):
        guide_for('"a"').accept(PIECES.index("x"))


@pytest.mark.parametrize(
    "rule", ["[a-b]* [ä日]", '("a" | "ab" | "abc")* "x"', '[^a]{0,3} "a"', ". . .", '("ab" "ab"? | "a") "b"* " "']
)
def test_they_are_those_that_a_search_through_all_finds(rule: str) -> None:
    matcher = Matcher(parse_gbnf(f"root ::= {rule}"))
    for seed in range(20):
        rng, guide, state = np.random.default_rng(seed), guide_for(rule), matcher.start
        for _ in range(8):
            found = set(guide.best(rng.normal(size=len(BYTES)).astype(np.float32), len(BYTES)).tolist())
            whole = [t for t in range(2, len(PIECES)) if matcher.after(state, PIECES[t]) != DEAD]
            ends = [END] if matcher.accepts(state) else []
            assert {t for t in found if t < len(PIECES)} == {*whole, *ends}
            if not whole:
                break
            token = int(rng.choice(whole))
            guide.accept(token)
            state = matcher.after(state, PIECES[token])


def test_a_grammar_that_takes_too_long_is_an_error() -> None:
    rules = "\n".join(f'r{i} ::= r{i + 1} "x" | "a" r{i + 1} | "b"' for i in range(2000))
    guide = Guide(Grammar(f'root ::= r0\n{rules}\nr2000 ::= "a"'), VOCABULARY)
    with pytest.raises(ConfigError, match=r"too long|too many"):
        for _ in range(400):
            texts(guide)
            guide.accept(PIECES.index("a"))


def test_no_part_of_a_character_comes_that_nothing_can_complete() -> None:
    """Any byte that may come can be followed until a character is whole."""
    for seed in range(300):
        rng, guide = np.random.default_rng(seed), guide_for("[^a-z]{2}")
        for _ in range(9):
            token = int(rng.choice(guide.best(np.zeros(len(BYTES), np.float32), len(BYTES))))
            if token == END:
                break
            guide.accept(token)
        assert token == END
