"""Digests by which the server finds sessions: what becomes of them, and how they are looked up."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from store.parts import on_disk

from edge_sir.errors import ConfigError
from edge_sir.store import nodes, sessions
from edge_sir.store.database import Database
from edge_sir.store.files import Files
from edge_sir.store.folder import StateFolder
from edge_sir.store.layout import Layout
from edge_sir.store.nodes import NewNode

SPACE = b"s" * 16


def digest(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def messages(*texts: str, begin: int = 1) -> list[NewNode]:
    """A user's and a reply, one after the other, each chain made of its own number."""
    roles = ("user", "assistant")
    return [NewNode(roles[i % 2], digest(t), len(t), digest("chain", i, t), begin + i) for i, t in enumerate(texts)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    StateFolder(tmp_path / "state").close()
    with closing(Database(Layout(tmp_path / "state"), Files(), read_only=False)) as database:
        yield database


def new_session(connection: sqlite3.Connection, name: str) -> int:
    id = sessions.add(connection, name, "toy", "f", "{}").id
    nodes.begin(connection, id, SPACE, b"exact", b"masked")
    return id


def test_a_session_is_a_tree_with_a_tip(database: Database) -> None:
    with database.writing() as transaction:
        connection = transaction.connection
        id = new_session(connection, "ada")
        first = nodes.add(connection, id, None, messages("a", "b"))
        second = nodes.add(connection, id, first[-1], messages("c", "d"))
        other = nodes.add(connection, id, second[0], messages("e")[:1])
        assert nodes.served(connection, id) == nodes.Served(id, SPACE, b"exact", b"masked", other[-1])
        path = nodes.path(connection, second[-1])
        assert [node.id for node in path] == [*first, *second]
        assert [(node.parent, node.n_replies) for node in path] == [(None, 0), (1, 1), (2, 1), (3, 2)]
        nodes.set_tip(connection, id, second[-1])
        found = nodes.served(connection, id)
        assert found is not None and found.tip == second[-1]
        for session, after in ((id, 99), (99, None)):
            with pytest.raises(ValueError, match="has no message"):
                nodes.add(connection, session, after, messages("x"))


def test_a_fork_stands_alone(database: Database, tmp_path: Path) -> None:
    """It copies what it goes on from, so the session that it came from can be removed, and takes its names along."""
    with database.writing() as transaction:
        connection = transaction.connection
        ids = nodes.add(connection, new_session(connection, "ada"), None, messages("a", "b", "c", "d"))
        nodes.name(connection, b"of ada", ids[1])
        fork = new_session(connection, "fork")
        tip = nodes.fork(connection, fork, ids[1])
        nodes.name(connection, b"of the fork", tip)
        assert [node.id for node in nodes.by_chain(connection, SPACE, messages("a", "b")[1].chain, 9)] == [tip, ids[1]]
        with pytest.raises(ValueError, match="no message"):
            nodes.fork(connection, fork, 99)
    with StateFolder(tmp_path / "state") as folder:
        folder.remove("ada")
        assert folder.verify() == []
    with database.reading() as connection:
        assert [node.number for node in nodes.path(connection, tip)] == [1, 2]
        assert nodes.by_name(connection, b"of ada") is None and nodes.by_id(connection, ids[0]) is None
        found = nodes.by_name(connection, b"of the fork")
        assert found is not None and found.id == tip
        assert nodes.by_chain(connection, SPACE, messages("a", "b", "c")[2].chain, 9) == []


def test_replies_come_once_for_each_chain(database: Database) -> None:
    with database.writing() as transaction:
        connection = transaction.connection
        ids = []
        for name, text in (("one", "a"), ("two", "a"), ("three", "b")):
            said = [*messages(text), NewNode("assistant", digest("ok"), 2, digest("chain", text, "ok"), 2)]
            ids.append(nodes.add(connection, new_session(connection, name), None, said)[-1])
        assert sorted(node.id for node in nodes.replies(connection, SPACE, digest("ok"), 9)) == [ids[0], ids[2]]
        assert len(nodes.replies(connection, SPACE, digest("ok"), 1)) == 1
        assert nodes.replies(connection, SPACE, digest("a"), 9) == []  # a user's


def test_a_name_moves_to_the_message_that_it_is_given_to(database: Database) -> None:
    with database.writing() as transaction:
        connection = transaction.connection
        ids = nodes.add(connection, new_session(connection, "ada"), None, messages("a", "b"))
        for id in ids:
            nodes.name(connection, b"name", id)
            found = nodes.by_name(connection, b"name")
            assert found is not None and found.id == id


def test_what_is_forgotten_leaves_no_digest(database: Database, tmp_path: Path) -> None:
    said = messages("a", "b", "PIN 4711", "d", "e")
    with database.writing() as transaction:
        id = new_session(transaction.connection, "ada")
        ids = nodes.add(transaction.connection, id, None, said)
    with database.writing() as transaction:
        transaction.scrubs = True
        nodes.forget(transaction.connection, id, [3])
    with database.reading() as connection:
        path = nodes.path(connection, ids[-1])
        assert [node.content for node in path] == [digest("a"), digest("b"), None, digest("d"), digest("e")]
        assert [node.n_chars for node in path] == [1, 1, 0, 1, 1]
        assert [node.chain == one.chain for node, one in zip(path, said, strict=True)] == [True, True] + [False] * 3
        assert len({node.chain for node in path}) == 5
    assert on_disk(tmp_path, said[0].content or b"") != []
    for left in [said[2].content or b"", *(one.chain for one in said[2:])]:
        assert on_disk(tmp_path, left) == []


def test_a_session_that_begins_anew_leads_nowhere(database: Database) -> None:
    with database.writing() as transaction:
        connection = transaction.connection
        id = new_session(connection, "ada")
        ids = nodes.add(connection, id, None, messages("a", "b"))
        nodes.clear(connection, id)
        nodes.set_prompt(connection, id, b"other", b"one")
        assert nodes.by_id(connection, ids[0]) is None
        assert nodes.served(connection, id) == nodes.Served(id, SPACE, b"other", b"one", None)


def test_a_session_of_the_store_is_not_one_of_the_server(database: Database) -> None:
    with database.writing() as transaction:
        id = sessions.add(transaction.connection, "ada", "toy", "f", "{}").id
        assert nodes.served(transaction.connection, id) is None
        with pytest.raises(ValueError, match="has no message"):
            nodes.add(transaction.connection, id, None, messages("a"))


def test_nothing_is_noted_in_a_folder_that_is_only_read(database: Database, tmp_path: Path) -> None:
    reader = Database(Layout(tmp_path / "state"), Files(), read_only=True)
    with closing(reader), pytest.raises(ConfigError, match="read-only"), reader.writing():
        pass


def test_every_look_up_goes_by_an_index(database: Database) -> None:
    """None reads a table, or sorts, so that none takes longer the more sessions there are."""
    asked: list[str] = []
    with database.alone() as connection:
        connection.set_trace_callback(asked.append)
        nodes.by_id(connection, 1)
        nodes.by_chain(connection, SPACE, b"c", 9)
        nodes.replies(connection, SPACE, b"c", 9)
        nodes.by_name(connection, b"n")
        nodes.served(connection, 1)
        nodes.clear(connection, 1)
        connection.execute("DELETE FROM sessions WHERE id = 1")
        connection.set_trace_callback(None)
        asked = [query for query in asked if query.startswith(("SELECT", "DELETE"))]
        assert len(asked) >= 7
        for query in asked:
            plan = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert plan and not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step], (query, plan)
