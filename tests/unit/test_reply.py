"""From tokens to text: characters, thoughts and stop strings that span tokens."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_sir.text.reply import ReplyText
from edge_sir.text.thoughts import ThoughtTags

quick = settings(deadline=None, max_examples=120)

Shown = tuple[str, str]
"""What was shown of the thought and of the answer."""


def push_all(reply: ReplyText, tokens: Sequence[bytes], *, finish: bool = True) -> Shown:
    pieces = [piece for token in tokens for piece in reply.push(token)]
    pieces += reply.finish() if finish else []
    assert all(piece.text for piece in pieces)
    thought, answer = ("".join(p.text for p in pieces if p.role == role) for role in ("thought", "assistant"))
    return thought, answer


def test_a_nul_is_as_what_is_no_utf8() -> None:
    """Nobody could send it back, and nobody could show it."""
    reply = ReplyText(())
    assert push_all(reply, [b"a\0", b"b\xff"]) == ("", "a\ufffdb\ufffd") and reply.text == "a\ufffdb\ufffd"


def chars(text: str) -> list[bytes]:
    """One token per byte."""
    return [bytes([byte]) for byte in text.encode()]


def read(tokens: Sequence[bytes], stop: Sequence[str] = (), *, thinking: bool = False) -> tuple[str, str, bool]:
    """(thought, text, stopped), after checking that what was shown is just that.

    Only where a tag closed a thought that nothing had opened was some of the thought shown as answer.
    """
    reply = ReplyText(stop, thinking=thinking)
    thought, answer = push_all(reply, tokens)
    raw = b"".join(tokens).decode("utf-8", "replace").replace("\0", "\ufffd").lstrip()
    if reply.thought and not thinking and not raw.startswith("<think>"):
        assert answer.rstrip().endswith(reply.text) and reply.thought.endswith(thought.strip())
    else:
        assert answer.rstrip() == reply.text and answer == answer.lstrip()
        assert thought.strip() == reply.thought
    assert reply.n_tokens == len(tokens)
    return reply.thought, reply.text, reply.stopped


# ---- characters --------------------------------------------------------------------------------


def test_a_character_is_shown_when_its_last_byte_came() -> None:
    reply = ReplyText()
    shown = [[p.text for p in reply.push(token)] for token in (b"a\xc3", b"\xa9\xf0", b"\x9f\x98", b"\x80!")]
    assert shown == [["a"], ["é"], [], ["😀!"]]


def test_text_is_shown_at_once_where_nothing_speaks_against_it() -> None:
    reply = ReplyText(["STOP"])
    assert [[p.text for p in reply.push(token)] for token in (b"Hi", b" S", b"o", b" ST", b"OR")] == [
        ["Hi"],
        [" "],
        ["So"],
        [" "],
        ["STOR"],
    ]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([b"a\xc3"], "a\ufffd"),
        ([b"\xff", b"b"], "\ufffdb"),
        ([b"\xe2\x82", b"c"], "\ufffdc"),
        ([b"", b""], ""),
        ([], ""),
    ],
)
def test_broken_bytes_become_replacement_characters(tokens: list[bytes], text: str) -> None:
    assert read(tokens) == ("", text, False)


# ---- whole replies -----------------------------------------------------------------------------

STOPS = ["STOP", "\nUser:"]
REPLIES: dict[str, tuple[str, tuple[str, str, bool]]] = {
    "plain": ("Hi there.", ("", "Hi there.", False)),
    "blanks around": (" \n Hi \n", ("", "Hi", False)),
    "nothing": ("", ("", "", False)),
    "blanks alone": (" \n", ("", "", False)),
    "stop": ("one STOP two", ("", "one", True)),
    "stop at once": ("STOP", ("", "", True)),
    "the first stop counts": ("a\nUser: STOP", ("", "a", True)),
    "a stop that begins with a blank, at once": ("\nUser: hi", ("", "", True)),
    "almost a stop": ("STO", ("", "STO", False)),
    "a stop within an almost stop": ("STSTOP", ("", "ST", True)),
    "thought and answer": ("<think>\nhm\n</think>\n\nYes.", ("hm", "Yes.", False)),
    "blanks before a thought": ("\n <think>hm</think>Yes.", ("hm", "Yes.", False)),
    "unclosed thought": ("<think>hm, no end </thin", ("hm, no end </thin", "", False)),
    "empty thought": ("<think></think>Yes.", ("", "Yes.", False)),
    "a thought and nothing": ("<think>hm</think>", ("hm", "", False)),
    "almost a tag": ("<thin", ("", "<thin", False)),
    "some other tag": ("<thick>b</thick>", ("", "<thick>b</thick>", False)),
    "a tag in the answer is text": ("See <think>x</think>.", ("", "See <think>x</think>.", False)),
    "a second thought is text": ("<think>a</think>b<think>c</think>", ("a", "b<think>c</think>", False)),
    "a closing tag alone ends a thought": ("a\n</think>\n\nb", ("a", "b", False)),
    "a closing tag after an opening one is text": ("a <think> b</think>c", ("", "a <think> b</think>c", False)),
    "only the first closing tag counts": ("a</think>b</think>c", ("a", "b</think>c", False)),
    "a stop before a closing tag": ("a STOP b</think>c", ("", "a", True)),
    "a closing tag and then a stop": ("a</think>b STOP c", ("a", "b", True)),
    "a thought does not stop": ("<think>STOP</think>go STOP", ("STOP", "go", True)),
}


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 1000])
@pytest.mark.parametrize(("text", "expected"), REPLIES.values(), ids=REPLIES)
def test_replies(text: str, expected: tuple[str, str, bool], n_bytes: int) -> None:
    data = text.encode()
    tokens = [data[at : at + n_bytes] for at in range(0, len(data), n_bytes)]
    assert read(tokens, STOPS) == expected


OPENED: dict[str, tuple[str, tuple[str, str, bool]]] = {
    "closed": ("\nhm</think>\n\nYes. STOP", ("hm", "Yes.", True)),
    "never closed": ("hm", ("hm", "", False)),
    "closed at once": ("</think>Yes.", ("", "Yes.", False)),
    "a stop in it": ("STOP</think>Yes.", ("STOP", "Yes.", False)),
}


@pytest.mark.parametrize(("text", "expected"), OPENED.values(), ids=OPENED)
def test_a_reply_that_the_template_opened_with_a_thought(text: str, expected: tuple[str, str, bool]) -> None:
    assert read(chars(text), STOPS, thinking=True) == expected
    assert read([text.encode()], STOPS, thinking=True) == expected


def test_empty_stop_strings_stop_nothing() -> None:
    assert read([b"Hi"], [""]) == ("", "Hi", False)


# ---- what the session asks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "after"),
    [
        ([b"go ", b"ST", b"OP"], 2),  # the stop string's own tokens
        ([b"go ", b"STOP"], 1),
        ([b"go STOP"], 0),  # a token that begins before it stays
        ([b"go S", b"T", b"OP!"], 2),
        ([b"STOP"], 1),
        ([b"go", b""], 0),
    ],
)
def test_tokens_behind_the_stop_are_counted(tokens: list[bytes], after: int) -> None:
    reply = ReplyText(["STOP"])
    push_all(reply, tokens, finish=False)
    assert reply.n_after_stop == after


@pytest.mark.parametrize(
    ("tokens", "before"),
    [
        ([b"go ", b"ST", b"OP"], ""),
        ([b"go STOP"], "go "),
        ([b"go S", b"T", b"OP!"], "go "),
        ([b"<think>hm</think>Yes. ST", b"OP"], "Yes. "),
        ([b"STOP"], ""),
        ([b"go", b""], ""),
    ],
)
def test_what_the_first_token_of_a_stop_said_before_it(tokens: list[bytes], before: str) -> None:
    reply = ReplyText(["STOP"])
    push_all(reply, tokens, finish=False)
    assert reply.before_stop == before


def test_after_a_stop_nothing_is_shown() -> None:
    reply = ReplyText(["STOP"])
    assert push_all(reply, [b"go STOP no", b" no"]) == ("", "go ")


@pytest.mark.parametrize(
    ("opened", "tokens", "thinking"),
    [
        (False, [b"<think>", b"hm", b"</think>", b"Yes"], [True, True, True, False]),
        (False, [b"<th", b"ink>", b"hm", b"</th", b"ink>", b"Yes"], [False, True, True, True, True, False]),
        (True, [b"hm", b"</think>", b"\n"], [True, True, False]),
        (False, [b"Hi", b"<think>"], [False, False]),
    ],
)
def test_each_token_belongs_to_the_thought_or_to_the_answer(
    opened: bool, tokens: list[bytes], thinking: list[bool]
) -> None:
    reply, found = ReplyText(thinking=opened), []
    for token in tokens:
        reply.push(token)
        found.append(reply.thinking)
    assert found == thinking


def test_a_reply_opened_by_the_template_is_thinking_before_its_first_token() -> None:
    assert ReplyText(thinking=True).thinking and not ReplyText().thinking


# ---- any text, split anyhow --------------------------------------------------------------------

words = st.sampled_from(["<think>", "</think>", "STOP", "ST", "<th", "\n", " ", "é", "😀", "a", "<", "\x1f", "\u2003"])
texts = st.lists(words | st.text(max_size=3), max_size=8).map("".join)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


@quick
@given(texts, st.lists(st.integers(0, 200), max_size=12), st.booleans())
@example("<think>a</think>\n\nSTOP", [3, 10, 19], False)
def test_the_split_into_tokens_does_not_matter(text: str, cuts: list[int], thinking: bool) -> None:
    data = text.encode()
    whole = read([data], ["STOP"], thinking=thinking)
    assert read(split(data, cuts), ["STOP"], thinking=thinking) == whole
    assert "STOP" not in whole[1]


@quick
@given(st.text(), st.lists(st.integers(0, 200), max_size=12))
def test_text_without_tags_and_stops_comes_through(text: str, cuts: list[int]) -> None:
    assert read(split(text.encode(), cuts)) == ("", text.replace("\0", "\ufffd").strip(), False)


@quick
@given(st.binary(), st.lists(st.integers(0, 200), max_size=12))
def test_any_bytes_come_through(data: bytes, cuts: list[int]) -> None:
    text = data.decode("utf-8", "replace").replace("\0", "\ufffd")
    assert read(split(data, cuts)) == ("", text.strip(), False)


# ---- dialects ----------------------------------------------------------------------------------

HARMONY = ThoughtTags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")
FINAL = "<|channel|>final<|message|>"
DIALECTS: dict[str, tuple[ThoughtTags, str, str, tuple[str, str]]] = {
    "brackets": (ThoughtTags("[THINK]", "[/THINK]"), "", "[THINK]hm[/THINK]Yes.", ("hm", "Yes.")),
    "brackets, closed alone": (ThoughtTags("[THINK]", "[/THINK]"), "", "hm[/THINK]Yes.", ("hm", "Yes.")),
    "channels": (HARMONY, FINAL, HARMONY.open + "hm" + HARMONY.close + "Yes.", ("hm", "Yes.")),
    "channels, no thought": (HARMONY, FINAL, FINAL + "Yes.", ("", "Yes.")),
    "another channel": (HARMONY, FINAL, "<|channel|>commentary<|message|>hm" + HARMONY.close + "Yes.", ("", "Yes.")),
    "no channel": (HARMONY, FINAL, "Yes.", ("", "Yes.")),
    "a lead of words": (ThoughtTags("<think>", "</think>"), "all\n", "all\nYes.", ("", "Yes.")),
    "almost a lead": (ThoughtTags("<think>", "</think>"), "all\n", "alas", ("", "alas")),
    "an empty thought as a lead": (ThoughtTags("<t>", "</t>"), "\n<t></t>\n", "\n<t>hm</t>\nYes.", ("hm", "Yes.")),
}


@pytest.mark.parametrize("n_bytes", [1, 5, 1000])
@pytest.mark.parametrize(("tags", "lead", "text", "expected"), DIALECTS.values(), ids=DIALECTS)
def test_thoughts_stand_apart_in_every_dialect(
    tags: ThoughtTags, lead: str, text: str, expected: tuple[str, str], n_bytes: int
) -> None:
    reply = ReplyText(tags=tags, lead=lead)
    tokens = [text.encode()[at : at + n_bytes] for at in range(0, len(text), n_bytes)]
    _, answer = push_all(reply, tokens)
    assert reply.text == expected[1]
    assert "Yes." not in expected[1] or answer.endswith("Yes.")
    assert reply.thought == expected[0] or (expected[0] == "" and "Yes." not in reply.thought)
