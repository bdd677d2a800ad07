"""A raised budget, a pin and /recall put back what was evicted, where the chat recalls. On the toy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chatting import FILLER, fill, make_chat, script, told, transcript
from driving import EVICTING, agrees

from edge_sir.chat import Chat, commands
from edge_sir.errors import BudgetError, ConfigError
from edge_sir.memory.evictions import Restored
from edge_sir.testing import ToyEngine
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import replay

FACT = "My sister Ottilie keeps bees in Bergen."


def forgetful(policy: str = "streaming", **options: Any) -> Chat:
    """A chat in 240 cells to which the fact was said, and whose cells it has left."""
    options = {"budget": 240, "recall": "cells", "engine": ToyEngine(900)} | options
    chat = make_chat(policy=policy, **options)
    chat.engine.script[:] = script("Noted.")
    chat.reply(FACT)
    fill(chat, 10)
    return chat


def born(chat: Chat) -> list[int]:
    return chat.session.ledger["born"].tolist()


def dropped(chat: Chat, turn: int) -> int:
    view = chat.memory().turn(turn)
    assert view is not None
    return view.n_content_dropped


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("policy", EVICTING)
def test_a_raised_budget_brings_back_what_was_evicted_last(policy: str, positions: str) -> None:
    chat = forgetful(policy, positions=positions)
    before, away = born(chat), chat.evictions.away()["born"]
    last = away[chat._recall.archive.holds(away)][:80]  # of what was said again only one has cells
    now = commands.budget(chat, 480)
    assert now.restored == len(born(chat)) - len(before) > 80 and set(before) < set(born(chat))
    assert set(last.tolist()) <= set(born(chat))
    assert len(born(chat)) <= chat.session.budget.low_water < 480 and agrees(chat.session)
    n_missing = sum(t.n_content_dropped for t in chat.memory())
    assert n_missing == chat.evictions.n_evicted == len(chat.evictions.words()["born"])
    chat.set_budget(240)
    assert set(before) <= set(born(chat)) and len(born(chat)) <= 240 and agrees(chat.session)


def test_raised_twice_and_lowered_step_by_step_loses_nothing_that_was_there() -> None:
    chat = forgetful("sir")
    held = []
    for n_cells in (240, 320, 480):
        chat.set_budget(n_cells)
        held.append(set(born(chat)))
    chat.set_budget(320)
    assert held[1] <= set(born(chat))
    chat.set_budget(240)
    assert held[0] <= set(born(chat))


def test_a_pin_brings_back_what_was_evicted_and_never_evicts_that() -> None:
    chat = forgetful()
    fill(chat, 2)
    assert FACT not in transcript(chat)
    pinned = commands.pin(chat, "Ottilie")
    assert FACT in transcript(chat) and pinned.n_restored >= len(FACT) and pinned.n_evicted == 0
    ledger = chat.session.ledger
    assert ledger["pinned"].sum() >= len(FACT) and len(ledger) <= 240 and agrees(chat.session)
    fill(chat, 6)
    assert FACT in transcript(chat)
    assert not any("cannot bring" in line for line in told(chat, "/pin Ottilie"))


def test_a_pin_that_does_not_fit_changes_nothing() -> None:
    chat = make_chat(policy="streaming", budget=120, recall="cells")
    chat.engine.script[:] = script("Noted.")
    chat.reply("My sister Ottilie keeps bees in Bergen, " + "and a goat, " * 4 + "too.")
    fill(chat, 4)
    before, n = born(chat), len(chat.evictions)
    with pytest.raises(BudgetError, match="pinning “Ottilie”"):
        chat.pin("Ottilie")
    assert born(chat) == before and len(chat.evictions) == n and not chat.has_pins


def test_a_pin_of_what_has_no_cells_says_so() -> None:
    chat = forgetful()
    store = chat._recall.archive._store
    bound, store.bound = store.bound, 0
    store.bound = bound
    with pytest.raises(ConfigError, match="not in memory any more"):
        chat.pin("Ottilie")
    with pytest.raises(ConfigError, match="not kept with its cells; say it again"):
        chat.recall(1)
    fill(chat, 1)
    assert chat.memory().turn(1).n_archived == 0
    folded = next(line for line in told(chat, "/memory") if line.startswith("1-"))
    assert folded.endswith(" can come back)") and " of " in folded


@pytest.mark.parametrize("what", ["Ottilie's bees", 1])
@pytest.mark.parametrize("policy", EVICTING)
def test_what_is_recalled_by_hand_is_there_for_the_next_turn(what: int | str, policy: str) -> None:
    chat = forgetful(policy)
    missing = set(chat.evictions.away()["born"][chat.evictions.away()["turn"] == 1].tolist())
    assert missing
    recalled = chat.recall(what)
    back = missing & set(born(chat))
    assert recalled[0].turn == 1 and recalled[0].n_tokens == len(back) and not chat.session.is_recalling
    assert not chat.session.ledger["recalled"].any() and len(born(chat)) <= 240 and agrees(chat.session)
    chat.engine.script[:] = script("Well.")
    stream = chat.stream("Hm?")
    next(stream)
    assert back <= set(born(chat))
    stream.close()
    assert agrees(chat.session)


def test_what_the_last_turn_lost_itself_is_found_by_its_words() -> None:
    chat = make_chat(["Noted."] * 2, policy="streaming", budget=240, recall="cells")
    chat.reply("Hello there.")
    chat.reply(f"{FACT} {'It rains a lot here today. ' * 14}")
    assert "Ottilie" not in transcript(chat)
    assert [back.turn for back in chat.recall("Ottilie bees")] == [2]
    assert FACT in transcript(chat) and agrees(chat.session)


def test_recalling_by_hand_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="start it with --recall cells"):
        make_chat(["Fine."]).recall("bees")
    chat = forgetful()
    with pytest.raises(ConfigError, match="nothing was said that matches “zebra”"):
        chat.recall("zebra")
    with pytest.raises(ConfigError, match="nothing was said that matches turn 99"):
        chat.recall(99)
    assert chat.recall(chat.session.turn) == ()
    assert told(chat, f"/recall {chat.session.turn}") == ["all that matches is in memory"]
    assert told(chat, "/recall Ottilie")[0].startswith("back in memory: ")


def test_recalling_by_hand_finds_what_only_the_model_said() -> None:
    chat = make_chat(["The capital of France is Paris."], policy="streaming", budget=400, recall="cells")
    chat.reply("What is the capital of France?")
    fill(chat, 12)
    assert "France" not in transcript(chat)
    [recalled] = chat.recall("France")
    assert "The capital of France is Paris." in transcript(chat) and recalled.turn == 1


def test_recalling_by_hand_finds_what_the_last_turn_lost() -> None:
    chat = make_chat(["Noted."], policy="streaming", budget=240, recall="cells")
    chat.reply(f"{FACT} {' '.join(f'It rains in town number {n}.' for n in range(20))}")
    assert "Ottilie" not in transcript(chat)
    chat.recall("Ottilie")
    assert FACT in transcript(chat)


def test_a_policy_that_never_evicts_makes_no_room_for_what_is_recalled_by_hand() -> None:
    chat = forgetful()
    chat.set_policy("keep-all")
    before = born(chat)
    with pytest.raises(ConfigError, match="keep-all makes no room for what comes back; /policy sir does"):
        chat.recall("Ottilie")
    assert born(chat) == before


def test_what_cannot_be_put_back_is_not_called_resident() -> None:
    engine = ToyEngine(512, n_ctx_train=700, can_pack=False)
    chat = forgetful(engine=engine, positions="gaps")
    while not chat.session.stats.rereads:
        fill(chat, 1)
    before = born(chat)
    with pytest.raises(ConfigError, match="of turn 1 cannot be put back here; say it again"):
        chat.recall(1)
    assert born(chat) == before


def test_memory_marks_what_can_come_back() -> None:
    chat = forgetful()
    shown = "\n".join(told(chat, "/memory"))
    assert "evicted tokens can come back" in shown and "all of it can come back" in shown
    plain = make_chat(["Fine."] * 20, policy="streaming", budget=240)
    fill(plain, 10)
    assert "come back" not in "\n".join(told(plain, "/memory")) and plain.memory().turn(1).n_archived is None


def test_undo_says_what_is_back_and_what_is_not() -> None:
    chat = forgetful()
    chat.engine.script[:] = script("Well.")
    n_before = chat.evictions.n_evicted
    chat.reply(FILLER)
    lines = told(chat, "/undo")
    assert any(line.startswith("back in memory: ") for line in lines) and not any("not coming" in s for s in lines)
    assert chat.evictions.n_evicted == n_before
    assert isinstance(list(chat.evictions)[-1], Restored) or isinstance(list(chat.evictions)[-2], Restored)
    chat.reply(FILLER)
    store = chat._recall.archive._store
    bound, store.bound = store.bound, 0
    lines = told(chat, "/undo")
    store.bound = bound
    assert any("not put back" in line for line in lines) and chat.evictions.n_evicted > n_before


def test_what_is_put_back_is_recorded_and_replays(tmp_path: Path) -> None:
    seen: set[str] = set()
    for policy in EVICTING:
        path = tmp_path / f"{policy.replace(':', '-')}.jsonl"
        chat = forgetful(policy, trace=Trace(path))
        chat.recall(1)
        chat.engine.script[:] = script("Well.")
        chat.reply(FILLER)
        chat.undo()
        chat.pin("Ottilie")
        chat.set_budget(480)
        chat.set_budget(300)
        fill(chat, 3)
        chat.reply("Where does Ottilie keep her bees?", max_tokens=5)
        resident = set(born(chat))
        chat.close()
        ops = [op for record in read_trace(path) for op in record.get("ops", ())]
        whys = {op["why"] for op in ops if op["op"] == "restore"}
        assert whys <= {"undo", "budget", "pin", "recall"}, policy
        seen |= whys
        replayed = replay(read_trace(path))
        assert replayed.as_recorded and replayed.kept == resident, policy
        assert replayed.recalled == sum(len(op["born"]) for op in ops if op["op"] == "recall")
        assert replay(read_trace(path), None, 200).refused == ""
    assert len(seen) == 4


def test_a_turn_that_recalls_is_in_the_trace(tmp_path: Path) -> None:
    chat = forgetful(trace=Trace(tmp_path / "t.jsonl"))
    reply = chat.reply("Where does Ottilie keep her bees?", max_tokens=5)
    chat.close()
    assert replay(read_trace(tmp_path / "t.jsonl")).recalled == sum(r.n_tokens for r in reply.recalled) > 0


def test_an_engine_error_while_something_is_put_back_leaves_all_in_agreement() -> None:
    from edge_sir.errors import ComputeError

    chat = forgetful()
    chat.engine.fail_next = ComputeError("made up")
    chat.set_budget(480)
    assert agrees(chat.session) and chat.evictions.n_evicted == sum(t.n_content_dropped for t in chat.memory())
    missing = np.isin(chat.evictions.away()["born"], chat.session.ledger["born"])
    assert not missing.any()
    fill(chat, 2)
