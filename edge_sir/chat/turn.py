"""One turn as a step machine: what was said is read, a reply is written, its end marker is read.

    turn = chat.turn("My name is Ada.")
    while (piece := turn.next_slice()) is not None:
        for bit in turn.commit(engine.decode([piece])[0]):
            print(bit.text, end="")
    turn.reply

`Chat.stream` drives one, a scheduler many. How to draw, when to stop and for how long belong to the turn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir._owner import owned
from edge_sir._shield import shield
from edge_sir.core.ledger import ROLES
from edge_sir.engine import Engine, Row, SamplingParams, Slice, SliceResult, TextCodec, Tokens
from edge_sir.errors import SessionError
from edge_sir.grammar.guide import Grammar
from edge_sir.session import Session
from edge_sir.text.calls import CallReader
from edge_sir.text.encoder import ReplyEncoder
from edge_sir.text.logprobs import drawn_with_logprobs
from edge_sir.text.reply import Drawn, Finish, Piece, Recalled, Reply, ReplyText

__all__ = ["Terms", "Turn", "drive"]

Phase = Literal["reading", "writing", "closing", "done"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a reply is drawn and what ends it: text that it must not hold, or its length in tokens.

    A grammar of `sampling` holds for the answer, not for a thought before it. top_logprobs: how many of the likeliest
    tokens are kept beside each drawn one, with log-probabilities; None for none at all. tools: names of those whose
    calls are looked for in the answer.
    """

    sampling: SamplingParams
    max_tokens: int
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    tools: tuple[str, ...] = ()


@owned(alone=("refuse",))
class Turn:
    """One turn of `session`, into which what was said and the opening of the reply are fed already.

    encoder: knows the reply's form. message: the reply's number in the ledger. n_evicted_before: evicted tokens before
    this turn. on_written: called with the answer once no more of it will come. given: gives the reply, once what was
    said is read, where it is not drawn. begun: how the reply begins: that is read and not drawn, is in its text, and
    nothing of it is shown. phase: what is decoded at present. recalled: what came back for it.
    """

    def __init__(
        self,
        session: Session,
        codec: TextCodec,
        terms: Terms,
        encoder: ReplyEncoder,
        message: int,
        *,
        n_evicted_before: int = 0,
        on_written: Callable[[str], None] = lambda _: None,
        given: Callable[[], Tokens] | None = None,
        begun: str = "",
    ) -> None:
        self.number = session.turn
        self.owner = session.owner
        self.phase: Phase = "reading"
        self.finish: Finish = "cancelled"
        self.recalled: tuple[Recalled, ...] = ()
        self._session, self._codec, self._terms = session, codec, terms
        self._encoder, self._form, self._message = encoder, encoder.reply_form, message
        form = self._form
        self._text = ReplyText(terms.stop, thinking=form.thinking, tags=form.tags, lead=form.lead)
        self._ends = form.ends | {token for text in terms.stop if (token := encoder.control_token(text)) is not None}
        self._calls = CallReader(terms.tools, begun)
        self._drawn: list[Drawn] = []
        self._grammar: Grammar | None = None  # which begins behind the thought
        self._n_answer = self._n_thought = 0
        self._on_written, self._given, self._begun = on_written, given, begun
        self._n_most = terms.max_tokens
        self._n_drawn = self._n_undecoded = 0
        self._n_evicted_before = n_evicted_before
        self._n_read_before, self._n_generated_before = session.stats.tokens_in, session.stats.tokens_out
        self._reply: Reply | None = None
        self._over = ""  # why nobody may go on with it, though it is not done

    # ---- the step machine ----------------------------------------------------------------------

    def next_slice(self) -> Slice | None:
        """What to decode next; None once the turn is done.

        Raises SessionError if another call ended this turn, and what `Session.next_slice` raises.
        """
        if self._over:
            raise SessionError(self._over)
        if self.phase == "done":
            return None
        piece = self._session.next_slice()
        if piece is None and self.phase == "closing":
            self._end()
        elif piece is None:
            raise SessionError("nothing was fed that could be answered")
        return piece

    def commit(self, result: SliceResult) -> list[Piece]:
        """Takes what the engine returned for the slice, and returns what can be shown now.

        In the end the reply's next token is drawn already: it is shown before it is decoded. Raises SessionError if
        another call ended this turn.
        """
        if self._over:
            raise SessionError(self._over)
        with shield():  # a token that was drawn is in the text and in what is decoded next, or in neither
            self._session.commit(result, n_generated=self._n_undecoded)
            self._n_undecoded = 0
            if self._session.n_pending or self.phase in ("closing", "done"):
                return []
            if self.phase == "reading" and self._given is not None:
                return self._write_given(self._given())
            if self.phase == "reading":
                self._begin_writing()
                if self._begun:
                    return self._write_beginning()
            return self._write()

    @property
    def reply(self) -> Reply:
        """The whole reply. Raises SessionError before the turn is done."""
        if self._reply is None:
            raise SessionError("the reply is not finished")
        return self._reply

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._calls.text if self._terms.tools else self._text.text

    @property
    def drawn(self) -> tuple[Drawn, ...]:
        """The answer's tokens so far with their log-probabilities, if they were asked for."""
        return self.drawn_from(0)

    def drawn_from(self, n: int) -> tuple[Drawn, ...]:
        """As `drawn`, without the first `n`."""
        return tuple(self._drawn[n:])

    def cancel(self) -> None:
        """Ends the reply here: what was said of it stays, and its end marker is still to be read."""
        if self.phase in ("reading", "writing"):
            self._finish("cancelled")

    def refuse(self, why: str) -> None:
        """From now on whoever asks for the next slice gets a SessionError that says why."""
        self._over = why
        self.owner.release(self)
        if self.phase != "done":
            self._session.end_sampler()

    @property
    def is_under_way(self) -> bool:
        """Whether somebody may still go on with it."""
        return self.phase != "done" and not self._over

    @property
    def is_open(self) -> bool:
        """Whether a reply was begun and its end marker is not read yet."""
        return self.phase in ("writing", "closing") and not self._over

    # ---- writing -------------------------------------------------------------------------------

    def _begin_writing(self) -> None:
        session = self._session
        if not session.policy.evicts:
            n_after = len(self._encoder.assistant_close) + len(self._form.history)
            n_free = session.budget.n_cells - int((~session.ledger["recalled"]).sum()) - n_after
            self._n_most = min(self._n_most, n_free)
        sampling = self._terms.sampling
        if sampling.grammar is not None:
            grammar = replace(sampling.grammar, ends=tuple(sorted(self._ends)))
            thinks = self._form.thinking and not self._begun
            self._grammar = grammar if thinks else None
            sampling = replace(sampling, grammar=None if thinks else grammar)
        session.start_sampler(sampling)
        self.phase = "writing"

    def _write(self) -> list[Piece]:
        """Draws one token and feeds it, or ends the reply."""
        text, session = self._text, self._session
        if self._n_drawn >= self._n_most:
            return self._finish("length")
        logits = session.last_logits
        token = session.sample()
        if self._is_end(token):
            return self._finish("stop")
        self._n_drawn += 1
        was_apart = text.thinking or text.leading
        shown = self._form.shown.get(token) if text.is_open else None
        pieces = self._calls.push(text.push(self._codec.piece(token) if shown is None else shown))
        if text.stopped:
            self._note_drawn(token, logits)
            del self._drawn[len(self._drawn) - text.n_after_stop :]
            self._cut_at_stop(n_undecoded=1)
            return pieces + self._finish("stop")
        apart = text.thinking or text.leading
        if apart and not was_apart:  # the tag took several tokens, or all of it was a thought
            session.relabel(self._rows("assistant"), "thought")
            self._n_thought, self._n_answer = self._n_thought + self._n_answer, 0
            self._drawn.clear()
            self._calls = CallReader(self._terms.tools)
        if not apart:
            self._note_drawn(token, logits)
        if self._grammar is not None and not text.in_thought:
            session.constrain(replace(self._grammar, begun=text.written.lstrip()))
            self._grammar = None
        self._n_thought, self._n_answer = self._n_thought + apart, self._n_answer + (not apart)
        session.feed([token], "thought" if apart else "assistant")
        self._n_undecoded = 1
        return pieces

    def _note_drawn(self, token: int, logits: Row) -> None:
        if self._terms.top_logprobs is not None:
            self._drawn.append(drawn_with_logprobs(token, logits, self._terms.top_logprobs, self._codec))

    def _cut_at_stop(self, n_undecoded: int) -> None:
        """Takes back the tokens that the stop string reaches into, and feeds what the first of them said before it."""
        text, session, n_before = self._text, self._session, len(self._rows("assistant"))
        session.rewind(text.n_after_stop + bool(text.before_stop) - n_undecoded)
        left = text.written.removesuffix(text.before_stop)
        said = self._encoder.continue_reply(left, text.before_stop)
        session.feed(said, "assistant")
        self._n_answer += len(said) + len(self._rows("assistant")) - n_before

    def _write_beginning(self) -> list[Piece]:
        """Feeds the given beginning of the reply: what is drawn follows it."""
        tokens = self._encoder.continue_reply("", self._begun)
        self._text.begin(self._begun)
        self._session.feed(tokens, "assistant")
        self._n_answer += len(tokens)
        return [] if len(tokens) else self._write()

    def _write_given(self, tokens: Tokens) -> list[Piece]:
        self.phase = "writing"
        self._session.feed(tokens, "assistant")
        pieces = [piece for token in tokens for piece in self._text.push(self._codec.piece(int(token)))]
        return self._calls.push(pieces) + self._finish("stop")

    def _is_end(self, token: int) -> bool:
        """Whether the token ends the reply. What begins the end of a thought may be what ends a message elsewhere."""
        if self._text.in_thought and token == self._form.thought_end:
            return False
        return token in self._ends or self._codec.is_end(token)

    def _rows(self, role: str) -> NDArray[np.intp]:
        """Where the reply's resident tokens of a role are in the ledger."""
        ledger = self._session.ledger
        return np.flatnonzero((ledger["message"] == self._message) & (ledger["role"] == ROLES.index(role)))

    def _finish(self, finish: Finish) -> list[Piece]:
        pieces: list[Piece] = []
        with shield():  # an answer that the cells hold is in the transcript, too
            written = self.phase == "writing"
            self._session.end_sampler()
            self._session.end_recall()
            self.finish, self.phase = finish, "closing"
            if finish == "cancelled":
                pieces = self._text.cancel()
            elif not self._text.stopped:
                pieces = self._text.finish()
                if self._text.stopped:  # what was held back as the beginning of a tag holds a stop string
                    self._cut_at_stop(n_undecoded=0)
            pieces = self._calls.push(pieces) + self._calls.finish()
            if self._calls.calls and finish == "stop":
                self.finish = "tool_calls"
            if written:
                if not self._text.written:
                    self._drop_beginning()
                self._as_in_history()
            self._session.feed(self._encoder.close_reply(self._text.written), "frame")
            if written:
                self._on_written(self._text.text)
        return pieces

    def _drop_beginning(self) -> None:
        """Of a reply that ended in the middle of a tag or of its first character nothing is an answer."""
        session = self._session
        session.discard_pending()
        session.relabel(self._rows("assistant"), "thought")
        self._n_thought, self._n_answer = self._n_thought + self._n_answer, 0

    def _as_in_history(self) -> None:
        """Gives the reply's opening the form that history has: out of what was written, or by reading it once more."""
        session, wanted = self._session, self._form.history
        if not len(wanted):
            return
        thoughts = self._rows("thought")
        kept = _last_in_order(session.ledger["token"][thoughts], wanted)
        if len(kept) == len(wanted):
            session.relabel(thoughts[kept], "frame")
        elif self._form.lead.strip() or not self._begins_blank():
            self._read_again()

    def _begins_blank(self) -> bool:
        """Whether the answer's first token, as it stays, begins with a blank, or there is none."""
        rows, ledger = self._rows("assistant"), self._session.ledger
        first = [*ledger["token"][rows[:1]], *self._session.pending_tokens][:1]
        return not first or self._codec.piece(int(first[0]))[:1].isspace()

    def _read_again(self) -> None:
        """Reads the answer once more behind what history has before it, unless a part of it was evicted."""
        session = self._session
        if not self._n_answer:
            session.feed(self._form.history, "frame")
            return
        rows = self._rows("assistant")
        n_resident, waiting = len(rows), session.pending_tokens
        if n_resident + len(waiting) != self._n_answer or (n_resident and rows[0] != len(session.ledger) - n_resident):
            return
        answer = np.concatenate([session.ledger["token"][rows], waiting])
        session.discard_pending()
        session.rewind(n_resident)
        session.feed(self._form.history, "frame")
        session.feed(answer, "assistant")

    def _end(self) -> None:
        session = self._session
        with shield():
            session.end_turn()
            self.phase = "done"
            self.owner.release(self)
            self._reply = Reply(
                turn=self.number,
                text=self.text,
                thought=self._text.thought,
                finish=self.finish,
                n_read=session.stats.tokens_in - self._n_read_before,
                n_generated=session.stats.tokens_out - self._n_generated_before,
                resident=len(session.ledger),
                evicted=session.stats.evicted - self._n_evicted_before,
                n_thought=self._n_thought,
                recalled=self.recalled,
                calls=tuple(self._calls.calls),
                drawn=tuple(self._drawn),
            )


def drive(turn: Turn, engine: Engine) -> Iterator[Piece]:
    """Runs a turn on `engine`, alone, and yields what it has to show as it comes."""
    while (piece := turn.next_slice()) is not None:
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            pieces = turn.commit(engine.decode([piece])[0])
        yield from pieces


def _last_in_order(tokens: NDArray[np.int32], wanted: NDArray[np.int32]) -> list[int]:
    """Indices in `tokens` of all `wanted` in their order, as late as possible; none if they are not all there."""
    found: list[int] = []
    at = len(tokens)
    for token in wanted[::-1]:
        hits = np.flatnonzero(tokens[:at] == token)
        if not len(hits):
            return []
        at = int(hits[-1])
        found.append(at)
    return found[::-1]
