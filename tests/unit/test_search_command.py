"""/search in a chat: what it asks, and what a person and a program see of what was found."""

import time
from dataclasses import asdict
from typing import Any

import pytest

from edge_sir.cli._commands import perform
from edge_sir.cli._found import day, moment
from edge_sir.cli._views import print_view
from edge_sir.errors import ConfigError
from edge_sir.store.values import EARLIER, ON_PATH, TAKEN_BACK, Found

NOON = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
MESSAGES = [
    Found("ada", 9, 9, 7, "assistant", "Tromsø it is.", NOON, ON_PATH, "Tromsø it is.", "resident"),
    Found("ada", 5, 5, 3, "user", "I was in Tromsø.", NOON, ON_PATH, "I was in Tromsø.", "archived"),
    Found("ada", 4, 4, 2, "user", "To Tromsø!", NOON, TAKEN_BACK, "To Tromsø!", "text only"),
    Found("ada", 1, 1, 1, "user", "Tromsø?\x1b[2J", NOON, EARLIER, "Tromsø?\x1b[2J", "text only"),
]


class Searched:
    """A chat of which a test needs no more than its search."""

    def __init__(self, *found: Found, refusal: str = "") -> None:
        self.is_looking = False
        self.found, self.refusal, self.asked = list(found), refusal, list[str]()

    def search(self, words: str) -> list[Found]:
        self.asked.append(words)
        if self.refusal:
            raise ConfigError(self.refusal)
        return self.found


def search(chat: Searched, line: str) -> Any:
    return perform(chat, line)  # type: ignore[arg-type]


def test_each_message_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = search(Searched(*MESSAGES), "/search tromso")
    print_view(outcome.view)
    assert capsys.readouterr().out.splitlines() == [
        "4 messages hold “tromso”",
        "turn 7  2026-11-27  resident              model: Tromsø it is.",
        "turn 3  2026-11-27  archived              you: I was in Tromsø.",
        "turn 2  2026-11-27  taken back            you: To Tromsø!",
        "turn 1  2026-11-27  earlier conversation  you: Tromsø?[2J",
    ]
    assert outcome.document == {"search": "tromso", "found": [asdict(message) for message in MESSAGES]}


def test_a_chat_that_only_looks_says_what_was_searched() -> None:
    chat = Searched(MESSAGES[0])
    chat.is_looking = True
    note = search(chat, "/search tromso").view.rows[-1].text[0][0]
    assert note == "only the session on disk was searched: what is said in this chat is not saved (--read-only)"


def test_one_message_holds_and_none_says_so() -> None:
    assert search(Searched(MESSAGES[0]), "/search tromso").view.title == "1 message holds “tromso”"
    nothing = search(Searched(), "/search Oslo")
    assert (nothing.view.title, nothing.view.rows) == ("nothing that was said holds “Oslo”", [])
    assert nothing.document == {"search": "Oslo", "found": []}


def test_quotes_reach_the_search() -> None:
    chat = Searched()
    assert search(chat, '/search "red tram"  Ada').view.title == 'nothing that was said holds the words "red tram", Ada'
    assert chat.asked == ['"red tram"  Ada']


@pytest.mark.parametrize("line", ["/search", "/search   ", '/search ""', "/search ' '"])
def test_no_words_are_a_mistake(line: str) -> None:
    chat = Searched()
    with pytest.raises(ConfigError, match="search for what"):
        search(chat, line)
    assert chat.asked == []


def test_a_chat_without_a_session_refuses() -> None:
    with pytest.raises(ConfigError, match="no session"):
        search(Searched(refusal="this chat has no session"), "/search Ada")


@pytest.mark.parametrize("seconds", [0.0, -1e20, 1e20, float("inf")])
def test_a_clock_that_was_wrong_does_no_harm(seconds: float) -> None:
    assert len(day(seconds)) == 10 and moment(seconds).startswith(day(seconds))
