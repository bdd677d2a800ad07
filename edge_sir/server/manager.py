"""What programs and a page may ask of the server's sessions, by the functions that the chat's commands call.

Everything here is called by the worker's thread, between two steps. An owner sees its own sessions; None sees all.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal

from edge_sir.chat import commands
from edge_sir.chat.chat import Chat
from edge_sir.errors import ConfigError
from edge_sir.server.normal import name_of
from edge_sir.server.sessions import Live
from edge_sir.server.stored_conversations import StoredConversations
from edge_sir.server.ticket import MustWaitError
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.store import exchange, nodes
from edge_sir.store.database import Transaction
from edge_sir.store.values import ON_PATH, Found, SessionInfo
from edge_sir.text.boundaries import contains

__all__ = ["Document", "Manager", "What"]

Document = dict[str, Any]
What = int | str
"""A turn's number, or words that were said."""

_TITLE = 80  # characters


class Manager:
    """Commands over sessions. All raise RefusedError for one that is not there, MustWaitError for one that is at work.

    owner: whose sessions are meant, as `normal.owner_of` has it.
    """

    def __init__(self, home: StoredConversations, fingerprint: str) -> None:
        self._home, self._sessions, self._folder = home, home.sessions, home.sessions.folder
        self._fingerprint = fingerprint

    # ---- looking -------------------------------------------------------------------------------

    def sessions(self, owner: bytes | None) -> Document:
        """All sessions, the one that was used last first."""
        infos = sorted(self._all(owner).values(), key=lambda info: -info.used)
        return {"object": "list", "data": [self._entry(info) for info in infos]}

    def show(self, owner: bytes | None, name: str) -> Document:
        """One session, with what was said in it."""
        info = self._find(owner, name)
        path = [row for row in self._folder.messages(info.id) if row.on_path]
        said = [asdict(row.message) | {"said": row.said} for row in path]
        return self._entry(info) | {"said": said}

    def memory(self, owner: bytes | None, name: str) -> Document:
        """What is resident of it, what left the cache and why, by turn."""
        found: Document = self._look(owner, name, commands.memory).as_dict()
        return found

    def find(self, owner: bytes | None, name: str, text: str) -> Document:
        """What is left of words that were said."""
        found = self._look(owner, name, lambda chat: commands.find(chat, text))
        return {"find": found.text, "turns": [match.as_dict() for match in found.matches]}

    def search(self, owner: bytes | None, words: str, name: str | None = None) -> Document:
        """Messages that hold all words, of one session or of all, newest first."""
        if name is None:
            names = {info.name for info in self._all(owner).values()}
            found = [one for one in self._folder.search(words) if one.session in names]
        else:
            info = self._find(owner, name)
            live = self._sessions.find(info.id)
            if live is None or live.is_busy:
                found = self._folder.search(words, session=name)
            else:
                found = live.chat.search(words)
        return {"search": words, "found": [self._found(one) for one in found]}

    def export(self, owner: bytes | None, name: str, form: Literal["jsonl", "markdown"]) -> str:
        """What was said, as `edge-sir sessions export` writes it."""
        info = self._find(owner, name)
        said = [row.message for row in self._folder.messages(info.id) if row.on_path]
        return exchange.to_json_lines(said) if form == "jsonl" else exchange.to_markdown(said, name)

    # ---- changing ------------------------------------------------------------------------------

    def pin(self, owner: bytes | None, name: str, what: What) -> Document:
        """It stays whatever comes."""
        pinned = self._change(owner, name, lambda chat: commands.pin(chat, what))
        return _affected("pinned", pinned) | {"n_evicted": pinned.n_evicted, "n_restored": pinned.n_restored}

    def unpin(self, owner: bytes | None, name: str, what: What | None) -> Document:
        """It competes with all else; None takes all pins off."""
        return _affected("unpinned", self._change(owner, name, lambda chat: commands.unpin(chat, what)))

    def recall(self, owner: bytes | None, name: str, what: What) -> Document:
        """What was evicted of it is resident again."""
        recalled = self._change(owner, name, lambda chat: commands.recall(chat, what))
        return {"recalled": [one.as_dict() for one in recalled]}

    def forget(self, owner: bytes | None, name: str, what: What) -> Document:
        """Nothing of it stays, in cells and on disk; nor of words in its copies, or of a turn that a copy shares."""
        info = self._find(owner, name)
        copies = self._copies(info.id, what)
        if any(self._sessions.is_busy(id) for id in (info.id, *copies)):
            raise MustWaitError
        for copy in copies:  # first: after a kill in between it can be asked again
            with suppress(ConfigError):  # it has forgotten it before
                self._forget(copy, what)
        forgotten = self._forget(info.id, what)
        return _affected("forgotten", forgotten) | {"n_evicted": forgotten.n_evicted}

    def undo(self, owner: bytes | None, name: str) -> Document:
        """The last turn was never said. A client that sends it again has it read again."""
        live = self._live(self._find(owner, name))

        def note(transaction: Transaction) -> None:
            held = {number for number, _ in live.held}
            served = nodes.served(transaction.connection, live.id)
            path = [] if served is None or served.tip is None else nodes.path(transaction.connection, served.tip)
            left = [node.id for node in path if node.number in held]
            nodes.set_tip(transaction.connection, live.id, left[-1] if left else None)

        return asdict(self._sessions.change(live, commands.undo, note))

    def remove(self, owner: bytes | None, name: str) -> Document:
        """Nothing of the session stays. Its copies do: each is a session."""
        info = self._find(owner, name)
        if self._sessions.is_busy(info.id):
            raise MustWaitError
        self._sessions.remove(info.id)
        return {"name": name, "object": "session", "deleted": True}

    # ---- responses -----------------------------------------------------------------------------

    def response(self, namespace: str, id: str) -> tuple[str, float]:
        """The text of a reply by its response's id, and when it was saved, unix seconds."""
        node = self._home.known.named(name_of(namespace, id))
        row = None
        if node is not None:
            row = next((r for r in self._folder.messages(node.session) if r.message.id == node.number), None)
        if row is None:
            raise _no_response(id)
        return row.message.text, row.said

    def forget_response(self, namespace: str, id: str) -> Document:
        """The id leads to nothing any more. What was said stays in its session."""
        with self._folder.database.writing() as transaction:
            is_there = nodes.unname(transaction.connection, name_of(namespace, id))
        if not is_there:
            raise _no_response(id)
        return {"id": id, "object": "response", "deleted": True}

    # ---- helpers -------------------------------------------------------------------------------

    def _all(self, owner: bytes | None) -> dict[int, SessionInfo]:
        with self._folder.database.reading() as connection:
            ids = set(nodes.owned(connection, owner))
        infos = self._folder.sessions()
        return {info.id: info for info in infos if info.id in ids and info.fingerprint == self._fingerprint}

    def _find(self, owner: bytes | None, name: str) -> SessionInfo:
        info = self._folder.find(name)
        served = None if info is None else self._home.known.served(info.id)
        is_other = served is None or owner not in (None, served.owner)
        if info is None or is_other or info.fingerprint != self._fingerprint:
            raise RefusedError("there is no such session; GET /sessions shows those there are", status=404)
        return info

    def _live(self, info: SessionInfo) -> Live:
        if self._sessions.is_busy(info.id) or not self._sessions.has_place(info.id):
            raise MustWaitError
        return self._sessions.live(info.id)

    def _look(self, owner: bytes | None, name: str, look: Callable[[Chat], Any]) -> Any:
        return look(self._live(self._find(owner, name)).chat)

    def _change(self, owner: bytes | None, name: str, act: Callable[[Chat], Any]) -> Any:
        return self._sessions.change(self._live(self._find(owner, name)), act)

    def _entry(self, info: SessionInfo) -> Document:
        live = self._sessions.find(info.id)
        first = self._folder.first_said(info.id)
        return {
            "object": "session",
            "name": info.name,
            "title": " ".join(first.split())[:_TITLE],
            "created": info.created,
            "used": info.used,
            "turns": info.n_turns,
            "messages": info.n_messages,
            "bytes_on_disk": info.n_bytes,
            "state": "on disk" if live is None else "at work" if live.is_busy else "live",
        }

    def _found(self, found: Found) -> Document:
        where = found.where or ("on disk" if found.state == ON_PATH else found.state)
        return asdict(found) | {"where": where}

    # ---- forgetting ----------------------------------------------------------------------------

    def _forget(self, id: int, what: What) -> commands.Affected:
        before = {row.message.id: row.message.text for row in self._folder.messages(id)}

        def note(transaction: Transaction) -> None:
            now = {row.message.id: row.message.text for row in self._folder.messages(id)}
            changed = [number for number, text in before.items() if now.get(number) != text]
            nodes.forget(transaction.connection, id, changed)

        return self._sessions.change(self._live(self._folder.info(id)), lambda chat: commands.forget(chat, what), note)

    def _copies(self, id: int, what: What) -> list[int]:
        """Other sessions that begin as this one, and, of a turn, hold a message of it; none where nobody said it."""
        rows = self._folder.messages(id)
        if isinstance(what, int):
            numbers = [row.message.id for row in rows if row.message.turn == what]
        else:
            is_said = any(contains(row.message.text, what) for row in rows)
            numbers = [row.message.id for row in rows if row.parent is None] if is_said else []
        served = self._home.known.served(id)
        if served is None:
            return []
        found: set[int] = set()
        with self._folder.database.reading() as connection:
            for node in nodes.numbered(connection, id, numbers):
                found |= set(nodes.sharing(connection, served.space, node.chain))
        return sorted(found - {id})


def _affected(verb: str, affected: commands.Affected) -> Document:
    return {verb: [passage.as_dict() for passage in affected.passages]}


def _no_response(id: str) -> RefusedError:
    return RefusedError("there is no such response; it was deleted, or another key made it", status=404)
