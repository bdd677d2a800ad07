"""Finding by meaning: how it goes together with the terms, and the encoder of the extra where that is installed."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from test_index import CHATTER, FACT

from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.recall import dense
from edge_sir.recall.choose import Sentence, chosen
from edge_sir.recall.dense import MiniLm, SentenceEncoder, Sentences, fused
from edge_sir.recall.index import TurnIndex

SUBJECTS = (
    ("tea", "thirsty", "honey"),
    ("train", "seat", "aisle"),
    ("school", "town", "daughter"),
    ("rain", "rains", "weather"),
)
HONEY = ("I always take honey.", "Noted.")
AISLE = ("When I travel, I sit by the aisle.", "Noted.")


class Subjects:
    """An encoder that knows four subjects; whatever else is said points elsewhere."""

    def __init__(self) -> None:
        self.n_encoded = 0

    def encode(self, text: str) -> NDArray[np.float32]:
        self.n_encoded += 1
        said = set(re.findall(r"\w+", text.lower()))
        about = [float(not said.isdisjoint(words)) for words in SUBJECTS]
        vector = np.array([*about, float(not any(about))], np.float32)
        return vector / np.linalg.norm(vector)


def found(encoder: SentenceEncoder, text: str, *turns: tuple[str, str]) -> list[int]:
    index = TurnIndex(encoder=encoder)
    index.sync(
        message
        for turn, (said, reply) in enumerate(turns, 1)
        for message in (Message(turn, "user", said), Message(turn, "assistant", reply))
    )
    return [match.turn for match in index.search(text)]


def test_what_means_alike_is_found_without_a_shared_word() -> None:
    assert found(Subjects(), "I am thirsty, please make me something.", *CHATTER, HONEY, AISLE)[0] == 7
    assert found(Subjects(), "Please reserve a seat for me.", *CHATTER, HONEY, AISLE)[0] == 8


def test_a_message_that_asks_for_nothing_is_searched_by_its_words_alone() -> None:
    assert found(Subjects(), "I was thirsty.", *CHATTER, HONEY) == []


def test_half_a_surrogate_pair_reaches_no_encoder() -> None:
    class Strict(Subjects):
        def encode(self, text: str) -> NDArray[np.float32]:
            return super().encode(text.encode().decode())

    honey = ("I always take honey \udc00.", "Noted.")
    assert found(Strict(), "I am thirsty \ud800, please make me something.", *CHATTER, honey)


def test_for_a_question_about_the_user_only_what_users_said_of_themselves_is_near() -> None:
    talk = [("The queen drank her tea with lemon.", "Did she?"), *CHATTER, HONEY]
    assert found(Subjects(), "I am thirsty, please make me something.", *talk) == [8]


def test_the_words_still_count() -> None:
    turns = [("My daughter likes her school.", "Nice."), *CHATTER, FACT]
    assert found(Subjects(), "When does Ida start school in August?", *turns)[0] == 8


def test_a_question_that_was_asked_before_is_not_encoded() -> None:
    encoder = Subjects()
    assert found(encoder, "Please reserve a seat for me.", ("Which seat do I want?", "An aisle seat."), *CHATTER) == []


def test_of_a_paste_only_the_first_sentences_are_encoded() -> None:
    encoder = Subjects()
    found(encoder, "nothing", ("\n".join(f"The pump {i} hums." for i in range(500)), "I see."))
    assert encoder.n_encoded <= 33


def test_what_was_taken_out_is_not_near_any_more() -> None:
    vectors = Sentences(Subjects())
    vectors.put(1, ["I take honey."], [True])
    vectors.put(2, ["I sit by the aisle.", "It rains."], [True, False])
    assert vectors.alike("a train", own=True) == pytest.approx({1: 0.0, 2: 1.0})
    assert vectors.alike("the weather", own=True) == pytest.approx({1: 0.0, 2: 0.0})
    assert vectors.alike("the weather", own=False) == pytest.approx({1: 0.0, 2: 1.0})
    vectors.take_out(2)
    assert vectors.alike("a train", own=True) == pytest.approx({1: 0.0})


def test_both_scores_count_as_standard_scores() -> None:
    scores = fused({1: 4.0, 2: 0.0}, {1: 0.2, 2: 0.2, 3: 0.8}, 1.0)
    assert scores[1] == pytest.approx(scores[3], rel=0.2) and scores[2] == 0.0
    assert fused({1: 4.0}, {1: 0.2, 3: 0.8}, 2.0)[3] > fused({1: 4.0}, {1: 0.2, 3: 0.8}, 2.0)[1]
    assert fused({1: 4.0}, {}, 1.0) == {1: 4.0}
    assert fused({}, {1: 0.5, 2: 0.5}, 1.0) == {1: 0.0, 2: 0.0}


def test_of_a_turn_found_by_its_meaning_the_users_sentences_come_back() -> None:
    parts = [Sentence(9, 0, False, 2), Sentence(8, 0, True, 0), Sentence(40, 0, True, 1)]
    assert chosen(parts, 40, by_meaning=True) == [(1, 8), (0, 9)]


def test_of_a_turn_whose_sentence_with_the_words_is_resident_nothing_else_comes_back() -> None:
    assert chosen([Sentence(9, 0, False, 2), Sentence(8, 0, True, 0)], 40) == []


def test_without_the_extra_one_line_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_MODEL", ("no-such-package-for-edge-sir", "model.onnx", ""))
    with pytest.raises(ConfigError, match=r"pip install 'edge-sir\[recall-dense\]'"):
        MiniLm()


def test_another_file_than_the_measured_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_MODEL", ("numpy", "numpy/__init__.py", "0" * 64))
    with pytest.raises(ConfigError, match="another file than the one that was measured"):
        MiniLm()


# ---- the encoder of the extra --------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> MiniLm:
    try:
        return MiniLm()
    except ConfigError as error:
        pytest.skip(str(error))


def test_sentences_that_mean_alike_lie_near_each_other(minilm: MiniLm) -> None:
    seat, aisle, soup = map(
        minilm.encode, ("Please reserve a seat for me.", "I always sit by the aisle.", "Salt the soup late.")
    )
    assert seat.shape == (384,) and seat.dtype == np.float32 and np.linalg.norm(seat) == pytest.approx(1, abs=1e-5)
    assert float(seat @ aisle) > 1.5 * float(seat @ soup)
    assert np.array_equal(minilm.encode("I always sit by the aisle."), aisle)
    assert np.isfinite(minilm.encode("")).all() and np.isfinite(minilm.encode("word " * 5000)).all()


def test_a_preference_is_found_by_its_meaning(minilm: MiniLm) -> None:
    question = "Please reserve a seat for me."
    turns = [*CHATTER, ("When I travel, I always sit by the aisle.", "OK."), *CHATTER[:3]]
    assert found(minilm, question, *turns)[0] == 7
