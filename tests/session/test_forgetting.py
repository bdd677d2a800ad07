"""What is forgotten on request, also where a policy thinned it before. On the toy."""

import json
from pathlib import Path

import numpy as np
import pytest
from chatting import N_TOKENS, SENTENCE, evict, fill, make_chat, thinned, transcript
from driving import agrees

from edge_sir.chat.commands import find
from edge_sir.cli._views import find_view
from edge_sir.core.ledger import ROLES
from edge_sir.core.plan import EvictionPlan
from edge_sir.errors import ConfigError
from edge_sir.memory.evictions import Forgotten
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import replay

# ---- forgetting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_forget_takes_the_sentence_out_of_everything(positions: str) -> None:
    chat = make_chat(["So 4417 it is. Fine."], budget=256, positions=positions, system="Be kind.")
    chat.reply("The sky is blue. My code is 4417. Mind it.")
    chat.pin("4417")
    removed = chat.forget("4417")
    assert [(p.role, p.text) for p in removed] == [("user", "My code is 4417."), ("assistant", "So 4417 it is.")]
    assert "4417" not in transcript(chat)
    assert "4417" not in json.dumps(chat.memory().as_dict())
    assert [m.text for m in chat.transcript][1:] == ["The sky is blue. Mind it.", "Fine."]
    assert agrees(chat.session)
    fill(chat, 1)
    assert agrees(chat.session)


@pytest.mark.parametrize("evicted", [False, True])
def test_a_sentence_with_an_abbreviation_leaves_nothing_anywhere(tmp_path: Path, evicted: bool) -> None:
    trace = Trace(tmp_path / "trace")
    chat = make_chat(['She said "I saw J. Okonkwo." Then she left.'], budget=256, trace=trace)
    chat.reply("The sky is blue. I met Dr. Okonkwo at St. Bavo, e.g. twice. Mind it.")
    if evicted:
        evict(chat, (chat.session.ledger["turn"] == 1) & (chat.session.ledger["role"] != ROLES.index("frame")))
    chat.forget("Okonkwo")
    chat.close()
    said = [m.text for m in chat.transcript]
    assert said == ["The sky is blue. Mind it.", '" Then she left.']  # where a token is a byte, a quotation mark begins
    saved = chat.transcript.save(tmp_path / "saved").read_text()
    known = transcript(chat) + json.dumps(chat.memory().as_dict()) + repr(vars(chat._memory))
    for part in ("Dr.", "Okonkwo", "J.", "St.", "Bavo", "e.g", "twice", "She said", "I saw"):
        assert part not in saved and part not in known and part not in words_of(tmp_path / "trace")
    assert "The sky is blue" in words_of(tmp_path / "trace") and agrees(chat.session)
    assert replay(read_trace(tmp_path / "trace")).kept >= set(chat.session.ledger["born"].tolist())


def test_a_message_may_begin_with_an_abbreviation() -> None:
    chat = make_chat(["Dr. Okonkwo? No."], budget=256)
    chat.reply("Dr. Okonkwo called. Mind it.")
    chat.forget("Okonkwo")
    assert [m.text for m in chat.transcript] == ["Mind it.", "No."] and "Dr" not in transcript(chat)


def words_of(trace: Path) -> str:
    """All the tokens of a trace, read one after the other."""
    ops = [op for record in read_trace(trace) for op in record.get("ops", ())]
    tokens = [token for op in ops if op["op"] in ("append", "redo") for token in op["columns"]["token"]]
    return bytes(token for token in tokens if 0 <= token < 256).decode("utf-8", "replace")


def test_a_turn_leaves_nothing_in_the_trace_while_the_talk_goes_on(tmp_path: Path) -> None:
    chat = make_chat(["<think>Ada?</think>Hello Ada.", "Fine."], budget=256, trace=Trace(tmp_path / "trace"))
    chat.reply("I am Ada.")
    chat.forget(1)
    assert "Ada" not in words_of(tmp_path / "trace")
    chat.reply("And you?")
    chat.close()
    assert "Ada" not in words_of(tmp_path / "trace") and "And you?" in words_of(tmp_path / "trace")
    assert "start eviction end" in " ".join(dict.fromkeys(r["kind"] for r in read_trace(tmp_path / "trace")))


def test_forget_a_turn() -> None:
    chat = make_chat(["One.", "Two."], budget=256, system="Be kind.")
    chat.reply("First.")
    chat.reply("Second.")
    chat.forget(1)
    assert "First" not in transcript(chat) and "One." not in transcript(chat)
    assert transcript(chat).startswith("<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nSecond.")
    turn = chat.memory().turn(1)
    assert turn is not None and (turn.said, turn.state) == ((), "none")
    assert turn.losses[0].why == "forgotten" and "First" not in json.dumps(chat.memory().as_dict())
    assert agrees(chat.session)


def test_forgetting_what_was_evicted_clears_the_records() -> None:
    chat = make_chat(["ok"], budget=128, policy="streaming")
    chat.reply("My code is 4417.")
    fill(chat, 6)
    assert "4417" in json.dumps(chat.memory().as_dict())
    assert chat.forget("4417") == ()
    assert "4417" not in json.dumps(chat.memory().as_dict())


def test_the_system_prompt_and_the_unsaid_cannot_be_forgotten() -> None:
    chat = make_chat(["ok"], system="Be kind.", budget=256)
    chat.reply("Hi.")
    before = transcript(chat)
    for what, match in ((0, "system prompt"), ("kind", "nobody said"), ("4417", "nobody said"), (7, "no turn 7")):
        with pytest.raises(ConfigError, match=match):
            chat.forget(what)
    assert transcript(chat) == before


def test_a_system_prompt_in_force_cannot_be_forgotten_one_that_was_replaced_can() -> None:
    chat = make_chat(["ok", "ok"], system="Be kind.", budget=400)
    chat.reply("Hi.")
    chat.set_system("Be terse.")
    chat.reply("I shall be terse.")
    before = transcript(chat), list(chat.transcript)
    with pytest.raises(ConfigError, match="turn 2 is the system prompt; give another one"):
        chat.forget(2)
    assert (transcript(chat), list(chat.transcript)) == before and chat.system == "Be terse."
    chat.forget("be terse")
    assert "Be terse." in transcript(chat) and "shall" not in transcript(chat)
    assert [m.text for m in chat.transcript] == ["Be kind.", "Hi.", "ok", "Be terse.", "", "ok"]
    chat.set_system("Be calm.")
    chat.forget(2)
    assert [m.text for m in chat.transcript] == ["Be kind.", "Hi.", "ok", "", "ok", "Be calm."]
    assert agrees(chat.session)


def test_a_system_message_in_a_turn_with_others_stays_alone() -> None:
    chat = make_chat(["ok"])
    chat.reply("Hi.")
    chat.add("system", "Be terse.")
    chat.forget(1)
    assert [m.text for m in chat.transcript] == ["Be terse."]
    assert "Be terse." in transcript(chat) and "Hi." not in transcript(chat)
    with pytest.raises(ConfigError, match="turn 1 is the system prompt"):
        chat.forget(1)
    assert agrees(chat.session)


def test_without_a_system_prompt_only_markers_among_the_sinks_stay() -> None:
    chat = make_chat(["ok"], budget=256, policy="sir:n_sink=12")
    chat.reply("4417 is my code")
    chat.forget(1)
    assert transcript(chat) == "<s><|im_start|>user\n"
    fill(chat, 1)
    assert agrees(chat.session)


# ---- what was thinned ----------------------------------------------------------------------------


def test_forget_means_the_sentence_as_it_was_said() -> None:
    chat = thinned()
    assert "My name Ada and" in transcript(chat)
    (passage,) = chat.forget("My name is Ada")
    assert passage.text == "My name … Ada and my sister … Eve."
    assert (passage.n_resident, passage.n_tokens, passage.said) == (N_TOKENS - 6, N_TOKENS, SENTENCE)
    assert "Ada" not in transcript(chat) and "Hello there." in transcript(chat) and "Mind it." in transcript(chat)
    assert "Ada" not in json.dumps(chat.memory().as_dict()) and agrees(chat.session)
    with pytest.raises(ConfigError, match="nobody said"):
        chat.find("My name is Ada")
    assert chat.matches("Ada") == ()


def test_words_copied_from_what_is_left_mean_their_sentence() -> None:
    chat = thinned()
    assert [(m.passage.n_tokens, m.passage.n_evicted) for m in chat.matches("My name Ada")] == [(N_TOKENS, 6)]
    assert chat.forget("My name Ada")[0].n_resident == N_TOKENS - 6
    assert next(m.text for m in chat.transcript) == "Hello there. Mind it."
    with pytest.raises(ConfigError, match="nobody said"):
        chat.forget("is Ada")


def test_a_part_of_a_word_that_is_left_is_not_that_word() -> None:
    chat = thinned("egory", said="One category only.")
    chat.reply("A cat.")
    assert [p.turn for p in chat.find("cat")] == [2]


def test_pin_means_the_sentence_as_it_was_said_and_holds_what_is_left() -> None:
    chat = thinned()
    (passage,) = chat.pin("sister is Eve")
    assert (passage.text, passage.n_resident) == ("My name … Ada and my sister … Eve.", N_TOKENS - 6)
    fill(chat, 12)
    assert "My name Ada and my sister Eve." in transcript(chat) and "Hello there" not in transcript(chat)
    assert chat.unpin("sister is Eve") == (passage,)


def test_sentences_thinned_by_the_policy_are_forgotten_to_the_last_token() -> None:
    chat = make_chat(["ok"], budget=200)
    chat.reply(SENTENCE)
    fill(chat, 6)
    left = chat.memory().turn(1)
    assert left is not None and left.state == "partly" and "My name is Ada" not in left.text
    assert chat.forget("my name is ada")
    assert {s.role for s in chat.memory().turn(1).passages} <= {"assistant"}  # type: ignore[union-attr]
    assert agrees(chat.session)


def test_what_was_gone_before_an_undo_or_a_new_conversation_is_not_found() -> None:
    for action in (lambda chat: chat.undo(), lambda chat: chat.clear()):
        chat = thinned()
        action(chat)
        assert chat.matches("My name is Ada") == ()


@pytest.mark.parametrize(
    ("gone", "text", "state", "words"),
    [
        (" is", "Ada", "whole", ("Ada",)),
        (" is", "name is  ADA", "partly", ("name", "Ada")),
        ("Ada", "Ada", "none", ()),
        ("da", "name is Ada", "partly", ("name", "is")),
        ("x", "Ada", "whole", ("Ada",)),
    ],
)
def test_words_are_known_whole_in_part_or_not(gone: str, text: str, state: str, words: tuple[str, ...]) -> None:
    chat = thinned(gone, said=SENTENCE + " x")
    (match,) = chat.matches(text)
    assert (match.passage.turn, match.passage.role, match.state, match.words) == (1, "user", state, words)
    assert match.passage.said == SENTENCE


def test_letters_of_several_bytes_are_known_only_whole() -> None:
    chat = thinned("o", said="Grüße an Zoë, 👋")
    session = chat.session
    rows = np.flatnonzero(session.ledger["token"] == "👋".encode()[3])
    session.evict(EvictionPlan(rows, session.ledger.epoch, "room"))
    (match,) = chat.matches("Grüße an Zoë, 👋")
    assert (match.state, match.words) == ("partly", ("Grüße", "an", ","))


# ---- what is still known of it --------------------------------------------------------------------


def test_who_asks_for_what_was_forgotten_is_told_that_something_was() -> None:
    chat = make_chat(["ok"] * 3)
    chat.reply("My sister Ottilie keeps bees. Mind it.")
    chat.reply("And?")
    chat.forget("bees")
    assert chat.memory().removed == (Forgotten(1, 2, 1),)
    told = "nobody said “Ottilie” in what is left; forgotten on request: 1 sentence of turn 1 in turn 2"
    assert find_view(find(chat, "Ottilie")).title == told
    with pytest.raises(ConfigError, match=told):
        chat.pin("Ottilie")
    chat.forget(1)  # what of a turn was forgotten before goes with it
    assert [str(r) for r in chat.memory().removed] == ["turn 1 in turn 2"]
    chat.clear()
    assert chat.memory().removed == ()


def test_no_word_of_what_was_forgotten_is_kept() -> None:
    chat = make_chat(["ok"])
    chat.reply("My sister Ottilie keeps bees.")
    chat.forget("bees")
    assert "Ottilie" not in json.dumps(chat.memory().as_dict()) and "bees" not in repr(vars(chat._memory))
