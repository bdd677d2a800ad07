"""A question about somebody leaves out what was said of others."""

import pytest
from test_index import CHATTER, found, index_of

from edge_sir.recall.asking import asks_whether
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
        ("Petra's shoe size?", ["petra"]),
        ("¿Dónde vive Petra?", ["petra"]),
        ("- Petra or Bob?", ["bob"]),
        ("I need milk\n- Eggs", []),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wo wohnt Ida?", True),
        ("Wann beginnt Petras Kurs?", True),
        ("Wann kommt Oma am Freitag?", True),
        ("Where is Ida?", False),
        ("What was in the bag, and who was so late?", False),
        ("Ida?", False),
    ],
)
def test_german_is_told_by_words_that_english_does_not_have(text: str, expected: bool) -> None:
    assert is_german(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Does my brother live in Rome?", True),
        ("By the way, does my brother live in Rome?", True),
        ("Hey, isn't it in Rome?", True),
        ("My brother lives in Rome, right?", True),
        ("My brother lives in Rome, doesn't he?", True),
        ("Remind me: is it Rome?", True),
        ("Where does my brother live?", False),
        ("Which sport did I want to practise with Oscar?", False),
        ("", False),
    ],
)
def test_whether_something_is_so_is_asked_by_a_clause(text: str, expected: bool) -> None:
    assert asks_whether(text) == expected


def test_what_was_said_of_others_stays_away() -> None:
    index = index_of(
        practise("Victor", "curling"), *CHATTER, practise("Petra", "tennis"), practise("Oscar", "karate"), *CHATTER
    )
    assert found(index, WHICH.format("Oscar")) == [9]
    assert found(index, WHICH.format("Victor")) == [1]
    assert found(index, WHICH.lower().format("oscar")) == [9, 8, 1], "in small letters it is no name"
    assert set(found(index, WHICH.format("Zoe"))) == {1, 8, 9}, "of somebody of whom nothing was said"
    assert set(found(index, "Which sport should I practise besides that with Oscar?")) == {1, 8, 9}


@pytest.mark.parametrize(
    ("of_one", "of_another", "asked"),
    [
        ("Omar's birthday is on 3 May.", "Lena's birthday is on 9 June.", "When do we have Omar's birthday?"),
        ("Mia wears shoe size 28.", "Leo wears shoe size 31.", "What shoe size does Mia wear?"),
        (
            "In Porto we booked the hotel Sol.",
            "In Madrid we booked the hotel Atocha.",
            "Which hotel is booked in Porto?",
        ),
        ("The lead of project Heron is Ann.", "The lead of project Ibis is Max.", "Who is the lead of project Heron?"),
    ],
)
def test_another_name_in_the_same_place_is_about_somebody_else(of_one: str, of_another: str, asked: str) -> None:
    one, another = (of_one, "OK."), (of_another, "OK.")
    assert found(index_of(one, *CHATTER, another), asked) == [1]
    assert found(index_of(another, one, *CHATTER), asked) == [2], "even side by side, and before it"


@pytest.mark.parametrize(
    ("named", "other", "asked"),
    [
        (
            "The flight to Lisbon leaves at 7:05.",
            "The flight was moved, it leaves at 9:50.",
            "flight to Lisbon leaves?",
        ),
        (
            "The Lisbon flight leaves at 7:05.",
            "Rescheduled flight leaves at 9:50.",
            "When does the Lisbon flight leave?",
        ),
        (
            "The hotel is for the Lisbon trip.",
            "For the trip it is the Hilton hotel.",
            "Which hotel is for the Lisbon trip?",
        ),
        ("The wedding of Anna is in Porto.", "The wedding is in Lisbon now.", "Where is the wedding of Anna?"),
        ("Anna rents a flat in Leith.", "Her flat is damp.", "What is wrong with the flat in Leith?"),
        ("I need the code of the Lisbon flat.", "The code of the flat is 4471.", "Which code has the Lisbon flat?"),
        (
            "The code of the flat with Falcon.",
            "The code of the flat with June: 5.",
            "Which code of the flat with Falcon?",
        ),
        (
            "The school where Felix sings.",
            "Did I mention Felix? The school where Max sings.",
            "Where is Felix, what school?",
        ),
    ],
)
def test_a_turn_stays_that_lacks_the_name_and_gives_no_other_in_its_place(named: str, other: str, asked: str) -> None:
    assert set(found(index_of((named, "OK."), *CHATTER, (other, "OK."), *CHATTER), asked)) == {1, 8}


def test_a_follow_up_is_about_whom_it_names() -> None:
    index = index_of(
        practise("Oscar", "karate"),
        *CHATTER,
        practise("Petra", "tennis"),
        *CHATTER,
        ("Which sport should I practise with Oscar?", "Karate."),
    )
    assert found(index, "And with Petra?") == [8]
    assert found(index, "And since when?")[0] == 1


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
