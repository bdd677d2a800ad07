"""One request at work in a chat, one decode at a step: messages are read, replies are written, all is noted.

read what is new ── a turn ── its reply is saved ── take it back ── another turn ...
     │ cancelled: it waits here, and goes on if the request comes again
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from edge_sir.chat.chat import Chat
from edge_sir.chat.turn import Turn
from edge_sir.server.asked import Asked
from edge_sir.server.incoming import Said
from edge_sir.server.outcome import Choice, Outcome, Shown
from edge_sir.server.turns import begin_turn, read
from edge_sir.server.work import Work
from edge_sir.text.reply import Piece, Recalled, Reply

__all__ = ["Exchanged", "Plan", "Task"]

Exchanged = list[tuple[int, Said]]
"""Messages that were read or written, each with its number in the transcript."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request comes to.

    new: messages to read, oldest first. begun: how the reply begins. is_again: it is another one to the same message.
    system: another system prompt that is read first, with the request's tools, None for none.
    """

    new: tuple[Said, ...]
    begun: str = ""
    is_again: bool = False
    system: str | None = None


@dataclass(slots=True)
class _Count:
    """What of a chat's figures was there before."""

    n_held: int
    n_read: int
    n_written: int
    n_evicted: int

    @classmethod
    def of(cls, chat: Chat) -> "_Count":
        stats = chat.session.stats
        return cls(len(chat.session.ledger), stats.tokens_in, stats.tokens_out, stats.evicted)


class Task(Work):
    """Work in a chat, which outlives a request that was cancelled while its messages were read.

    save: called with each reply once it is whole: the messages that were read for it, and with it the reply.
    """

    def __init__(self, chat: Chat, asked: Asked, plan: Plan, save: Callable[[Asked, Exchanged, Reply], None]) -> None:
        super().__init__(chat.engine)
        self.asked, self.plan = asked, plan
        self._chat, self._save = chat, save
        self._n_thought = 0
        self._recalled: tuple[Recalled, ...] = ()
        self._before = _Count.of(chat)

    def go_on(self, asked: Asked) -> None:
        """The same request came again."""
        self.asked, self.is_cut = asked, False
        self._before = _Count.of(self._chat)

    def is_same(self, asked: Asked) -> bool:
        """Whether a request is the one that is at work here, sent again."""
        mine, other = (replace(one, stream=False, reply_key="") for one in (self.asked, asked))
        return mine == other

    def outcome(self) -> Outcome:
        """As `Answering.outcome`."""
        chat, before = self._chat, self._before
        stats = chat.session.stats
        return Outcome(
            self._choices,
            before.n_held,
            stats.tokens_in - before.n_read,
            stats.tokens_out - before.n_written,
            self._n_thought,
            len(chat.session.ledger),
            stats.evicted - before.n_evicted,
            self._recalled,
        )

    # ---- the work ------------------------------------------------------------------------------

    def _run(self) -> Generator[Sequence[Shown], None, None]:
        chat, plan, said_so_far = self._chat, self.plan, Exchanged()
        yield from self._drain()
        if plan.system is not None:
            chat.set_system(plan.system, self.asked.incoming.tools)
            yield from self._drain()
        asks = plan.new[-1] if plan.new and plan.new[-1].role == "user" else None
        for said in plan.new[: len(plan.new) - (asks is not None)]:
            read(chat, said)
            said_so_far.append((_last_number(chat), said))
            yield from self._drain()
        is_other = plan.is_again and "seed" not in self.asked.terms.sampling  # who gives a seed wants the same again
        turn = begin_turn(chat, asks, self.asked, begun=plan.begun, is_again=is_other)
        last = _last_number(chat)
        yield from self._write(turn, 0, said_so_far if asks is None else [*said_so_far, (last, asks)])
        for i in range(1, self.asked.terms.n):
            if self.is_cut:
                break
            chat.go_back(last)
            yield from self._write(begin_turn(chat, None, self.asked, begun=plan.begun, is_again=True), i, [])

    def _drain(self) -> Iterator[Sequence[Shown]]:
        while self._chat.session.step():
            yield ()

    def _write(self, turn: Turn, choice: int, said_so_far: Exchanged) -> Iterator[Sequence[Shown]]:
        """One reply. said_so_far: what was read since the last reply was saved."""
        shown, n_drawn = "", 0
        for pieces in self._drive(turn):
            shown += "".join(bit.text for bit in pieces if bit.role != "thought")
            bits = [_shown(bit, choice) for bit in pieces]
            if (bits or turn.phase != "writing") and (drawn := turn.drawn_from(n_drawn)):
                n_drawn += len(drawn)
                bits = [*bits[:-1], replace(bits[-1] if bits else Shown(choice=choice), drawn=drawn)]
            yield bits
        reply = turn.reply
        text = shown.rstrip() if self.plan.begun else reply.text
        self.whole.append(Choice(text, reply.finish, reply.thought, reply.calls, reply.drawn))
        self._n_thought += reply.n_thought
        self._recalled += reply.recalled
        self._save(self.asked, said_so_far, reply)


def _last_number(chat: Chat) -> int:
    last = chat.transcript.last
    assert last is not None
    return last.id


def _shown(piece: Piece, choice: int) -> Shown:
    if piece.role == "thought":
        return Shown(thought=piece.text, choice=choice)
    return Shown(piece.text, call=piece.call, choice=choice)
