"""The server's sessions: a few are live, each in a context of its own, and the others are on disk.

A session is a chat with a saver, as `edge-sir chat --session` has one. What is live and used least recently makes room
for another: its cells go to disk as they are, and going on with it costs no more than loading them.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edge_sir.chat.chat import Chat
from edge_sir.chat.conversation import scores_of
from edge_sir.chat.saving import Saver
from edge_sir.core.budget import Budget
from edge_sir.core.recall_mode import recall_mode
from edge_sir.engine import Engine
from edge_sir.errors import BudgetError, SessionBusyError
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.server.contexts import Contexts
from edge_sir.server.loaded import Loaded
from edge_sir.session import Session
from edge_sir.store import nodes
from edge_sir.store.database import Transaction
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore
from edge_sir.text.boundaries import TextBorders

if TYPE_CHECKING:
    from edge_sir.recall.dense import SentenceEncoder

__all__ = ["Live", "Sessions"]

T = TypeVar("T")
_PREFIX = "served-"  # of the names of its sessions

_log = logging.getLogger(__name__)

_IDLE_S = 30.0  # after which a session's cells are written: less writes more, more decodes more after a kill


@dataclass(eq=False)
class Live:
    """A session that has a context.

    at: number of the last message that requests have to do with, None for a session of which nothing is on disk.
    is_busy: a request is at work on it. begun: a request that was cancelled while its messages were read; it may come
    again. used: by time.monotonic(), when its last request ended.
    """

    id: int
    name: str
    chat: Chat
    saver: Saver
    at: int | None = None
    is_busy: bool = False
    begun: object = None
    used: float = 0.0

    @property
    def held(self) -> list[tuple[int, str]]:
        """The messages that it holds: number and role of each."""
        return [(message.id, message.role) for message in self.chat.transcript]

    @property
    def last(self) -> int:
        """The number of the last message that it holds, 0 for none."""
        message = self.chat.transcript.last
        return 0 if message is None else message.id


class Sessions:
    """All sessions of one state folder that one model holds. options: of every chat. n_live: at most so many are live.

    Used by one thread.
    """

    def __init__(self, loaded: Loaded, folder: StateFolder, options: Options, n_live: int) -> None:
        self.folder = folder
        self._loaded, self._options, self._n_live = loaded, options, n_live
        self._policy = from_spec(options.policy)
        self._recall = recall_mode(options.recall, self._policy)
        self._contexts = Contexts(loaded.host, options.budget)
        self._live: dict[int, Live] = {}  # the one that was used last comes last
        self._remove_empty()

    @property
    def n_live(self) -> int:
        """How many are live."""
        return len(self._live)

    def find(self, id: int) -> "Live | None":
        """The session, if it is live."""
        return self._live.get(id)

    def is_busy(self, id: int) -> bool:
        """Whether a request is at work on a session."""
        return id in self._live and self._live[id].is_busy

    # ---- becoming live -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Live]:
        """Those that are live."""
        return iter(tuple(self._live.values()))

    def has_place(self, id: int | None = None) -> bool:
        """Whether a session can become live now, or is: False while requests are at work on all that are."""
        if id in self._live or len(self._live) < self._n_live:
            return True
        return any(not live.is_busy for live in self._live.values())

    def new(self, system: str, tools: str = "") -> Live:
        """A session in which nothing was said; nothing of it is decoded yet. Raises as `Chat`."""
        self._make_place()
        name = self.new_name()
        loaded = self._loaded
        store = self.folder.create(name, model=loaded.model, fingerprint=loaded.fingerprint, options=loaded.terms)
        try:
            return self._open(store, system, tools)
        except BaseException:
            store.close()
            self.folder.remove(name)
            raise

    def live(self, id: int) -> Live:
        """The session, live. Raises SessionBusyError while another process has it open.

        Raises StateError where nothing but its text is left.
        """
        found = self._live.pop(id, None)
        if found is None:
            self._make_place()
            store = self.folder.open(self.folder.info(id).name)
            try:
                found = self._open(store, "")
            except BaseException:
                store.close()
                raise
            found.at = found.last
        self._live[id] = found
        return found

    def change(self, live: Live, act: Callable[[Chat], T], also: Callable[[Transaction], None] | None = None) -> T:
        """Does something to the chat of a session, and saves what came of it. also: in the same transaction.

        Raises what `act` raises.
        """
        self._settle(live)
        live.saver.also = also
        try:
            result = act(live.chat)
            live.saver.settle()
        finally:
            live.saver.also = None
            live.saver.hold()
        live.at, live.used = live.last, time.monotonic()
        return result

    def remove(self, id: int) -> None:
        """Nothing of a session stays, here and on disk. Raises SessionBusyError."""
        name = self.folder.info(id).name
        live = self._live.pop(id, None)
        if live is not None:
            live.saver.hold()
            live.chat.close()
        self.folder.remove(name)

    def touched(self, live: Live) -> Live:
        """It is the one that was used last."""
        self._live[live.id] = self._live.pop(live.id)
        return live

    def held(self, id: int) -> list[tuple[int, str]]:
        """The messages that a session holds: number and role of each."""
        return self._live[id].held if id in self._live else self.folder.held(id)

    def copy(self, id: int, last: int, also: Callable[[Transaction, int], None]) -> Live:
        """A session of its own that goes on from a message of another one, live. also: as in `StateFolder.copy`."""
        source = self._live.get(id)
        if source is not None:
            self._settle(source)
            source.chat.keep_evicted_since(last)
            source.chat.snapshot()
            source.saver.hold()
        return self.live(self.folder.copy(self.folder.info(id).name, self.new_name(), last=last, also=also).id)

    def new_name(self) -> str:
        """One that no session has."""
        return f"{_PREFIX}{secrets.token_hex(6)}"

    def _remove_empty(self) -> None:
        """Sessions that a process began and in which nothing was said before it was killed."""
        with self.folder.database.reading() as connection:
            names = nodes.unserved(connection, _PREFIX)
        for name in names:
            with suppress(SessionBusyError):  # another server is about to use it
                self.folder.remove(name)

    def scratch_session(self) -> Session:
        """A session of tokens beside all others; `free` it."""
        engine, options = self._contexts.open_engine(self._options.budget), self._options
        try:
            borders = TextBorders(self._loaded.codec)
            return Session(engine, self._policy, Budget(options.budget), positions=options.positions, borders=borders)
        except BaseException:
            self._contexts.release(engine)
            raise

    def free(self, session: Session) -> None:
        """Takes back what `scratch_session` gave."""
        session.end_sampler()
        self._contexts.release(session.engine)

    def spoil(self, session: Session) -> None:
        """What its context holds cannot be trusted."""
        self._contexts.spoil(session.engine)

    def scratch(self, system: str, tools: str = "") -> Chat:
        """A chat beside all sessions, of which nothing is kept; `close` it."""
        engine = self._contexts.open_engine(self._options.budget)
        try:
            return self._chat(engine, system, tools)
        except BaseException:
            self._contexts.release(engine)
            raise

    def _chat(self, engine: Engine, system: str, tools: str, **more: Any) -> Chat:
        """On the server's terms. more: arguments of `Chat` for one that is kept."""
        options, loaded = self._options, self._loaded
        return Chat(
            engine,
            loaded.codec,
            loaded.template,
            self._policy,
            options.budget,
            sampling=options.sampling,
            max_tokens=options.max_tokens,
            stop=(*options.stop, *loaded.stop),
            system=system or None,
            host=self._contexts,
            is_driven=True,
            tools=tools,
            **more,
        )

    def _open(self, store: SessionStore, system: str, tools: str = "") -> Live:
        options, loaded = self._options, self._loaded
        saver = Saver(
            self.folder,
            store,
            terms=dict(loaded.terms),
            resume_s=options.resume_s,
            on_disk=options.archive_on_disk,
            owns_folder=False,
        )
        engine = self._context(int(store.info.options.get("budget", options.budget)))
        try:
            saver.resume(engine, loaded.codec, scores_of(None))
            chat = self._chat(
                engine,
                system,
                tools,
                positions=options.positions,
                recall=self._recall,
                recall_encoder=None if options.recall_index == "terms" else self._encoder(),
                saver=saver,
            )
        except BaseException:
            self._contexts.spoil(engine)
            self._contexts.release(engine)
            raise
        info, going_on = store.info, saver.going_on
        if going_on is not None:
            n = going_on.n_replayed
            _log.info("%s goes on (%s, %d turn%s decoded again)", info.name, going_on.how, n, "" if n == 1 else "s")
        live = self._live[info.id] = Live(info.id, info.name, chat, saver)
        saver.hold()  # a request's messages and its reply are one record
        self._take_terms(live)
        return live

    def _context(self, n_cells: int) -> Engine:
        """Where memory does not suffice for one more, fewer sessions are live from now on. Raises BudgetError."""
        while True:
            try:
                return self._contexts.open_engine(n_cells)
            except BudgetError as error:
                idle = next((live for live in self._live.values() if not live.is_busy), None)
                if idle is None:
                    raise
                self._n_live = len(self._live)
                _log.warning("%s; %d sessions are live at a time", error, self._n_live)
                self._swap_out(idle)

    def _encoder(self) -> "SentenceEncoder | None":
        give = self._loaded.recall_encoder
        return None if give is None else give()

    def _take_terms(self, live: Live) -> None:
        """The server's terms hold, whatever the session was begun with. The client sends again what got no reply."""
        chat, options = live.chat, self._options
        chat.drop_unsent()
        if chat.session.policy.spec != self._policy.spec:
            chat.set_policy(options.policy)
        if chat.session.budget.n_cells != options.budget:
            chat.set_budget(options.budget)

    # ---- making room ---------------------------------------------------------------------------

    def _make_place(self) -> None:
        while len(self._live) >= self._n_live:
            self._swap_out(next(live for live in self._live.values() if not live.is_busy))

    def _swap_out(self, live: Live) -> None:
        """Its cells go to disk."""
        self._live.pop(live.id, None)
        if live.at is None:
            self._remove(live)
            return
        self._settle(live)
        live.chat.close()

    def _settle(self, live: Live) -> None:
        """What was read for a request that is over leaves, all else is saved, and from now on what comes is."""
        live.begun = None
        if live.at is not None and any(number == live.at for number, _ in live.held):
            live.chat.go_back(live.at)
        live.saver.release()

    def _remove(self, live: Live) -> None:
        live.chat.close()
        self.folder.remove(live.name)

    def save_again(self) -> None:
        """What the disk refused is tried once more: what is not saved is not found."""
        for live in self._live.values():
            if live.saver.problem and not live.is_busy:
                live.saver.release()
                live.saver.hold()

    def rest(self) -> float | None:
        """Writes the cells of one that was not used for a while; in how many seconds to come again, None for never."""
        waits = [(live.used + _IDLE_S - time.monotonic(), live) for live in self._live.values() if _is_due(live)]
        if not waits:
            return None
        wait_s, live = min(waits, key=lambda one: one[0])
        if wait_s > 0:
            return wait_s
        self._settle(live)
        live.chat.snapshot()
        live.saver.hold()
        return 0.0

    def leave(self, live: Live) -> None:
        """A request has ended. Of a session of which nothing is saved nothing stays, unless it may come again."""
        live.is_busy, live.used = False, time.monotonic()
        live.saver.hold()
        if live.at is None and live.begun is None:
            self._live.pop(live.id, None)
            self._remove(live)

    def drop(self, live: Live) -> None:
        """A request failed, and what its context holds cannot be trusted: the session goes on from what is on disk."""
        live.is_busy, live.begun = False, None
        self._live.pop(live.id, None)
        live.saver.hold()
        self._contexts.spoil(live.chat.engine)
        if live.at is None:
            self._remove(live)
        else:
            live.chat.close()

    def close(self) -> None:
        """Saves all of them, and frees their contexts."""
        while self._live:
            live = next(iter(self._live.values()))
            try:
                self._swap_out(live)
            except Exception:  # the others are saved all the same
                _log.exception("the session %s could not be closed", live.name)
        self._contexts.close()


def _is_due(live: Live) -> bool:
    """Whether its cells changed since they were written, and nobody needs them."""
    return not live.is_busy and live.begun is None and live.at is not None and live.saver.has_changed
