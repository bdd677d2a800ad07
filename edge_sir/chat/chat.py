"""A conversation, with all that a person may ask of its memory: view, find, pin, forget, undo, other terms."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

import numpy as np

from edge_sir._owner import Owner, owned
from edge_sir._shield import shield
from edge_sir.chat.conversation import Conversation, Host
from edge_sir.chat.more import More
from edge_sir.chat.resumed import Begun, Resumed
from edge_sir.chat.stream import ReplyStream
from edge_sir.chat.turn import Terms, Turn
from edge_sir.engine import Engine, SamplingParams
from edge_sir.errors import BudgetError, ConfigError, EdgeSirError, SessionError
from edge_sir.memory.evictions import EvictionLog, Loss
from edge_sir.memory.passages import Match, Passage
from edge_sir.memory.transcript import Message
from edge_sir.memory.view import Memory
from edge_sir.policies import from_spec
from edge_sir.text.boundaries import without
from edge_sir.text.reply import Recalled

if TYPE_CHECKING:
    from edge_sir.chat.saving import Saver
    from edge_sir.store.values import Found

__all__ = ["Chat", "RegeneratedStream", "Undone"]


@dataclass(frozen=True, slots=True)
class Undone:
    """What `undo` took back.

    messages: what was said in it. n_tokens: resident ones removed. lost: what older turns gave up for it, which
    does not come back. restored: what of that is back, as tokens of what was said by turn.
    """

    turn: int
    messages: tuple[Message, ...]
    n_tokens: int
    lost: tuple[Loss, ...]
    restored: Mapping[int, int] = field(default_factory=dict)


class RegeneratedStream(ReplyStream):
    """Another reply to the same message. undone: what was taken back for it, once the stream has begun."""

    def __init__(
        self,
        owner: Owner,
        engine: Callable[[], Engine],
        begin: Callable[[Callable[[Undone], None]], Turn],
        settle: Callable[[Turn], None],
    ) -> None:
        self.undone: Undone | None = None
        super().__init__(owner, engine, lambda: begin(self._note), settle)

    def _note(self, undone: Undone) -> None:
        self.undone = undone


@owned("memory", "has_pins", "find", "matches", "n_evicted", "search")
class Chat(Conversation):
    """A conversation without end, as `Conversation`, with all that a person may ask of its memory."""

    pins_cleared = False  # whether the conversation before this one had pins
    resumed: Resumed | None = None  # how it went on with its session
    begun: Begun | None = None  # the session that it began

    # ---- memory --------------------------------------------------------------------------------

    def memory(self) -> Memory:
        """What is resident, what left the cache and why, by turn."""
        return self._memory.view()

    @property
    def evictions(self) -> EvictionLog:
        """The record of what left the cache in this conversation, when and why."""
        return self._memory.evictions

    @property
    def has_pins(self) -> bool:
        """Whether something is pinned beside system prompts; transcripts do not hold that."""
        return self._memory.has_pins

    def clear(self) -> None:
        """Begins a new conversation with the same system prompt; what is counted begins anew, too."""
        self.pins_cleared = self.has_pins
        super().clear()

    def find(self, what: int | str) -> tuple[Passage, ...]:
        """What is resident of a turn, or the sentences that hold these words; ConfigError if nothing is."""
        return self._memory.find(what)

    def matches(self, text: str) -> tuple[Match, ...]:
        """How much of these words is resident, for every sentence that held them when it was said."""
        return self._memory.matches(text)

    def n_evicted(self, what: int | str) -> int:
        """How many tokens of a turn, or of the sentences that held these words, made room; `forget` clears that."""
        return self._memory.n_evicted(what)

    def pin(self, what: int | str) -> tuple[Passage, ...]:
        """Pins what is resident of a turn, or the sentences that hold these words, and returns that.

        Where the chat recalls, what was evicted of it is put back first, as far as the archive has its cells. Raises
        ConfigError if nothing is resident, BudgetError if the pins would leave no room for a turn.
        """
        if self._recall is not None:
            self._check_open()
            self._close_open_reply()
        return self._memory.pin(what)

    def recall(self, what: int | str) -> tuple[Recalled, ...]:
        """Puts back what was evicted of a turn, or what matches a text, for good, and returns that.

        The policy makes room for it. It is resident as all else, but while the next turn runs the policy spares it
        where anything else can make room; after that it competes by its value, so /pin what must stay. Of a text the
        same comes back as for a message that asks it. Empty if all of it is resident. Raises ConfigError if the chat
        does not recall, nothing was said that matches, or its cells are not kept; BudgetError if it does not fit.
        """
        self._check_open()
        if self._recall is None:
            raise ConfigError("this chat does not recall: start it with --recall cells")
        self._close_open_reply()
        if not self.session.policy.evicts:
            raise ConfigError(f"{self.session.policy.spec} makes no room for what comes back; /policy sir does")
        found = self._recall.find(what)
        born, turn = np.concatenate([wanted.born for wanted in found]), found[0].recalled.turn
        self._memory.recall(born)
        here = self.session.ledger["born"]
        back = tuple(wanted.recalled for wanted in found if np.isin(wanted.born, here).any())
        if not back and len(born):
            raise ConfigError(f"what was evicted of turn {turn} cannot be put back here; say it again")
        if not back and self._memory.is_lost(turn):
            raise ConfigError(f"what was evicted of turn {turn} is not kept with its cells; say it again")
        return back

    def unpin(self, what: int | str | None = None) -> tuple[Passage, ...]:
        """Takes the pins off a turn or sentences (None: all but system prompts), and returns what was pinned."""
        return self._memory.unpin(what)

    def forget(self, what: int | str) -> tuple[Passage, ...]:
        """Removes a turn, or every sentence that holds these words, for good, and returns what was removed.

        Cells, ledger and transcript lose it, pinned or not, and so does a message that is still to go in. What the
        replies that came later took in from it stays in those: forget them too. Raises ConfigError if nobody said it.
        """
        self._check_open()
        self._close_open_reply()
        is_unsent = isinstance(what, str) and self._forget_unsent(what)
        try:
            return self._memory.forget(what)
        except ConfigError:
            is_aside = self._saver is not None and self._saver.forget_aside(what, anyway=is_unsent)
            if not (is_unsent or is_aside):
                raise
            return ()

    def _forget_unsent(self, words: str) -> bool:
        left = list(filter(None, (without(self.codec, text, words) for text in self._unsent)))
        is_there, self._unsent = left != self._unsent, left
        return is_there

    def undo(self) -> Undone:
        """Takes the last turn back: the user's message and the reply. Raises ConfigError if there is none.

        Where the chat recalls, what older turns gave up since it began is put back, as far as the archive has its cells
        and the budget holds it. What was forgotten on request stays so.
        """
        self._check_open()
        if self._unsent:  # an error kept it from being read at all
            said = tuple(Message(self.session.turn + 1, "user", text) for text in self._unsent)
            self._unsent.clear()
            return Undone(self.session.turn + 1, said, 0, ())
        turn = self.session.turn
        messages = self.transcript.of(turn)
        if turn == 0:
            raise ConfigError("nothing was said yet, so there is nothing to undo")
        if turn == self.system_turn:
            raise ConfigError(f"turn {turn} changed the system prompt; change it again instead")
        with shield():
            taken = self._take_back(turn)
            return Undone(turn, messages, taken.n_tokens, taken.lost, taken.restored)

    def regenerate(
        self,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        **more: Unpack[More],
    ) -> "RegeneratedStream":
        """Takes the last reply back and streams another one to the same message; its `undone` says what that cost.

        Other draws are made; at temperature 0 only another memory can change the words. more: as in `stream`. Raises
        ConfigError.
        """
        self._check_open()
        messages = self.transcript.of(self.session.turn)
        said = [m.text for m in messages if m.role == "user"]
        if not self._unsent and (not said or len(said) + sum(m.role == "assistant" for m in messages) < len(messages)):
            raise ConfigError("the last turn holds no message of yours that could be answered again")
        terms, turn = self._terms(sampling, max_tokens, stop, **more), self.session.turn

        def begin(note: Callable[[Undone], None]) -> Turn:
            return self._again(turn, said, terms, note)

        return RegeneratedStream(self.owner, lambda: self.engine, begin, self._settle)

    def _again(self, of: int, said: Sequence[str], terms: Terms, note: "Callable[[Undone], None]") -> Turn:
        if self._unsent:  # an error kept it from being answered at all
            return self._begin(terms, 0)
        if self.session.turn != of:
            raise SessionError(f"the conversation went on after turn {of}; ask for another reply again")
        tries = self._tries + 1
        n_freed = self.session.n_pending + int((self.session.ledger["turn"] >= of).sum())
        self._check_room(self._encoded(said, of > 1), self._encoder.reply_opening(), n_freed)
        with shield():  # what was said is in the transcript or unsent, never in neither
            note(self.undo())
            self._unsent += said
        return self._begin(terms, tries)

    def load(self, messages: Iterable[Message]) -> int:
        """Reads a transcript (`read_transcript`) into an empty conversation and returns how many turns that are.

        Nothing is generated. Raises ConfigError if something was said already, and what a message is refused with; the
        conversation is empty then, as before, and so it is after Ctrl-C.
        """
        self._check_open()
        if self.session.turn > 0:
            n = self.session.turn
            raise ConfigError(f"this conversation has {n} turn{'s' * (n != 1)} already; /clear it first")
        before = self._encoder, self.system
        try:
            for message in messages:
                if message.role == "system":
                    self.set_system(message.text)
                else:
                    self.add(message.role, message.text)
        except (EdgeSirError, KeyboardInterrupt):
            with shield():
                self._encoder, self.system = before
                self._begin_anew()
                self._figures.restart()
            self._drain()
            raise
        return self.session.turn

    # ---- its session on disk -------------------------------------------------------------------

    @property
    def is_saved(self) -> bool:
        """Whether it is a session on disk that each turn is saved in."""
        return self._saver is not None and not self._saver.store.read_only

    @property
    def is_looking(self) -> bool:
        """Whether it is a session on disk that nothing is saved in (`read_only`)."""
        return self._saver is not None and self._saver.store.read_only

    def search(self, words: str) -> list["Found"]:
        """The messages of its session that hold all words, newest first, those that were taken back included.

        "several words" in quotes are one. Each says where its words are (`MemoryControl.where`). Raises ConfigError for
        no words, and for a chat that is no session. Of a chat that only looks (`is_looking`) it finds what is on disk.
        """
        return self._kept().search(words)

    def snapshot(self) -> None:
        """Writes the cells of its session to disk, so that going on from there needs nothing decoded again.

        Closing the chat does that, too. Nothing is written if it was since they changed, or a turn is under way. Raises
        ConfigError for a chat that is no session, StoreError if the disk fails.
        """
        self._kept().snapshot()

    def keep_evicted_since(self, message: int) -> None:
        """What was evicted since the message with this id was said goes to disk, as far as its cells are kept.

        So whoever goes on with a copy of the session from there has it again. Raises StoreError if the disk fails,
        ConfigError for a chat that is no session.
        """
        turn = next((m.turn for m in self.transcript if m.id == message), self.session.turn)
        log = self.evictions
        self._kept().keep_cells(log.away(log.first_of(turn + 1))["born"])

    def drop_unsent(self) -> None:
        """What the user said and got no reply to does not go in with the next message."""
        self._check_open()
        self._unsent.clear()

    def _kept(self) -> "Saver":
        if self._saver is None:
            raise ConfigError("this chat is no session: start it with --session NAME")
        return self._saver

    # ---- other terms ---------------------------------------------------------------------------

    def set_policy(self, spec: str) -> int:
        """Evicts by another policy, `name[:key=value,...]`, from now on.

        Returns how many resident tokens lack a score that it needs: it ranks them as unknown.
        Raises ConfigError for an unknown one, BudgetError if the pins leave it no room.
        """
        policy = from_spec(spec)
        self._check_open()
        self._close_open_reply()  # by the policy that made room for it
        self.session.set_policy(policy)
        ledger = self.session.ledger
        return max((int(np.isnan(ledger[name][1:]).sum()) for name in policy.needs), default=0)

    def set_budget(self, n_cells: int) -> int:
        """Changes the budget; lowered, what no longer fits is evicted at once. Returns how many tokens that are.

        Raised, where the chat recalls, what was evicted last is put back as far as the archive has its cells, up to the
        low-water mark: the rest is room for the next turn. Lowered again before that, what came back leaves first.
        Beyond the cells that the engine was opened with, another is opened and the cells are carried over; lowering
        gives no memory back. Raises BudgetError, with nothing changed.
        """
        self._check_open()
        self._close_open_reply()
        spec = self.engine.spec
        if spec.n_ctx_seq < n_cells <= (spec.n_ctx_train or n_cells):
            if self._host is None:
                raise BudgetError(f"the engine was opened with {spec.n_ctx_seq} cells; give {spec.n_ctx_seq} or less")
            self._move_to(self._host.open_engine(n_cells), self._host)
        with shield():
            is_more = n_cells > self.session.budget.n_cells
            with self.evictions.lowering():
                n_evicted = self.session.set_budget(n_cells)
            if is_more:
                self._memory.fill()
        return n_evicted

    def _move_to(self, engine: Engine, host: Host) -> None:
        old = self.engine
        try:
            self.session.move_to(engine)
        except BaseException:
            if engine is not self.engine:
                host.release(engine)
            raise
        engine.times.decode_s += old.times.decode_s
        engine.times.score_s += old.times.score_s
        host.release(old)
