"""One dialogue on one session: its steps as turns, its questions as rows."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_sir.chat.turn import Terms, Turn, drive
from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.engine import Engine, SamplingParams, Tokens
from edge_sir.eval.play.controls import ArmKeys, Gold
from edge_sir.eval.play.encoded import EncodedDialogue, EncodedStep
from edge_sir.eval.play.options import option_logprobs
from edge_sir.eval.play.recalling import Recalling, ways_of
from edge_sir.eval.play.tried import bound
from edge_sir.eval.records import Row
from edge_sir.eval.task import Ask, Read, Say
from edge_sir.memory.transcript import Transcript
from edge_sir.session import Positions, Session
from edge_sir.text.boundaries import TextBorders
from edge_sir.text.encoder import GivenReply, Part

__all__ = ["DialogueRun"]

_LONG = 200
"""Steps from which a dialogue's first and last tenth are timed: twenty turns and more each."""

_TERMS = Terms(SamplingParams(), 0)  # nothing is drawn: replies are given
_NONE = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class _Fact:
    """Where a fact stands in the stream: its turn, and the born numbers of the tokens that carry it."""

    turn: int
    born: NDArray[np.int64]


@dataclass(slots=True)
class DialogueRun:
    """A session and how far it has come in a dialogue. Close it, or use it in a `with` block.

    at: the step that comes next. ways: how what was evicted comes back, None where it does not. With one way it does so
    for each message. Where no question leaves a trace there may be several: each question is asked in each of them, and
    nothing comes back for other messages. rows: the answers so far, by way, without the arm's name. seconds: taken so
    far, by a trunk that this was forked from, too; apart: for the questions in one way. marks: by way, what it took
    until after the first tenth of the steps, and until before the last one. said: what was said so far. way, recalling:
    that of the running turn.
    """

    dialogue: EncodedDialogue
    session: Session
    at: int = 0
    rows: list[list[Row]] = field(default_factory=lambda: [[]])
    facts: dict[str, list[_Fact]] = field(default_factory=dict)
    seconds: float = 0.0
    marks: tuple[list[float], ...] = ()
    said: Transcript = field(default_factory=Transcript)
    ways: tuple[Recalling | None, ...] = (None,)
    apart: list[float] = field(default_factory=lambda: [0.0])
    way: int | None = None
    recalling: Recalling | None = None
    _started: float = 0.0

    @classmethod
    def start(
        cls,
        dialogue: EncodedDialogue,
        engine: Engine,
        policy: Policy,
        n_cells: int,
        *,
        positions: Positions = "auto",
        also_score: frozenset[str] = frozenset(),
    ) -> "DialogueRun":
        """A new session that has read the opening, pinned as a whole. Raises BudgetError if that does not fit."""
        if dialogue.plain:
            also_score |= {"surprisal"}
        borders = TextBorders(dialogue.codec)
        session = Session(engine, policy, Budget(n_cells), positions=positions, borders=borders, also_score=also_score)
        run = cls(dialogue, session)
        opening = dialogue.opening()
        session.room.check_pins(sum(len(tokens) for _, tokens in opening), "the system prompt")
        run._feed(opening, pinned=True)
        while session.step():
            pass
        return run

    def __enter__(self) -> "DialogueRun":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees what was kept outside the cache."""
        for way in self.ways:
            if way is not None:
                way.close()

    def fork(
        self, engine: Engine, policy: Policy, budget: Budget, ways: Sequence[ArmKeys] = (ArmKeys(),)
    ) -> "DialogueRun":
        """A run that goes on from here under another policy; `engine` holds the same cells already.

        ways: how evicted turns come back; several, if no question leaves a trace. Nothing was evicted up to here if any
        do.
        """
        also = frozenset({"surprisal"} if self.dialogue.plain else ())
        policy = bound(policy, self.dialogue.codec, engine, self.session.seq)
        session = self.session.fork(engine, policy, budget, also_score=also)
        facts = {name: list(places) for name, places in self.facts.items()}
        if isinstance(policy, Gold):
            policy.turns.update(fact.turn for places in facts.values() for fact in places)
        said = self.said.copy()
        found = ways_of(ways, session, self.dialogue, said)
        return DialogueRun(
            self.dialogue,
            session,
            self.at,
            [list(self.rows[0]) for _ in ways],
            facts,
            self.seconds,
            tuple([mark[0]] * len(ways) for mark in self.marks),
            said,
            found,
            [self.apart[0]] * len(ways),
            recalling=None if self.dialogue.only_probes else found[0],
        )

    # ---- the steps -----------------------------------------------------------------------------

    def next_size(self) -> int:
        """Most tokens that the next step brings."""
        return self.dialogue.step(self.at).n_tokens

    def play(self) -> None:
        """The next step."""
        if self.at in self._tenths():
            self.marks += ([self.seconds + apart for apart in self.apart],)
        step, self.at = self.dialogue.step(self.at), self.at + 1
        if isinstance(step.source, Say):
            self.say(step.parts, step)
        elif isinstance(step.source, Read):
            self._read(step, step.source)
        elif step.source.is_probe and (self.at < len(self.dialogue) or self.dialogue.only_probes):
            self._probe(step)
        else:
            self.ask(step)

    def say(self, parts: Sequence[Part], step: EncodedStep | None = None) -> None:
        """A turn that asks nothing; of `step`, notes where its fact stands."""
        with self._clock():
            if step is not None and isinstance(step.source, Say) and step.source.fact:
                turn, start = self.session.turn + 1, self.session.n_born
                born = [np.arange(start + a, start + b) for a, b in step.gold]
                fact = _Fact(turn, np.concatenate(born) if born else np.empty(0, np.int64))
                self.facts.setdefault(step.source.fact, []).append(fact)
                if isinstance(self.session.policy, Gold):
                    self.session.policy.turns.add(turn)
            source = None if step is None else step.source
            if isinstance(source, Say):
                self._take_turn(parts, source.user)
                self._note_said("assistant", source.assistant)
            else:
                self._take_turn(parts)

    def ask(self, step: EncodedStep) -> None:
        """A question; what its step says stays in the conversation as the reply."""
        asked = step.source
        assert isinstance(asked, Ask)
        facts = [fact for name in asked.facts for fact in self.facts.get(name, [])]

        def reply() -> Tokens:
            values = option_logprobs(self.session, step.options, rank=step.rank)
            chosen = int(np.argmax(values))
            n_gold = len(step.options[asked.gold]) if step.rank else 1
            if len(values) > 1:
                self._note(asked.metric, asked.gold, chosen, values, facts, n_gold=n_gold)
            else:  # no choice, but a text
                self._note(asked.metric, -1, -1, [values[0] / n_gold], facts, n_scored=n_gold)
            if asked.is_probe:
                return _NONE
            kept = asked.kept(chosen)
            self._note_said("assistant", asked.said(kept))
            return step.options[kept]

        with self._clock():
            close = _NONE if asked.is_probe or step.end is None else step.end[1]
            turns = [fact.turn for fact in facts]
            self._take_turn(step.parts, asked.user, turns, reply, close, n_reply=step.n_reply)

    def _probe(self, step: EncodedStep) -> None:
        """A question that leaves no trace: it is asked on a fork, in every way, and the cells are put back."""
        session, engine = self.session, self.session.engine
        with self._clock():
            state = engine.dump(session.seq)
        said, recalling = self.said, self.recalling
        try:
            for number, way in enumerate(self.ways):
                self.way, self.said = number, said.copy()
                self.session = session.fork(engine, session.policy, session.budget)
                self.recalling = None if way is None else way.on(self.session)
                self.ask(step)
                with self._clock():
                    engine.load(session.seq, state)
        finally:
            self.session, self.said, self.recalling, self.way = session, said, recalling, None

    def _read(self, step: EncodedStep, source: Read) -> None:
        with self._clock():
            start = self.session.n_born
            self._take_turn(step.parts)
            ledger = self.session.ledger
            scores = ledger["surprisal"][ledger["born"] >= start].astype(float)
            known = scores[np.isfinite(scores)]
            value = -float(known.mean()) if len(known) else 0.0
            self._note(source.metric, -1, -1, [value], [], n_scored=len(known))

    # ---- helpers -------------------------------------------------------------------------------

    def _take_turn(
        self,
        parts: Sequence[Part],
        message: str = "",
        turns: Sequence[int] = (),
        reply: Callable[[], Tokens] = lambda: _NONE,
        close: Tokens = _NONE,
        *,
        n_reply: int = 0,
    ) -> None:
        """Reads `parts` as one turn, which is known whole to a policy that makes room once per turn; then `reply`.

        message: what the user says in it, turns: where that was said which it asks about.
        """
        session = self.session
        session.begin_turn(n_reply)
        self._feed(parts)
        if message:
            self._note_said("user", message)
        if self.recalling is not None:
            self.recalling.begin(message, turns)
        turn = Turn(session, self.dialogue.codec, _TERMS, GivenReply(close), 0, given=reply)
        for _ in drive(turn, session.engine):
            pass

    def _note_said(self, role: str, text: str) -> None:
        self.said.add(self.session.turn, role, text, 0)

    def _feed(self, parts: Sequence[Part], *, pinned: bool = False) -> None:
        before = "frame"
        for role, tokens in parts:
            if role == before == "frame":  # one message's end, the next one's beginning
                self.session.start_message()
            self.session.feed(tokens, role, pinned=pinned)
            before = role

    def _tenths(self) -> tuple[int, int]:
        """The first step after the first tenth of the dialogue, and the first of the last tenth."""
        n = len(self.dialogue) // 10
        return n, len(self.dialogue) - n

    def _ends(self, seconds: float, way: int) -> tuple[float, float] | None:
        """Seconds per turn in the first and the last tenth of a long dialogue; None before its last step."""
        if self.at < len(self.dialogue) or len(self.dialogue) < _LONG or len(self.marks) < 2:
            return None
        n, _ = self._tenths()
        return self.marks[0][way] / n, (seconds - self.marks[1][way]) / n

    @contextlib.contextmanager
    def _clock(self) -> Iterator[None]:
        """Adds what the block takes to `seconds`, or to those of the way that is asked in."""
        self._started = time.perf_counter()
        yield
        took = time.perf_counter() - self._started
        if self.way is None:
            self.seconds += took
        else:
            self.apart[self.way] += took

    def _is_found(self, facts: Sequence[_Fact], born: NDArray[np.int64]) -> bool | None:
        """Whether a turn of the fact is among what was recalled; None if nothing of it was missing."""
        ledger = self.session.ledger
        if self.recalling is None or np.isin(born, ledger["born"][~ledger["recalled"]]).all():
            return None
        return not {fact.turn for fact in facts}.isdisjoint(recalled.turn for recalled in self.recalling.came)

    def _note(
        self,
        metric: str,
        gold: int,
        chosen: int,
        values: Sequence[float],
        facts: Sequence[_Fact],
        *,
        n_scored: int = 1,
        n_gold: int = 0,
    ) -> None:
        """Keeps an answer as a row, with what is resident now."""
        session, stats = self.session, self.session.stats
        born = np.concatenate([fact.born for fact in facts]) if facts else np.empty(0, np.int64)
        came = () if self.recalling is None else self.recalling.came
        way = self.way or 0
        seconds = self.seconds + self.apart[way] + time.perf_counter() - self._started
        row = Row(
            policy="",
            budget=0,
            dialogue=self.dialogue.source.id,
            index=len(self.rows[way]),
            turn=session.turn,
            metric=metric,
            gold=gold,
            chosen=chosen,
            correct=gold >= 0 and gold == chosen,
            logprobs=tuple(values),
            gold_logprob=float(values[max(gold, 0)]),
            gold_resident=float(np.isin(born, session.ledger["born"]).mean()) if len(born) else None,
            distance=int(session.n_born - born.max()) if len(born) else None,
            resident=len(session.ledger),
            tokens=stats.tokens_in,
            evicted=stats.evicted,
            seconds=seconds,
            n_scored=n_scored,
            ends=self._ends(seconds, way),
            recalled=sum(r.n_tokens for r in came),
            found=self._is_found(facts, born),
            archive_bytes=0 if self.recalling is None else self.recalling.n_bytes,
            n_gold=n_gold,
        )
        self.rows[way].append(row)
