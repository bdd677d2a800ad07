"""A chat that is saved as it goes on: what each call changed is a record of its session, on disk before the call ends.

    call on the chat ──> Owner.before_leaving ──> Saver.settle: nothing is under way? then one record
                                                     └──> now and then, on idle and on close: a snapshot of the cells

What is on disk is read by chat/resuming.py.
"""

import json
import logging
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.chat.blobs import Blobs
from edge_sir.chat.forgetting import Forgetting, forgotten_on_disk
from edge_sir.chat.resuming import Resumption, resume
from edge_sir.engine import Engine, TextCodec
from edge_sir.errors import CapabilityError, EdgeSirError, EngineError, SessionError, StoreError
from edge_sir.memory.entries import entry_to_bytes
from edge_sir.memory.evictions import Entry, Restored
from edge_sir.memory.transcript import Message
from edge_sir.session.changes import Changes
from edge_sir.store.database import Transaction
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore
from edge_sir.store.values import ON_DISK, ON_PATH, Found, Record, Snapshot

if TYPE_CHECKING:
    from edge_sir.chat.conversation import Conversation

__all__ = ["Saver"]

_log = logging.getLogger(__name__)

_FORMAT = 1
_SHARE = 0.5  # of the longest resume: the turn after which a snapshot is due takes its time, too


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A record that is not written yet. new_cells: numbers of archived pieces whose cells go to disk after it.

    Until then they stay in the archive, under its bound. is_due: whether a snapshot must follow, since what was done
    cannot be done again without the cells of this process. also: writes more in the same transaction.
    """

    record: Record
    forgetting: Forgetting | None
    new_cells: tuple[int, ...] = ()
    is_due: bool = False
    also: Callable[[Transaction], None] | None = None


class Saver:
    """Saves one chat into one session of the store, and reads from it what the chat goes on from.

    store: closed with the chat. terms: what the session was begun with, as JSON has it. resume_s: seconds that going
    on from what is on disk may take. on_disk: cells of archived pieces are on disk, too (`blobs`). going_on: what
    `resume` found. also: writes more in the transaction of the next record, and is called once. owns_folder: whether
    the folder is closed with the chat. problem: why the last turns are not on disk, "" while they are: the chat goes
    on, and each call tries again at its end.
    """

    def __init__(
        self,
        folder: StateFolder,
        store: SessionStore,
        *,
        terms: Mapping[str, Any],
        resume_s: float = 10.0,
        on_disk: bool = False,
        owns_folder: bool = True,
    ) -> None:
        self.also: Callable[[Transaction], None] | None = None
        self._owns_folder = owns_folder
        self.store = store
        self.problem = ""
        self.going_on: Resumption | None = None
        self.blobs = Blobs(store)
        self._folder, self._terms = folder, dict(terms)
        self._resume_s, self._on_disk = resume_s, on_disk
        self._changes = Changes()
        self._held = self._is_busy = False
        self._waiting: list[_Waiting] = []
        self._written: list[_Waiting] = []  # of which the cells are to follow
        self._has_failed = False  # the last time that cells were written
        self._path: tuple[Message, ...] = ()  # as on disk once all that waits is written
        self._unsaid: frozenset[int] = frozenset()  # messages of it that were forgotten whole
        self._unsent: tuple[str, ...] = ()
        self._seen: tuple[int, tuple[str, ...], int] | None = None  # what that was worked out from
        self._n_gathered = 0
        self._state = ""
        self._version = -1  # of the transcript
        self._n_entries = 0
        self._forgetting: Forgetting | None = None
        self._cleared = False
        self._decoded_s = 0.0  # when the last snapshot was made; less than nothing: one is due
        self._snapshot_of = -1  # the record that it is of
        self._budget = 0

    # ---- beginning -----------------------------------------------------------------------------

    def resume(self, engine: Engine, codec: TextCodec, also_score: frozenset[str]) -> Resumption | None:
        """What the chat goes on from, on an empty sequence of `engine`; None for a session in which nothing was said.

        Raises StateError where only the text is left to go on from, BudgetError for an engine with too few cells.
        """
        self.going_on = resume(self.store, engine, codec, self._changes, also_score, self._resume_s)
        return self.going_on

    def attach(self, chat: "Conversation") -> None:
        """From now on this chat is saved; what `resume` found is in it, or nothing was said yet."""
        self._chat = chat
        if chat._archive is not None:
            if not self.store.read_only:
                chat._archive.watch()
            if self.going_on is not None and not self.going_on.takes_cells:
                chat._archive.leave_disk()
        if self.store.read_only:
            return
        chat.session.ledger.watcher = self._changes
        chat._memory.listener = self
        self._n_entries = len(chat._memory.evictions)
        self._decoded_s = chat.engine.times.decode_s
        self._budget = chat.session.budget.n_cells
        chat.owner.before_leaving = self.settle
        if self.going_on is not None:
            self._go_on(self.going_on, chat)

    def _go_on(self, going_on: Resumption, chat: "Conversation") -> None:
        stored = going_on.stored
        now = {message.id: message for message in chat.transcript}
        self._path = tuple(now.get(row.message.id, row.message) for row in stored.path)
        self._unsaid = frozenset(stored.state["chat"]["unsaid"])
        self._unsent, self._state = stored.unsent, _packed(stored.state)
        self._version = chat.transcript.version
        self._snapshot_of = going_on.snapshot_of
        self._decoded_s -= math.inf if going_on.how == "rebuilt" else going_on.replayed_s

    def hold(self) -> None:
        """Nothing is saved until `release` or `begin_anew`: what is broken off leaves on disk what was there."""
        self._held = True

    def release(self) -> None:
        """What changed since `hold` is saved, and what comes."""
        self._held = False
        self.settle()

    def begin_anew(self, unsent: Sequence[str]) -> None:
        """What the chat holds now is saved as a new conversation; the one on disk becomes an earlier one.

        unsent: what the user said there and got no reply to; it goes in with the next message.
        """
        self._chat._unsent += unsent
        self._held, self._cleared, self._decoded_s = False, True, -math.inf
        self.settle()

    # ---- memory.Listener -----------------------------------------------------------------------

    def forgot(self, what: int | str) -> None:
        """This was forgotten on request."""
        self._forgetting = (self._forgetting or Forgetting()).and_also(what)

    def cleared(self) -> None:
        """A new conversation began: its log begins on an empty ledger."""
        self._changes.take()
        self._cleared = True

    # ---- saving --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Saves what changed, unless something is under way; then, what the user said and got no reply to."""
        if self.store.read_only or self._held or self._is_busy:
            return
        if self.problem and not self._is_at_rest():  # tried at every token of a reply, each would wait for the disk
            return
        self._is_busy = True
        try:
            with shield():
                self._gather()
                self._write()
                self._write_cells()
        except StoreError as error:
            self._complain(error)
        else:
            self._relieve()
        finally:
            self._is_busy = False

    def snapshot(self) -> None:
        """Writes the cells, unless that was done since they last changed, or something is under way.

        Raises StoreError if the disk fails, and what the engine raises.
        """
        self.settle()
        if self.store.read_only or self._waiting or not self._is_at_rest():
            return
        number = self.store.info.record
        if number > self._snapshot_of:
            with shield():
                self.store.write_snapshot(self._snapshot(number))
                self._note_snapshot(number)

    @property
    def has_changed(self) -> bool:
        """Whether something was saved since the cells were written."""
        return not self.store.read_only and self.store.info.record > self._snapshot_of

    def keep_cells(self, born: NDArray[np.int64]) -> None:
        """Writes cells of archived rows with these born numbers, int64 [n]; those that are on disk already stay."""
        archive = self._chat._archive
        if archive is None or self.store.read_only:
            return
        pieces = (piece for piece in archive if piece.number not in self.blobs and np.isin(piece.born, born).any())
        cells = {piece.number: archive.cells(piece.number) for piece in pieces}
        self.blobs.put({number: data for number, data in cells.items() if data})

    def close(self) -> None:
        """Saves what is left, cells included, and gives the session up."""
        try:
            if self._is_nothing():
                self._remove()
            elif not self._held:
                self.snapshot()
        except EdgeSirError as error:  # the turns are saved: they are replayed
            _log.warning("the cells of this session could not be saved: %s", error)
        finally:
            self.store.close()
            if self._owns_folder:
                self._folder.close()

    def _is_nothing(self) -> bool:
        """Whether nobody ever said anything in it: no user, no model, in no conversation."""
        if self.store.read_only or self._held or self._chat.session.turn or self._chat._unsent or self.problem:
            return False
        return not any(row.message.role != "system" for row in self.store.messages())

    def _remove(self) -> None:
        name = self.store.info.name
        self.store.close()
        self._folder.remove(name)

    # ---- looking -------------------------------------------------------------------------------

    def search(self, words: str) -> list[Found]:
        """What was ever said in this session and holds the words, newest first. Raises ConfigError for no words."""
        found = self._folder.search(words, session=self.store.info.name)
        where = self._chat._memory.where(one.number for one in found if one.state == ON_PATH)
        if self.store.read_only:  # what it forgot, and what another process said since, is on disk all the same
            here = {message.id: message.text for message in self._chat.transcript}
            where |= {one.number: ON_DISK for one in found if here.get(one.number) != one.text}
        return [replace(one, where=where[one.number]) if one.state == ON_PATH else one for one in found]

    def forget_aside(self, what: int | str, *, anyway: bool) -> bool:
        """Forgets it in what was taken back and in earlier conversations alone; whether there was any of it.

        anyway: it was elsewhere, so what was written of it must leave the disk. If it is nowhere, what left the rows
        before (a message that got no reply, taken back) leaves the files, too. Raises StoreError.
        """
        if self.store.read_only:
            return False
        forgetting = Forgetting().and_also(what)
        rows = [row for row in self.store.messages() if not row.on_path]
        if not anyway and not forgetting.texts_aside(self._chat.codec, rows, (), self.store.conversation):
            self.store.scrub()
            return False
        self._forgetting = forgetting
        return True

    # ---- a record ------------------------------------------------------------------------------

    def _is_at_rest(self) -> bool:
        turn = self._chat._turn
        is_open = turn is not None and turn.is_under_way
        session = self._chat.session
        return not (is_open or session.n_pending or session.is_recalling)

    def _gather(self) -> None:
        """What changed waits to be written."""
        if not self._is_at_rest():
            return
        try:
            state = self._state_now()
        except SessionError:  # it is poisoned: another process goes on from what is on disk
            return
        chat = self._chat
        changes, entries = self._changes.take(), chat._memory.evictions.since(self._n_entries)
        is_same = _packed(state) == self._state and chat.transcript.version == self._version
        if is_same and not (changes or entries or self._forgetting or self._cleared):
            return
        n_kept, new = self._follow(tuple(chat.transcript))
        state["chat"]["unsaid"] = sorted(self._unsaid)
        self._wait(state, changes, entries, n_kept, new)
        self._path = self._path[:n_kept] + new
        self._n_gathered += 1
        self._state, self._version = _packed(state), chat.transcript.version
        self._n_entries = len(chat._memory.evictions)
        self._forgetting, self._cleared, self._budget = None, False, chat.session.budget.n_cells

    def _follow(self, messages: tuple[Message, ...]) -> tuple[int, tuple[Message, ...]]:
        """How many messages of the path stay, and which are new.

        What was forgotten is reworded there, and what was taken back is not.
        """
        if self._cleared:
            self._path, self._unsaid = (), frozenset()
            return 0, messages
        if self._forgetting is None and (added := self._added(messages)) is not None:
            return len(self._path), added
        now = {message.id: message for message in messages}
        there = [message.id in now or message.id in self._unsaid for message in self._path]
        is_forgotten = self._forgetting is not None
        n_kept = len(there) if is_forgotten else _before_first_false(there)
        if is_forgotten:
            self._unsaid |= {message.id for message in self._path if message.id not in now}
            self._path = tuple(now.get(m.id, replace(m, text="")) for m in self._path)
        known = {message.id for message in self._path[:n_kept]}
        self._unsaid &= known
        return n_kept, tuple(message for message in messages if message.id not in known)

    def _added(self, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        """What follows the path in these messages; None if they do not begin with it.

        That is so in nearly every turn, and looking at each message takes longer with every turn.
        """
        n = len(self._path)
        is_longer = len(messages) >= n and all(map(operator.is_, self._path, messages))
        return messages[n:] if is_longer else None

    def _wait(
        self, state: Mapping[str, Any], changes: bytes, entries: Sequence[Entry], n_kept: int, new: tuple[Message, ...]
    ) -> None:
        chat = self._chat
        if self._forgetting is not None:
            entries = list(chat._memory.evictions)
        archived = None if chat._archive is None else chat._archive.take_changes()
        record = Record(
            n_kept=n_kept,
            messages=new,
            changes=changes,
            state=state,
            n_turns=chat.session.turn,
            entries=tuple(map(entry_to_bytes, entries)),
            pieces={} if archived is None else {n: piece.dump() for n, piece in archived.pieces.items()},
            dropped=() if archived is None else archived.dropped,
            lost=() if archived is None else archived.lost_cells,
            cleared=self._cleared,
            unsent=tuple(chat._unsent),
        )
        new_cells = archived.new_cells if self._on_disk and archived is not None else ()
        is_due = any(isinstance(entry, Restored) for entry in entries) or chat.session.budget.n_cells != self._budget
        forgetting = self._forgetting
        if forgetting is not None:
            forgetting = forgetting.with_texts({m.id: m.text for m in self._path})
        self._waiting.append(_Waiting(record, forgetting, new_cells, is_due, self.also))
        self.also = None

    def _state_now(self) -> dict[str, Any]:
        """All of the chat that no row of it holds. Raises SessionError if it is poisoned."""
        chat = self._chat
        return {
            "format": _FORMAT,
            "session": chat.session.scalars(),
            "chat": chat._scalars() | {"unsaid": sorted(self._unsaid)},
            "terms": self._terms,
            "cell_terms": chat.engine.spec.cell_terms,  # of all blobs
        }

    # ---- writing it ----------------------------------------------------------------------------

    def _write(self) -> None:
        while self._waiting:
            waiting = self._waiting[0]
            self._write_one(waiting, is_last=len(self._waiting) == 1)
            self._waiting.pop(0)
            self._written.append(waiting)
            self._unsent = waiting.record.unsent
            self.blobs.note_dropped((*waiting.record.dropped, *waiting.record.lost))
        self._note_unsent()

    def _write_cells(self) -> None:
        """What may be lost without losing a turn: cells that were evicted, and a snapshot if one is due."""
        written, self._written = self._written, []
        is_late = self._chat.engine.times.decode_s - self._decoded_s > _SHARE * self._resume_s
        try:
            self.blobs.put(self._cells_of(written))
            if (is_late or any(waiting.is_due for waiting in written)) and self._is_at_rest():
                self._write_snapshot()
        except StoreError as error:
            if not self._has_failed:
                _log.warning("%s; cells are not saved: after a restart they are read again", error)
            self._has_failed = True
            self._decoded_s = self._chat.engine.times.decode_s  # not at once again

    def _cells_of(self, written: Sequence[_Waiting]) -> dict[int, bytes]:
        """What these records bring to disk; what left the archive since, or was forgotten, is not there any more."""
        archive = self._chat._archive
        numbers = [number for waiting in written for number in waiting.new_cells]
        found = {} if archive is None else {number: archive.cells(number) for number in numbers}
        return {number: cells for number, cells in found.items() if cells}

    def _note_unsent(self) -> None:
        seen = self._chat.transcript.version, tuple(self._chat._unsent), self._n_gathered
        if seen == self._seen:  # as it is at every token of a reply
            return
        if (unsent := self._unsent_now()) != self._unsent:
            self.store.note_unsent(unsent)
            self._unsent = unsent
        self._seen = seen

    def _write_one(self, waiting: _Waiting, *, is_last: bool) -> None:
        if waiting.forgetting is None:
            self.store.write(waiting.record, also=waiting.also)
            return
        here = self._chat.session.ledger["born"]
        forgotten = forgotten_on_disk(self.store, waiting.record, waiting.forgetting, here, self._chat.codec)
        number = self.store.info.record + 1
        snapshot = self._snapshot_or_none(number) if is_last and self._is_at_rest() else None
        self.store.write(replace(waiting.record, forgotten=forgotten), snapshot, waiting.also)
        if snapshot is not None:
            self._note_snapshot(number)

    def _write_snapshot(self) -> None:
        number = self.store.info.record
        if number > self._snapshot_of and (snapshot := self._snapshot_or_none(number)) is not None:
            self.store.write_snapshot(snapshot)
            self._note_snapshot(number)

    def _snapshot_or_none(self, record: int) -> Snapshot | None:
        """None where the engine fails: a reply does not fail for that, and its turn is in a record."""
        try:
            return self._snapshot(record)
        except (EngineError, CapabilityError, MemoryError) as error:
            _log.warning("the cells of this session cannot be saved: %s", error)
            self._decoded_s = self._chat.engine.times.decode_s  # not at once again
            return None

    def _snapshot(self, record: int) -> Snapshot:
        session = self._chat.session
        state, cells = session.snapshot()
        return Snapshot(record, session.engine.spec.fingerprint, (state.dump(), cells))

    def _note_snapshot(self, record: int) -> None:
        self._snapshot_of, self._has_failed = record, False
        self._decoded_s = self._chat.engine.times.decode_s
        self._state = _packed(self._state_now())  # what it counted itself is no change

    def _unsent_now(self) -> tuple[str, ...]:
        """What the user said that is in no record. A message that is asked again is, while its reply is taken back."""
        messages, taken_back = tuple(self._chat.transcript), list[str]()
        if (added := self._added(messages)) is None:
            now, known = {m.id for m in messages}, {m.id for m in self._path}
            added = tuple(m for m in messages if m.id not in known)
            left = (m for m in self._path if m.id not in now and m.id not in self._unsaid)
            taken_back = [m.text for m in left if m.role == "user"]
        said = [m.text for m in added if m.role == "user"]
        unsent = []
        for text in (*said, *self._chat._unsent):
            if text in taken_back:
                taken_back.remove(text)
            else:
                unsent.append(text)
        return tuple(unsent)

    # ---- what went wrong -----------------------------------------------------------------------

    def _complain(self, error: StoreError) -> None:
        if not self.problem:
            _log.error("%s; what is said from now on is not saved", error)
        self.problem = str(error)

    def _relieve(self) -> None:
        if self.problem:
            _log.warning("all that was said is saved again")
        self.problem = ""


def _packed(state: Mapping[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


def _before_first_false(flags: Sequence[bool]) -> int:
    """How many there are before the first one that is false."""
    return next((i for i, flag in enumerate(flags) if not flag), len(flags))
