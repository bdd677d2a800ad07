"""What tests of matching stand on: what is known, in memory and on disk, and a server without a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.known import MOST, Known, linked
from edge_sir.server.match import Match, match
from edge_sir.server.normal import ROOT, name_of, prompt_of, space_of
from edge_sir.server.stored import StoredKnown
from edge_sir.store import sessions
from edge_sir.store.database import Database
from edge_sir.store.files import Files
from edge_sir.store.folder import StateFolder
from edge_sir.store.layout import Layout
from edge_sir.store.nodes import NewNode, Node, Served


class Noted(Known, Protocol):
    """`Known`, and what takes what is to be known later."""

    def new_session(self) -> int: ...
    def begin(self, session: int, incoming: Incoming, fork_of: Node | None = None) -> int | None: ...
    def add(self, session: int, after: int | None, said: Sequence[tuple[int, Said]]) -> list[int]: ...
    def set_tip(self, session: int, tip: int | None) -> None: ...
    def set_prompt(self, session: int, incoming: Incoming) -> None: ...
    def name(self, namespace: str, node_key: str, node: int) -> None: ...


@dataclass
class MemoryKnown:
    """As `StoredKnown`, in dictionaries. n_looked: how often something was looked up."""

    nodes: dict[int, Node] = field(default_factory=dict)
    sessions: dict[int, Served] = field(default_factory=dict)
    names: dict[bytes, int] = field(default_factory=dict)
    chains: dict[tuple[bytes, bytes], list[int]] = field(default_factory=dict)
    contents: dict[tuple[bytes, bytes], dict[bytes, int]] = field(default_factory=dict)
    n_sessions: int = 0
    n_looked: int = 0

    def by_chain(self, space: bytes, chain: bytes) -> Sequence[Node]:
        self.n_looked += 1
        return [self.nodes[id] for id in self.chains.get((space, chain), [])[: -MOST - 1 : -1]]

    def replies(self, space: bytes, content: bytes) -> Sequence[Node]:
        self.n_looked += 1
        found = self.contents.get((space, content), {})
        return [self.nodes[found[chain]] for chain in sorted(found)[: MOST + 1]]

    def named(self, name: bytes) -> Node | None:
        return self.nodes.get(self.names.get(name, 0))

    def node(self, id: int) -> Node | None:
        self.n_looked += 1
        return self.nodes.get(id)

    def served(self, session: int) -> Served | None:
        return self.sessions.get(session)

    def new_session(self) -> int:
        self.n_sessions += 1
        return self.n_sessions

    def begin(self, session: int, incoming: Incoming, fork_of: Node | None = None) -> int | None:
        prompt = prompt_of(incoming.system, incoming.tools)
        space = space_of(incoming.namespace, incoming.session_key)
        self.sessions[session] = Served(session, space, prompt.exact, prompt.masked, None)
        if fork_of is None:
            return None
        path = path_of(self, fork_of)
        new = [NewNode(n.role, n.content, n.n_chars, n.chain, n.number) for n in path]
        return self._put(session, None, new)[-1]

    def add(self, session: int, after: int | None, said: Sequence[tuple[int, Said]]) -> list[int]:
        return self._put(session, after, linked(ROOT if after is None else self.nodes[after].chain, said))

    def _put(self, session: int, after: int | None, new: Sequence[NewNode]) -> list[int]:
        owner, ids, parent = self.sessions[session], [], after
        n_replies = 0 if after is None else self.nodes[after].n_replies
        for one in new:
            id = len(self.nodes) + 1
            n_replies += one.role == "assistant"
            rest = (one.role, one.content, one.n_chars, one.chain, n_replies, one.number)
            self.nodes[id] = Node(id, session, parent, *rest)
            self.chains.setdefault((owner.space, one.chain), []).append(id)
            if one.role == "assistant" and one.content is not None:
                self.contents.setdefault((owner.space, one.content), {}).setdefault(one.chain, id)
            parent = id
            ids.append(id)
        if ids:
            self.set_tip(session, ids[-1])
        return ids

    def set_tip(self, session: int, tip: int | None) -> None:
        self.sessions[session] = replace(self.sessions[session], tip=tip)

    def set_prompt(self, session: int, incoming: Incoming) -> None:
        prompt = prompt_of(incoming.system, incoming.tools)
        self.sessions[session] = replace(self.sessions[session], exact=prompt.exact, masked=prompt.masked)

    def name(self, namespace: str, node_key: str, node: int) -> None:
        self.names[name_of(namespace, node_key)] = node


class DiskKnown(StoredKnown):
    """With sessions of its own in the state folder. Its commits are not durable: nobody pulls a plug here."""

    def __init__(self, path: Path) -> None:
        StateFolder(path).close()
        self.database = Database(Layout(path), Files(), read_only=False)
        with self.database.alone() as connection:
            connection.execute("PRAGMA synchronous = OFF")
        super().__init__(self.database)
        self._n = 0

    def new_session(self) -> int:
        self._n += 1
        with self.database.writing() as transaction:
            return sessions.add(transaction.connection, f"s{self._n}", "toy", "f", "{}").id


def path_of(known: Known, node: Node | None) -> list[Node]:
    """From the beginning to that message."""
    nodes: list[Node] = []
    while node is not None:
        nodes.insert(0, node)
        node = None if node.parent is None else known.node(node.parent)
    return nodes


# ---- what is said ------------------------------------------------------------------------------


def user(text: str) -> Said:
    return Said("user", text)


def reply(text: str) -> Said:
    return Said("assistant", text)


def note(text: str) -> Said:
    return Said("system", text)


def long(text: str) -> str:
    """A reply that no other conversation has by chance."""
    return f"{text}: " + f"this is what I have to say about {text}, at some length. " * 3


@dataclass
class Server:
    """Answers requests with a given text, and keeps what `Match` says is to be kept.

    texts: what each node says, by id, so that a test sees which memory a client was given. n_said: the last number
    that a message got.
    """

    known: Noted
    namespace: str = "n"
    texts: dict[int, str] = field(default_factory=dict)
    n_said: int = 0

    def find(self, *said: Said, key: str = "", system: str = "", tools: str = "", **more: str) -> Match:
        """Only where the request goes on."""
        return match(self.incoming(said, key=key, system=system, tools=tools, **more), self.known)

    def incoming(self, said: Sequence[Said], key: str, system: str, tools: str = "", **more: str) -> Incoming:
        namespace = more.get("namespace", self.namespace)
        return Incoming(tuple(said), system, tools, namespace, session_key=key, node_key=more.get("node_key", ""))

    def ask(self, *said: Said, answer: Said | str | None, key: str = "", system: str = "", **more: str) -> Match:
        """A request and its reply; None where it failed before there was one. reply_key: names the reply."""
        incoming = self.incoming(said, key, system, **more)
        found = match(incoming, self.known)
        if found.kind == "scratch":
            return found
        new = list(found.new)
        if found.kind == "prefill":
            answer = reply(incoming.messages[-1].text + str(answer))
            found_at = found if new else self._before(found)
            session, after = self._open(found_at, incoming)
            new = new[:-1]
        else:
            session, after = self._open(found, incoming)
        if found.prompt == "changed":
            self.known.set_prompt(session, incoming)
        replied = [reply(answer) if isinstance(answer, str) else answer] if answer is not None else []
        self._add(session, after, [*new, *replied])
        owner = self.known.served(session)
        if "reply_key" in more and owner is not None and owner.tip is not None:
            self.known.name(incoming.namespace, more["reply_key"], owner.tip)
        return found

    def _before(self, found: Match) -> Match:
        """A reply that is known goes on: its message takes the place of the one that is there."""
        assert found.node is not None
        parent = None if found.node.parent is None else self.known.node(found.node.parent)
        return replace(found, node=parent, is_tip=False)

    def _open(self, found: Match, incoming: Incoming) -> tuple[int, int | None]:
        """The session that goes on, and behind which of its messages."""
        if found.node is not None and found.is_tip:
            return found.node.session, found.node.id
        session = self.known.new_session()
        after = self.known.begin(session, incoming, found.node)
        if after is not None:
            copies = zip(path_of(self.known, self.known.node(after)), path_of(self.known, found.node), strict=True)
            self.texts |= {copy.id: self.texts[node.id] for copy, node in copies}
        return session, after

    def _add(self, session: int, after: int | None, said: Sequence[Said]) -> None:
        ids = self.known.add(session, after, list(enumerate(said, self.n_said + 1)))
        self.n_said += len(said)
        self.texts |= {id: message.text for id, message in zip(ids, said, strict=True)}

    def held(self, found: Match) -> list[str]:
        """What the memory holds that a request goes on from."""
        return [self.texts[node.id] for node in path_of(self.known, found.node)]
