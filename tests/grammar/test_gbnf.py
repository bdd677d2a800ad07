"""GBNF is read as llama.cpp reads it; a grammar that cannot be used is one line, whatever it is."""

import pytest

from edge_sir.errors import ConfigError
from edge_sir.grammar.gbnf import parse_gbnf
from edge_sir.grammar.matcher import DEAD, Matcher

LIST = """# a list of one to three
root ::= item ("," " "? item){0,2} "." # its end
item ::= [a-z]+ | "\\"" [^"\\\\]* "\\"" |
  "\\u00e4\\x41"
"""


def fits(grammar: str, text: str) -> bool:
    matcher = Matcher(parse_gbnf(grammar))
    state = matcher.after(matcher.start, text)
    return state != DEAD and matcher.accepts(state)


@pytest.mark.parametrize("text", ["a.", "ab, c,d.", '"x y", äA.', '"".'])
def test_what_fits(text: str) -> None:
    assert fits(LIST, text)


@pytest.mark.parametrize("text", ["", "a", ".", "a,b,c,d.", '"x.', "A.", "a,  b.", "a.b"])
def test_what_does_not_fit(text: str) -> None:
    assert not fits(LIST, text)


@pytest.mark.parametrize(
    ("rule", "text", "other"),
    [
        ('"a"*', "aaa", "b"),
        ('"ab"+', "abab", "aba"),
        ('"a"? "b"', "b", "aab"),
        ('"a"{2}', "aa", "a"),
        ('"a"{2,}', "aaaa", "a"),
        ('"a"{0,2} "b"', "aab", "aaab"),
        ('("a" | "b" "c")* "d"', "abcad", "bd"),
        ("[^a-c\\]]", "d", "]"),
        ("[-+]", "-", ","),
        (". .", "ä日", "ab c"),
        ('"" | "x"', "", "y"),
    ],
)
def test_each_sign(rule: str, text: str, other: str) -> None:
    assert fits(f"root ::= {rule}", text)
    assert not fits(f"root ::= {rule}", other)


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ("", "no rule 'root'"),
        ('a ::= "x"', "no rule 'root'"),
        ("root ::= b", "does not define it"),
        ('root ::= root "a" | "b"', "begin with itself"),
        ('root ::= a "x"\na ::= b\nb ::= "" | root', "begin with itself"),
        ('root ::= n root "x" | "y"\nn ::= e\ne ::= ""', "begin with itself"),  # what llama.cpp does not find
        ('root ::= (" "?)*', "may be nothing"),
        ('root ::= "a', "in the middle"),
        ("root ::= [a-", "in the middle"),
        ('root ::= "\\', "in the middle"),
        ('root ::= "\\q"', "escape"),
        ('root ::= "\\UFFFFFFFF"', "escape"),
        ('root ::= ("a"', "')'"),
        ('root ::= "a")', "end here"),
        ('root ::= * "a"', "repeats nothing"),
        ('root ::= "a"{3,1}', "smaller number first"),
        ('root ::= "a"{99999999999999999999}', "needs numbers"),
        ('root ::= "a"{20000}{20000}', "too large"),
        ("root ::= <[5]>", "single tokens"),
        ('root ::= "a"\nroot ::= "b"', "defined twice"),
        ("root", "'::='"),
        ("\0", "name"),
        ('root ::= "a" \0', "end here"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(grammar: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_gbnf(grammar)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_says_where_it_is() -> None:
    with pytest.raises(ConfigError, match="in line 3, at "):
        parse_gbnf('root ::= "a"\n\nb ::= "\\q"')


def test_deep_groups_and_long_chains_are_read() -> None:
    deep = 10_000
    assert fits(f'root ::= {"(" * deep}"a"{")" * deep}', "a")
    chain = "\n".join(f"r{i} ::= r{i + 1}" for i in range(deep))
    assert fits(f'root ::= r0\n{chain}\nr{deep} ::= "z"', "z")


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('root ::= s\ns ::= "a" s "b" | "a" s "c" | ""', "a" * 300 + "bc" * 150),
        (
            "\n".join(["root ::= r0", *(f'r{i} ::= r{i + 1} "x" | r{i + 1} "y"' for i in range(300)), 'r300 ::= "z"']),
            "z" + "xy" * 150,
        ),
    ],
    ids=["told apart late", "told apart at once"],
)
def test_readings_beyond_number_take_no_time(grammar: str, text: str) -> None:
    """One by one these are 2^300."""
    assert fits(grammar, text)
    assert not fits(grammar, text + "b")


def test_a_state_comes_again_where_the_same_can_follow() -> None:
    """What was looked at in a long string is known for the rest of it."""
    matcher = Matcher(parse_gbnf('root ::= "\\"" char* "\\""\nchar ::= [^"]'))
    states = {matcher.after(matcher.start, '"' + "x" * n) for n in range(1, 50)}
    assert len(states) == 1
