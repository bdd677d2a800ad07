"""A question about somebody leaves out what was said of others."""

import pytest
from test_index import CHATTER, found, index_of

from edge_sir.recall.named import about_others, names
from edge_sir.recall.terms import is_german

WHICH = "Which sport should I practise with {}?"


def practise(who: str, sport: str) -> tuple[str, str]:
    return f"I should practise a sport with {who}: {sport}.", "Noted."


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("Which sport did I want to practise with Petra?", ["petra"]),
        ("Is it Petra's, or does O'Brien have it?", ["petra"]),
        ("Who is it? Petra said something about Łódź.", ["lodz"]),
        ("Что я обещал Марине?", ["марине"]),
        ("Petra?", []),
        ("Tell me what I said: Petra or not?", []),
        ("which sport did i want to practise with petra?", []),
        ("Which SPORT did I want you to practise?", []),
        ("WHICH SPORT DID I WANT TO PRACTISE WITH PETRA?", []),
        ("Which Sport Did I Want To Practise?", []),
        ("Is the dentist still on Monday, or was it in May?", []),
        ("Welchen Sport wollte ich mit Petra üben?", []),
        ("", []),
    ],
)
def test_names_are_capitals_inside_a_sentence(text: str, given: list[str]) -> None:
    assert names(text) == given


@pytest.mark.parametrize(("text", "expected"), [("Wo wohnt Ida?", True), ("Where is Ida?", False), ("Ida?", False)])
def test_german_is_told_by_its_function_words(text: str, expected: bool) -> None:
    assert is_german(text) == expected


def test_what_was_said_of_others_stays_away() -> None:
    index = index_of(
        practise("Victor", "curling"), *CHATTER, practise("Petra", "tennis"), *CHATTER, practise("Oscar", "karate")
    )
    assert found(index, WHICH.format("Oscar")) == [15]
    assert found(index, WHICH.format("Victor")) == [1]
    assert found(index, WHICH.lower().format("oscar")) == [15, 8, 1], "in small letters it is no name"
    assert found(index, WHICH.format("Zoe"))[:2] == [15, 8], "of somebody of whom nothing was said"


def test_of_what_came_later_the_newest_stays() -> None:
    index = index_of(
        practise("Oscar", "karate"),
        *CHATTER,
        practise("Victor", "curling"),
        *CHATTER,
        ("We practise another sport now, tennis.", "OK."),
    )
    assert found(index, WHICH.format("Oscar")) == [1, 15]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("Does my brother still live in Rome?", {1, 8}), ("Well, do you know where in Rome my brother lives?", {1, 8})],
)
def test_a_question_that_yes_or_no_answers_may_give_what_was_corrected(asked: str, expected: set[int]) -> None:
    index = index_of(("My brother lives in Rome.", "OK."), *CHATTER, ("My brother now lives in Oslo.", "OK."), *CHATTER)
    assert set(found(index, asked)) == expected


def test_the_turn_beside_goes_on_about_the_same() -> None:
    index = index_of(practise("Oscar", "karate"), ("We practise that sport on a lawn.", "OK."), *CHATTER, CHATTER[0])
    assert set(found(index, WHICH.format("Oscar"))) == {1, 2}


def test_what_holds_another_part_of_the_question_comes_as_well() -> None:
    index = index_of(
        ("My brother works with Oscar.", "I see."), *CHATTER, ("My brother keeps bees.", "Nice."), *CHATTER
    )
    assert set(found(index, "Which animals does the brother who is with Oscar keep, bees?")) == {1, 8}


def test_of_two_that_are_named_neither_displaces_the_other() -> None:
    index = index_of(practise("Oscar", "karate"), *CHATTER, practise("Petra", "tennis"), *CHATTER)
    assert set(found(index, "Which sport should I practise with Oscar, and which with Petra?")) == {1, 8}


def test_a_reply_displaces_nothing() -> None:
    index = index_of(
        ("I practise a sport.", "OK."), *CHATTER, ("Guess!", "You practise the sport with Oscar."), *CHATTER
    )
    assert 1 in found(index, WHICH.format("Oscar"))


def test_what_matches_by_meaning_alone_is_about_anybody() -> None:
    named = frozenset({"oscar"})
    told = {1: [frozenset({"oscar", "sport"})], 5: [frozenset({"sport"})], 9: []}
    held = {1: frozenset({"oscar", "sport"}), 5: frozenset({"sport"}), 9: frozenset[str]()}
    assert about_others(told, held, named, lambda turn: True) == set(), "the newest of the others"
    assert about_others(told, held, named, lambda turn: False) == {5}
    assert about_others(told, {**held, 7: frozenset({"sport"})}, named, lambda turn: True) == {5}
    assert about_others({}, held, named, lambda turn: True) == set()
