"""A session that speaks text: turns, roles, streaming, stop strings, the system prompt."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

import numpy as np

from edge_sir._owner import owned
from edge_sir._shield import shield
from edge_sir.chat.more import More, terms_with
from edge_sir.chat.resumed import said_in
from edge_sir.chat.stats import ChatStats, Figures
from edge_sir.chat.stream import ReplyStream
from edge_sir.chat.turn import Terms, Turn, drive
from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.core.recall_mode import RecallMode
from edge_sir.core.records import Eviction
from edge_sir.core.room import check_fit
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.engine import Engine, SamplingParams, TextCodec
from edge_sir.errors import ConfigError, EdgeSirError, StateError
from edge_sir.memory.memory import MemoryControl, TakenBack
from edge_sir.memory.transcript import Message, Transcript
from edge_sir.session import Positions, Session, SessionState
from edge_sir.text.boundaries import TextBorders
from edge_sir.text.calls import with_calls
from edge_sir.text.encoder import MessageEncoder, Part
from edge_sir.text.reply import Reply, ToolCall
from edge_sir.text.template import ChatTemplate
from edge_sir.text.tools import Tools
from edge_sir.trace.record import Trace

if TYPE_CHECKING:
    from edge_sir.chat.resuming import Resumption
    from edge_sir.chat.saving import Saver
    from edge_sir.recall.archive import Archive
    from edge_sir.recall.dense import SentenceEncoder
    from edge_sir.recall.recall import Recall

__all__ = ["Conversation", "Host", "scores_of"]

_Chat = TypeVar("_Chat", bound="Conversation")

_log = logging.getLogger(__name__)

_MESSAGE_ROLES = ("system", "user", "assistant", "tool")


class Host(Protocol):
    """Whoever makes engines for chats: a Model."""

    def open_engine(self, n_cells: int) -> Engine:
        """An empty engine of `n_cells` cells. Raises BudgetError where memory does not suffice."""

    def release(self, engine: Engine) -> None:
        """Takes an engine back."""


@owned("stats", "run_stats", alone=("close", "reply"))
class Conversation:
    """A conversation without end in `budget` cells.

    system: the system prompt; without one, what the template itself puts first takes its place. Either is
    pinned. on_evict: called with what was evicted. host: gave the engine, gets it back on `close`, and has larger ones
    for `set_budget`; without one the engine is the caller's. trace: gets a record of all that comes and goes, with
    every score. recall: what was evicted and matches a message comes back for its turn: its cells, or its text, which
    is read again; "off" for not at all. recall_encoder: finds also what means alike. wait_s: how many seconds a call
    waits while another thread's is at work, or a stream of its open; then, and by default at once, it raises
    SessionError. saver: saves all of it, and has what to go on from, if anything was said: then policy, budget,
    positions and system prompt are as they were. is_driven: nothing is decoded in here but turns that are streamed;
    what is said waits for whoever drives `session`. opened: a session with the same beginning, once that was decoded,
    whose cells are in `seq` already. tools: functions that the model may call, in OpenAI's form, as a list or its JSON
    text; they are described with the system prompt, and pinned as it is. Raises BudgetError if the system prompt leaves
    no room.
    """

    system_turn = 0  # where the system prompt stands
    _tries = 0  # replies to the running turn's message that were taken back
    _spoken = False  # whether anything follows turn 0
    _turn: Turn | None = None  # the last one that was begun
    _cut_turn = 0  # the last one whose reply was stopped before its end
    _saver: "Saver | None" = None

    def __init__(
        self,
        engine: Engine,
        codec: TextCodec,
        template: ChatTemplate,
        policy: Policy,
        budget: int,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        system: str | None = None,
        positions: Positions = "auto",
        seq: int = 0,
        on_evict: Callable[[Eviction], None] | None = None,
        host: Host | None = None,
        trace: Trace | None = None,
        wait_s: float = 0.0,
        recall: RecallMode = "off",
        recall_encoder: "SentenceEncoder | None" = None,
        saver: "Saver | None" = None,
        is_driven: bool = False,
        opened: SessionState | None = None,
        tools: Sequence[Mapping[str, Any]] | str | Tools | None = None,
    ) -> None:
        self.codec = codec
        self.template = template
        self.sampling = sampling or SamplingParams()
        self.max_tokens = max_tokens
        self.stop = tuple(stop)
        self._is_driven = is_driven
        going_on = None if saver is None else saver.going_on
        self.system = _prompt(system) if going_on is None else going_on.chat["system"]
        self.tools = Tools.of(tools if going_on is None else going_on.chat.get("tools", ""))
        self._encoder = MessageEncoder(codec, template, self.system, self.tools)
        if going_on is None:
            _check_opening(self._encoder, policy, budget, self.system)
            terms: dict[str, Any] = {"seq": seq, "borders": TextBorders(codec), "on_evict": self._note}
            terms |= {"also_score": scores_of(trace), "journal": trace}
            if opened is None:
                self.session = Session(engine, policy, Budget(budget), positions=positions, **terms)
            else:
                self.session = Session.from_state(opened, engine, policy, Budget(budget), **terms)
        else:
            self.session = going_on.session
            self.session.on_evict = self._note
        self.owner = self.session.owner
        self.owner.wait_s = wait_s
        self.on_evict = on_evict
        self.trace = trace
        self._host = host
        self._memory = MemoryControl(self.session, codec, lambda: self.system_turn if self._has_prompt else None)
        self._figures = Figures(self.session)
        self._recall: Recall | None = None
        self._archive: Archive | None = None
        if recall != "off" or going_on is not None:  # what was archived follows undo and forget, recalled or not
            self._archive = _archive_for(self.session, self._memory, recall, saver)
        if recall != "off" and self._archive is not None:
            self._recall = _recall_for(self.session, codec, self._memory, self._archive, recall_encoder)
        self._unsent: list[str] = []  # what the user said while an earlier turn could not be finished
        if trace is not None:
            spec, n_cells = self.session.policy.spec, self.session.budget.n_cells
            trace.start(policy=spec, budget=n_cells, model=engine.spec.model, scores=frozenset(SCORE_NAMES))
        self._saver = saver
        self._start(going_on)

    def _start(self, going_on: "Resumption | None") -> None:
        """Goes on from what was saved, or opens a conversation; from then on it is saved."""
        if going_on is not None:
            self._go_on(going_on)
            self.session.listen(self.trace)
        if self._saver is not None:
            self._saver.attach(self)
        if going_on is None:
            self._open()
            self._drain()
        self._settle_saver()

    @property
    def engine(self) -> Engine:
        """The engine that the conversation runs on."""
        return self.session.engine

    @property
    def transcript(self) -> Transcript:
        """What was said, by turn, as text; `save` writes it."""
        return self._memory.transcript

    def __enter__(self: _Chat) -> _Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the trace, and gives the engine back to its host; a second call does nothing.

        A reply that is still streamed is over: its stream raises SessionError. It may be called from everywhere: the
        step that another thread is in is waited for.
        """
        self.owner.close(self._end)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: nothing goes on, and the memory can still be looked at."""
        return bool(self.owner.over)

    def _end(self) -> None:
        if self._saver is not None:
            self._saver.close()
        self._drop_turn("the chat is closed")
        if self._recall is not None:
            self._recall.close()
        if self.trace is not None:
            self.trace.close()
        if self._host is not None:
            self._host.release(self.engine)

    def _open(self) -> None:
        """Queues turn 0, unless it is there: what stands before the first message, pinned as a whole."""
        ledger = self.session.ledger
        number = int(ledger["message"][0]) if len(ledger) else self._feed(self._encoder.opening(), pinned=True)
        if self.system is not None:
            self.transcript.add(0, "system", self.system, number)

    # ---- what is saved -------------------------------------------------------------------------

    def _scalars(self) -> dict[str, Any]:
        """What of the chat neither its session nor a row of its memory holds, as JSON has it."""
        decode_s, score_s = self._figures.seconds
        return {
            "system": self.system,
            "tools": self.tools.text,
            "system_turn": self.system_turn,
            "tries": self._tries,
            "spoken": self._spoken,
            "decode_s": decode_s,
            "score_s": score_s,
            "cut_turn": self._cut_turn,
        }

    def _go_on(self, going_on: "Resumption") -> None:
        """Takes over what was saved beside the session."""
        stored, chat = going_on.stored, going_on.chat
        self.system_turn, self._tries, self._spoken = chat["system_turn"], chat["tries"], chat["spoken"]
        self._cut_turn = chat.get("cut_turn", 0)
        for message in (row.message for row in said_in(stored)):
            self.transcript.add(message.turn, message.role, message.text, message.id)
        self._memory.evictions.load(going_on.entries)
        if self._archive is not None:
            _load_archive(self._archive, stored.pieces)
        self._unsent = list(stored.unsent)
        self.engine.times.decode_s, self.engine.times.score_s = chat["decode_s"], chat["score_s"]

    # ---- whole messages ------------------------------------------------------------------------

    def add(self, role: str, text: str, *, pinned: bool = False, calls: Sequence[ToolCall] = ()) -> int:
        """Takes a whole message in, without a reply; returns its turn.

        role: system, user, assistant or tool. A user message starts a turn, and so does what follows a system prompt;
        a system message is always pinned. calls: of tools, that an assistant's message makes. Raises BudgetError, with
        nothing changed, for a pinned message that does not fit, and for any where the policy never evicts.
        """
        if role not in _MESSAGE_ROLES:
            raise ConfigError(f"a message's role is one of {', '.join(_MESSAGE_ROLES)}, not '{role}'")
        return self._add(role, text, pinned=pinned or role == "system", calls=calls)

    def add_note(self, text: str) -> int:
        """Takes a system message in that is no system prompt; returns its turn.

        It belongs to the running turn, and is evicted, taken back and forgotten as what a user says. As `add`.
        """
        return self._add("system", text, is_note=True)

    def _add(
        self, role: str, text: str, *, pinned: bool = False, is_note: bool = False, calls: Sequence[ToolCall] = ()
    ) -> int:
        self._check_open()
        _check_text(text)
        self._close_open_reply()
        if calls and role != "assistant":
            raise ConfigError(f"a message of a {role} calls no tools")
        parts = self._encoder.message(role, text, first=not self._spoken, calls=calls)
        if is_note:
            parts = [("user" if part == "system" else part, tokens) for part, tokens in parts]
        if pinned:
            self.session.room.check_pins(_n_tokens(parts), f"this {role} message")
        self.session.room.check_incoming(self.session.n_pending + _n_tokens(parts))
        with shield():
            # A system prompt has its turn for itself: neither undo nor forget reaches it.
            is_said = role != "system" or is_note
            if role == "user" or (is_said and self.session.turn == self.system_turn):
                self._begin_turn()
            self.transcript.add(self.session.turn, role, with_calls(text, calls), self._feed(parts, pinned))
            self._spoken = True
        self._settle_saver()
        self._drain()
        if role == "assistant":
            self.session.end_turn()
        return self.session.turn

    def truncate(self, turn: int) -> int:
        """Drops everything from `turn` on, as if never said; returns the number of tokens dropped.

        What was evicted meanwhile is put back, as by `Chat.undo`.
        """
        return self._take_back(turn).n_tokens

    def go_back(self, message: int) -> TakenBack:
        """Drops all that was said after the message with this id of the transcript, as if never said.

        The system prompt in force stays. What older turns gave up since the next turn began is put back, as by
        `truncate`. A turn that is under way is over. Raises ConfigError if there is no such message.
        """
        self._check_open()
        found = next((m for m in self.transcript if m.id == message), None)
        if found is None:
            raise ConfigError(f"this conversation has no message {message}")
        if not self._goes_on_after(found):
            return TakenBack()
        has_prompt = self._has_prompt and self.system_turn > found.turn
        with shield():
            self._drop_turn("its turn was taken back")
            taken = TakenBack()
            if self.session.turn > found.turn:
                first = self._memory.evictions.first_of(found.turn + 1)
                taken = self._memory.take_back(found.turn + 1, first)
            if self._goes_on_after(found):
                self._memory.take_back_after(message)
            if has_prompt:  # the prompt in force went with the tail
                self._put_system(self._encoder, self.system)
        self._drain()
        return taken

    def _goes_on_after(self, message: Message) -> bool:
        """Whether anything but the system prompt in force came after it."""
        prompt_turn = self.system_turn if self._has_prompt else 0
        ledger = self.session.ledger
        is_later = (ledger["message"] > message.id) & ((ledger["turn"] != prompt_turn) | (prompt_turn == 0))
        is_said = any(m.id > message.id and not (prompt_turn and m.turn == prompt_turn) for m in self.transcript)
        is_running = self._turn is not None and self._turn.phase != "done"
        return is_running or is_said or bool(is_later.any()) or self.session.turn > max(message.turn, prompt_turn)

    def _take_back(self, turn: int) -> TakenBack:
        self._check_open()
        if turn > self.session.turn:
            return TakenBack()
        with shield():  # cells, turn and transcript agree, or the next message is read into another turn
            self._drop_turn("its turn was taken back")
            taken = self._memory.take_back(turn, self._memory.evictions.first_of(turn))
            self._spoken = self.session.turn > 0
            if turn <= self.system_turn and self._has_prompt:  # the prompt in force went with the tail
                self._put_system(self._encoder, self.system)
        self._drain()
        return taken

    # ---- turns ---------------------------------------------------------------------------------

    def reply(
        self,
        text: str,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        **more: Unpack[More],
    ) -> Reply:
        """One turn: takes the user's message in and returns the whole reply. As `stream`."""
        stream = self.stream(text, sampling=sampling, max_tokens=max_tokens, stop=stop, **more)
        for _ in stream:
            pass
        return stream.reply

    def stream(
        self,
        text: str,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        **more: Unpack[More],
    ) -> ReplyStream:
        """One turn: yields the reply as it comes; afterwards the stream's `reply` has all of it.

        sampling, max_tokens, stop: for this turn, instead of the chat's own. Another call on the chat ends a reply
        that is still streamed; going on with its stream raises SessionError.

        more: what else the reply is asked for, by name. grammar: GBNF that it fits, as far as max_tokens lets it
        come to an end. json_schema: a JSON schema, as a mapping or JSON text, that it fits. logit_bias: what is added
        to a token's logit, by token. top_logprobs: how many of the likeliest tokens are kept beside each drawn one in
        `Reply.drawn`, 0 to 100. tool_choice: "auto", "none" for no calls, "required" for one call and nothing else, of
        the tool that `tool` names, if it does. Raises ConfigError, before anything is read, for what cannot be had.
        """
        return self._stream(lambda: self.turn(text, sampling=sampling, max_tokens=max_tokens, stop=stop, **more))

    def turn(
        self,
        text: str,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        begun: str = "",
        **more: Unpack[More],
    ) -> Turn:
        """One turn, for the caller to drive: the message is fed, nothing is decoded yet. As `stream`.

        begun: how the reply begins; that is read, and what is written goes on from it.
        """
        self._check_open()
        _check_text(text)
        terms = self._terms(sampling, max_tokens, stop, begun, **more)
        self._unsent.append(text)
        return self._begin(terms, 0, begun)

    def answer(
        self,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        begun: str = "",
        is_again: bool = False,
        **more: Unpack[More],
    ) -> Turn:
        """A reply to what was said last and has none, in the same turn, for the caller to drive. As `turn`.

        What was said is a user's message whose reply was taken back (`go_back`), or anything that `add` took in.
        is_again: another reply was there before, and other draws are made. Raises ConfigError if nothing was said.
        """
        self._check_open()
        if not self._spoken:
            raise ConfigError("nothing was said yet that could be answered")
        terms = self._terms(sampling, max_tokens, stop, begun, **more)
        return self._begin(terms, self._tries + 1 if is_again else 0, begun)

    @property
    def awaits(self) -> bool:
        """Whether something the user said was not read to its end: an error or Ctrl-C came first.

        It goes in with the next message.
        """
        unread = self._turn is not None and self._turn.phase == "reading" and self.session.n_pending > 0
        return bool(self._unsent) or unread

    def _stream(self, begin: Callable[[], Turn]) -> ReplyStream:
        return ReplyStream(self.owner, lambda: self.engine, begin, self._settle)

    def _terms(
        self,
        sampling: SamplingParams | None,
        max_tokens: int | None,
        stop: Sequence[str] | None,
        begun: str = "",
        **more: Unpack[More],
    ) -> Terms:
        n_most = self.max_tokens if max_tokens is None else max_tokens
        texts = self.stop if stop is None else (stop,) if isinstance(stop, str) else stop
        if not isinstance(n_most, int | np.integer):  # found later, a reply would be begun that nobody ends
            raise ConfigError(f"max_tokens is a whole number, not {n_most!r}")
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"stop is a text or a list of texts, not {texts!r}")
        if not isinstance(sampling, SamplingParams | None):
            raise ConfigError(f"sampling is a SamplingParams, not {type(sampling).__name__}")
        terms = Terms(sampling or self.sampling, n_most, tuple(texts))
        return terms_with(terms, more, self.tools, self.engine.spec.n_vocab, begun)

    def _begin(self, terms: Terms, tries: int, begun: str = "") -> Turn:
        """Begins a turn with all that is unsent and opens the reply to it; nothing is decoded yet."""
        self._check_open()
        self._close_open_reply()
        encoder, spoken, session = self._encoder, self._spoken, self.session
        n_evicted = session.stats.evicted
        # A paper policy reserves the reply's cells beforehand; a quarter of the budget at most.
        n_reply = min(terms.max_tokens, session.budget.n_cells // 4) + len(encoder.assistant_close)
        try:
            # A long paste takes a while to encode; stopped there, it is still unsent and nothing else has changed.
            said = self._encoded(self._unsent, spoken)
            opening = encoder.reply_opening()
            self._check_room(said, opening)
        except EdgeSirError:  # what is refused now would be refused again with the next message
            self._unsent.clear()
            raise
        asked = "\n".join(text for text, _ in said) or self._said_last()
        with shield():
            if said or session.turn == self.system_turn:
                self._begin_turn(n_reply)
            for text, parts in said:
                self.transcript.add(session.turn, "user", text, self._feed(parts))
            self._unsent.clear()
            self._tries = tries
            self._spoken = True
            turn, reply_id = session.turn, self._feed(opening)
            self._turn = Turn(
                session,
                self.codec,
                replace(terms, sampling=self._seeded(terms.sampling)),
                encoder,
                reply_id,
                n_evicted_before=n_evicted,
                on_written=lambda text: self._note_reply(turn, text, reply_id),
                begun=begun,
            )
            self.owner.hold(self._turn)
        self._settle_saver()
        if self._recall is not None:
            self._turn.recalled = self._recall.begin(asked, encoder)
        return self._turn

    def _said_last(self) -> str:
        """What a reply that no new message asks for is asked by."""
        last = self.transcript.last
        return "" if last is None or last.role in ("assistant", "system") else last.text

    def _note_reply(self, turn: int, text: str, id: int) -> None:
        self.transcript.add(turn, "assistant", text, id)
        if self._turn is not None and self._turn.finish == "cancelled":
            self._cut_turn = turn
        elif self._cut_turn == turn:  # it was asked for again
            self._cut_turn = 0

    def _encoded(self, texts: Sequence[str], spoken: bool) -> list[tuple[str, list[Part]]]:
        """User messages with their parts. spoken: something was said before them."""
        return [(t, self._encoder.message("user", t, first=not (i or spoken))) for i, t in enumerate(texts)]

    def _check_room(self, said: Sequence[tuple[str, list[Part]]], opening: Sequence[Part], n_freed: int = 0) -> None:
        """Raises BudgetError where the policy never evicts and no reply to this, of one token, would fit."""
        n = sum(_n_tokens(parts) for _, parts in said) + _n_tokens(opening) + 1 + len(self._encoder.assistant_close)
        self.session.room.check_incoming(self.session.n_pending + n, n_freed=n_freed)

    def _settle(self, turn: Turn) -> None:
        """Ends a reply that was begun with its marker, however it ended, and evicts its thoughts."""
        if turn.is_open:
            turn.cancel()
            for _ in drive(turn, self.engine):
                pass

    def _close_open_reply(self) -> None:
        """Ends what is still streamed: nothing else may go on in the middle of a turn."""
        turn = self._turn
        if turn is None or turn.phase == "done":
            return
        turn.cancel()
        for _ in drive(turn, self.engine):
            pass
        turn.refuse("another call ended this reply")

    def _drop_turn(self, why: str) -> None:
        """The running turn, if there is one, will not be ended."""
        if self._turn is not None and self._turn.phase != "done":
            self._turn.refuse(why)
        self._turn = None

    # ---- beginnings ----------------------------------------------------------------------------

    def clear(self) -> None:
        """Begins a new conversation with the same system prompt; what is counted begins anew, too."""
        self._check_open()
        turns = self.session.turn
        with shield():
            self._begin_anew()
            self._figures.restart(turns)
            self._unsent.clear()
        self._drain()

    def _begin_anew(self) -> None:
        """Empties the conversation and queues turn 0 again.

        To be called in a shield: emptied and not opened, the next message would go in with no system prompt.
        """
        self.session.reset()
        self._memory.clear()
        if self._recall is not None:
            self._recall.clear()
        self._drop_turn("the conversation was begun anew")
        self._spoken, self.system_turn, self._cut_turn = False, 0, 0
        self._open()

    def set_system(self, text: str, tools: Sequence[Mapping[str, Any]] | str | Tools | None = None) -> None:
        """Gives the conversation another system prompt; the old one is removed. tools: other tools, None for the same.

        In mid-conversation the new one stands where it was given, in a turn of its own, and is pinned.
        An empty one just removes the old one. Raises BudgetError, with nothing changed, if it does not fit.
        """
        self._check_open()
        found = self.tools if tools is None else Tools.of(tools)
        self._close_open_reply()
        system = _prompt(text)
        self._put_system(MessageEncoder(self.codec, self.template, system, found), system)
        self._drain()

    def set_tools(self, tools: Sequence[Mapping[str, Any]] | str | Tools | None) -> None:
        """Gives the conversation other tools, as `set_system` gives it another prompt: all of that is read anew.

        None, or an empty list, for no tools. Raises ConfigError, and BudgetError, with nothing changed.
        """
        self.set_system(self.system or "", Tools.of(tools))

    @property
    def _has_prompt(self) -> bool:
        """Whether there is a system prompt, or tools, which stand where it does."""
        return self.system is not None or bool(self.tools)

    def _put_system(self, encoder: MessageEncoder, system: str | None) -> None:
        """As `set_system`; the new prompt is queued, not decoded."""
        if not self._spoken:
            _check_opening(encoder, self.session.policy, self.session.budget.n_cells, system)
            with shield():
                self._encoder, self.system, self.tools = encoder, system, encoder.tools
                self._begin_anew()
            return
        parts = encoder.prompt_again()
        old = self._memory.system_rows(self.system_turn)
        self.session.room.check_pins(_n_tokens(parts), "this system prompt", n_freed=len(old))
        self.session.room.check_incoming(self.session.n_pending + _n_tokens(parts), n_freed=len(old))
        with shield():
            self._encoder, self.system, self.tools, self.system_turn = encoder, system, encoder.tools, 0
            self.session.forget(old)
            if parts:
                self._begin_turn()
                self.system_turn = self.session.turn
                number = self._feed(parts, pinned=True)
                if system is not None:
                    self.transcript.add(self.session.turn, "system", system, number)

    # ---- helpers -------------------------------------------------------------------------------

    def _check_open(self) -> None:
        self.owner.check()

    def _settle_saver(self) -> None:
        """In the middle of a call: what the user said is on disk before it is read, which takes a while."""
        if self._saver is not None:
            self._saver.settle()

    def _note(self, event: Eviction) -> None:
        self._memory.evictions.note(event, self.session.policy)
        if self.on_evict is not None:
            with self.owner.reporting():
                self.on_evict(event)

    def _begin_turn(self, n_reply: int = 0) -> None:
        self._tries = 0
        self.session.begin_turn(n_reply)

    def _feed(self, parts: Sequence[Part], pinned: bool = False) -> int:
        """Queues a message and returns its number."""
        number = self.session.start_message()
        for role, tokens in parts:
            self.session.feed(tokens, role, pinned=pinned)
        return number

    def _drain(self) -> None:
        while not self._is_driven and self.session.step():
            pass

    def _seeded(self, params: SamplingParams) -> SamplingParams:
        """The sampling of this turn, seeded from (seed, turn), so that a resumed conversation draws the same."""
        entropy = (params.seed, self.session.turn, self._tries)[: 3 if self._tries else 2]
        seed = np.random.SeedSequence(entropy).generate_state(1)[0]
        return replace(params, seed=int(seed))

    @property
    def archive_bytes(self) -> int:
        """Bytes that evicted cells take outside the cache, with their rows and the index of what was said."""
        return 0 if self._recall is None else self._recall.n_bytes

    def stats(self) -> ChatStats:
        """The figures of this conversation so far."""
        return self._figures.now(self.archive_bytes)

    def run_stats(self) -> ChatStats:
        """The figures since the chat was opened: those of conversations that were cleared are in them."""
        return self._figures.run(self.archive_bytes)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise ConfigError(f"a message is text, not {type(text).__name__}")


def scores_of(trace: Trace | None) -> frozenset[str]:
    """The scores that a chat asks for beside those of its policy: looking at a memory, or another policy, needs one."""
    return frozenset({"surprisal"}) if trace is None else frozenset(SCORE_NAMES)


def _archive_for(session: Session, memory: MemoryControl, mode: RecallMode, saver: "Saver | None") -> "Archive":
    """An archive, of which `memory` takes out what the conversation loses."""
    # With recall's database it takes a tenth of the time in which edge_sir is imported.
    from edge_sir.recall.archive import Archive

    disk = None if saver is None else saver.blobs
    memory.archive = archive = Archive(session, cells=mode == "cells", disk=disk)
    return archive


def _load_archive(archive: "Archive", pieces: Mapping[int, bytes]) -> None:
    """What is damaged on disk is left out: it stays in the transcript, and cannot be recalled."""
    from edge_sir.recall.piece import piece_if_whole

    try:
        archive.load(pieces)
    except StateError as error:
        _log.warning("a part of what was evicted cannot be recalled any more: %s", error)
        archive.load({number: data for number, data in pieces.items() if piece_if_whole(data, number) is not None})


def _recall_for(
    session: Session,
    codec: TextCodec,
    memory: MemoryControl,
    archive: "Archive",
    encoder: "SentenceEncoder | None",
) -> "Recall":
    from edge_sir.recall.recall import Recall

    return Recall(session, codec, memory.transcript, archive, encoder=encoder)


def _prompt(text: str | None) -> str | None:
    """None for an empty prompt too: a message that says nothing would still be decoded, pinned and saved."""
    return text if text and text.strip() else None


def _check_opening(encoder: MessageEncoder, policy: Policy, budget: int, system: str | None) -> None:
    n = _n_tokens(encoder.opening())
    whose = ("", "") if system is None else (f"the system prompt ({n} cells)", "shorten it")
    check_fit(policy, budget, n, *whose, alone=True)


def _n_tokens(parts: Sequence[Part]) -> int:
    return sum(len(tokens) for _, tokens in parts)
