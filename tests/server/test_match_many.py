"""Ten thousand sessions, and whole days of one: what a request costs, counted in look-ups."""

from collections import Counter
from typing import Any

import pytest
from server.knowing import DiskKnown, MemoryKnown, Server, long, reply, user

from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.known import linked
from edge_sir.server.match import match
from edge_sir.server.normal import ROOT, prompt_of, space_of
from edge_sir.store import nodes, sessions

N = 10_000
HELLO, WELCOME = user("Hello"), reply("Hello! How can I help you today?")


def history(i: int) -> list[Said]:
    return [HELLO, WELCOME, user(f"question {i}"), reply(long(f"answer {i}"))]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All begin with the same words."""
    known = DiskKnown(tmp_path_factory.mktemp("many") / "state")
    prompt, space = prompt_of("", ""), space_of("n", "")
    with known.database.writing() as transaction:
        connection = transaction.connection
        for i in range(N):
            id = sessions.add(connection, f"many {i}", "toy", "f", "{}").id
            nodes.begin(connection, id, space, prompt.exact, prompt.masked)
            nodes.add(connection, id, None, linked(ROOT, enumerate(history(i), 1)))
    yield known
    known.database.close()


def steps(known: DiskKnown, *said: Said) -> tuple[str, int]:
    """Where a request goes on, and how many thousand steps of SQLite's machine that takes."""
    counted: Counter[str] = Counter()
    with known.database.alone() as connection:
        connection.set_progress_handler(lambda: counted.update("n"), 1000)
    found = match(Incoming(said, "", "", "n"), known)
    with known.database.alone() as connection:
        connection.set_progress_handler(None, 0)
    return found.kind, counted["n"]


@pytest.mark.parametrize("i", [0, N // 2, N - 1])
def test_each_of_many_sessions_is_found(known: DiskKnown, i: int) -> None:
    next_ = user("next")
    for sent, kind in (
        ([*history(i), next_], "exact"),
        ([*history(i)[2:], next_], "anchor"),
        ([user("Hi"), *history(i)[1:], next_], "anchor"),
        ([HELLO, WELCOME, next_], "fork"),
        ([HELLO], "retry"),
        ([*history(i)[:3]], "retry"),
        ([user("Hi"), WELCOME, next_], "new"),
    ):
        found, n = steps(known, *sent)
        assert found == kind and n <= 10, (kind, n)
    found = match(Incoming((*history(i), next_), "", "", "n"), known)
    assert found.is_tip and found.node is not None and found.node.session == i + 1


def a_day(n_turns: int) -> tuple[Server, list[Said]]:
    server, said = Server(MemoryKnown()), list[Said]()
    for i in range(n_turns):
        said += [user(f"question {i}"), reply(long(f"answer {i}") if i % 3 else "ok")]
    server.ask(*said, user("last"), answer=None)
    return server, said


def looked(server: Server, *said: Said) -> int:
    assert isinstance(server.known, MemoryKnown)
    server.known.n_looked = 0
    server.find(*said)
    return server.known.n_looked


def test_a_long_conversation_takes_few_look_ups_as_it_is() -> None:
    server, said = a_day(1000)
    assert looked(server, *said, user("next")) < 20
    assert looked(server, *said) < 20
    assert looked(server, user("elsewhere"), user("next")) < 20


@pytest.mark.parametrize("place", [0, 1, 3, 1500, 1999])
def test_whatever_is_changed_the_way_back_is_walked_a_few_times_at_most(place: int) -> None:
    server, said = a_day(1000)
    changed = list(said)
    changed[place] = Said(said[place].role, "changed")
    assert looked(server, user("front"), *changed, user("next")) < 2 * len(said)
    assert looked(server, *changed, user("next")) < 2 * len(said)


def test_many_conversations_with_the_same_replies_take_a_bounded_time() -> None:
    """A quiz whose answers are always the same: none of them is one's own."""
    server = Server(MemoryKnown())
    replies = [reply(f"answer {i}") for i in range(60)]
    for name in range(25):
        said = list[Said]()
        for i, answer in enumerate(replies):
            said.append(user(f"{name} asks {i}"))
            server.ask(*said, answer=answer)
            said.append(answer)
    said = [m for i, answer in enumerate(replies) for m in (user(f"somebody asks {i}"), answer)]
    assert server.find(*said, user("next")).kind == "new"
    assert looked(server, *said, user("next")) < 8 * 26 * len(said)
