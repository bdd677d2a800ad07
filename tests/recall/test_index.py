"""Finding the turn that a message asks about."""

import tracemalloc
from typing import Any

import pytest

from edge_sir.memory.transcript import Message
from edge_sir.recall.index import TurnIndex
from edge_sir.recall.terms import terms

CHATTER = [
    ("The weather was grey again this morning.", "It should clear up by noon."),
    ("I watched a film about trains last night.", "Was it any good?"),
    ("What would you cook with leeks?", "A soup, with potatoes and cream."),
    ("My back hurts from gardening.", "Rest a little, and stretch."),
    ("The neighbours are building a wall.", "I hope it is not too loud."),
    ("Do you like the sea?", "I have never seen it, but people say it is calming."),
]


def index_of(*turns: tuple[str, str]) -> TurnIndex:
    """Turns numbered from 1, each what the user and the model said."""
    index = TurnIndex()
    index.sync(
        message
        for turn, (said, reply) in enumerate(turns, 1)
        for message in (Message(turn, "user", said), Message(turn, "assistant", reply))
    )
    return index


def found(index: TurnIndex, text: str) -> list[int]:
    return [match.turn for match in index.search(text)]


FACT = ("My daughter Ida starts school in Tromsø in August.", "Good for her!")


def test_the_turn_that_holds_the_fact_is_found() -> None:
    index = index_of(*CHATTER, FACT, *CHATTER)
    assert found(index, "In which town does my daughter start school?")[0] == 7


@pytest.mark.parametrize("said", ["Hello there!", "", "?!", "Tell me a joke.", "Explain photosynthesis to me, please."])
def test_where_nothing_matches_nothing_is_found(said: str) -> None:
    assert found(index_of(*CHATTER, FACT), said) == []


def test_an_exchange_that_only_asked_the_same_is_not_found() -> None:
    question = "In which town does my daughter start school?"
    index = index_of((question, "I don't know."), *CHATTER, FACT, *CHATTER, (question, "You did not say."))
    assert found(index, question) == [8]


def test_a_reply_that_repeats_the_question_ranks_behind_the_statement() -> None:
    question = "In which town does my daughter start school?"
    index = index_of((question, "I cannot say in which town your daughter starts school."), *CHATTER, FACT)
    assert found(index, question)[0] == 8


def test_a_question_behind_a_statement_does_not_make_it_one() -> None:
    index = index_of(*CHATTER, ("My doctor is called George, did you know?", "OK."), *CHATTER)
    assert found(index, "What is my doctor called?")[0] == 7


def test_what_the_model_said_is_found_as_well() -> None:
    index = index_of(*CHATTER, ("Suggest a name for my boat.", "Call her Kittiwake."), *CHATTER)
    assert found(index, "Why did you suggest Kittiwake for the boat?")[0] == 7


def test_of_a_fact_and_its_correction_the_newer_comes_first() -> None:
    index = index_of(
        ("The code of my bike lock is 4711.", "Noted."),
        *CHATTER,
        ("The code of my bike lock is 9925 now, since somebody had seen it.", "All right."),
        *CHATTER,
    )
    assert found(index, "What is the code of my bike lock?")[:2] == [8, 1]


def test_the_same_said_twice_counts_once() -> None:
    index = index_of(FACT, *CHATTER, FACT)
    assert found(index, "Where does Ida start school?") == [8]


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("We live in Tromsø.", "tromso"),
        ("Meine Straße ist die Łąkowa.", "lakowa strasse"),
        ("Naïve Zoë drinks café au lait.", "Zoe, cafe"),
        ("I keep bees and dogs.", "the bee"),
        ("My flat is number 17.", "number 17?"),
        ("Я живу в Мурманске.", "Мурманске"),
        ("東京都に住んでいます", "東京"),
        ("我的猫叫小黑", "猫"),
        ("ฉันชอบแมว", "แมว"),
        ("मेरा नाम अदिति है", "अदिति"),
    ],
)
def test_letters_scripts_and_endings_are_matched_alike(said: str, asked: str) -> None:
    assert found(index_of(*CHATTER, (said, "OK.")), asked) == [7]


def test_neighbours_of_a_match_raise_each_other() -> None:
    plain = index_of(("Rita plays the oboe.", "OK."), *CHATTER, ("Rita plays the oboe on Fridays.", "OK."))
    beside = index_of(("Rita plays the oboe.", "OK."), ("The oboe of Rita needs a new reed.", "OK."), *CHATTER)
    assert beside.search("Rita oboe")[0].score > plain.search("Rita oboe")[0].score


def test_what_is_taken_out_or_changed_is_not_found_any_more() -> None:
    index = index_of(*CHATTER, FACT)
    index.sync([Message(1, "user", "My daughter is called Ida."), Message(2, "user", "It rains.")])
    assert found(index, "When does school start?") == []
    assert found(index, "Ida") == [1] and len(index) == 2


def test_turns_may_be_left_out() -> None:
    index = index_of(FACT, *CHATTER)
    assert index.search("Where does Ida start school?", skip=frozenset({1})) == []


def test_text_is_never_a_query_of_the_database() -> None:
    index = index_of(*CHATTER, FACT)
    for text in (
        '"',
        "'; DROP TABLE turns; --",
        "statement : Ida",
        "NEAR(Ida school)",
        "Ida*",
        "a OR b",
        "(",
        "\0",
        "🐝",
    ):
        index.search(text)
    assert found(index, "Ida school") == [7]


def test_a_long_message_is_searched_by_its_rarest_words() -> None:
    index = index_of(*CHATTER, FACT)
    paste = " ".join(f"word{i}" for i in range(5000))
    assert index.search(f"{paste} Ida") == []  # one word of thousands is no match


def test_terms_are_folded_and_common_words_left_out() -> None:
    assert terms("What's the NAME of Ada’s café in Łódź?") == ["name", "ada", "cafe", "lodz"]


def test_of_a_longer_conversation_only_what_is_new_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Message(turn, "user", f"On day {turn} it rained.") for turn in range(1, 300)]
    index = TurnIndex()
    index.sync(said)
    put: list[int] = []
    plain = TurnIndex._put

    def counted(self: TurnIndex, turn: int, messages: tuple[Message, ...]) -> None:
        put.append(turn)
        plain(self, turn, messages)

    monkeypatch.setattr(TurnIndex, "_put", counted)
    index.sync(said)
    said += [Message(299, "assistant", "A pelican."), Message(300, "user", "A heron.")]
    index.sync(said)
    assert put == [299, 300] and found(index, "Was there a pelican?") == [299] and len(index) == 300
    assert found(index, "And the rain of day 299?")[0] == 299, "what the turn held before is still in it"
    said[10] = Message(11, "user", "A stork.")
    index.sync([message for message in said if message.turn != 20])
    assert put[2:] == [11] and found(index, "Was there a stork?") == [11] and len(index) == 299


def test_its_memory_is_counted() -> None:
    index = TurnIndex()
    assert index.n_bytes == 0
    said = [Message(turn, "user", f"Word{turn} and other{turn}, then third{turn}.") for turn in range(1, 1000)]
    index.sync(said[:10])
    few = index.n_bytes
    index.sync(said)
    assert index.n_bytes > 1.5 * few > 0
    before = index.n_bytes
    assert found(index, "word5") == [5] and index.n_bytes == index._pages() == before, "a search takes none"
    index.sync(())
    assert index.n_bytes == 0 and found(index, "word5") == [] and len(index) == 0


def test_beside_the_database_a_turn_takes_little_memory() -> None:
    said = [
        Message(turn, "user", " ".join(f"word{(7919 * turn + i) % 5000}" for i in range(60))) for turn in range(1, 1001)
    ]
    index = TurnIndex()
    tracemalloc.start()
    index.sync(said)
    n_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_bytes < index.n_bytes


class Breaking:
    """A database in which Ctrl-C comes in the middle of the statement that holds `at`, once."""

    def __init__(self, db: Any, at: str) -> None:
        self._db, self._at = db, at

    def execute(self, sql: str, *args: Any) -> Any:
        self._break(sql)
        return self._db.execute(sql, *args)

    def executemany(self, sql: str, rows: Any) -> Any:
        self._db.executemany(sql, rows)
        self._break(sql)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def _break(self, sql: str) -> None:
        if self._at and self._at in sql:
            self._at = ""
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", ["INTO sentences", "DELETE FROM sentences", "page_count"])
def test_after_a_sync_that_broke_off_it_holds_the_same(at: str) -> None:
    said = [Message(turn, role, f"Bird {turn} is a heron.") for turn in range(1, 9) for role in ("user", "assistant")]
    index, fresh = TurnIndex(), TurnIndex()
    index.sync(said[:3])
    index._db = Breaking(index._db, at)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        index.sync(said)
    for one in (index, fresh):
        one.sync(said)
    assert index.search("Which bird is a heron?") == fresh.search("Which bird is a heron?") != []
    assert index._known == fresh._known


def test_after_a_search_that_broke_off_it_can_be_asked() -> None:
    index = index_of(*CHATTER, FACT)
    index._db = Breaking(index._db, "FROM stem")  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        index.search("In which town does my daughter start school?")
    assert found(index, "In which town does my daughter start school?")[0] == 7
