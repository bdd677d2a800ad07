"""A session that speaks text: turns, roles, streaming, stop strings, pins."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.core.records import Eviction
from edge_sir.engine import Engine, Sampler, SamplingParams, SentenceEnds, TextCodec
from edge_sir.errors import ConfigError
from edge_sir.messages import MessageEncoder, Part
from edge_sir.policies import to_spec
from edge_sir.reply import Piece, ReplyText
from edge_sir.session import Positions, Session
from edge_sir.template import ChatTemplate

__all__ = ["Chat", "ChatStats", "Reply"]

Finish = Literal["end", "stop", "length", "interrupted"]

_MESSAGE_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply.

    finish: "end" (the model's own), "stop" (a stop string), "length" (max_tokens) or "interrupted".
    n_tokens: generated ones. resident: tokens in the cache after it. evicted: tokens let go in this turn.
    """

    turn: int
    text: str
    thought: str
    finish: Finish
    n_tokens: int
    resident: int
    evicted: int


@dataclass(frozen=True, slots=True)
class ChatStats:
    """The figures of a conversation; `edge-sir chat --stats FILE` writes them.

    Times in seconds. tokens_in: decoded but not generated, markers included. max_resident is taken
    after every llama_decode.
    """

    policy: str
    position_mode: str
    budget: int
    n_ctx: int
    turns: int
    tokens_in: int
    tokens_out: int
    resident: int
    max_resident: int
    mean_resident: float
    evicted: int
    evictions: int
    kshifts: int
    packs: int
    rereads: int
    decode_s: float
    score_s: float
    evict_s: float
    kv_bytes: int
    model: str


class Chat:
    """A conversation without end in `budget` cells.

    system: the system prompt; without one, what the template itself puts first takes its place. Either is
    pinned. on_evict: called with what was let go. owns_engine: close it with the chat. Raises BudgetError
    if the system prompt leaves no room.
    """

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
    ) -> None:
        self.engine = engine
        self.codec = codec
        self.template = template
        self.sampling = sampling or SamplingParams()
        self.max_tokens = max_tokens
        self.stop = tuple(stop)
        self.session = Session(
            engine,
            policy,
            Budget(budget),
            seq=seq,
            positions=positions,
            sentence_ends=SentenceEnds(codec),
            on_evict=on_evict,
        )
        self.last_reply: Reply | None = None
        self._owns_engine = owns_engine
        self._encoder = MessageEncoder(codec, template, system)
        self._spoken = False  # whether anything follows turn 0
        self._unsent: list[str] = []  # what the user said while an earlier turn could not be finished
        self._reply_state: Literal["closed", "open", "closing"] = "closed"
        self._start()

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the engine if the chat owns it; a second call does nothing."""
        if self._owns_engine:
            self.engine.close()

    def _start(self) -> None:
        """Turn 0: what stands before the first message, pinned as a whole."""
        parts = self._encoder.opening()
        self.session.room.check_pins(sum(len(tokens) for _, tokens in parts), "the system prompt")
        self._feed(parts, pinned=True)
        self._drain()

    # ---- whole messages ------------------------------------------------------------------------

    def add(self, role: str, text: str, *, pinned: bool = False) -> int:
        """Takes a whole message in, without a reply; returns its turn.

        role: system, user, assistant or tool. A user message starts a turn; a system message is always
        pinned. Raises BudgetError, with nothing changed, for a pinned message that does not fit.
        """
        if role not in _MESSAGE_ROLES:
            raise ConfigError(f"a message's role is one of {', '.join(_MESSAGE_ROLES)}, not '{role}'")
        self._close_open_reply()
        pinned = pinned or role == "system"
        parts = self._encoder.message(role, text, first=not self._spoken)
        if pinned:
            self.session.room.check_pins(sum(len(tokens) for _, tokens in parts), f"this {role} message")
        if role == "user":
            self.session.begin_turn()
        self._feed(parts, pinned)
        self._spoken = True
        self._drain()
        if role == "assistant":
            self.session.end_turn()
        return self.session.turn

    def pin(self, turn: int) -> int:
        """Pins what is resident of a turn and returns how many tokens that are; BudgetError if too many."""
        return self.session.pin(turn)

    def unpin(self, turn: int) -> int:
        """Lets a turn loose and returns how many tokens that are."""
        return self.session.pin(turn, False)

    def truncate(self, turn: int) -> int:
        """Drops everything from `turn` on, as if never said; returns the number of tokens dropped."""
        if turn <= self.session.turn:
            self._reply_state = "closed"
        n = self.session.truncate(turn)
        self._spoken = self.session.turn > 0
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
        self.last_reply = None
        self._unsent.append(text)
        self._close_open_reply()
        evicted = self.session.stats.evicted
        n_most = self.max_tokens if max_tokens is None else max_tokens
        n_close = len(self._encoder.assistant_close)
        # A paper policy reserves the reply's cells beforehand; a quarter of the budget at most.
        self.session.begin_turn(min(n_most, self.session.budget.n_cells // 4) + n_close)
        for said in self._unsent:
            self._feed(self._encoder.message("user", said, first=not self._spoken))
            self._spoken = True
        self._unsent.clear()
        reply = self._open_reply()
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

    def _open_reply(self) -> ReplyText:
        parts = self._encoder.reply_opening()
        self._feed(parts)
        self._reply_state = "open"
        return ReplyText(self.stop, thinking=parts[-1][0] == "thought")

    def _close_open_reply(self) -> None:
        """Ends a reply with its marker, however it ended, and lets its thoughts go."""
        if self._reply_state == "open":
            self.session.feed(self._encoder.assistant_close, "frame")
            self._reply_state = "closing"
        if self._reply_state == "closing":
            self._drain()
            self.session.end_turn()
            self._reply_state = "closed"

    # ---- helpers -------------------------------------------------------------------------------

    def _feed(self, parts: Sequence[Part], pinned: bool = False) -> None:
        self.session.start_message()
        for role, tokens in parts:
            self.session.feed(tokens, role, pinned=pinned)

    def _drain(self) -> None:
        while self.session.step():
            pass

    def _sampler(self, params: SamplingParams) -> Sampler:
        """A chain for this turn, seeded from (seed, turn), so that a resumed conversation draws the same."""
        seed = np.random.SeedSequence((params.seed, self.session.turn)).generate_state(1)[0]
        return self.engine.sampler(replace(params, seed=int(seed)))

    def stats(self) -> ChatStats:
        """The figures so far."""
        session, spec, times = self.session, self.engine.spec, self.engine.times
        counts = session.stats
        return ChatStats(
            policy=to_spec(session.policy),
            position_mode=session.mode,
            budget=session.budget.n_cells,
            n_ctx=spec.n_ctx,
            turns=session.turn,
            tokens_in=counts.tokens_in,
            tokens_out=counts.tokens_out,
            resident=len(session.ledger),
            max_resident=counts.max_resident,
            mean_resident=round(counts.mean_resident, 2),
            evicted=counts.evicted,
            evictions=counts.evictions,
            kshifts=counts.kshifts,
            packs=counts.packs,
            rereads=counts.rereads,
            decode_s=round(times.decode_s, 4),
            score_s=round(times.score_s, 4),
            evict_s=round(counts.evict_s, 4),
            kv_bytes=spec.kv_bytes,
            model=spec.model,
        )
