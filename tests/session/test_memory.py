"""What a person may ask of a chat's memory: view, pin, forget, undo, regenerate, other terms. On the toy."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from chatting import CODEC, make_chat, said, script, transcript
from driving import EVICTING, agrees, n_evicted

from edge_sir.chat import Chat
from edge_sir.core.ledger import ROLES
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.records import Eviction
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError, CapabilityError, ComputeError, ConfigError
from edge_sir.replaying import replay
from edge_sir.testing import ToyEngine
from edge_sir.trace import Trace, read_trace
from edge_sir.transcript import Message, read_transcript

FILLER = "Something else entirely, and rather long at that."


def fill(chat: Chat, n: int = 8) -> None:
    assert isinstance(chat.engine, ToyEngine)
    for _ in range(n):
        chat.engine.script[:] = script("Well, fine.")
        chat.reply(FILLER)


# ---- the view ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVICTING)
def test_the_view_adds_up(policy: str) -> None:
    events: list[Eviction] = []
    chat = make_chat(["Hello."], budget=256, policy=policy, on_evict=events.append, system="Be kind.")
    chat.reply("I am Anna.")
    chat.pin(1)
    fill(chat)
    memory = chat.memory()
    assert [t.turn for t in memory] == list(range(10))
    assert sum(t.n_resident for t in memory) == memory.n_resident == len(chat.session.ledger)
    assert sum(t.n_gone for t in memory) == n_evicted(events) > 0
    assert sum(t.n_pinned for t in memory) == memory.n_pinned
    for turn in memory:
        assert sum(s.n_tokens for s in turn.spans) <= turn.n_resident
        assert sum(s.n_gone for s in turn.spans) <= turn.n_gone
        assert sum(loss.n_tokens for loss in turn.losses) == turn.n_gone
        if turn.state == "whole" and turn.turn:
            assert [s.text for s in turn.spans] == [m.text for m in turn.said]
    assert memory.turn(1).state == "whole"  # type: ignore[union-attr]
    assert {t.state for t in memory} >= {"whole", "gone"} or {t.state for t in memory} >= {"whole", "partly"}
    assert (memory.budget, memory.policy, memory.turn_now) == (256, policy, 9)


def test_what_was_said_and_by_whom() -> None:
    chat = make_chat(["Hello Anna."], system="Be kind.")
    chat.reply("I am Anna.")
    memory = chat.memory()
    assert memory.turn(0).said == (Message(0, "system", "Be kind."),)  # type: ignore[union-attr]
    assert memory.turn(1).said == (Message(1, "user", "I am Anna."), Message(1, "assistant", "Hello Anna."))  # type: ignore[union-attr]
    assert memory.turn(2) is None
    assert [t.turn for t in memory.saying("anna")] == [1]
    assert memory.saying("ann") == ()


def test_the_numbers_behind_an_eviction() -> None:
    """Streaming ranks by birth, so value and cut are known beforehand."""
    chat = make_chat(budget=200, policy="streaming")
    chat.reply("I am Anna.", max_tokens=9)
    fill(chat, 4)
    losses = chat.memory().turn(1).losses  # type: ignore[union-attr]
    assert losses[0].why == "room" and losses[0].turn_now > 1
    assert losses[0].cut is not None and losses[0].value is not None and losses[0].value < losses[0].cut
    assert losses[0].policy == "streaming"


def test_a_loss_tells_what_units_ranked_it_by() -> None:
    chat = make_chat(budget=256, policy="units:decay=0.5")
    fill(chat, 10)
    losses = [loss for turn in chat.memory() for loss in turn.losses]
    assert losses
    for loss in losses:
        assert loss.value is not None and loss.cut is not None
        assert loss.value <= loss.cut + 1e-5  # values are rounded, the cut is not
        whole = [x for x in losses if x.turn == loss.turn]
        if loss.surprisal is None:  # markers alone
            assert loss.value == -1
        elif len(whole) == 1:  # the unit is the turn, and all of it went at once
            age = loss.turn_now - loss.turn
            assert loss.value == pytest.approx(loss.surprisal * 0.5**age, rel=0.02)


@pytest.mark.parametrize(("policy", "thins"), [("sir", False), ("units", True), ("sirllm", False)])
def test_only_a_policy_of_units_thins_one(policy: str, thins: bool) -> None:
    chat = make_chat(budget=200, policy=policy)
    fill(chat, 10)
    losses = [loss for turn in chat.memory() for loss in turn.losses]
    assert losses and any(loss.thinned for loss in losses) == thins
    assert {loss.ranks_by for loss in losses} == {chat.session.policy.ranks_by}


def test_the_view_is_plain_json() -> None:
    chat = make_chat(budget=200)
    fill(chat, 6)
    plain = json.loads(json.dumps(chat.memory().as_dict(), allow_nan=False))
    assert plain["turns"][1]["state"] in ("whole", "partly", "gone")
    assert plain["turns"][-1]["said"][0] == {"turn": 6, "role": "user", "text": FILLER}


def test_a_character_cut_in_two_is_left_out() -> None:
    chat = make_chat(["ok"], policy="streaming", budget=200)
    chat.reply("Grüße 👋")
    rows = np.flatnonzero(chat.session.ledger["token"] == "👋".encode()[1])
    from edge_sir import amend

    amend.forget(chat.session, rows)
    assert "�" not in chat.memory().turn(1).text  # type: ignore[union-attr]


# ---- pins --------------------------------------------------------------------------------------


def test_a_sentence_is_pinned_with_its_markers_and_nothing_else() -> None:
    chat = make_chat(["ok"], budget=200)
    chat.reply("The sky is blue. My code is 4417. Mind it.")
    (passage,) = chat.pin("CODE is 4417")
    assert (passage.turn, passage.role, passage.text) == (1, "user", "My code is 4417.")
    ledger = chat.session.ledger
    pinned = b"".join(CODEC.piece(int(t)) for t in ledger["token"][ledger["pinned"] & (ledger["turn"] == 1)])
    assert pinned.decode() == "user\n My code is 4417.\n"
    fill(chat, 12)
    assert "My code is 4417." in transcript(chat)
    assert "The sky" not in transcript(chat)


def test_a_pin_survives_two_hundred_turns() -> None:
    chat = make_chat(["ok"], budget=256)
    chat.reply("My code is 4417.")
    before = chat.pin(1)
    fill(chat, 200)
    assert chat.find(1) == before
    assert chat.find("4417")[0].text == "My code is 4417."


def test_what_is_gone_cannot_be_pinned_and_says_since_when() -> None:
    chat = make_chat(["ok"], budget=128, policy="streaming")
    chat.reply("My code is 4417.")
    fill(chat, 6)
    for what in (1, "4417"):
        with pytest.raises(ConfigError, match=r"gone from memory \(turn 1 went in turn \d\); say it again"):
            chat.pin(what)
    with pytest.raises(ConfigError, match="nobody said “4418”"):
        chat.pin("4418")
    with pytest.raises(ConfigError, match="no turn 99; this conversation has turns 0 to 7"):
        chat.pin(99)


def test_a_pin_that_does_not_fit_is_refused_loudly() -> None:
    chat = make_chat(["ok"], budget=128)
    chat.reply("x" * 90)
    before = chat.session.ledger["pinned"].copy()
    with pytest.raises(BudgetError, match="pinning turn 1"):
        chat.pin(1)
    assert np.array_equal(chat.session.ledger["pinned"], before)


def test_unpin_spares_the_system_prompt() -> None:
    chat = make_chat(["ok", "ok"], system="Be kind.", budget=256)
    chat.reply("One.")
    chat.reply("Two.")
    chat.pin(1)
    chat.pin("Two")
    assert {p.turn for p in chat.unpin()} == {1, 2}
    assert chat.memory().n_pinned == chat.memory().turn(0).n_pinned > 0  # type: ignore[union-attr]
    for what in (0, 1, "Two"):
        with pytest.raises(ConfigError, match="is pinned"):
            chat.unpin(what)


# ---- forgetting --------------------------------------------------------------------------------


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


def test_forget_a_turn() -> None:
    chat = make_chat(["One.", "Two."], budget=256, system="Be kind.")
    chat.reply("First.")
    chat.reply("Second.")
    chat.forget(1)
    assert "First" not in transcript(chat) and "One." not in transcript(chat)
    assert transcript(chat).startswith("<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nSecond.")
    turn = chat.memory().turn(1)
    assert turn is not None and (turn.said, turn.state) == ((), "gone")
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


def test_without_a_system_prompt_only_markers_among_the_sinks_stay() -> None:
    chat = make_chat(["ok"], budget=256, policy="sir:n_sink=12")
    chat.reply("4417 is my code")
    chat.forget(1)
    assert transcript(chat) == "<s><|im_start|>user\n"
    fill(chat, 1)
    assert agrees(chat.session)


# ---- what was thinned --------------------------------------------------------------------------

SENTENCE = "My name is Ada and my sister is Eve."
N_TOKENS = len(SENTENCE) + 1  # a token is a byte, and the blank before it belongs to a sentence


def thinned(gone: str = " is", *, said: str = SENTENCE, budget: int = 512) -> Chat:
    """A chat in which these letters of a sentence went to make room, wherever they stand in it."""
    chat = make_chat(["Fine."], budget=budget)
    chat.reply(f"Hello there. {said} Mind it.")
    session = chat.session
    text = bytes(min(t, 255) for t in session.ledger["token"].tolist())
    start, letters = text.index(said.encode()), gone.encode()
    starts = [start + match.start() for match in re.finditer(re.escape(letters), said.encode())]
    rows = np.array([at + i for at in starts for i in range(len(letters))])
    session.evict(EvictionPlan(rows, session.ledger.epoch, "room"))
    return chat


def test_forget_means_the_sentence_as_it_was_said() -> None:
    chat = thinned()
    assert "My name Ada and" in transcript(chat)
    (passage,) = chat.forget("My name is Ada")
    assert passage.text == "My name … Ada and my sister … Eve."
    assert (passage.n_tokens, passage.n_said) == (N_TOKENS - 6, N_TOKENS)
    assert "Ada" not in transcript(chat) and "Hello there." in transcript(chat) and "Mind it." in transcript(chat)
    assert "Ada" not in json.dumps(chat.memory().as_dict()) and agrees(chat.session)
    with pytest.raises(ConfigError, match="nobody said"):
        chat.find("My name is Ada")
    assert chat.known("Ada") == ()


def test_words_copied_from_what_is_left_mean_their_sentence() -> None:
    chat = thinned()
    assert chat.forget("My name Ada")[0].n_said == N_TOKENS
    assert next(m.text for m in chat.transcript) == "Hello there. Mind it."
    with pytest.raises(ConfigError, match="nobody said"):
        chat.forget("is Ada")


def test_a_part_of_a_word_that_is_left_is_not_that_word() -> None:
    chat = thinned("egory", said="One category only.")
    chat.reply("A cat.")
    assert [p.turn for p in chat.find("cat")] == [2]


def test_pin_means_the_sentence_as_it_was_said_and_holds_what_is_left() -> None:
    chat = thinned()
    assert [(p.text, p.n_said - p.n_tokens) for p in chat.pin("sister is Eve")] == [
        ("My name … Ada and my sister … Eve.", 6)
    ]
    fill(chat, 12)
    assert "My name Ada and my sister Eve." in transcript(chat) and "Hello there" not in transcript(chat)
    assert chat.unpin("sister is Eve")[0].n_said > N_TOKENS  # with markers


def test_a_turn_that_was_thinned_says_how_much_of_it_was_left() -> None:
    (passage, _) = thinned().forget(1)
    assert passage.n_said - passage.n_tokens == 6


def test_sentences_thinned_by_the_policy_are_forgotten_to_the_last_token() -> None:
    chat = make_chat(["ok"], budget=200)
    chat.reply(SENTENCE)
    fill(chat, 6)
    left = chat.memory().turn(1)
    assert left is not None and left.state == "partly" and "My name is Ada" not in left.text
    assert chat.forget("my name is ada")
    assert {s.role for s in chat.memory().turn(1).spans} <= {"assistant"}  # type: ignore[union-attr]
    assert agrees(chat.session)


def test_what_was_gone_before_an_undo_or_a_new_conversation_is_not_found() -> None:
    for action in (lambda chat: chat.undo(), lambda chat: chat.clear()):
        chat = thinned()
        action(chat)
        assert chat.known("My name is Ada") == ()


@pytest.mark.parametrize(
    ("gone", "text", "state", "words"),
    [
        (" is", "Ada", "whole", ("Ada",)),
        (" is", "name is  ADA", "partly", ("name", "Ada")),
        ("Ada", "Ada", "gone", ()),
        ("da", "name is Ada", "partly", ("name", "is")),
        ("x", "Ada", "whole", ("Ada",)),
    ],
)
def test_words_are_known_whole_in_part_or_not(gone: str, text: str, state: str, words: tuple[str, ...]) -> None:
    chat = thinned(gone, said=SENTENCE + " x")
    (known,) = chat.known(text)
    assert (known.turn, known.role, known.state, known.words) == (1, "user", state, words)
    assert known.said == SENTENCE


def test_letters_of_several_bytes_are_known_only_whole() -> None:
    chat = thinned("o", said="Grüße an Zoë, 👋")
    session = chat.session
    rows = np.flatnonzero(session.ledger["token"] == "👋".encode()[3])
    session.evict(EvictionPlan(rows, session.ledger.epoch, "room"))
    (known,) = chat.known("Grüße an Zoë, 👋")
    assert (known.state, known.words) == ("partly", ("Grüße", "an", ","))


# ---- undo and regenerate -----------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_undo_is_as_if_never_said_and_tells_what_it_cost(positions: str) -> None:
    chat = make_chat(["ok"], budget=160, policy="streaming", positions=positions)
    chat.reply("I am Anna.")
    fill(chat, 1)
    before = chat.session.ledger["token"].tolist()
    chat.engine.script[:] = script("Yes.")  # type: ignore[attr-defined]
    chat.reply("y" * 50)
    undone = chat.undo()
    assert undone.turn == 3
    assert undone.messages == (Message(3, "user", "y" * 50), Message(3, "assistant", "Yes."))
    assert undone.n_tokens > 50
    assert {loss.turn for loss in undone.lost} <= {0, 1, 2}
    n_lost = sum(loss.n_tokens for loss in undone.lost)
    assert n_lost == len(before) - len(chat.session.ledger) > 0
    assert chat.session.ledger["token"].tolist() == before[:4] + before[4 + n_lost :]
    assert chat.session.turn == 2 and len(chat.memory().turns) == 3
    assert agrees(chat.session)


def test_there_must_be_something_to_undo() -> None:
    chat = make_chat(["ok"], system="Be kind.")
    with pytest.raises(ConfigError, match="nothing to undo"):
        chat.undo()
    with pytest.raises(ConfigError, match="no message of yours"):
        next(chat.regenerate())
    chat.reply("Hi")
    chat.undo()
    assert transcript(chat) == "<s><|im_start|>system\nBe kind.<|im_end|>\n"
    with pytest.raises(ConfigError, match="nothing to undo"):
        chat.undo()


def test_a_message_that_was_never_read_is_undone_first() -> None:
    engine = ToyEngine(512)
    chat = make_chat(["Hello."], engine=engine)
    stream = chat.stream("Hi")
    next(stream)
    engine.fail_next = ComputeError("made up")
    with pytest.raises(ComputeError):
        list(stream)
    engine.fail_next = ComputeError("made up")
    with pytest.raises(ComputeError):
        chat.reply("Lost?")
    assert [m.text for m in chat.undo().messages] == ["Lost?"]
    assert "Hi" in said(chat, "user")
    engine.script[:] = script("Fine.")
    assert chat.reply("How?").text == "Fine."
    assert said(chat, "user") == "HiHow?"


def test_regenerate_draws_again_and_undo_with_the_same_words_does_not() -> None:
    def chat() -> Chat:
        return make_chat(sampling=SamplingParams(temperature=1.0, seed=3), max_tokens=20, budget=256)

    one, other = chat(), chat()
    first = one.reply("Tell me.").text
    assert other.reply("Tell me.").text == first
    texts = {first}
    for n in range(1, 4):
        assert "".join(p.text for p in one.regenerate()).strip() == one.last_reply.text  # type: ignore[union-attr]
        texts.add(one.last_reply.text)  # type: ignore[union-attr]
        assert len(texts) == n + 1
    assert one.session.turn == 1
    assert [m.role for m in one.transcript] == ["user", "assistant"]
    other.undo()
    assert other.reply("Tell me.").text == first


def test_regenerate_at_temperature_zero_says_the_same() -> None:
    chat = make_chat(sampling=SamplingParams(temperature=0), max_tokens=12, budget=256)
    text = chat.reply("Tell me.").text
    list(chat.regenerate())
    assert chat.last_reply is not None and chat.last_reply.text == text


# ---- system prompt -----------------------------------------------------------------------------


def test_before_anything_is_said_a_system_prompt_is_simply_another() -> None:
    chat, fresh = make_chat(["ok"], system="Be kind."), make_chat(["ok"], system="Be rude.")
    chat.set_system("Be rude.")
    for one in (chat, fresh):
        one.engine.script[:] = script("ok")  # type: ignore[attr-defined]
        one.reply("Hi")
    assert transcript(chat) == transcript(fresh)
    assert [m.text for m in chat.transcript] == ["Be rude.", "Hi", "ok"]


def test_in_mid_conversation_the_old_prompt_goes_and_the_new_one_is_pinned() -> None:
    chat = make_chat(["ok"], system="Be kind to cats.", budget=256)
    chat.reply("Hi")
    chat.set_system("Be rude.")
    fill(chat, 12)
    assert "kind" not in transcript(chat)
    assert said(chat, "system").endswith("Be rude.")
    assert chat.memory().turn(2).n_pinned > 0  # type: ignore[union-attr]
    assert agrees(chat.session)
    chat.set_system("Be calm.")
    assert "rude" not in transcript(chat) and "Be calm." in transcript(chat)
    with pytest.raises(ConfigError, match="changed the system prompt"):
        chat.undo()


@pytest.mark.parametrize("turn", [1, 2])
def test_the_prompt_in_force_survives_a_truncation(turn: int) -> None:
    chat = make_chat(["ok", "ok"], system="Be kind.", budget=256)
    chat.reply("Hi")
    chat.set_system("Be rude.")
    chat.engine.script[:] = script("ok")  # type: ignore[attr-defined]
    chat.reply("And?")
    chat.truncate(turn)
    assert transcript(chat).count("Be rude.") == 1
    assert "And?" not in transcript(chat)
    assert agrees(chat.session)
    if turn == 1:
        assert transcript(chat) == "<s><|im_start|>system\nBe rude.<|im_end|>\n"


def test_a_prompt_that_does_not_fit_changes_nothing() -> None:
    chat = make_chat(["ok"], system="Be kind.", budget=128)
    chat.reply("Hi")
    before = transcript(chat)
    with pytest.raises(BudgetError, match="this system prompt"):
        chat.set_system("x" * 120)
    assert transcript(chat) == before
    chat.clear()
    assert transcript(chat) == "<s><|im_start|>system\nBe kind.<|im_end|>\n"


def test_clear_begins_anew() -> None:
    chat, fresh = (make_chat(["ok"], system="Be kind.", budget=128) for _ in range(2))
    fill(chat, 6)
    chat.clear()
    assert (chat.session.turn, len(chat.transcript), len(chat.memory().turns)) == (0, 1, 1)
    for one in (chat, fresh):
        one.engine.script[:] = script("ok")  # type: ignore[attr-defined]
        one.reply("Hi")
    assert transcript(chat) == transcript(fresh)
    assert agrees(chat.session)


# ---- budget and policy -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVICTING)
def test_a_lower_budget_evicts_at_once(policy: str) -> None:
    chat = make_chat(["ok"], budget=256, policy=policy, system="Be kind.")
    chat.reply("Hi")
    fill(chat, 3)
    n = len(chat.session.ledger)
    gone = chat.set_budget(96)
    assert n - gone == len(chat.session.ledger) <= 96
    assert agrees(chat.session) and "Be kind." in transcript(chat)
    fill(chat, 3)
    assert len(chat.session.ledger) <= 96
    assert chat.set_budget(400) == 0
    fill(chat, 6)
    assert 96 < len(chat.session.ledger) <= 400
    assert agrees(chat.session)


def test_more_cells_than_the_engine_has_need_another_engine() -> None:
    chat = make_chat(["ok"], budget=256)
    with pytest.raises(BudgetError, match="opened with 512 cells"):
        chat.set_budget(513)
    with pytest.raises(BudgetError, match="trained on"):
        chat.set_budget(5000)
    with pytest.raises(BudgetError, match="too small"):
        chat.set_budget(8)
    assert chat.session.budget.n_cells == 256


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_another_engine_takes_the_cells_over(positions: str) -> None:
    made: list[ToyEngine] = []

    def reopen(n: int) -> ToyEngine:
        made.append(ToyEngine(n))
        return made[-1]

    chat = make_chat(budget=256, reopen=reopen, positions=positions, owns_engine=True)
    other = make_chat(budget=256, positions=positions, engine=ToyEngine(1024))
    for one in (chat, other):
        fill(one, 6)
    old = chat.engine
    assert chat.set_budget(700) == 0
    assert other.set_budget(700) == 0
    assert chat.engine is made[0] and old.pos_range(0) == (-1, -1)
    for one in (chat, other):
        fill(one, 6)
    assert chat.session.ledger["token"].tolist() == other.session.ledger["token"].tolist()
    assert agrees(chat.session)
    np.testing.assert_allclose(chat.session.ledger["surprisal"], other.session.ledger["surprisal"], rtol=1e-4)


def test_a_foreign_engine_is_refused_and_closed() -> None:
    chat = make_chat(["ok"], budget=256, reopen=lambda n: ToyEngine(n, seed=9))
    chat.reply("Hi")
    before, engine = transcript(chat), chat.engine
    with pytest.raises(CapabilityError, match="not the model"):
        chat.set_budget(700)
    assert (transcript(chat), chat.engine) == (before, engine)
    assert agrees(chat.session)


def test_another_policy_decides_from_now_on() -> None:
    events: list[Eviction] = []
    chat = make_chat(budget=160, policy="sir", on_evict=events.append)
    fill(chat, 4)
    assert chat.set_policy("streaming") == 0
    events.clear()
    fill(chat, 3)
    born = [b for e in events for b in e.columns["born"].tolist()]
    assert born == sorted(born)
    assert chat.stats().policy == "streaming"
    with pytest.raises(ConfigError, match="did you mean"):
        chat.set_policy("steaming")
    assert chat.set_policy("sirllm:decay=0.9") == 0  # surprisal is always computed
    assert chat.set_policy("entropy") == len(chat.session.ledger) - 1
    with pytest.raises(BudgetError):
        chat.set_policy("sir:n_sink=150")
    assert chat.stats().policy == "entropy"


# ---- transcript --------------------------------------------------------------------------------


def test_a_transcript_is_saved_and_read_again(tmp_path: Path) -> None:
    chat = make_chat(["Line one\n\n    indented\r\n[1] user\n", "ok"], system="Be kind.", budget=512)
    chat.reply("  Hi\n\nthere ")
    chat.reply("[2] user\nedge-sir transcript 1")
    path = chat.transcript.save(tmp_path / "t.txt")
    again = make_chat(budget=512)
    assert again.load(read_transcript(path)) == 2
    assert list(again.transcript) == list(chat.transcript)
    for role in ("system", "user", "assistant"):
        assert "".join(said(again, role).split()) == "".join(said(chat, role).split())
    with pytest.raises(ConfigError, match="has 2 turns already"):
        again.load(read_transcript(path))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        chat.transcript.save(path)
    assert path.read_bytes() == before


def test_what_is_no_transcript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    for text in ("", "hello\n", "edge-sir transcript 1\nhello\n", "edge-sir transcript 1\n    hello\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"no transcript|neither"):
            read_transcript(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_transcript(path)
    with pytest.raises(ConfigError, match="cannot save"):
        make_chat().transcript.save(tmp_path / "no" / "folder")


# ---- a trace of a chat -------------------------------------------------------------------------


def test_a_chat_with_all_its_changes_replays(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.jsonl")
    with make_chat(["<think>Hm.</think>So.", "ok"], budget=200, trace=trace, system="Be kind.") as chat:
        chat.reply("My code is 4417. Mind it.")
        chat.pin("4417")
        fill(chat, 6)
        chat.undo()
        chat.set_budget(160)
        fill(chat, 4)
        chat.set_policy("sirllm")
        fill(chat, 4)
        chat.set_system("Be rude.")
        fill(chat, 4)
        chat.forget("4417")
        chat.set_budget(300)
        fill(chat, 8)
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert again.as_recorded and again.evictions > 8
    assert again.kept == set(chat.session.ledger["born"].tolist())
    assert ROLES[0] == "frame"
