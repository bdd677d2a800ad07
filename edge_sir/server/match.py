"""Which conversation a request belongs to, and from which message of it to go on.

Clients send everything again with every request. What they send is looked for in this order: the message that they
name; the longest beginning that is known as it is; the last reply that is ours although something around it changed.
What is then left of the request is new, and is read. Nothing that a client did not send is found for it, unless
replies that are ours, and enough of them, or a key say that it is the same conversation.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from edge_sir.server.anchor import Agreement, Round, Tolerated, agreement, rounds_of
from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.known import MOST, Known
from edge_sir.server.normal import ROOT, chained, mark_of, name_of, prompt_of, space_of
from edge_sir.store.nodes import Node, Served

__all__ = ["Kind", "Match", "Prompted", "is_utility", "match"]

Kind = Literal["exact", "anchor", "fork", "new", "scratch", "retry", "prefill"]
Prompted = Literal["same", "dates", "changed"]
"""How a request's system prompt and tools compare with those that a session read: only in dates and numbers, or more.

In order: the first is the best.
"""

_TRIES = 8  # replies from which the way back is walked: what came before the last few is seldom all that is left


@dataclass(frozen=True, slots=True)
class Match:
    """Where a request goes on.

    exact, anchor: at the session's tip, found as it is or by its replies. fork: at an earlier message, and what came
    after it must not be seen. retry: all of the request is known, and another reply is asked for; prefill: its last
    message is the beginning of the reply. new: nothing is known. scratch: it stands beside the conversation, and
    nothing of it is kept.

    node: the last message that is known, None for a new session. is_tip: the session holds nothing after it. new: what
    is to be read. tolerated: what is not as it was read and is let pass; no text of it.
    """

    kind: Kind
    new: tuple[Said, ...]
    node: Node | None = None
    is_tip: bool = False
    prompt: Prompted = "same"
    tolerated: tuple[Tolerated, ...] = ()

    @property
    def session(self) -> int | None:
        """The one that the node belongs to."""
        return None if self.node is None else self.node.session


def match(incoming: Incoming, known: Known) -> Match:
    """Finds it. Nothing is written, and known sessions stay as they are."""
    if is_utility(incoming):
        return Match("scratch", incoming.messages)
    search = _Search(incoming, known)
    place = search.find()
    choice = None if place is None else search.choose(place)
    if place is None or choice is None:
        return Match("prefill" if search.is_prefill else "new", incoming.messages)
    new = incoming.messages[place.n :]
    kind: Kind = "prefill" if search.is_prefill else _kind(choice, place, new)
    return Match(kind, new, choice.node, choice.is_tip, choice.prompt, place.tolerated)


def is_utility(incoming: Incoming) -> bool:
    """Whether it stands beside all conversations.

    Open WebUI asks for titles, tags and the like as any client asks for a reply.
    """
    first = incoming.messages[0] if len(incoming.messages) == 1 else None
    is_task = first is not None and first.role == "user" and first.text.lstrip().startswith("### Task:")
    return incoming.is_utility or (first is not None and is_task and "<chat_history>" in first.text)


def _is_prefill(messages: Sequence[Said]) -> bool:
    last = messages[-1] if messages else None
    return last is not None and last.role == "assistant" and bool(last.text) and not last.tool_calls


def _kind(choice: "_Choice", place: "_Place", new: Sequence[Said]) -> Kind:
    if not new and choice.node.role != "assistant":
        return "retry"
    if not choice.is_tip:
        return "fork"
    return "anchor" if place.tolerated else "exact"


@dataclass(frozen=True, slots=True)
class _Place:
    """Messages of that chain stand for the request's first `n`. session: the one that was named, 0 for any."""

    space: bytes
    chain: bytes
    n: int
    tolerated: tuple[Tolerated, ...] = ()
    session: int = 0


@dataclass(frozen=True, slots=True)
class _Choice:
    node: Node
    is_tip: bool
    prompt: Prompted


class _Search:
    """One request, and what is known."""

    def __init__(self, incoming: Incoming, known: Known) -> None:
        self._incoming, self._known = incoming, known
        self._space = space_of(incoming.namespace, incoming.session_key)
        self._has_key = bool(incoming.session_key)
        self._prompt = prompt_of(incoming.system, incoming.tools)
        self._marks = [mark_of(message) for message in incoming.messages]
        self.is_prefill = _is_prefill(incoming.messages)

    def find(self) -> _Place | None:
        """The best place to go on from."""
        if (named := self._named()) is not None:
            return self._onward(named)
        n = self._n_known()
        if (found := self._anchored(n)) is not None:
            return self._onward(found)
        return _Place(self._space, self._chains[n], n) if n else None

    @cached_property
    def _rounds(self) -> list[Round]:
        """The beginning of a reply that is to be continued is no reply."""
        return rounds_of(self._marks[:-1] if self.is_prefill else self._marks)

    # ---- as it was sent ------------------------------------------------------------------------

    @cached_property
    def _chains(self) -> list[bytes]:
        """After the first n messages, by n."""
        chains = [ROOT]
        for mark in self._marks:
            chains.append(chained(chains[-1], mark.content))
        return chains

    def _n_known(self) -> int:
        """How many messages at the beginning are known: where one is, all before it are."""
        unknown = bisect.bisect_left(
            self._chains, True, lo=1, key=lambda chain: not self._known.by_chain(self._space, chain)
        )
        return unknown - 1

    def _onward(self, place: _Place) -> _Place:
        """Behind what was found the request may go on with what is known: it is sent once more."""
        for mark in self._marks[place.n :]:
            chain = chained(place.chain, mark.content)
            if not self._known.by_chain(place.space, chain):
                break
            place = replace(place, chain=chain, n=place.n + 1)
        return place

    # ---- by a name, or by replies --------------------------------------------------------------

    def _named(self) -> _Place | None:
        """The message that the client names, unless the history that it sends along is another one."""
        key = self._incoming.node_key
        node = self._known.named(name_of(self._incoming.namespace, key)) if key else None
        owner = None if node is None else self._known.served(node.session)
        if node is None or owner is None or (self._has_key and owner.space != self._space):
            return None
        place = _Place(owner.space, node.chain, 0, session=node.session)
        if not self._rounds:  # only what is new, which the name alone places
            return place
        found = agreement(self._rounds, node, self._parent)
        if not isinstance(found, Agreement):
            return None
        return replace(place, n=self._rounds[-1].end, tolerated=found.tolerated)

    def _anchored(self, above: int) -> _Place | None:
        """The last reply that is known, of those behind the first `above` messages."""
        i, tries = len(self._rounds) - 1, _TRIES
        while tries and i >= 0 and self._rounds[i].end > above:
            nodes = self._known.replies(self._space, self._rounds[i].reply.content)
            nodes = [] if len(nodes) > MOST else nodes  # a reply that stands everywhere says nothing
            results = [(node, agreement(self._rounds[: i + 1], node, self._parent)) for node in nodes]
            agreed = [(node, found) for node, found in results if isinstance(found, Agreement)]
            if (best := self._best(agreed)) is not None:
                node, found = best
                return _Place(self._space, node.chain, self._rounds[i].end, found.tolerated)
            tries -= bool(nodes)
            # Where a reply differs, those between it and this one cannot be found on the same paths either.
            differing = [found for _, found in results if not isinstance(found, Agreement)]
            i = max(differing) if differing and not agreed else i - 1
        return None

    def _best(self, agreed: Sequence[tuple[Node, Agreement]]) -> tuple[Node, Agreement] | None:
        """The one that agrees best; of several that agree alike, none, unless they have the request's own key."""
        agreed = [(node, found) for node, found in agreed if self._has_key or found.is_enough]
        if not agreed:
            return None
        rank = min(found.rank for _, found in agreed)
        best = [(node, found) for node, found in agreed if found.rank == rank]
        return max(best, key=lambda one: one[0].id) if self._has_key or len(best) == 1 else None

    def _parent(self, node: Node) -> Node | None:
        return None if node.parent is None else self._known.node(node.parent)

    # ---- which session -------------------------------------------------------------------------

    def choose(self, place: _Place) -> _Choice | None:
        """Of all sessions that hold what was found: with the same system prompt, at its tip, the newest."""
        choices = []
        for node in self._known.by_chain(place.space, place.chain):
            owner = self._known.served(node.session)
            if owner is not None:
                choices.append(_Choice(node, owner.tip == node.id, self._prompted(owner)))
        if not self._has_key and not place.session:
            # Without a reply in common it may be anyone's: then only the same prompt makes it the same conversation.
            choices = [one for one in choices if one.node.n_replies or one.prompt == "same"]
        return min(choices, key=lambda one: _order(one, place.session), default=None)

    def _prompted(self, owner: Served) -> Prompted:
        if owner.exact == self._prompt.exact:
            return "same"
        return "dates" if owner.masked == self._prompt.masked else "changed"


def _order(choice: _Choice, session: int) -> tuple[bool, int, bool, int]:
    node = choice.node
    return node.session != session, get_args(Prompted).index(choice.prompt), not choice.is_tip, -node.id
