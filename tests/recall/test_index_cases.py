"""What the index makes of the hard cases: follow-ups, corrections, replies that know nothing, chatter, long pastes."""

import time
from collections.abc import Callable

import pytest
from test_index import CHATTER, FACT, found, index_of

from edge_sir.memory.transcript import Message
from edge_sir.recall.asking import asks, follows_up
from edge_sir.recall.index import TurnIndex
from edge_sir.recall.terms import terms

OTTILIE = ("Ottilie has lived in Tromsø since 2019.", "That is far north.")
WHERE = "Where does Ottilie live?"


# ---- follow-ups ----------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["And since when?", "Since when?", "When did she move there?", "Und seit wann?"])
def test_a_follow_up_finds_what_the_question_before_it_found(asked: str) -> None:
    index = index_of(OTTILIE, *CHATTER, (WHERE, "In Tromsø."))
    assert found(index, asked)[0] == 1


def test_a_follow_up_of_a_follow_up_is_about_the_same() -> None:
    index = index_of(OTTILIE, *CHATTER, (WHERE, "In Tromsø."), ("Since when?", "Since 2019."))
    assert found(index, "And with whom?")[0] == 1


def test_a_follow_up_with_a_word_of_its_own_prefers_what_holds_it() -> None:
    index = index_of(OTTILIE, ("Ottilie keeps her bees on a roof.", "OK."), *CHATTER, (WHERE, "In Tromsø."))
    assert found(index, "And where are her bees?")[0] == 2


@pytest.mark.parametrize("said", ["And since when?", "Why?", "When was that?"])
def test_a_follow_up_of_what_asks_nothing_finds_nothing(said: str) -> None:
    assert found(index_of(OTTILIE, *CHATTER, ("Ottilie lives in a small house.", "I see.")), said) == []
    assert found(index_of(OTTILIE, *CHATTER, ("Do you like the theatre?", "I do.")), said) == []


@pytest.mark.parametrize("before", ["How are you?", "Who am I?"])
def test_a_follow_up_of_a_question_about_nothing_stands_alone(before: str) -> None:
    index = index_of(("My dog is called Rex.", "A good name."), *CHATTER, (before, "Fine."))
    assert found(index, "And what about Rex?") == [1]


@pytest.mark.parametrize(
    ("text", "follows"),
    [
        ("And when?", True),
        ("What about her sister?", True),
        ("Und wo?", True),
        ("How long has he been there?", True),
        ("How are you?", False),
        ("Where does Ottilie keep her bees?", False),
        ("And you?", False),
        ("Where did I go first?", False),
        ("What is 25 times 99?", False),
        ("And then it rained all day.", False),
        ("In which town does my daughter start school?", False),
        ("Is there a bakery near the station that opens early?", False),
    ],
)
def test_what_follows_up_is_short_asks_and_has_no_subject(text: str, follows: bool) -> None:
    assert follows_up(text) == follows


# ---- who said what -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        "I don't know in which town your daughter starts school.",
        "You did not tell me in which town your daughter starts school.",
        "I have no information about your daughter's school or the town.",
        "I'm sorry, but I cannot remember your daughter's school or its town.",
    ],
)
def test_a_reply_that_knows_nothing_is_never_found(reply: str) -> None:
    question = "In which town does my daughter start school?"
    assert found(index_of((question, reply), *CHATTER), question) == []
    assert found(index_of((question, reply), *CHATTER, FACT), question) == [8]


def test_a_german_reply_that_knows_nothing_is_never_found() -> None:
    question = "In welcher Stadt beginnt meine Tochter die Schule?"
    reply = "Ich weiß leider nicht, in welcher Stadt deine Tochter die Schule beginnt."
    assert found(index_of((question, reply), *CHATTER), question) == []


def test_what_somebody_says_of_themselves_answers_their_question() -> None:
    index = index_of(("The first stop of my tour was Narvik.", "OK."), *CHATTER, ("First came the tram.", "OK."))
    assert found(index, "Where did I go first?") == [1]


def test_two_words_in_one_sentence_outweigh_two_ends_of_a_long_turn() -> None:
    report = "A dentist opened the meeting. " + "The council was late. " * 3 + "It was a Thursday without rain."
    index = index_of(("I see the dentist on Thursday at nine.", "OK."), *CHATTER, (report, "I see."))
    assert found(index, "Which Thursday is the dentist?")[0] == 1


# ---- corrections and repetitions -----------------------------------------------------------------


@pytest.mark.parametrize(
    "correction",
    [
        "Ottilie does not live in Tromsø any more, she lives in Bergen.",
        "Ottilie lives in Bergen now.",
        "Correction: Ottilie lives in Bergen, not in Tromsø.",
    ],
)
def test_of_contradicting_statements_the_newest_wins(correction: str) -> None:
    index = index_of(("Ottilie lives in Tromsø.", "OK."), *CHATTER, (correction, "Noted."), *CHATTER)
    assert found(index, WHERE)[:2] == [8, 1]


def test_near_duplicates_count_once_and_the_newest_stays() -> None:
    again = "By the way, my daughter Ida starts school in Tromsø in August."
    assert found(index_of(FACT, *CHATTER, (again, "Good for her!")), "Where does Ida start school?") == [8]


def test_a_paste_that_comes_twice_counts_once() -> None:
    paste = "\n".join(f"Row {i}: the pump of station {i} runs at {i * 7} litres." for i in range(300))
    index = index_of((paste, "I see."), *CHATTER, (paste, "Again?"), FACT)
    assert found(index, "What does the pump of station 120 do?") == [8]
    assert found(index, "Where does Ida start school?") == [9]


# ---- kinds of words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("The spare part is B-1734-X.", "B-1734-X"),
        ("The spare part is B-1734-X.", "Did I mention b-1734-x?"),
        ("My work is on the branch fix/login-42.", "What is on fix/login-42?"),
        ("The variable is called max_retry_user.", "max_retry_user"),
        ("The last good commit is 03fa9c.", "03FA9C?"),
        ("The alarm is switched off with 483920.", "483920"),
        ("我的猫叫小黑", "我的猫叫什么"),
        ("東京都に住んでいます", "東京のどこ?"),
        ("Mein Bruder wohnt in Łódź.", "Wo ist Lodz?"),
        ("Ich kaufe jeden Freitag Brötchen.", "Wann habe ich vor, Brotchen zu kaufen?"),
    ],
)
def test_names_numbers_and_scripts_are_found(said: str, asked: str) -> None:
    assert found(index_of(*CHATTER, (said, "OK.")), asked) == [7]


def test_another_identifier_of_the_same_kind_ranks_behind() -> None:
    index = index_of(("Part B-1734-X is the pump.", "OK."), *CHATTER, ("Part B-2210-X is the valve.", "OK."))
    assert found(index, "What is part B-1734-X?")[0] == 1


# ---- chatter -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "It went on until late at night.",
        "That is fine with me today.",
        "How are you this morning?",
        "I like that.",
        "Let me think about it for a week or two.",
        "My meter reads 7 today.",
        "I need new shoes, I think.",
    ],
)
def test_words_of_all_talk_recall_nothing(said: str) -> None:
    talk = [
        *CHATTER,
        ("I think the week was long, and I like that today is Friday.", "It takes time. 7 days is a lot!"),
    ]
    assert found(index_of(*talk), said) == []


def test_a_statement_needs_more_in_common_than_a_question() -> None:
    index = index_of(*CHATTER)
    assert found(index, "The wall behind the barn collapsed over the winter.") == []
    assert found(index, "Who is building a wall?") == [5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Make me a cup of tea, please.", True),
        ("Bestell mir bitte etwas.", True),
        ("Nice, is it not?", True),
        ("My tea is cold.", False),
        ("", False),
    ],
)
def test_what_asks_or_requests_something(text: str, expected: bool) -> None:
    assert asks(text) == expected


# ---- size ----------------------------------------------------------------------------------------


def test_a_message_of_100_000_characters_costs_about_as_much_as_reading_it() -> None:
    index = index_of(*(pair for i in range(40) for pair in (*CHATTER, (f"Pump {i} hums.", "OK."))))
    paste = " ".join(f"word{i % 9000}" for i in range(12_000))
    assert len(paste) > 95_000
    to_read = min(_seconds(lambda: terms(paste)) for _ in range(5))
    assert min(_seconds(lambda: index.search(paste)) for _ in range(5)) < 10 * to_read


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def test_a_question_at_the_end_of_a_paste_is_read() -> None:
    paste = " ".join(f"word{i}" for i in range(5000))
    index = index_of((paste, "OK."), *CHATTER, FACT)
    assert found(index, f"{paste}") == [1]


def test_a_turn_without_terms_may_come_and_leave() -> None:
    index = TurnIndex()
    index.sync([Message(1, "user", "..."), Message(2, "user", FACT[0])])
    index.sync([Message(2, "user", FACT[0])])
    assert found(index, "Where does Ida start school?") == [2] and len(index) == 1
