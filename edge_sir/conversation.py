"""A session that speaks text: turns, roles, streaming, stop strings, the system prompt."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from edge_sir import amend
from edge_sir._shield import shield
from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.core.records import Eviction
from edge_sir.core.room import check_fit
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.engine import Engine, Sampler, SamplingParams, TextCodec
from edge_sir.errors import ConfigError
from edge_sir.figures import ChatStats, Figures
from edge_sir.memory.memory import MemoryControl
from edge_sir.memory.transcript import Transcript
from edge_sir.messages import MessageEncoder, Part
from edge_sir.policies import to_spec
from edge_sir.reply import Finish, Piece, Reply, ReplyText
from edge_sir.session import Positions, Session
from edge_sir.template import ChatTemplate
from edge_sir.text.boundaries import TextBorders
from edge_sir.trace import Trace

__all__ = ["Conversation"]

_Chat = TypeVar("_Chat", bound="Conversation")

_MESSAGE_ROLES = ("system", "user", "assistant", "tool")


class Conversation:
    """A conversation without end in `budget` cells.

    system: the system prompt; without one, what the template itself puts first takes its place. Either is
    pinned. on_evict: called with what was let go. owns_engine: close it with the chat. reopen: makes an engine
    of more cells on the same model, for `set_budget`. on_close: called after the engine was closed. trace: gets a
    record of all that comes and goes, with every score. Raises BudgetError if the system prompt leaves no room.
    """

    last_reply: Reply | None = None
    system_turn = 0  # where the system prompt stands
    _tries = 0  # replies to the running turn's message that were taken back
    _spoken = False  # whether anything follows turn 0
    _reply_state: Literal["closed", "open", "closing"] = "closed"
    _reply_number = 0  # of the newest reply, as a message

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
        owns_engine: bool = False,
        reopen: Callable[[int], Engine] | None = None,
        on_close: Callable[[], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.codec = codec
        self.template = template
        self.sampling = sampling or SamplingParams()
        self.max_tokens = max_tokens
        self.stop = tuple(stop)
        self.system = _prompt(system)
        self._encoder = MessageEncoder(codec, template, self.system)
        _check_opening(self._encoder, policy, budget, self.system)
        self.session = Session(
            engine,
            policy,
            Budget(budget),
            seq=seq,
            positions=positions,
            borders=TextBorders(codec),
            on_evict=self._note,
            # Looking at a memory, or changing its policy, asks for a score that the policy may not need.
            also_score=frozenset({"surprisal"}) if trace is None else frozenset(SCORE_NAMES),
            journal=trace,
        )
        self.on_evict = on_evict
        self.trace = trace
        self._owns_engine = owns_engine
        self._reopen = reopen
        self._on_close = on_close
        self._recall = MemoryControl(self.session, codec)
        self._figures = Figures(self.session)
        self._began: dict[int, int] = {}  # turn to the tokens decoded before it
        self._unsent: list[str] = []  # what the user said while an earlier turn could not be finished
        if trace is not None:
            trace.start(policy=to_spec(policy), budget=budget, model=engine.spec.model, scores=frozenset(SCORE_NAMES))
        self._open()
        self._drain()

    @property
    def engine(self) -> Engine:
        """The engine that the conversation runs on."""
        return self.session.engine

    @property
    def transcript(self) -> Transcript:
        """What was said, by turn, as text; `save` writes it."""
        return self._recall.transcript

    def __enter__(self: _Chat) -> _Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the trace, and frees the engine if the chat owns it; a second call does nothing."""
        if self.trace is not None:
            self.trace.close()
        if self._owns_engine:
            self.engine.close()
        if self._on_close is not None:
            self._on_close()

    def _open(self) -> None:
        """Queues turn 0: what stands before the first message, pinned as a whole."""
        parts = self._encoder.opening()
        number = self._feed(parts, pinned=True)
        if self.system is not None:
            self.transcript.add(0, "system", self.system, number)

    # ---- whole messages ------------------------------------------------------------------------

    def add(self, role: str, text: str, *, pinned: bool = False) -> int:
        """Takes a whole message in, without a reply; returns its turn.

        role: system, user, assistant or tool. A user message starts a turn, and so does what follows a system prompt;
        a system message is always pinned. Raises BudgetError, with nothing changed, for a pinned message that does not
        fit.
        """
        if role not in _MESSAGE_ROLES:
            raise ConfigError(f"a message's role is one of {', '.join(_MESSAGE_ROLES)}, not '{role}'")
        self._close_open_reply()
        pinned = pinned or role == "system"
        parts = self._encoder.message(role, text, first=not self._spoken)
        if pinned:
            self.session.room.check_pins(_n_tokens(parts), f"this {role} message")
        with shield():
            # A system prompt has its turn for itself: neither undo nor forget reaches it.
            if role == "user" or (role != "system" and self.session.turn == self.system_turn):
                self._begin_turn()
            self.transcript.add(self.session.turn, role, text, self._feed(parts, pinned))
            self._spoken = True
        self._drain()
        if role == "assistant":
            self.session.end_turn()
        return self.session.turn

    def truncate(self, turn: int) -> int:
        """Drops everything from `turn` on, as if never said; returns the number of tokens dropped."""
        with shield():  # cells, turn and transcript tell the same story, or the next message is read into another
            if turn <= self.session.turn:
                self._reply_state = "closed"
            n = self.session.truncate(turn)
            self._recall.truncate(turn)
            self._spoken = self.session.turn > 0
            if turn <= self.system_turn and self.system is not None:  # the prompt in force went with the tail
                self._put_system(self._encoder, self.system)
        self._drain()
        return n

    # ---- turns ---------------------------------------------------------------------------------

    def reply(self, text: str, *, sampling: SamplingParams | None = None, max_tokens: int | None = None) -> Reply:
        """One turn: takes the user's message in and returns the whole reply."""
        for _ in self.stream(text, sampling=sampling, max_tokens=max_tokens):
            pass
        assert self.last_reply is not None
        return self.last_reply

    def stream(
        self, text: str, *, sampling: SamplingParams | None = None, max_tokens: int | None = None
    ) -> Generator[Piece, None, None]:
        """One turn: yields the reply as it comes; afterwards `last_reply` has all of it.

        Leaving early (close, Ctrl-C) stops the reply; what was said of it stays, closed by its
        end marker. After an error the message is still queued, and goes in with the next turn.
        """
        self._unsent.append(text)
        yield from self._answer(sampling, max_tokens, 0)

    @property
    def awaits(self) -> bool:
        """Whether something the user said was not read to its end: an error or Ctrl-C came first.

        It goes in with the next message.
        """
        return bool(self._unsent) or (self._reply_state == "open" and self.session.n_pending > 0)

    def _answer(
        self, sampling: SamplingParams | None, max_tokens: int | None, tries: int
    ) -> Generator[Piece, None, None]:
        """Streams the reply to what is unsent."""
        self.last_reply = None
        self._close_open_reply()
        evicted = self.session.stats.evicted
        n_most = self.max_tokens if max_tokens is None else max_tokens
        n_close = len(self._encoder.assistant_close)
        # A paper policy reserves the reply's cells beforehand; a quarter of the budget at most.
        reply = self._take_unsent(min(n_most, self.session.budget.n_cells // 4) + n_close, tries)
        self._drain()
        if not self.session.policy.evicts:
            n_most = min(n_most, self.session.budget.n_cells - len(self.session.ledger) - n_close)
        sampler = self._sampler(sampling or self.sampling)
        finish: Finish = "interrupted"
        n_before = self.session.stats.tokens_out
        try:
            finish = yield from self._generate(reply, sampler, n_most)
        finally:
            sampler.close()
            try:
                self._close_open_reply()
            finally:
                self.transcript.add(self.session.turn, "assistant", reply.text, self._reply_number)
                self.last_reply = Reply(
                    turn=self.session.turn,
                    text=reply.text,
                    thought=reply.thought,
                    finish=finish,
                    n_tokens=self.session.stats.tokens_out - n_before,
                    resident=len(self.session.ledger),
                    evicted=self.session.stats.evicted - evicted,
                )

    def _generate(self, reply: ReplyText, sampler: Sampler, n_most: int) -> Generator[Piece, None, Finish]:
        for _ in range(n_most):
            token = self.session.sample(sampler)
            if self.codec.is_end(token):
                yield from reply.finish()
                return "end"
            was_thinking = reply.thinking
            pieces = reply.push(self.codec.piece(token))
            if reply.stopped:
                self.session.rewind(max(0, reply.n_after_stop - 1))  # the last token was not decoded
                self.session.feed(self.codec.encode(reply.before_stop, special=False), "assistant")
                yield from pieces
                return "stop"
            self.session.feed([token], "thought" if reply.thinking else "assistant")
            self.session.step(generated=True)
            if reply.thinking and not was_thinking:
                self.session.relabel(reply.n_tokens, "thought")  # the tag took several tokens
            yield from pieces
        yield from reply.finish()
        return "length"

    def _take_unsent(self, n_reply: int, tries: int) -> ReplyText:
        """Begins a turn with all that is unsent and opens the reply to it; nothing is decoded yet."""
        encoder, spoken = self._encoder, self._spoken
        # A long paste takes a while to encode; stopped there, it is still unsent and nothing else has changed.
        said = [(t, encoder.message("user", t, first=not (i or spoken))) for i, t in enumerate(self._unsent)]
        opening = encoder.reply_opening()
        with shield():
            self._begin_turn(n_reply)
            for text, parts in said:
                self.transcript.add(self.session.turn, "user", text, self._feed(parts))
            self._unsent.clear()
            self._tries = tries
            self._spoken = True
            self._reply_number = self._feed(opening)
            self._reply_state = "open"
        return ReplyText(self.stop, thinking=opening[-1][0] == "thought")

    def _close_open_reply(self) -> None:
        """Ends a reply with its marker, however it ended, and lets its thoughts go."""
        if self._reply_state == "open":
            self.session.feed(self._encoder.assistant_close, "frame")
            self._reply_state = "closing"
        if self._reply_state == "closing":
            self._drain()
            self.session.end_turn()
            self._reply_state = "closed"

    # ---- beginnings ----------------------------------------------------------------------------

    def clear(self) -> None:
        """Begins a new conversation with the same system prompt; what is counted begins anew, too."""
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
        amend.reset(self.session)
        self._recall.clear()
        self._began.clear()
        self._spoken, self._reply_state, self.system_turn = False, "closed", 0
        self._open()

    def set_system(self, text: str) -> None:
        """Gives the conversation another system prompt; the old one is removed.

        In mid-conversation the new one stands where it was given, in a turn of its own, and is pinned.
        An empty one just removes the old one. Raises BudgetError, with nothing changed, if it does not fit.
        """
        self._close_open_reply()
        system = _prompt(text)
        self._put_system(MessageEncoder(self.codec, self.template, system), system)
        self._drain()

    def _put_system(self, encoder: MessageEncoder, system: str | None) -> None:
        """As `set_system`; the new prompt is queued, not decoded."""
        if not self._spoken:
            _check_opening(encoder, self.session.policy, self.session.budget.n_cells, system)
            with shield():
                self._encoder, self.system = encoder, system
                self._begin_anew()
            return
        parts = [] if system is None else encoder.message("system", system, first=False)
        old = self._recall.system_rows(self.system_turn)
        self.session.room.check_pins(_n_tokens(parts), "this system prompt", n_freed=len(old))
        with shield():
            self._encoder, self.system, self.system_turn = encoder, system, 0
            amend.forget(self.session, old)
            if system is not None:
                self._begin_turn()
                self.system_turn = self.session.turn
                self.transcript.add(self.session.turn, "system", system, self._feed(parts, pinned=True))

    # ---- helpers -------------------------------------------------------------------------------

    def _note(self, event: Eviction) -> None:
        self._recall.note(event)
        if self.on_evict is not None:
            self.on_evict(event)

    def _begin_turn(self, n_reply: int = 0) -> None:
        self._began[self.session.turn + 1] = self.session.n_born
        self._tries = 0
        self.session.begin_turn(n_reply)

    def _feed(self, parts: Sequence[Part], pinned: bool = False) -> int:
        """Queues a message and returns its number."""
        number = self.session.start_message()
        for role, tokens in parts:
            self.session.feed(tokens, role, pinned=pinned)
        return number

    def _drain(self) -> None:
        while self.session.step():
            pass

    def _sampler(self, params: SamplingParams) -> Sampler:
        """A chain for this turn, seeded from (seed, turn), so that a resumed conversation draws the same."""
        entropy = (params.seed, self.session.turn, self._tries)[: 3 if self._tries else 2]
        seed = np.random.SeedSequence(entropy).generate_state(1)[0]
        return self.engine.sampler(replace(params, seed=int(seed)))

    def stats(self) -> ChatStats:
        """The figures of this conversation so far."""
        return self._figures.now()

    def run_stats(self) -> ChatStats:
        """The figures since the chat was opened: those of conversations that were cleared are in them."""
        return self._figures.run()


def _prompt(text: str | None) -> str | None:
    """None for an empty prompt too: a message that says nothing would still be decoded, pinned and saved."""
    return text if text and text.strip() else None


def _check_opening(encoder: MessageEncoder, policy: Policy, budget: int, system: str | None) -> None:
    n = _n_tokens(encoder.opening())
    whose = ("", "") if system is None else (f"the system prompt ({n} cells)", "shorten it")
    check_fit(policy, budget, n, *whose)


def _n_tokens(parts: Sequence[Part]) -> int:
    return sum(len(tokens) for _, tokens in parts)
