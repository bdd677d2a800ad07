"""One turn as a step machine: what was said is read, a reply is written, its end marker is read.

    turn = chat.turn("My name is Ada.")
    while (piece := turn.next_slice()) is not None:
        for bit in turn.commit(engine.decode([piece])[0]):
            print(bit.text, end="")
    turn.reply

`Chat.stream` drives one, a scheduler many. How to draw, when to stop and for how long belong to the turn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from edge_sir._shield import shield
from edge_sir.engine import Engine, SamplingParams, Slice, SliceResult, TextCodec, Tokens
from edge_sir.errors import SessionError
from edge_sir.session import Session
from edge_sir.text.reply import Finish, Piece, Reply, ReplyText

__all__ = ["Terms", "Turn", "drive"]

Phase = Literal["reading", "writing", "closing", "done"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a reply is drawn and what ends it: text that it must not hold, or its length in tokens."""

    sampling: SamplingParams
    max_tokens: int
    stop: tuple[str, ...] = ()


class Turn:
    """One turn of `session`, into which what was said and the opening of the reply are fed already.

    close: the template tokens that end a reply. thinking: the reply's opening begins a thought. n_evicted_before:
    evicted tokens before this turn. on_written: called with the answer once no more of it will come. phase: what is
    decoded at present.
    """

    def __init__(
        self,
        session: Session,
        codec: TextCodec,
        terms: Terms,
        close: Tokens,
        *,
        thinking: bool = False,
        n_evicted_before: int = 0,
        on_written: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.number = session.turn
        self.phase: Phase = "reading"
        self.finish: Finish = "cancelled"
        self._session, self._codec, self._terms, self._close = session, codec, terms, close
        self._text = ReplyText(terms.stop, thinking=thinking)
        self._on_written = on_written
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

        In the end the reply's next token is drawn already: it is shown before it is decoded.
        """
        with shield():  # a token that was drawn is in the text and in what is decoded next, or in neither
            self._session.commit(result, n_generated=self._n_undecoded)
            self._n_undecoded = 0
            if self._session.n_pending or self.phase in ("closing", "done"):
                return []
            if self.phase == "reading":
                self._begin_writing()
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
        return self._text.text

    def cancel(self) -> None:
        """Ends the reply here: what was said of it stays, and its end marker is still to be read."""
        if self.phase in ("reading", "writing"):
            self._finish("cancelled")

    def refuse(self, why: str) -> None:
        """From now on whoever asks for the next slice gets a SessionError that says why."""
        self._over = why
        if self.phase != "done":
            self._session.end_sampler()

    @property
    def is_open(self) -> bool:
        """Whether a reply was begun and its end marker is not read yet."""
        return self.phase in ("writing", "closing") and not self._over

    # ---- writing -------------------------------------------------------------------------------

    def _begin_writing(self) -> None:
        session = self._session
        if not session.policy.evicts:
            n_free = session.budget.n_cells - len(session.ledger) - len(self._close)
            self._n_most = min(self._n_most, n_free)
        session.start_sampler(self._terms.sampling)
        self.phase = "writing"

    def _write(self) -> list[Piece]:
        """Draws one token and feeds it, or ends the reply."""
        text, session = self._text, self._session
        if self._n_drawn >= self._n_most:
            return self._finish("length")
        token = session.sample()
        if self._codec.is_end(token):
            return self._finish("stop")
        self._n_drawn += 1
        was_thinking = text.thinking
        pieces = text.push(self._codec.piece(token))
        if text.stopped:
            session.rewind(max(0, text.n_after_stop - 1))  # the last token was not decoded
            session.feed(self._codec.encode(text.before_stop, special=False), "assistant")
            return pieces + self._finish("stop")
        if text.thinking and not was_thinking:
            session.relabel(text.n_tokens - 1, "thought")  # the tag took several tokens
        session.feed([token], "thought" if text.thinking else "assistant")
        self._n_undecoded = 1
        return pieces

    def _finish(self, finish: Finish) -> list[Piece]:
        with shield():  # an answer that the cells hold and the transcript does not would be nobody's
            written = self.phase == "writing"
            self._session.end_sampler()
            self._session.end_recall()
            self._session.feed(self._close, "frame")
            self.finish, self.phase = finish, "closing"
            pieces = self._text.finish() if finish != "cancelled" and not self._text.stopped else []
            if written:
                self._on_written(self._text.text)
        return pieces

    def _end(self) -> None:
        session = self._session
        with shield():
            session.end_turn()
            self.phase = "done"
            self._reply = Reply(
                turn=self.number,
                text=self._text.text,
                thought=self._text.thought,
                finish=self.finish,
                n_read=session.stats.tokens_in - self._n_read_before,
                n_generated=session.stats.tokens_out - self._n_generated_before,
                resident=len(session.ledger),
                evicted=session.stats.evicted - self._n_evicted_before,
            )


def drive(turn: Turn, engine: Engine) -> Iterator[Piece]:
    """Runs a turn on `engine`, alone, and yields what it has to show as it comes."""
    while (piece := turn.next_slice()) is not None:
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            pieces = turn.commit(engine.decode([piece])[0])
        yield from pieces
