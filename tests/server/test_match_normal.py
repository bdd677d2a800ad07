"""What counts as the same message, and as the same system prompt."""

import time

import pytest

from edge_sir.server.incoming import Said
from edge_sir.server.normal import chained, mark_of, name_of, prompt_of, space_of
from edge_sir.text.thoughts import KNOWN_TAGS


def alike(one: Said, other: Said) -> bool:
    return mark_of(one).content == mark_of(other).content


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Hello.\n\n- a\n- b\n", "Hello.\r\n- a\r\n- b"),
        ("a\n\n\n\nb", "a b"),
        ("  ü  ", "u\u0308"),
        ("<think>so</think>Hello", "Hello"),
        ("<think>so", ""),
        ("so it is</think>\n\nHello", "Hello"),
        ("a <think>one</think> b <think>two</think> c", "a b c"),
        ('<details type="reasoning" done="true" duration="3">\nso\n</details>\nHello', "Hello"),
        ("\ud83d half a pair", "\ud83d half a pair"),
    ],
)
def test_replies_that_are_the_same(ours: str, theirs: str) -> None:
    assert alike(Said("assistant", ours), Said("assistant", theirs))


@pytest.mark.parametrize("tags", KNOWN_TAGS)
def test_thoughts_of_every_known_kind(tags: object) -> None:
    open, close = tags.open, tags.close  # type: ignore[attr-defined]
    assert alike(Said("assistant", f"{open}so{close}Hello"), Said("assistant", "Hello"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Hello", "Hello!"),
        ("ab", "a b"),
        ("Hello", "hello"),
        ('<details type="other">so</details>Hello', "Hello"),
        ("Then write <think> and go on", "Then write"),
        ("1", "2"),
    ],
)
def test_replies_that_differ(ours: str, theirs: str) -> None:
    assert not alike(Said("assistant", ours), Said("assistant", theirs))


def test_a_users_tags_and_indents_are_content() -> None:
    assert not alike(Said("user", "What is <think>a</think>?"), Said("user", "What is ?"))
    assert not alike(Said("user", "if x:\n  y"), Said("user", "if x:\n    y"))
    assert alike(Said("user", "if x: \r\n  y\n\n"), Said("user", "if x:\n  y"))


def test_roles_calls_and_their_arguments_differ_and_ids_do_not() -> None:
    assert not alike(Said("user", "a"), Said("tool", "a"))
    call = '[{{"arguments":{{"a":{}}},"id":"{}","name":"f"}}]'
    calls = [Said("assistant", "", tool_calls=call.format(*values)) for values in ((1, "x"), (1, "y"), (2, "x"))]
    assert alike(calls[0], calls[1]) and not alike(calls[0], calls[2])
    assert not alike(calls[0], Said("assistant", ""))
    for odd in ("[", "{}", "[1]", "[" * 100_000):
        assert mark_of(Said("assistant", "", tool_calls=odd)).n_chars == len(odd)


def test_digests_keep_their_parts_apart() -> None:
    assert space_of("ab", "c") != space_of("a", "bc") and space_of("n", "k") != name_of("n", "k")
    assert chained(chained(bytes(16), b"a"), b"b") != chained(chained(bytes(16), b"b"), b"a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 10:59.", "It is 1:02."),
        ("Today is Monday, May 5.", "Today is Fri, Sept 26."),
        ("Now: 2026-11-25T10:59:01Z", "Now: 2027-01-02T00:00:00Z"),
        ("at 9 AM", "at 11 p.m."),
    ],
)
def test_prompts_that_differ_in_dates_alone(one: str, other: str) -> None:
    assert prompt_of(one, "").masked == prompt_of(other, "").masked
    assert prompt_of(one, "").exact != prompt_of(other, "").exact
    assert prompt_of(one, "").masked != prompt_of(one, "[]").masked


@pytest.mark.parametrize(("one", "other"), [("Be brief.", "Be kind."), ("Say Sunny.", "Say Mondays."), ("a", "")])
def test_prompts_that_differ_in_more(one: str, other: str) -> None:
    assert prompt_of(one, "").masked != prompt_of(other, "").masked


@pytest.mark.parametrize("text", ["<think>" * 300_000, '<details type="reasoning">' * 100_000, "<details " * 200_000])
def test_a_long_text_takes_no_longer_than_its_length(text: str) -> None:
    begun = time.process_time()
    mark_of(Said("assistant", text))
    assert time.process_time() - begun < 2
