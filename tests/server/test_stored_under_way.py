"""Stored conversations step by step: swapped, cancelled, failed, interrupted; no HTTP in between."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stored_toy import ANSWERING, ToyModels, asking, conversations, said_tokens

from edge_sir.errors import BudgetError, EngineError, SessionBusyError, StoreError
from edge_sir.server.asked import Asked
from edge_sir.server.conversations import Answering
from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.outcome import Outcome
from edge_sir.server.stored_conversations import StoredConversations
from edge_sir.server.terms import ReplyTerms
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore

A, B, C = "My name is Ada.", "What is a monad?", "And a functor?"
R1, R2 = "one, which is what I have to say, " * 4, "two, which is what I have to say, " * 4


@dataclass
class Home:
    path: Path
    models: ToyModels = field(default_factory=ToyModels)
    options: dict[str, Any] = field(default_factory=dict)
    home: StoredConversations | None = None

    def open(self, n_live: int = 4, **options: Any) -> StoredConversations:
        self.options = options or self.options
        self.home = conversations(self.path, self.models, n_live, **self.options)
        return self.home

    def close(self) -> None:
        if self.home is not None:
            self.home.close()
            self.home = None

    def begin(self, *texts: str, reply: str = "", n: int = 1, system: str = "", **more: Any) -> Answering | None:
        assert self.home is not None
        if reply:
            self.models.says(reply)
        return self.home.begin(asked(*texts, n=n, system=system, **more))

    def ask(self, *texts: str, **more: Any) -> tuple[str, str, Outcome]:
        answering = self.begin(*texts, **more)
        assert answering is not None
        return answering.match, answering.session, finish(answering)


def asked(*texts: str, n: int = 1, system: str = "", **more: Any) -> Asked:
    messages = tuple(Said("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    return Asked(Incoming(messages, system, "", "ns", **more), ReplyTerms(max_tokens=200, n=n))


def finish(answering: Answering) -> Outcome:
    while answering.step() is not None:
        pass
    return answering.outcome()


def shown(answering: Answering, n: int) -> str:
    """What a client was sent in so many steps."""
    bits = itertools.chain.from_iterable(answering.step() or () for _ in range(n))
    return "".join(bit.text for bit in bits)


def said(home: StoredConversations, name: str) -> list[str]:
    with home._folder.open(name, read_only=True) as store:
        return [row.message.text for row in store.read().path]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "state")
    home.open()
    yield home
    home.close()


# ---- a few live, the others on disk ----------------------------------------------------------------


def test_a_session_that_was_swapped_out_goes_on_and_reads_nothing_again(home: Home) -> None:
    home.close()
    home.open(n_live=1)
    names, histories = [], [[f"I am number {i}."] for i in range(5)]
    for turn in range(3):
        for i, history in enumerate(histories):
            reply = f"reply {turn} to {i}, and so on and so forth"
            match, name, outcome = home.ask(*history, reply=reply)
            assert (match, outcome.n_read) == (
                ("exact", asking(history[-1])) if turn else ("new", 1 + asking(history[-1]))
            )
            names.append(name)
            history += [reply, f"question {turn} of {i}"]
    assert len(set(names)) == 5 and names[:5] == names[5:10] == names[10:]
    assert len(home.models.made) == 1  # all of them in one context


def test_the_one_that_was_used_least_recently_makes_room(home: Home) -> None:
    home.close()
    opened = home.open(n_live=2)
    for text in ("a", "b"):
        home.ask(text, reply=R1)
    home.ask("a", R1, "again", reply=R2)
    home.ask("c", reply=R1)
    assert {live.held[0][1] for live in opened.sessions} == {"user"}
    assert [live.chat.transcript.of(1)[0].text for live in opened.sessions] == ["a", "c"]


def test_requests_wait_while_all_places_are_taken(home: Home) -> None:
    home.close()
    home.open(n_live=1)
    first = home.begin("a", reply=R1)
    assert first is not None and home.begin("b") is None
    finish(first)
    assert home.begin("b") is not None


def test_a_second_request_on_the_same_conversation_waits(home: Home) -> None:
    home.ask(A, reply=R1)
    first = home.begin(A, R1, B, reply=R2)
    assert first is not None and home.begin(A, R1, C) is None and home.begin("else") is not None
    finish(first)
    fork = home.begin(A, R1, C)
    assert fork is not None and fork.match == "fork"


def test_one_request_at_a_time_beside_all_conversations(home: Home) -> None:
    task = asked("### Task: x <chat_history>")
    assert home.home is not None
    home.models.says("A title", "A title")
    first = home.home.begin(task)
    assert first is not None and home.home.begin(task) is None
    assert finish(first).choices[0].text == "A title"
    assert home.home.begin(task) is not None


def test_another_process_has_the_session(home: Home) -> None:
    _, name, _ = home.ask(A, reply=R1)
    home.close()
    opened = home.open()
    with StateFolder(home.path) as folder, folder.open(name), pytest.raises(SessionBusyError):
        home.begin(A, R1, B)
    assert home.ask(A, R1, B, reply=R2)[0] == "exact" and opened.sessions.n_live == 1


# ---- cancelled -----------------------------------------------------------------------------------


def test_a_reply_that_is_cut_stays_as_far_as_it_was_sent(home: Home) -> None:
    home.ask(A, reply=R1)
    answering = home.begin(A, R1, B, reply=R2)
    assert answering is not None
    text = shown(answering, 14).strip()
    answering.cancel()
    steps = sum(1 for _ in iter(answering.step, None))
    outcome = answering.outcome()
    assert steps <= 2 and outcome.choices[0].finish == "cancelled"
    assert R2.startswith(text) and outcome.choices[0].text == text
    match, name, outcome = home.ask(A, R1, B, text, C, reply="ok")
    assert (match, outcome.n_read) == ("exact", asking(C))
    assert said(home.home, name) == [A, R1.strip(), B, text, C, "ok"]  # type: ignore[arg-type]


def test_a_client_that_got_less_of_a_cut_reply_than_was_written(home: Home) -> None:
    home.ask(A, reply=R1)
    answering = home.begin(A, R1, B, reply=R2)
    assert answering is not None
    shown(answering, 20)
    answering.cancel()
    finish(answering)
    match, name, outcome = home.ask(A, R1, B, R2[:9], C, reply="ok")
    assert (match, outcome.n_read) == ("fork", said_tokens("assistant", R2[:9]) + asking(C))
    assert said(home.home, name)[-4:] == [B, R2[:9], C, "ok"]  # type: ignore[arg-type]


def test_a_request_that_is_cancelled_while_it_is_read_stops_at_once_and_goes_on_when_it_comes_again(home: Home) -> None:
    home.ask(A, reply=R1)
    text = "a long paste " * 60
    n_decodes = -(-said_tokens("user", text) // 64)
    answering = home.begin(A, R1, text, reply=R2)
    assert answering is not None
    shown(answering, n_decodes // 2)
    answering.cancel()
    assert answering.step() is None and answering.outcome().choices[0].finish == "cancelled"
    match, name, outcome = home.ask(A, R1, text)
    assert match == "exact" and outcome.n_read == asking(text) - 64 * (n_decodes // 2)
    assert outcome.choices[0].text == R2.strip()
    assert said(home.home, name) == [A, R1.strip(), text, R2.strip()]  # type: ignore[arg-type]


def test_another_request_after_one_that_was_cancelled_while_it_was_read(home: Home) -> None:
    _, _, first = home.ask(A, reply=R1)
    answering = home.begin(A, R1, "a long paste " * 60)
    assert answering is not None
    shown(answering, 4)
    answering.cancel()
    assert answering.step() is None
    match, name, outcome = home.ask(A, R1, B, reply=R2)
    assert (match, outcome.n_read, outcome.n_held) == ("exact", asking(B), first.resident)
    assert said(home.home, name) == [A, R1.strip(), B, R2.strip()]  # type: ignore[arg-type]


def test_of_a_new_conversation_that_was_cancelled_nothing_stays(home: Home) -> None:
    answering = home.begin("a long paste " * 60)
    assert answering is not None and home.home is not None
    shown(answering, 3)
    answering.cancel()
    assert answering.step() is None
    home.close()
    home.open()
    assert home.home is not None and home.home._folder.names() == []


def test_an_import_that_is_cancelled_goes_on_where_it_was(home: Home) -> None:
    history = [f"message number {i} of many" for i in range(21)]
    whole = 1 + sum(said_tokens("assistant" if i % 2 else "user", text) for i, text in enumerate(history)) + ANSWERING
    answering = home.begin(*history, reply=R1)
    assert answering is not None
    shown(answering, 10)
    answering.cancel()
    assert answering.step() is None
    match, _, outcome = home.ask(*history)
    assert match == "new" and outcome.n_held + outcome.n_read == whole and outcome.n_held > 300


def test_several_replies_of_which_the_second_is_cut(home: Home) -> None:
    home.models.says(R1, R2)
    answering = home.begin(A, n=3)
    assert answering is not None
    while not any(bit.choice == 1 for bit in answering.step() or ()):
        pass
    answering.cancel()
    outcome = finish(answering)
    assert len(outcome.choices) == 2 and outcome.choices[0].text == R1.strip()
    assert home.ask(A, R1, B, reply="ok")[2].n_read == said_tokens("assistant", R1.strip()) + asking(B)


# ---- failed --------------------------------------------------------------------------------------


def test_after_an_engine_failed_the_session_goes_on_from_disk_in_another_context(home: Home) -> None:
    home.ask(A, reply=R1)
    answering = home.begin(A, R1, B, reply=R2)
    assert answering is not None
    shown(answering, 5)
    home.models.made[-1].fail_next = EngineError("it broke")
    with pytest.raises(EngineError):
        finish(answering)
    match, name, outcome = home.ask(A, R1, B, reply=R2)
    assert (match, outcome.n_read) == ("exact", asking(B)) and home.models.n_closed == 1
    assert said(home.home, name) == [A, R1.strip(), B, R2.strip()]  # type: ignore[arg-type]


def test_of_a_new_conversation_that_failed_nothing_stays(home: Home) -> None:
    answering = home.begin(A, reply=R1)
    assert answering is not None and home.home is not None
    home.models.made[-1].fail_next = EngineError("it broke")
    with pytest.raises(EngineError):
        finish(answering)
    assert home.home._folder.names() == [] and home.home.sessions.n_live == 0
    assert home.ask(A, reply=R1)[0] == "new"


def test_a_failure_beside_all_conversations(home: Home) -> None:
    for _ in range(2):
        answering = home.begin("### Task: x <chat_history>", reply="ok")
        assert answering is not None
        home.models.made[-1].fail_next = EngineError("it broke")
        with pytest.raises(EngineError):
            finish(answering)
    assert home.ask("### Task: x <chat_history>", reply="ok")[2].choices[0].text == "ok"


# ---- restarted -----------------------------------------------------------------------------------


def test_a_conversation_goes_on_after_a_restart(home: Home) -> None:
    _, name, first = home.ask(A, reply=R1, system="Be kind.")
    home.close()
    home.open()
    match, again, outcome = home.ask(A, R1, B, reply=R2, system="Be kind.")
    assert (match, again, outcome.n_read, outcome.n_held) == ("exact", name, asking(B), first.resident)


def test_a_smaller_budget_after_a_restart(home: Home) -> None:
    home.ask(A, reply=R1)
    home.close()
    home.open(budget=192)
    match, _, outcome = home.ask(A, R1, B, reply="ok")
    assert match == "exact" and outcome.resident <= 192


def die(home: Home) -> None:
    """What the end of its process leaves: locks are free, and nothing is written."""
    assert home.home is not None
    for live in home.home.sessions:
        live.chat.owner.before_leaving = None
        live.saver.store.close()
    database = home.home._folder._database
    database._connection.close()
    database.owner.over = "its process has ended"
    home.home = None


@pytest.mark.parametrize("n_steps", [0, 1, 3, 20, 1000])
def test_a_process_that_dies_in_the_middle_of_a_request(home: Home, n_steps: int) -> None:
    home.ask(A, reply=R1)
    answering = home.begin(A, R1, B, reply=R2)
    assert answering is not None
    is_done = any(answering.step() is None for _ in range(n_steps))
    die(home)
    home.open()
    if is_done:
        match, name, outcome = home.ask(A, R1, B, R2, C, reply="ok")
        assert (match, outcome.n_read) == ("exact", asking(C))
    else:
        match, name, outcome = home.ask(A, R1, B, reply=R2)
        assert (match, outcome.n_read) == ("exact", asking(B))
    assert said(home.home, name)[:4] == [A, R1.strip(), B, R2.strip()]  # type: ignore[arg-type]


def test_a_process_that_dies_after_a_copy_was_made_and_before_it_went_back(home: Home) -> None:
    """The copy has the cells of what came later, and must not show them."""
    home.ask(A, reply=R1)
    home.ask(A, R1, B, reply=R2)
    home.ask(A, R1, B, R2, C, reply=R1)
    fork = home.begin(A, R1, "else", reply="ok")
    assert fork is not None
    die(home)
    opened = home.open()
    match, name, outcome = home.ask(A, R1, "else", reply="ok")
    assert match in ("exact", "fork") and outcome.n_read == asking("else")
    assert said(opened, name) == [A, R1.strip(), "else", "ok"]
    (live,) = opened.sessions
    tokens = bytes(min(t, 255) for t in live.chat.session.ledger["token"].tolist())
    assert B.encode() not in tokens and b"two" not in tokens


def test_of_a_new_conversation_that_was_killed_nothing_stays(home: Home) -> None:
    answering = home.begin(A, reply=R1)
    assert answering is not None and home.home is not None
    shown(answering, 3)
    assert len(home.home._folder.names()) == 1
    die(home)
    assert home.open()._folder.names() == []


def test_where_memory_holds_fewer_contexts_fewer_sessions_are_live(home: Home) -> None:
    opened, make = home.home, home.models.open_engine

    def open_engine(n_cells: int) -> Any:
        if len(home.models.made) == 2:
            raise BudgetError("no memory for one more; close something")
        return make(n_cells)

    home.models.open_engine = open_engine  # type: ignore[method-assign]
    for text in ("a", "b", "c", "d"):
        assert home.ask(text, reply=R1)[0] == "new"
    assert opened is not None and opened.sessions.n_live == 2 and len(opened._folder.names()) == 4
    assert home.ask("a", R1, B, reply=R2)[2].n_read == asking(B)


def test_a_disk_that_fails_loses_no_conversation(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is written all the same, and is saved with the next one."""
    home.ask(A, reply=R1)
    with monkeypatch.context() as patched:
        patched.setattr(SessionStore, "write", _fail(StoreError("the disk is full; free some space")))
        _, name, outcome = home.ask(A, R1, B, reply=R2)
        assert outcome.choices[0].text == R2.strip()
    match, again, outcome = home.ask(A, R1, B, R2, C, reply="ok")
    assert (match, again, outcome.n_read) == ("exact", name, asking(C))
    assert said(home.home, name) == [A, R1.strip(), B, R2.strip(), C, "ok"]  # type: ignore[arg-type]
    assert home.ask(A, R1, B, R2, C, "ok", A, reply="yes")[0] == "exact"


def _fail(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# ---- what was evicted ------------------------------------------------------------------------------


@pytest.mark.parametrize(("recall", "kind"), [("cells", "fork"), ("off", "rebuilt")])
def test_a_fork_has_again_what_was_evicted_since(home: Home, recall: str, kind: str) -> None:
    home.close()
    home.open(budget=420, recall=recall)
    history, held = [A], list[int]()
    for animal in ("elephant", "giraffe", "marmot", "heron", "lynx", "zebra"):
        reply = f"The {animal} walks through the {animal}'s house, and {animal}s everywhere follow the {animal}."
        outcome = home.ask(*history, reply=reply)[2]
        held.append(outcome.resident)
        history += [reply, f"What of the {animal}'s friends?"]
    assert outcome.evicted
    answering = home.begin(*history[:4], "else", reply="ok")
    assert answering is not None and answering.match == kind
    outcome = finish(answering)
    assert (outcome.n_held == held[1]) == (recall == "cells")


# ---- at rest ---------------------------------------------------------------------------------------


def test_cells_are_written_once_nobody_used_them_for_a_while(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill nothing is decoded again then."""
    opened = home.home
    assert opened is not None and opened.rest() is None
    _, name, _ = home.ask(A, reply=R1)
    wait_s = opened.rest()
    assert wait_s is not None and 20 < wait_s <= 30
    monkeypatch.setattr("edge_sir.server.sessions._IDLE_S", 0.0)
    assert opened.rest() == 0.0 and opened.rest() is None
    with opened._folder.open(name, read_only=True) as store:
        assert [row.record for row in store.snapshots()] == [store.info.record]
    assert home.ask(A, R1, B, reply=R2)[2].n_read == asking(B)
    assert opened.rest() == 0.0
