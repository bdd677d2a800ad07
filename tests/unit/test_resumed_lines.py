"""What is said of a chat's session when it begins or goes on."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from edge_sir.chat import Begun, Resumed
from edge_sir.cli._counts import cut, shortcomings
from edge_sir.cli._resumed import flags_text, keeps_limit, last_lines, session_lines
from edge_sir.memory.transcript import Message
from edge_sir.text.reply import Reply

NOON = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
LAST = (Message(2, "user", "Tell me\nof 東京.", 4), Message(2, "assistant", "It is large. " * 20, 5))


def chat(resumed: Resumed | None = None, begun: Begun | None = None, *, is_looking: bool = False) -> Any:
    return SimpleNamespace(resumed=resumed, begun=begun, is_looking=is_looking)


def lines(**how: Any) -> list[str]:
    facts: dict[str, Any] = {"name": "ada", "n_turns": 2, "used": NOON, "how": "exact"}
    return session_lines(chat(Resumed(**(facts | how))))


def test_a_new_session_says_so_and_what_it_keeps() -> None:
    assert session_lines(chat(begun=Begun("adda"))) == ["adda: a new session"]
    assert session_lines(chat(begun=Begun("adda", "ada", {"max_tokens": 20}))) == [
        "adda: a new session; did you mean ada?",
        "it keeps --max-tokens 20",
    ]
    assert session_lines(chat()) == []


def test_what_a_session_keeps_is_said_and_what_takes_its_place() -> None:
    first, *others = lines(kept={"budget": 96}, changed={"max_tokens": 20})
    assert first == "ada: 2 turns, last used 2026-11-27 12:00; exactly where it stopped"
    assert others == ["it keeps --budget 96, until you give others", "from now on it keeps --max-tokens 20"]
    looking = session_lines(chat(Resumed("ada", 2, NOON, "exact", changed={"budget": 8}), is_looking=True))
    assert looking == [f"{first}; nothing is saved"]


@pytest.mark.parametrize(
    ("n_turns", "n_replayed", "says"),
    [
        (0, 1, "it was decoded again"),
        (5, 1, "the last turn was decoded again"),
        (5, 3, "the last 3 turns were decoded"),
    ],
)
def test_what_was_replayed_is_never_more_than_there_is(n_turns: int, n_replayed: int, says: str) -> None:
    (line,) = lines(how="replayed", n_turns=n_turns, n_replayed=n_replayed)
    assert says in line


def test_a_message_without_a_reply_and_a_reply_that_was_stopped() -> None:
    assert lines(unsent=("Are you there?",), is_cut=True)[1:] == [
        "you said “Are you there?” and got no reply; it goes in with your next message, and /regen asks for one now"
    ]
    assert lines(is_cut=True)[1:] == ["the last reply was stopped before its end; /regen asks for another"]


def test_what_was_said_last_is_a_line_each() -> None:
    found = last_lines(chat(Resumed("ada", 2, NOON, "exact", last=LAST)), 20)
    assert found == ["you: Tell me of 東…", "model: It is large.…"]
    assert last_lines(chat(Resumed("ada", 2, NOON, "exact", last=LAST)), 30)[0] == "you: Tell me of 東京."
    assert last_lines(chat(), 80) == []


def test_options_are_named_as_they_are_given() -> None:
    terms = {"max_tokens": 20, "stop": ["a b", "\n"], "archive_on_disk": True, "template_args": {"think": True}}
    assert flags_text(terms) == '--max-tokens 20 --stop "a b" --stop "\\n" --archive-on-disk --template-arg think=true'


def test_a_limit_that_the_session_keeps_is_named_as_that() -> None:
    reply = Reply(3, "Once", "", "length", 9, 20, 60, 0)
    given, kept = (
        chat(Resumed("ada", 2, NOON, "exact")),
        chat(Resumed("ada", 2, NOON, "exact", kept={"max_tokens": 20})),
    )
    assert cut(reply, 20, keeps_limit(given)) == ("cut at 20 tokens", "--max-tokens")
    says = "the reply of turn 3 is cut at 20 tokens (--max-tokens 20, which this session keeps)"
    assert shortcomings(reply, 20, keeps_limit(kept)) == says
