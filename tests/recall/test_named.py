"""A question about somebody leaves out what was said of others."""

import pytest
from test_index import CHATTER, found, index_of

from edge_sir.recall.named import names
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
        practise("Victor", "curling"), *CHATTER, practise("Petra", "tennis"), practise("Oscar", "karate"), *CHATTER
    )
    assert found(index, WHICH.format("Oscar")) == [9]
    assert found(index, WHICH.format("Victor")) == [1]
    assert found(index, WHICH.lower().format("oscar")) == [9, 8, 1], "in small letters it is no name"
    assert set(found(index, WHICH.format("Zoe"))) == {1, 8, 9}, "of somebody of whom nothing was said"
    assert set(found(index, "Which sport should I practise besides that with Oscar?")) == {1, 8, 9}


OMAR, LENA = ("Omar's birthday is on 3 May.", "Noted."), ("Lena's birthday is on 9 June.", "Noted.")


def test_the_word_after_a_name_may_tell_its_place() -> None:
    assert found(index_of(OMAR, *CHATTER, LENA), "When do we have Omar's birthday?") == [1]


@pytest.mark.parametrize(
    ("turns", "asked", "also"),
    [
        (["The flight to Lisbon leaves at 7:05.", "They moved the flight, it leaves at 9:50."], "Lisbon", 8),
        (["The wedding of Anna is in Porto.", "The wedding is in Lisbon now."], "When is the wedding of Anna?", 8),
        (["Anna rents a flat in Leith.", "Her flat is damp."], "What is wrong with the flat in Leith?", 8),
        (["The sport that I practise with Oscar.", "A sport that I practise is karate."], WHICH.format("Oscar"), 8),
        (["Remind me of the code of the Lisbon flat.", "The gate code is 4471."], "Which code has the Lisbon gate?", 8),
        (["My brother works with Oscar.", "My brother Tom keeps bees."], "Does my brother work with Oscar, bees?", 8),
        (["Anna and Felix sing.", "Did I mention Felix? He and Max sing."], "Do you know where Felix sings?", 8),
        (["The deadline with Falcon is in June.", "The deadline with May is late."], "The deadline with Falcon?", 8),
    ],
)
def test_a_turn_without_the_name_stays_unless_it_gives_another_in_its_place(
    turns: list[str], asked: str, also: int
) -> None:
    first, second = ((text, "OK.") for text in turns)
    asked = asked if " " in asked else f"When does the flight to {asked} leave?"
    assert also in found(index_of(first, *CHATTER, second, *CHATTER), asked)


def test_a_question_that_yes_or_no_answers_may_give_what_was_corrected() -> None:
    index = index_of(("My brother lives in Rome.", "OK."), *CHATTER, ("My brother lives in Oslo now.", "OK."), *CHATTER)
    assert set(found(index, "Does my brother still live in Rome?")) == {1, 8}
    assert set(found(index, "Well, do you know where in Rome my brother lives?")) == {1, 8}
    assert found(index, "Does my brother live in Oslo?") == [8], "what came before corrects nothing"


def test_of_two_that_are_named_neither_displaces_the_other() -> None:
    index = index_of(practise("Oscar", "karate"), *CHATTER, practise("Petra", "tennis"), *CHATTER)
    assert set(found(index, "Which sport should I practise with Oscar, and which with Petra?")) == {1, 8}


def test_what_the_model_said_displaces_nothing() -> None:
    index = index_of(practise("Victor", "golf"), *CHATTER, ("Guess!", "You practise the sport with Oscar."))
    assert 1 in found(index, WHICH.format("Oscar"))


@pytest.mark.parametrize(
    ("text", "n"),
    [("see " + "Bob " * 25_000, 25_000), ("x" + "\n" * 100_000 + "and Bob", 1), ("(" * 100_000 + "Bob", 0)],
)
def test_a_long_message_is_read_once(text: str, n: int) -> None:
    assert names(text) == ["bob"] * n
