"""Conversations that are found by what was said, live in a few contexts, and stand on disk with every reply.

begin: match ── the session, live ── back to the message that the request goes on from ── a task
step:  the task's; its reply, and what was read for it, are one transaction with the nodes that find them again
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edge_sir.errors import StateError, UserError
from edge_sir.options import Options
from edge_sir.server.answering import Exchanged, Plan, Task
from edge_sir.server.asked import Asked
from edge_sir.server.conversations import Answering
from edge_sir.server.incoming import Incoming, Role, Said
from edge_sir.server.known import linked
from edge_sir.server.loaded import Loaded
from edge_sir.server.match import Match, is_utility, match
from edge_sir.server.normal import ROOT, name_of, owner_of, prompt_of, space_of
from edge_sir.server.outcome import Match as Kind
from edge_sir.server.outcome import Outcome, Shown
from edge_sir.server.raw import RawTask
from edge_sir.server.sessions import Live, Sessions
from edge_sir.server.stored import StoredKnown
from edge_sir.server.turns import check, said_by
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.work import Work
from edge_sir.session import Session
from edge_sir.store import nodes
from edge_sir.store.database import Transaction
from edge_sir.store.folder import StateFolder
from edge_sir.store.nodes import Node
from edge_sir.text.reply import Reply

__all__ = ["SCRATCH", "StoredConversations"]

_log = logging.getLogger(__name__)

SCRATCH = "scratch"
"""What stands for a session's name where there is none."""

How = Literal["done", "waits", "refused", "failed"]
"""How work on a request ended; waits: it was cancelled while its messages were read, and may come again."""


class StoredConversations:
    """`Conversations` over one model and one state folder, which it closes.

    options: of every chat. n_live: sessions that are live at a time, each in a context of its own; requests beside
    all conversations have one more.
    """

    def __init__(self, loaded: Loaded, folder: StateFolder, options: Options, n_live: int) -> None:
        self._folder, self._loaded, self._options = folder, loaded, options
        self.sessions = Sessions(loaded, folder, options, n_live)
        self.known = StoredKnown(folder.database)
        self._has_scratch = False

    def warm_up(self) -> None:
        """Opens a context, so that what is wrong with the options is said at once. Raises as `Chat`."""
        self.sessions.scratch(self._options.system or "").close()

    def begin(self, asked: Asked) -> "Answering | None":
        """See `Conversations`. Cells are loaded here, and where a conversation goes back, one token is decoded."""
        check(asked, self._loaded.n_vocab)
        if asked.raw:
            return self._begin_raw(asked)
        for live in self.sessions:
            if isinstance(live.begun, _Begun) and not live.is_busy and live.begun.task.is_same(asked):
                return self._begin_again(live, live.begun, asked)
        self.sessions.save_again()
        self._check_named(asked.incoming)
        if not self.sessions.has_place() and not is_utility(asked.incoming):
            return None  # before it is matched: what waits is asked again whenever a request ends
        found = match(asked.incoming, self.known)
        if found.kind == "scratch":
            return self._begin_scratch(asked)
        try:
            return self._begin_in_session(asked, found)
        except StateError as error:
            # Its cells cannot be had again: the client sends all that was said, and that is read.
            if found.session is None:
                raise
            _log.warning("a session is begun anew: %s", error)
            self.known.clear(found.session)
            return self.begin(asked)

    def _check_named(self, incoming: Incoming) -> None:
        """Raises RefusedError where all that was said before is in a response that is not known."""
        name = name_of(incoming.namespace, incoming.node_key)
        if incoming.is_rest and self.known.named(name) is None:
            raise RefusedError(
                "there is no such response; send all messages again, without 'previous_response_id'",
                param="previous_response_id",
                code="previous_response_not_found",
            )

    def rest(self) -> float | None:
        """See `Conversations`: cells go to disk, so that after a kill nothing need be decoded again."""
        return self.sessions.rest()

    def close(self) -> None:
        """See `Conversations`."""
        try:
            self.sessions.close()
        finally:
            self._folder.close()

    # ---- beside all conversations ----------------------------------------------------------------

    def _begin_scratch(self, asked: Asked) -> "Answering | None":
        if self._has_scratch:
            return None
        chat = self.sessions.scratch(asked.incoming.system, asked.incoming.tools)
        plan = _plan(asked.incoming.messages)
        return self._beside(Task(chat, asked, plan, _save_nothing), chat.session, chat.close)

    def _begin_raw(self, asked: Asked) -> "Answering | None":
        if self._has_scratch:
            return None
        session = self.sessions.scratch_session()
        task = RawTask(session, self._loaded.codec, self._options, asked)
        return self._beside(task, session, lambda: self.sessions.free(session))

    def _beside(self, task: Work, session: Session, free: Callable[[], None]) -> "Answering":
        self._has_scratch = True

        def end(how: How) -> None:
            if how == "failed":
                self.sessions.spoil(session)
            self._has_scratch = False
            free()

        return _Answering(SCRATCH, "scratch", task, end)

    # ---- in a session ----------------------------------------------------------------------------

    def _begin_in_session(self, asked: Asked, found: Match) -> "Answering | None":
        sessions = self.sessions
        plan, node = _plan(found.new), found.node
        if found.kind == "prefill" and not found.new and node is not None:  # our own reply is to be continued
            plan = Plan((), begun=asked.incoming.messages[-1].text)
            node = None if node.parent is None else self.known.node(node.parent)
        way = None if node is None else self._way_to(node)
        if node is None or way is None:
            if not sessions.has_place():
                return None
            return self._begin_new(asked, "prefill" if found.kind == "prefill" else "new")
        if sessions.is_busy(node.session) or not sessions.has_place(node.session if way.is_in_place else None):
            return None
        again = self._again(node, way)
        if way.is_in_place:
            live, after, known = sessions.live(node.session), node.id, [id for id, _ in again]
        else:  # what is read again is new in the copy: its text stands nowhere there
            (live, after), known = self._copied(way.last), []
        lost = live.chat.go_back(way.last.number).lost
        live.at, live.begun = way.last.number, None
        kind: Kind = found.kind
        if not way.is_in_place:
            kind = "rebuilt" if lost else kind if kind in ("retry", "prefill") else "fork"
        system = None
        if found.prompt == "changed":
            system = self._system_of(asked)
        note = _Note(live, after, known, system is not None)
        new = (*(said for _, said in again), *plan.new)
        plan = replace(plan, new=new, is_again=found.kind == "retry", system=system)
        return self._in_session(live, kind, Task(live.chat, asked, plan, note.save))

    def _begin_new(self, asked: Asked, kind: Kind) -> "Answering":
        """Nothing of it is known."""
        live = self.sessions.new(self._system_of(asked), asked.incoming.tools)
        task = Task(live.chat, asked, _plan(asked.incoming.messages), _Note(live, None, [], False).save)
        return self._in_session(live, kind, task)

    def _begin_again(self, live: Live, begun: "_Begun", asked: Asked) -> "Answering":
        """The request was cancelled while its messages were read: it goes on there."""
        live.begun = None
        begun.task.go_on(asked)
        return self._in_session(self.sessions.touched(live), begun.kind, begun.task)

    def _in_session(self, live: Live, kind: Kind, task: Task) -> "Answering":
        live.is_busy = True

        def end(how: How) -> None:
            if how == "failed":
                self.sessions.drop(live)
                return
            live.begun = _Begun(task, kind) if how == "waits" else None
            self.sessions.leave(live)

        return _Answering(live.name, kind, task, end)

    def _system_of(self, asked: Asked) -> str:
        return asked.incoming.system or self._options.system or ""

    # ---- the way to a message --------------------------------------------------------------------

    def _way_to(self, node: Node) -> "_Way | None":
        """None where the session holds nothing of what leads to it."""
        held = self.sessions.held(node.session)
        if held and held[-1][0] == node.number:
            return _Way(node, ())
        with self._folder.database.reading() as connection:
            path = nodes.path(connection, node.id)
        numbers = {number for number, _ in held}
        n = max((i + 1 for i, one in enumerate(path) if one.number in numbers), default=0)
        if not n:
            return None
        last = path[n - 1]
        later = [role for number, role in held if number > last.number and role != "system"]
        return _Way(last, tuple(path[n:]), "assistant" not in later or later == ["assistant"])

    def _again(self, node: Node, way: "_Way") -> list[tuple[int, Said]]:
        """What was taken back of the way and must be read again, with its nodes; what was forgotten is not there."""
        if not way.again:
            return []
        texts = {row.message.id: row.message.text for row in self._folder.messages(node.session)}
        there = [one for one in way.again if one.number in texts and one.content is not None]
        return [(one.id, Said(_role(one.role), texts[one.number])) for one in there]

    def _copied(self, node: Node) -> tuple[Live, int]:
        """A session of its own that goes on from a message of another one, and its own node of that message."""
        after = 0
        owner = self.known.served(node.session)
        assert owner is not None

        def note(transaction: Transaction, id: int) -> None:
            nonlocal after
            nodes.begin(transaction.connection, id, owner.space, owner.exact, owner.masked, owner.owner)
            after = nodes.fork(transaction.connection, id, node.id)

        return self.sessions.copy(node.session, node.number, note), after


@dataclass(frozen=True, slots=True)
class _Way:
    """How a session comes to stand at a message.

    last: the last message on the way there that it holds. again: those that follow, which were taken back.
    is_in_place: nothing leaves it but its last reply; else the other messages stay in it, and a copy goes on.
    """

    last: Node
    again: tuple[Node, ...]
    is_in_place: bool = True


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request that may come again. kind: how its conversation was found."""

    task: Task
    kind: Kind


class _Note:
    """Saves the replies to one request, and what finds them again.

    after: the node that the request goes on from. again: nodes of the messages that are read again first.
    """

    def __init__(self, live: Live, after: int | None, again: Sequence[int], has_new_prompt: bool) -> None:
        self._live, self._after, self._again = live, after, again
        self._has_new_prompt = has_new_prompt
        self._is_begun = after is not None

    def save(self, asked: Asked, said_so_far: Exchanged, reply: Reply) -> None:
        """One reply is whole: it is on disk on return, or the saver's `problem` says why not."""
        live, n_again = self._live, len(self._again)
        number = live.last
        again = [(id, n) for id, (n, _) in zip(self._again, said_so_far, strict=False)]
        new = [*said_so_far[n_again:], (number, said_by(reply))]
        self._again = ()
        live.saver.also = lambda transaction: self._write(transaction, asked, again, new)
        live.saver.release()
        live.saver.hold()
        live.at = number

    def _write(self, transaction: Transaction, asked: Asked, again: Sequence[tuple[int, int]], new: Exchanged) -> None:
        connection, incoming, id = transaction.connection, asked.incoming, self._live.id
        prompt = prompt_of(incoming.system, incoming.tools)
        if not self._is_begun:
            space = space_of(incoming.namespace, incoming.session_key)
            nodes.begin(connection, id, space, prompt.exact, prompt.masked, owner_of(incoming.namespace))
        elif self._has_new_prompt:
            nodes.set_prompt(connection, id, prompt.exact, prompt.masked)
        self._is_begun, self._has_new_prompt = True, False
        for node, number in again:
            nodes.renumber(connection, node, number)
        last = None if self._after is None else nodes.by_id(connection, self._after)
        ids = nodes.add(connection, id, self._after, linked(ROOT if last is None else last.chain, new))
        self._after = ids[-2] if len(ids) > 1 else self._after  # another reply follows the same message
        if asked.reply_key:
            nodes.name(connection, name_of(incoming.namespace, asked.reply_key), ids[-1])


class _Answering:
    """`Answering` of one task. end: called once, with how it ended."""

    def __init__(self, session: str, match: Kind, task: Work, end: Callable[[How], None]) -> None:
        self.session, self.match = session, match
        self._task, self._end = task, end
        self._outcome: Outcome | None = None

    def step(self) -> Sequence[Shown] | None:
        task = self._task
        if task.is_cut and task.is_reading:
            self._over("waits")
            return None
        try:
            shown = task.step()
        except Exception as error:
            task.close()
            self._end("refused" if isinstance(error, UserError) else "failed")
            raise
        if shown is None:
            self._over("done")
        return shown

    def _over(self, how: How) -> None:
        self._outcome = self._task.outcome()
        self._end(how)

    def cancel(self) -> None:
        self._task.cancel()

    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome


def _plan(new: Sequence[Said]) -> Plan:
    """What is read of these messages, and how the reply begins."""
    last = new[-1] if new else None
    if last is not None and last.role == "assistant" and last.text and not last.tool_calls:
        return Plan(tuple(new[:-1]), begun=last.text)
    return Plan(tuple(new))


def _role(name: str) -> Role:
    return name if name in ("system", "assistant", "tool") else "user"  # type: ignore[return-value]


def _save_nothing(asked: Asked, said_so_far: Exchanged, reply: Reply) -> None:
    """Nothing of it is kept."""
