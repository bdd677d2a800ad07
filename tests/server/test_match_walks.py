"""Clients that change their histories as they like never get what is not theirs."""

import itertools
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server.knowing import MemoryKnown, Server, long, note, path_of, reply, user

from edge_sir.server.incoming import Said
from edge_sir.server.match import Match

SHORT = ("ok", "yes", "no")


@dataclass
class Client:
    """One person's chat. received: every reply that it was ever sent, or sent itself; these it may be given again."""

    name: str
    namespace: str
    key: str
    draw: random.Random
    serial: "itertools.count[int]"
    history: list[Said] = field(default_factory=list)
    received: set[str] = field(default_factory=set)

    def change(self) -> None:
        """Does to its history what clients do."""
        at = self.draw.randrange(len(self.history)) if self.history else 0
        what = self.draw.choice(["nothing"] * 4 + ["edit", "delete", "trim", "rewind", "insert", "cut", "swap"])
        if not self.history or what == "nothing":
            return
        if what == "edit":
            self.history[at] = replace(self.history[at], text=self._text(self.history[at].role))
        elif what == "delete":
            del self.history[at : at + 2]
        elif what == "trim":
            del self.history[:at]
        elif what == "rewind":
            del self.history[at:]
        elif what == "insert":
            self.history.insert(at, note(f"note of {self.name}"))
        elif what == "cut":
            self.history[at] = replace(self.history[at], text=self.history[at].text[: self.draw.randrange(1, 100)])
        else:
            other = self.draw.randrange(len(self.history))
            self.history[at], self.history[other] = self.history[other], self.history[at]

    def ask(self, server: Server) -> tuple[Match, list[Said], str]:
        """One request; what was sent, and which reply came."""
        if not self.history or self.history[-1].role != "user":
            self.history.append(user(self._text("user")))
        sent = list(self.history)
        self.received |= {flat(said.text) for said in sent if said.role == "assistant"}
        answer = self._text("assistant")
        found = server.ask(*sent, answer=answer, key=self.key, namespace=self.namespace)
        self.received.add(flat(answer))
        if self.draw.random() < 0.85:  # else it asks again
            self.history.append(reply(answer))
        return found, sent, answer

    def _text(self, role: str) -> str:
        if self.draw.random() < 0.4:
            return self.draw.choice(SHORT)
        text = f"{self.name} {next(self.serial)}"
        return long(text) if role == "assistant" else text


NAMES = ("n1a", "n1b", "n2a", "n2b")


def clients(seed: int, keys: bool) -> list[Client]:
    """Two people with two chats each."""
    draw, serial = random.Random(seed), itertools.count()
    return [Client(name, name[:2], name[2:] if keys else "", draw, serial) for name in NAMES]


def walk(seed: int, keys: bool) -> list[tuple[Match, list[Said], Client, list[str], list[str]]]:
    """Requests, each with what the memory holds that it was given: replies, and all of it."""
    server, everyone, steps = Server(MemoryKnown()), clients(seed, keys), []
    for _ in range(40):
        client = everyone[0].draw.choice(everyone)
        client.change()
        found, sent, _ = client.ask(server)
        path = path_of(server.known, found.node)
        replies = [flat(server.texts[node.id]) for node in path if node.role == "assistant"]
        steps.append((found, sent, client, replies, [flat(server.texts[node.id]) for node in path]))
    return steps


def flat(text: str) -> str:
    return " ".join(text.split())


SEEDS = st.integers(0, 2**32)
WALKS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("keys", [False, True])
@WALKS
@given(seed=SEEDS)
def test_nobody_gets_what_is_anothers(keys: bool, seed: int) -> None:
    """Neither another person's, nor what is said in another chat of the same person."""
    for found, _, client, replies, texts in walk(seed, keys):
        assert not [text for text in texts for other in NAMES if other != client.name and other in text]
        assert {text for text in replies if len(text) > 3} <= client.received
        assert (found.node is None) == (found.kind == "new")


@WALKS
@given(seed=SEEDS)
def test_without_a_key_the_memory_holds_no_reply_that_was_not_sent(seed: int) -> None:
    """Unless the front is missing, where those that were sent are the last ones."""
    for found, sent, _, replies, _ in walk(seed, keys=False):
        theirs = [flat(said.text) for said in sent if said.role == "assistant"]
        if "missing front" in found.tolerated:
            assert any(replies[-k:] == theirs[:k] for k in range(1, len(theirs) + 1))
        else:
            assert replies == theirs[: len(replies)]


@WALKS
@given(seed=SEEDS)
def test_what_is_read_and_what_is_held_make_up_the_request(seed: int) -> None:
    """No reply twice, and none left out; where nothing is tolerated, no message either."""
    for found, sent, _, replies, texts in walk(seed, keys=False):
        n = len(sent) - len(found.new)
        assert found.new == tuple(sent[n:])
        known = [flat(said.text) for said in sent[:n] if said.role == "assistant"]
        assert found.node is None or replies[len(replies) - len(known) :] == known
        if not found.tolerated:
            assert texts == [flat(said.text) for said in sent[:n]]


def test_the_walks_reach_every_kind() -> None:
    kinds = {found.kind for seed in range(30) for found, *_ in walk(seed, keys=False)}
    assert kinds == {"new", "exact", "anchor", "fork", "retry"}
