"""Plays a dialogue on one session, and values the options of its questions."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.core.scores import surprisal
from edge_sir.engine import Engine, Slice, Tokens
from edge_sir.errors import BatchError
from edge_sir.eval.controls import Gold
from edge_sir.eval.records import Row
from edge_sir.eval.script import Line, Script
from edge_sir.eval.stage import N_OPTIONS, N_SCRATCH
from edge_sir.eval.task import Ask, Read, Say
from edge_sir.session import Positions, Session
from edge_sir.text.boundaries import TextBorders
from edge_sir.text.encoder import Part

__all__ = ["Player", "option_logprobs"]

_LONG = 200
"""Steps from which a dialogue's first and last tenth are timed: twenty turns and more each."""


@dataclass(frozen=True, slots=True)
class _Told:
    """Where a fact stands in the stream: its turn, and the born numbers of the tokens that carry it."""

    turn: int
    born: NDArray[np.int64]


@dataclass(slots=True)
class Player:
    """A session and how far it has come in a script.

    rows: the answers so far, without the arm's name. seconds: taken so far, by a trunk that this was forked from, too.
    marks: `seconds` after the first tenth of the steps and before the last one.
    """

    script: Script
    session: Session
    at: int = 0
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, list[_Told]] = field(default_factory=dict)
    seconds: float = 0.0
    marks: tuple[float, ...] = ()
    _started: float = 0.0

    @classmethod
    def start(
        cls,
        script: Script,
        engine: Engine,
        policy: Policy,
        n_cells: int,
        *,
        positions: Positions = "auto",
        also_score: frozenset[str] = frozenset(),
    ) -> "Player":
        """A new session that has heard the opening, pinned as a whole. Raises BudgetError if that does not fit."""
        if script.plain:
            also_score |= {"surprisal"}
        borders = TextBorders(script.codec)
        session = Session(engine, policy, Budget(n_cells), positions=positions, borders=borders, also_score=also_score)
        player = cls(script, session)
        opening = script.opening()
        session.room.check_pins(sum(len(tokens) for _, tokens in opening), "the system prompt")
        player._feed(opening, pinned=True)
        return player

    def fork(self, engine: Engine, policy: Policy, n_cells: int) -> "Player":
        """A player that goes on from here under another policy; `engine` holds the same cells already."""
        also = frozenset({"surprisal"} if self.script.plain else ())
        session = self.session.fork(engine, policy, Budget(n_cells), also_score=also)
        facts = {name: list(told) for name, told in self.facts.items()}
        if isinstance(policy, Gold):
            policy.turns.update(t.turn for told in facts.values() for t in told)
        return Player(self.script, session, self.at, list(self.rows), facts, self.seconds, self.marks)

    # ---- playing -------------------------------------------------------------------------------

    def next_size(self) -> int:
        """Most tokens that the next step brings."""
        return self.script.line(self.at).n_tokens

    def play(self) -> None:
        """The next step."""
        if self.at in self._tenths():
            self.marks += (self.seconds,)
        line, self.at = self.script.line(self.at), self.at + 1
        if isinstance(line.step, Say):
            self.say(line.parts, line)
        elif isinstance(line.step, Read):
            self._read(line, line.step)
        elif line.step.reply == "none" and self.at < len(self.script):
            self._probe(line)
        else:
            self.ask(line)

    def say(self, parts: Sequence[Part], line: Line | None = None) -> None:
        """A turn that asks nothing; of `line`, notes where its fact stands."""
        with self._clock():
            session, start = self.session, self.session.n_born
            session.begin_turn()
            if line is not None and isinstance(line.step, Say) and line.step.fact:
                born = [np.arange(start + a, start + b) for a, b in line.gold]
                told = _Told(session.turn, np.concatenate(born) if born else np.empty(0, np.int64))
                self.facts.setdefault(line.step.fact, []).append(told)
                if isinstance(session.policy, Gold):
                    session.policy.turns.add(session.turn)
            self._feed(parts)

    def ask(self, line: Line) -> None:
        """A question; what its step says stays in the conversation as the reply."""
        step, session = line.step, self.session
        assert isinstance(step, Ask)
        with self._clock():
            session.begin_turn(line.n_reply)
            self._feed(line.parts)
            values = option_logprobs(session, line.options, rank=line.rank)
            chosen = int(np.argmax(values))
            told = self.facts.get(step.fact, [])
            self._answer(step.metric, step.gold, chosen, values, told)
            if step.reply != "none":
                session.feed(line.options[chosen if step.reply == "chosen" else step.gold], "assistant")
                if line.end is not None:
                    session.feed(line.end[1], line.end[0])
                self._drain()

    def _probe(self, line: Line) -> None:
        """A question that leaves no trace: it is asked on a fork, and the cells are put back."""
        session, engine = self.session, self.session.engine
        with self._clock():
            state = engine.dump(session.seq)
        self.session = session.fork(engine, session.policy, session.budget)
        try:
            self.ask(line)
        finally:
            self.session = session
        with self._clock():
            engine.load(session.seq, state)

    def _read(self, line: Line, step: Read) -> None:
        with self._clock():
            start = self.session.n_born
            self.session.begin_turn()
            self._feed(line.parts)
            ledger = self.session.ledger
            scores = ledger["surprisal"][ledger["born"] >= start].astype(float)
            known = scores[np.isfinite(scores)]
            value = -float(known.mean()) if len(known) else 0.0
            self._answer(step.metric, -1, -1, [value], [], n_scored=len(known))

    # ---- helpers -------------------------------------------------------------------------------

    def _tenths(self) -> tuple[int, int]:
        """The first step after the first tenth of the script, and the first of the last tenth."""
        n = len(self.script) // 10
        return n, len(self.script) - n

    def _ends(self, seconds: float) -> tuple[float, float] | None:
        """Seconds per turn in the first and the last tenth of a long script; None before its last step."""
        if self.at < len(self.script) or len(self.script) < _LONG or len(self.marks) < 2:
            return None
        n, _ = self._tenths()
        return self.marks[0] / n, (seconds - self.marks[1]) / n

    def _feed(self, parts: Sequence[Part], *, pinned: bool = False) -> None:
        # As one piece, so that a policy that makes room once per turn knows all that comes.
        before = "frame"
        for role, tokens in parts:
            if role == before == "frame":  # one message's end, the next one's beginning
                self.session.start_message()
            self.session.feed(tokens, role, pinned=pinned)
            before = role
        self._drain()

    def _drain(self) -> None:
        while self.session.step():
            pass

    @contextlib.contextmanager
    def _clock(self) -> Iterator[None]:
        """Adds what the block takes to `seconds`."""
        self._started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - self._started

    def _answer(
        self, metric: str, gold: int, chosen: int, values: Sequence[float], told: Sequence[_Told], *, n_scored: int = 1
    ) -> None:
        session, stats = self.session, self.session.stats
        born = np.concatenate([t.born for t in told]) if told else np.empty(0, np.int64)
        resident = float(np.isin(born, session.ledger["born"]).mean()) if len(born) else None
        seconds = self.seconds + time.perf_counter() - self._started
        row = Row(
            policy="",
            budget=0,
            dialogue=self.script.dialogue.id,
            index=len(self.rows),
            turn=session.turn,
            metric=metric,
            gold=gold,
            chosen=chosen,
            correct=gold >= 0 and gold == chosen,
            logprobs=tuple(values),
            gold_logprob=float(values[max(gold, 0)]),
            gold_resident=resident,
            distance=int(self.session.n_born - born.max()) if len(born) else None,
            resident=len(session.ledger),
            tokens=stats.tokens_in,
            evicted=stats.evicted,
            seconds=seconds,
            n_scored=n_scored,
            ends=self._ends(seconds),
        )
        self.rows.append(row)


def option_logprobs(session: Session, options: Sequence[Tokens], *, rank: bool = True) -> list[float]:
    """log P of each option after what is in the cache, in nats; the whole of it, or (not rank) its first token.

    The options are decoded together, each on a copy of the sequence in the cells beside the budget, and removed
    again: what is in the cache is decoded once. Raises BatchError for an option longer than a batch.
    """
    logits = session.last_logits
    rows = np.broadcast_to(logits, (len(options), len(logits)))
    first = [-float(x) for x in surprisal(rows, [option[0] for option in options])]
    if not rank:
        return first
    rest: list[float] = []
    for group in _groups(options, min(session.engine.spec.n_batch, N_SCRATCH)):
        rest += _rest(session, group)
    return [a + b for a, b in zip(first, rest, strict=True)]


def _groups(options: Sequence[Tokens], n_batch: int) -> Iterator[list[Tokens]]:
    """The options in order, as many at a time as one decode takes."""
    group: list[Tokens] = []
    for option in options:
        if len(option) > n_batch:
            raise BatchError(f"an option of {len(option)} tokens does not fit a batch of {n_batch}")
        if len(group) == N_OPTIONS or sum(map(len, group)) + len(option) > n_batch:
            yield group
            group = []
        group.append(option)
    yield group


def _rest(session: Session, options: Sequence[Tokens]) -> list[float]:
    """log P of each option's second and later tokens, one decode for all."""
    engine, p0 = session.engine, session.ledger.next_pos
    seqs = range(session.seq + 1, session.seq + 1 + len(options))
    slices = []
    for seq, option in zip(seqs, options, strict=True):
        engine.copy(session.seq, seq)
        targets = np.append(option[1:], -1).astype(np.int32)
        slices.append(Slice(seq, option, p0, targets, frozenset({"surprisal"}), logits=False))
    with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
        try:
            results = engine.decode(slices)
        finally:
            for seq in seqs:
                engine.remove(seq, 0, -1)
    return [-float(r.scores["surprisal"][:-1].sum()) for r in results]
