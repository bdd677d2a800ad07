"""Other terms in mid-conversation: system prompt, budget, policy; transcripts, and a trace of it all. On the toy."""

import signal
from pathlib import Path

import numpy as np
import pytest
from chatting import ToyHost, fill, make_chat, said, script, transcript
from driving import EVICTING, agrees

from edge_sir.cli._commands import perform
from edge_sir.core.ledger import ROLES
from edge_sir.core.records import Eviction
from edge_sir.errors import BudgetError, CapabilityError, ConfigError
from edge_sir.memory.transcript import Message, read_transcript
from edge_sir.testing import ToyEngine
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import replay

# ---- system prompt -------------------------------------------------------------------------------


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


def test_prompts_that_were_replaced_leave_no_pinned_markers() -> None:
    chat = make_chat(["ok"], system="Be kind.")
    chat.reply("Hi")
    chat.set_system("Be 0.")
    n_pinned = chat.memory().n_pinned
    for n in range(1, 9):
        chat.set_system(f"Be {n}.")
    assert chat.memory().n_pinned == n_pinned and transcript(chat).count("<|im_start|>system") == 2
    assert agrees(chat.session)


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
    with pytest.raises(BudgetError, match=r"this system prompt \(130 cells\)"):  # with its markers
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


def test_an_empty_system_prompt_removes_the_old_one() -> None:
    chat = make_chat(["ok"], system="Be kind to cats.", budget=256)
    chat.reply("Hi")
    assert perform(chat, '/system ""').view.title == "no system prompt of yours (/system TEXT)"
    assert "kind" not in transcript(chat) and chat.session.turn == 1 and agrees(chat.session)
    chat.undo()
    assert "kind" not in transcript(chat)
    assert [m.text for m in chat.transcript] == ["Be kind to cats."] and chat.system is None
    chat.set_system("Be calm.")
    assert "Be calm." in transcript(chat)


@pytest.mark.parametrize("at", ["start", "first", "later"])
def test_an_empty_system_prompt_is_none(at: str) -> None:
    chat, fresh = make_chat(system=" " if at == "start" else "Be kind."), make_chat()
    if at == "later":
        fill(chat, 1)
    if at != "start":
        chat.set_system("")
    chat.clear()
    assert (chat.system, len(chat.transcript)) == (None, 0)
    for one in (chat, fresh):
        fill(one, 1)
    assert transcript(chat) == transcript(fresh)


def test_a_prompt_that_replaces_another_before_anything_is_said_needs_room_for_itself_alone() -> None:
    text = "x" * 100
    with pytest.raises(BudgetError, match=r"the system prompt \(\d+ cells\)") as error:
        make_chat(budget=100, system=text)
    least = int(str(error.value).split("--budget ")[1].split()[0])
    chat = make_chat(budget=least, system="Be kind.")
    with pytest.raises(BudgetError, match=rf"the system prompt \(\d+ cells\).* --budget {least + 1} "):
        chat.set_system(text + "x")
    assert chat.system == "Be kind."
    chat.set_system(text)
    assert transcript(chat) == transcript(make_chat(budget=least, system=text))


# ---- budget and policy ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", EVICTING)
def test_a_lower_budget_evicts_at_once(policy: str) -> None:
    chat = make_chat(["ok"], budget=256, policy=policy, system="Be kind.")
    chat.reply("Hi")
    fill(chat, 3)
    n = len(chat.session.ledger)
    gone = chat.set_budget(96)
    assert n - gone == len(chat.session.ledger) == 96  # and no more than that
    assert agrees(chat.session) and "Be kind." in transcript(chat)
    fill(chat, 3)
    assert len(chat.session.ledger) <= 96
    assert chat.set_budget(400) == 0
    fill(chat, 6)
    assert 96 < len(chat.session.ledger) <= 400
    assert agrees(chat.session)


def test_a_budget_too_small_is_told_the_same_at_the_start_and_later() -> None:
    with pytest.raises(BudgetError) as at_start:
        make_chat(budget=8, system="Be kind to cats.")
    least = int(str(at_start.value).split("--budget ")[1].split()[0])
    chat = make_chat(budget=least, system="Be kind to cats.")
    with pytest.raises(BudgetError, match=f"budget of 8 cells is too small.* use --budget {least} or more"):
        chat.set_budget(8)
    with pytest.raises(BudgetError, match=f"--budget {least} "):
        make_chat(budget=least - 1, system="Be kind to cats.")


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
    host = ToyHost()
    chat = make_chat(budget=256, host=host, positions=positions)
    other = make_chat(budget=256, positions=positions, engine=ToyEngine(1024))
    for one in (chat, other):
        fill(one, 6)
    old = chat.engine
    assert chat.set_budget(700) == 0
    assert other.set_budget(700) == 0
    assert chat.engine is host.made[0] and old.pos_range(0) == (-1, -1)
    for one in (chat, other):
        fill(one, 6)
    assert chat.session.ledger["token"].tolist() == other.session.ledger["token"].tolist()
    assert agrees(chat.session)
    np.testing.assert_allclose(chat.session.ledger["surprisal"], other.session.ledger["surprisal"], rtol=1e-4)


def test_ctrl_c_while_cells_move_leaves_the_engine_that_is_in_use() -> None:
    class Interrupted(ToyEngine):
        def load(self, seq: int, state: bytes) -> None:
            super().load(seq, state)
            signal.raise_signal(signal.SIGINT)

    class Host(ToyHost):
        def open_engine(self, n_cells: int) -> ToyEngine:
            self.made.append(Interrupted(n_cells))
            return self.made[-1]

    host = Host()
    chat = make_chat(["ok"], budget=256, host=host)
    chat.reply("Hi")
    with pytest.raises(KeyboardInterrupt):
        chat.set_budget(700)
    assert agrees(chat.session) and len(chat.session.ledger) > 0
    chat.engine.script[:] = script("Well.")  # type: ignore[attr-defined]
    assert chat.reply("And?").text == "Well."


def test_a_foreign_engine_is_refused_and_closed() -> None:
    chat = make_chat(["ok"], budget=256, host=ToyHost(seed=9))
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


# ---- transcript ----------------------------------------------------------------------------------


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
    with pytest.raises(ConfigError, match="has 2 turns already; /clear it first"):
        again.load(read_transcript(path))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        chat.transcript.save(path)
    assert path.read_bytes() == before


def test_what_is_no_transcript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("edge-sir transcript 1\n")
    with pytest.raises(ConfigError, match="holds no message"):
        read_transcript(path)
    for name in ("missing", ".", "a\0b", "/dev/null"):
        with pytest.raises(ConfigError, match=r"cannot read .* give a file that /save wrote"):
            read_transcript(tmp_path / name)
    head = "edge-sir transcript 1\n"
    for text in ("", "hello\n", f"{head}hello\n", f"{head}    hello\n", f"{head}[{'9' * 5000}] user\n    hello\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"no transcript|neither"):
            read_transcript(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_transcript(path)
    with pytest.raises(ConfigError, match="cannot save"):
        make_chat().transcript.save(tmp_path / "no" / "folder")


def test_a_transcript_that_does_not_fit_leaves_the_conversation_empty() -> None:
    chat = make_chat(system="Be kind.", budget=128)
    before = transcript(chat)
    with pytest.raises(BudgetError):
        chat.load([Message(1, "user", "Hi"), Message(2, "system", "x" * 200)])
    assert transcript(chat) == before and chat.session.turn == 0 and agrees(chat.session)
    assert [m.text for m in chat.transcript] == ["Be kind."]


def test_a_transcript_that_was_refused_is_no_conversation_in_the_figures() -> None:
    chat = make_chat(system="Be kind.", budget=128)
    before = chat.stats()
    messages = [Message(n, "user", "x" * 60) for n in range(1, 6)]
    with pytest.raises(BudgetError):
        chat.load([*messages, Message(6, "system", "x" * 200)])
    now, run = chat.stats(), chat.run_stats()
    assert (now.turns, now.tokens_in, now.evicted) == (0, before.tokens_in, 0)
    assert (now.max_resident, now.mean_resident) == (before.max_resident, before.mean_resident)
    assert (run.turns, run.conversations) == (0, 1)
    assert run.tokens_in > 300  # the work was done


def test_the_counts_begin_anew_even_after_all_was_taken_back() -> None:
    chat = make_chat(["ok"], system="Be kind.")
    n_opening = chat.stats().tokens_in
    chat.reply("Hi")
    chat.undo()
    chat.clear()
    assert (chat.stats().tokens_in, chat.stats().tokens_out) == (n_opening, 0)
    assert (chat.run_stats().tokens_out, chat.run_stats().conversations) == (2, 1)


@pytest.mark.parametrize("first", [[], [Message(0, "system", "Be kind.")]])
def test_what_a_transcript_begins_with_is_a_turn_like_any_other(first: list[Message]) -> None:
    chat = make_chat()
    assert chat.load([*first, Message(0, "assistant", "Welcome!"), Message(1, "user", "Hi")]) == 2
    assert [(m.turn, m.text) for m in chat.transcript][-2:] == [(1, "Welcome!"), (2, "Hi")]
    assert (chat.undo().turn, chat.undo().turn) == (2, 1)
    assert "Welcome!" not in transcript(chat) and agrees(chat.session)


def test_what_was_said_right_after_a_system_prompt_can_be_taken_back() -> None:
    chat = make_chat(["ok"])
    chat.reply("Hi")
    chat.set_system("Be kind.")
    assert chat.add("assistant", "So be it.") == 3
    assert chat.undo().turn == 3
    assert "Be kind." in transcript(chat) and "So be it." not in transcript(chat)


# ---- a trace of a chat ---------------------------------------------------------------------------


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


def test_a_transcript_that_an_editor_wrote_anew_says_the_same(tmp_path: Path) -> None:
    text = "edge-sir transcript 1\n[1] user\n    Hi\n    there\n[1] assistant\n    Hello.\n"
    plain, edited = tmp_path / "plain", tmp_path / "edited"
    plain.write_bytes(text.encode())
    edited.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert (
        [m.text for m in read_transcript(edited)] == [m.text for m in read_transcript(plain)] == ["Hi\nthere", "Hello."]
    )
