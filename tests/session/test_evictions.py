"""The one record of what left the cache. On the toy."""

import numpy as np
import pytest
from chatting import evict, fill, make_chat
from driving import EVICTING, n_evicted

from edge_sir.chat import Chat
from edge_sir.core.ledger import ROLES, UNSPOKEN
from edge_sir.core.records import Eviction
from edge_sir.errors import StateError
from edge_sir.memory.entries import entry_from_bytes, entry_to_bytes
from edge_sir.memory.evictions import KEPT, Entry, Evicted, EvictionLog, Forgotten, Restored, Rewound


def spoken(chat: Chat, turn: int) -> np.ndarray:
    ledger = chat.session.ledger
    return (ledger["turn"] == turn) & ~np.isin(ledger["role"], UNSPOKEN)


@pytest.mark.parametrize("policy", EVICTING)
def test_every_row_that_left_is_in_it_once_with_its_message(policy: str) -> None:
    events: list[Eviction] = []
    chat = make_chat(["<think>Well.</think>Hello."], budget=200, policy=policy, on_evict=events.append)
    fill(chat, 10)
    entries = [entry for entry in chat.evictions if isinstance(entry, Evicted)]
    assert len(entries) == len(events) == len(chat.evictions)
    for entry, event in zip(entries, events, strict=True):
        assert (entry.why, entry.turn_now) == (event.why, event.turn_now)
        assert sum(loss.n_tokens for loss in entry.losses) == len(event)
        assert all(np.array_equal(entry.columns[name], event.columns[name]) for name in ("born", "message", "turn"))
    assert sum(len(e.columns["born"]) for e in entries) == n_evicted(events)
    texts = {m.id: m.text for m in chat.transcript}
    words = chat.evictions.words()
    said = {number: bytes(words["token"][words["message"] == number].tolist()) for number in words["message"].tolist()}
    assert said and all(set(letters) <= set(texts[number].encode()) for number, letters in said.items())
    assert len(words["born"]) == chat.evictions.n_evicted > 0


def test_a_turn_s_number_that_is_used_again_has_not_lost_what_the_one_before_had() -> None:
    chat = make_chat(["Fine."] * 4)
    chat.reply("Hello there.")
    chat.reply("My name is Ada.")
    evict(chat, spoken(chat, 2))
    evict(chat, spoken(chat, 1) & (chat.session.ledger["role"] == ROLES.index("user")))
    before = list(chat.evictions)
    chat.undo()
    chat.reply("My name is Eve.")
    assert chat.session.turn == 2 and 2 not in chat.evictions.losses()
    (loss,) = chat.evictions.losses()[1]
    assert (loss.turn_now, loss.undone, loss.when) == (2, True, "a turn that was taken back")
    evict(chat, spoken(chat, 2))
    assert [loss.undone for loss in chat.evictions.losses()[2]] == [False]
    entries = list(chat.evictions)
    assert len(entries) == len(before) + 2 and entries[2] == Rewound(2)
    assert isinstance(entries[0], Evicted) and isinstance(before[0], Evicted)
    assert entries[0].losses == before[0].losses  # nothing is taken out but the words
    assert (entries[0].columns["token"] == -1).all() and (before[0].columns["token"] != -1).any()
    assert set(chat.evictions.words()["turn"].tolist()) == {1, 2}


def test_a_reader_goes_on_where_it_was_also_after_a_new_conversation() -> None:
    chat = make_chat(["Fine."] * 4)
    chat.reply("Hello there.")
    evict(chat, spoken(chat, 1))
    at = len(chat.evictions)
    assert chat.evictions.since(at) == [] and len(chat.evictions.since(at - 1)) == 1
    chat.clear()
    assert len(chat.evictions) >= at and list(chat.evictions.since(0)) == []
    chat.reply("And you?")
    evict(chat, spoken(chat, 1))
    assert len(chat.evictions.since(at)) == 1 and chat.evictions.n_evicted == len("And you?Fine.")


def test_forgetting_adds_an_entry_and_no_word() -> None:
    chat = make_chat(["Fine."] * 2)
    chat.reply("My name is Ada. Mind it.")
    evict(chat, spoken(chat, 1) & (np.arange(len(chat.session.ledger)) % 2 == 0))
    born = chat.evictions.words()["born"]
    chat.forget("Ada")
    *_, resident, request = chat.evictions
    assert request == Forgotten(1, 1, 1) and chat.evictions.forgotten() == (request,)
    assert isinstance(resident, Evicted) and resident.why == "forgotten" and (resident.columns["token"] == -1).all()
    left = chat.evictions.words()
    assert set(left["born"].tolist()) < set(born.tolist())
    assert not set(b"Mynae") & set(left["token"].tolist()) - set(b" Mind it.Fine.")


# ---- as bytes --------------------------------------------------------------------------------------


def values(entry: Entry) -> tuple[object, ...]:
    """An entry as plain values, which compare."""
    match entry:
        case Evicted():
            return entry.why, entry.turn_now, entry.losses, [entry.columns[name].tolist() for name in KEPT]
        case Restored():
            return entry.why, entry.born.tolist()
        case _:
            return (entry,)


@pytest.mark.parametrize("policy", EVICTING)
def test_entries_come_back_from_their_bytes(policy: str) -> None:
    chat = make_chat(["<think>Well.</think>Hello."], budget=200, policy=policy)
    fill(chat, 10)
    chat.undo()
    log, whole = EvictionLog(), list(chat.evictions)
    whole += [Forgotten(3, 5, None, undone=True), Forgotten(3, 5, 2), Restored("undo", np.array([4, 9]))]
    assert {type(entry) for entry in whole} == {Evicted, Rewound, Forgotten, Restored}
    log.load(entry_from_bytes(entry_to_bytes(entry)) for entry in whole)
    assert [values(entry) for entry in log] == [values(entry) for entry in whole]


def test_bytes_of_another_kind_are_no_entry() -> None:
    for entry in (Forgotten(True, 5, None), Forgotten(3, 5, "two"), Rewound(1 << 63)):  # type: ignore[arg-type]
        with pytest.raises(StateError, match="no entry of a log"):
            entry_from_bytes(entry_to_bytes(entry))
