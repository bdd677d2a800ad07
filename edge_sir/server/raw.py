"""A text that is continued as it is: no template, no conversation, nothing that is kept."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from edge_sir.chat.more import terms_with
from edge_sir.chat.turn import Terms, Turn
from edge_sir.engine import SamplingParams, TextCodec, Tokens
from edge_sir.options import Options
from edge_sir.server.asked import Asked
from edge_sir.server.outcome import Choice, Outcome, Shown
from edge_sir.server.turns import more, sampled
from edge_sir.server.work import Work
from edge_sir.session import Session
from edge_sir.text.encoder import ReplyForm
from edge_sir.text.thoughts import ThoughtTags
from edge_sir.text.tools import NO_TOOLS

__all__ = ["RawTask"]

_NOTHING = np.empty(0, np.int32)


class _RawReply:
    """A `ReplyEncoder` for what continues a text that was fed: nothing is around it, and no tags are in it."""

    reply_form = ReplyForm((), thinking=False, tags=ThoughtTags("", ""))
    assistant_close = _NOTHING

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec

    def close_reply(self, written: str) -> Tokens:
        return _NOTHING

    def continue_reply(self, written: str, text: str) -> Tokens:
        """The beginning stands in the cache already."""
        return self._codec.encode(text, special=False) if written else _NOTHING

    def control_token(self, text: str) -> int | None:
        return None


class RawTask(Work):
    """Work on a session of tokens."""

    def __init__(self, session: Session, codec: TextCodec, options: Options, asked: Asked) -> None:
        super().__init__(session.engine)
        self._session, self._codec, self._asked = session, codec, asked
        terms = asked.terms
        plain = Terms(sampled(options.sampling, terms), terms.max_tokens or options.max_tokens, terms.stop)
        self._terms = terms_with(plain, more(terms), NO_TOOLS, session.engine.spec.n_vocab)

    def outcome(self) -> Outcome:
        """As `Answering.outcome`."""
        stats = self._session.stats
        n_resident = len(self._session.ledger)
        return Outcome(self._choices, 0, stats.tokens_in, stats.tokens_out, 0, n_resident, stats.evicted)

    def _run(self) -> Generator[Sequence[Shown], None, None]:
        session, codec = self._session, self._codec
        session.begin_turn()
        said = session.start_message()
        if codec.bos >= 0:
            session.feed([codec.bos], "frame")
        *early, last = codec.encode(self._asked.raw, special=False)
        session.feed(np.array(early, np.int32), "user")
        while session.step():
            yield ()
        for i in range(self._asked.terms.n):
            if i and self.is_cut:
                break
            session.rewind_to(said)
            session.feed([last], "user")  # the logits after it are what the reply is drawn from
            yield from self._write(session.start_message(), i)

    def _write(self, message: int, choice: int) -> Iterator[Sequence[Shown]]:
        params: SamplingParams = self._terms.sampling
        terms = replace(self._terms, sampling=replace(params, seed=(params.seed + choice) % 2**32))
        turn = Turn(self._session, self._codec, terms, _RawReply(self._codec), message, begun=self._asked.raw)
        shown = ""
        for bits in self._drive(turn):
            shown += "".join(bit.text for bit in bits)
            yield [Shown(bit.text, choice=choice) for bit in bits]
        self.whole.append(Choice(shown, turn.reply.finish))
