"""One conversation in tokens: a step machine over a ledger, a policy and an engine.

    session.feed(tokens, "user")
    while (piece := session.next_slice()) is not None:
        session.commit(engine.decode([piece])[0])

A chat loop drives one session, a scheduler many through the same two calls. Memory is lost in one
place, `evict`, and each loss is a value that listeners get.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir._shield import shield
from edge_sir.core.budget import Budget
from edge_sir.core.ledger import ROLES, Journal, TokenLedger, Watcher
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import Policy
from edge_sir.core.records import Eviction, SessionStats
from edge_sir.core.returned import Returned
from edge_sir.core.room import Room
from edge_sir.core.scores import Carry
from edge_sir.engine import Engine, Sampler, SamplingParams, Slice, SliceResult
from edge_sir.errors import (
    BudgetError,
    CapabilityError,
    ConfigError,
    SessionError,
    StalePlanError,
    StateError,
)
from edge_sir.grammar.guide import Grammar
from edge_sir.session.displaced import n_standing, standing
from edge_sir.session.pending import Boundaries, no_borders
from edge_sir.session.positions import (
    PositionEpochs,
    Positions,
    read_again,
    resolve_positions,
)
from edge_sir.session.recallable import RecallableRows
from edge_sir.session.redo import Redo, SavedFor, nothing_saved
from edge_sir.session.saved import SavedPassage
from edge_sir.session.state import SessionState, check_scalars

__all__ = ["Session", "check_context"]


_log = logging.getLogger(__name__)

_NOTHING = Carry({}, -1, None)


def check_context(budget: Budget, engine: Engine) -> None:
    """Raises BudgetError for a budget beyond the engine's context or its model's trained length."""
    budget.check_trained_length(engine.spec.n_ctx_train, engine.spec.model)
    if budget.n_cells > engine.spec.n_ctx_seq:
        raise BudgetError(f"a budget of {budget.n_cells} cells exceeds the context of {engine.spec.n_ctx_seq}")


def _carry(piece: Slice, result: SliceResult) -> Carry:
    last = {name: float(rows[-1]) for name, rows in result.scores.items()}
    return Carry(last, int(piece.targets[-1]), result.logits)


def _sampler(engine: Engine, state: Mapping[str, Any] | None) -> Sampler | None:
    """One that goes on from the `state` of another, None for none."""
    return None if state is None else engine.sampler(SamplingParams(**state["params"]), state["drawn"])


class Session(RecallableRows):
    """A conversation in `budget.n_cells` cells of one sequence of the engine.

    turn: the number of the running turn; 0 is what comes before the first (the system prompt). It is
    what decay counts. After each commit the engine's largest position equals the ledger's, or the
    session is poisoned and says so at every further call. also_score: score columns that are filled
    although the policy does not need them. journal: gets every change. owner: who may go on with it.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        budget: Budget,
        *,
        seq: int = 0,
        positions: Positions = "auto",
        borders: Boundaries = no_borders,
        on_evict: Callable[[Eviction], None] | None = None,
        also_score: frozenset[str] = frozenset(),
        journal: Journal | None = None,
    ) -> None:
        check_context(budget, engine)
        super().__init__(engine, policy, budget, seq=seq, positions=positions, on_evict=on_evict, journal=journal)
        self.room.check_budget()
        self._borders = borders
        self._needs = policy.needs | also_score
        self._carry = _NOTHING
        self._sampler: Sampler | None = None
        self._turn_max_repeat = -np.inf
        self._reserve: int | None = None  # None: this turn's room is made
        engine.claim(seq, budget.n_cells)

    # ---- what comes in -------------------------------------------------------------------------

    def begin_turn(self, n_reply: int = 0) -> int:
        """Starts the next turn and returns its number.

        n_reply: tokens to reserve for the reply by policies that make room once per turn.
        """
        self.turn += 1
        self._turn_born = self._born + len(self._pending)
        self._turn_max_repeat = -np.inf
        self._reserve = n_reply
        return self.turn

    def start_message(self) -> int:
        """What is fed next belongs to a new message; returns its number, which no other gets."""
        return self._pending.start_message()

    def feed(self, tokens: ArrayLike, role: str, *, pinned: bool = False) -> None:
        """Queues `tokens` int [n] of `role` (of `ROLES`) for decoding; nothing is decoded yet."""
        array = np.asarray(tokens, np.int32)
        self._pending.feed(array, ROLES.index(role), self.turn, pinned, self._borders(array))

    @property
    def n_pending(self) -> int:
        """Tokens fed but not decoded yet."""
        return len(self._pending)

    @property
    def pending_tokens(self) -> NDArray[np.int32]:
        """Those tokens, int32 [n_pending]."""
        tokens: NDArray[np.int32] = self._pending.head(len(self._pending))["token"].copy()
        return tokens

    @property
    def n_next(self) -> int:
        """Tokens that the next slice holds if nobody asks for fewer, 0 if nothing waits. Nothing changes."""
        n = len(self._pending)
        if n > 1:  # mostly one waits, and this runs twice per token
            n = min(n, self.engine.spec.n_slice, self.room.slice_limit())
            n = min(n, self._pending.n_recalled or n)
        return n

    def discard_pending(self) -> int:
        """Forgets what was fed but not decoded, and returns how many tokens that were."""
        n = len(self._pending)
        self._pending.clear()
        return n

    # ---- the step machine ----------------------------------------------------------------------

    def next_slice(self, n_most: int | None = None) -> Slice | None:
        """What to decode next, at most `n_most` tokens, after room was made for it; None if nothing waits.

        Raises BudgetError if the pins leave no room, PoisonedError, or what the engine raises.
        """
        self.make_ready()
        if not len(self._pending):
            return None
        n = self.n_next if n_most is None else min(self.n_next, max(1, n_most))
        if self._must_renumber(n) and not self.engine.spec.can_pack:
            if self.is_recalling:
                self.end_recall()  # once all is read again, what is displaced has no place to return to
                return self.next_slice(n_most)
            if self._pending.n_recalled:
                self._renumber()  # before anything is displaced
        self._make_room(n)
        if self._must_renumber(n):
            self._renumber()
        self._in_flight = Slice(
            seq=self.seq,
            tokens=self._pending.head(n)["token"],
            p0=self.ledger.next_pos,
            targets=self._pending.targets(n),
            needs=self._needs,
            logits=n == len(self._pending),
        )
        return self._in_flight

    def commit(self, result: SliceResult, *, n_generated: int = 0) -> None:
        """Takes what the engine returned for the last slice into the ledger; n_generated of its tokens were drawn."""
        piece = self._in_flight
        if piece is None:
            raise SessionError("commit without a slice from next_slice")
        n, is_recalled = len(piece.tokens), self._pending.n_recalled > 0
        with shield():
            columns = self._pending.head(n)
            token = columns.pop("token")
            columns |= {"pos": piece.p0 + np.arange(n), "born": self._born + np.arange(n)}
            columns |= self._carry.shifted(result.scores, int(token[0]))
            with self._unrecorded() if is_recalled else contextlib.nullcontext():
                self.ledger.append(token, columns)
            if is_recalled and self.ledger.journal is not None:
                self.ledger.journal.recalled(columns["born"], self.turn)
            self._pending.drop(n)
            self._note_positions(piece.p0, n, self._born)
            self._carry = _carry(piece, result)
            if is_recalled:
                self._turn_born += n
            else:
                self._note_repeats(result)
            self._born += n
            self._returned.read()
            self._in_flight = None
            self.stats.count_decode(n - n_generated, n_generated, len(self.ledger))
        self._check_agreement()

    def step(self, *, n_generated: int = 0) -> bool:
        """One slice through this session's own engine, as `commit`; False if nothing waited."""
        piece = self.next_slice()
        if piece is None:
            return False
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            self.commit(self.engine.decode([piece])[0], n_generated=n_generated)
        return True

    # ---- drawing -------------------------------------------------------------------------------

    def start_sampler(self, params: SamplingParams) -> None:
        """Begins to draw by `params`; a sampler that was at work before ends."""
        self.end_sampler()
        self._sampler = self.engine.sampler(params)

    def constrain(self, grammar: Grammar) -> None:
        """From the next token on what is drawn fits a grammar; all else goes on as it was. Raises ConfigError."""
        if self._sampler is None:
            raise SessionError("nothing to draw with: start a sampler first")
        state = self._sampler.state()
        drawn, params = state["drawn"], SamplingParams(**state["params"])
        params = replace(params, grammar=replace(grammar, after=len(drawn)))
        sampler = self.engine.sampler(params, drawn)
        self.end_sampler()
        self._sampler = sampler

    def end_sampler(self) -> None:
        """Frees the sampler; without one this does nothing."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    def sample(self) -> int:
        """Draws the next token from the last decoded row; feed it to have it decoded."""
        if self._sampler is None:
            raise SessionError("nothing to draw with: start a sampler first")
        return self._sampler.sample(self.last_logits)

    @property
    def last_logits(self) -> NDArray[np.float32]:
        """The last decoded row, float32 [n_vocab]: what comes next. Raises SessionError if something waits."""
        if self._carry.logits is None or len(self._pending):
            raise SessionError("nothing to sample from: decode what was fed first")
        return self._carry.logits

    # ---- what leaves ---------------------------------------------------------------------------

    def truncate(self, turn: int, back: Sequence[SavedPassage] = ()) -> int:
        """Drops everything from `turn` on (of turns that are still resident), as if never said.

        Returns the number of tokens dropped. back: what was evicted meanwhile and is to be put back, as by `put_back`;
        it must fit once the turns are dropped.
        """
        if turn < 1:
            raise SessionError("turn 0 (the system prompt) cannot be truncated")
        if turn > self.turn:
            return 0
        self.end_recall()
        with shield():  # a turn's number goes with its rows
            self.discard_pending()
            n = self.rewind(int((self.ledger["turn"] >= turn).sum()), back)
            self.turn = turn - 1
        return n

    def rewind_to(self, message: int) -> int:
        """Drops what was fed after the message of that number, in the running turn; returns how many tokens.

        Other turns stay: `truncate` comes before.
        """
        self.end_recall()
        with shield():
            self.discard_pending()
            return self.rewind(int((self.ledger["message"] > message).sum()))

    def rewind(self, n: int, back: Sequence[SavedPassage] = ()) -> int:
        """Drops the `n` newest resident tokens, and decodes the one before again for its logits.

        back: what is put back in between, as by `put_back`, so that the one before is the same as before those tokens.
        """
        self._check_usable()
        self._undo_in_flight()
        first = len(self.ledger) - n
        if not 0 <= n <= len(self.ledger):
            raise SessionError(f"cannot rewind {n} of {len(self.ledger)} tokens")
        if n == 0 and not back:
            return 0
        older = [self.ledger["born"][:first], *(saved.columns["born"][np.asarray(rows)] for saved, rows in back)]
        with shield():
            self._epochs.taken_back(1 + max((int(born.max()) for born in older if len(born)), default=-1))
            if back:
                self._cut(first)
                self.put_back(back, "undo")
                first = len(self.ledger)
            redo = max(0, first - 1)
            kept = {name: column[redo:first].copy() for name, column in self.ledger.columns().items()}
            with self._atomically():
                self._cut(redo)
                if first > 0:
                    self._decode_again(kept)
                self.stats.rewound += n
        self._check_agreement()
        return n

    def _cut(self, first: int) -> None:
        """Ledger rows from `first` on leave their cells."""
        with self._atomically():
            self._carry = _NOTHING
            if first < len(self.ledger):
                self.engine.remove(self.seq, int(self.ledger["pos"][first]), -1)
                self.ledger.drop(np.arange(first, len(self.ledger)), self.ledger.epoch)
                self._mend_window()

    def _decode_again(self, row: dict[str, NDArray[Any]]) -> None:
        """Decodes one token that was just removed; next to a hole it moves up to its predecessor."""
        token = row.pop("token")
        unknown = np.full(1, -1, np.int32)
        piece = Slice(self.seq, token, self.ledger.next_pos, unknown, self._needs, True)
        result = self.engine.decode([piece])[0]
        if piece.p0 != int(row["pos"][0]):
            self._note_positions(piece.p0, 1, int(row["born"][0]))
        self.ledger.append(token, row | {"pos": piece.p0})
        self._carry = _carry(piece, result)

    def end_turn(self) -> None:
        """Evicts the running turn's thoughts; what was said stays."""
        thought = self.ledger["role"] == ROLES.index("thought")
        rows = np.flatnonzero(thought & (self.ledger["turn"] == self.turn))
        if len(rows):
            self.evict(EvictionPlan(rows, self.ledger.epoch, "thought"))

    def relabel(self, rows: NDArray[np.intp], role: str) -> None:
        """Gives ledger `rows` another role."""
        self.ledger.update("role", rows, ROLES.index(role))

    def pin(self, turn: int, pinned: bool = True) -> int:
        """Pins what is resident of `turn` (or unpins it) and returns how many tokens that are.

        Raises BudgetError, with nothing changed, if the pins would leave no room for a turn.
        """
        return self.pin_rows(np.flatnonzero(self.ledger["turn"] == turn), pinned, f"pinning turn {turn}")

    def pin_rows(self, rows: NDArray[np.intp], pinned: bool, what: str) -> int:
        """As `pin`, for ledger `rows`; `what` names the attempt in the error."""
        if pinned:
            self.room.check_pins(int((~self.room.fixed()[rows]).sum()), what, "unpin something else")
        self.ledger.update("pinned", rows, pinned)
        return len(rows)

    def make_room(self, n: int) -> int:
        """Evicts, as the policy wants it for `n` tokens that come in; returns how many rows left.

        Raises BudgetError, with nothing changed, if what is fixed leaves no room for them.
        """
        self.make_ready()
        self.end_recall()
        plan = self.room.plan(n, self.turn, None, self._spared(self.ledger))
        if plan is None:
            return 0
        with shield():
            if self.ledger.journal is not None:
                self.ledger.journal.asked(n, self.turn, None)
            self.evict(plan)
        return len(plan)

    def _spared(self, ledger: TokenLedger) -> NDArray[np.bool_]:
        return self._returned.spared(ledger["born"], self.turn)

    # ---- the session as a value ----------------------------------------------------------------

    def scalars(self) -> dict[str, Any]:
        """Those of `state`, as JSON has them, with no copy of its arrays. Raises SessionError as `state`."""
        self._check_usable()
        if len(self._pending) or self._in_flight is not None:
            raise SessionError("decode what was fed first")
        if self.is_recalling:
            raise SessionError("end the turn first: something is recalled for it")
        carry = self._carry
        return {
            "turn": self.turn,
            "born": self._born,
            "positions": self.mode,
            "budget": self.budget.n_cells,
            "policy": self.policy.spec,
            "fingerprint": self.engine.spec.fingerprint,
            "needs": sorted(self._needs),
            "numbering": self._pending.numbering,
            "epochs": self._epochs.state(),
            "tail": self._borders.tail,
            "carry": {"scores": carry.scores, "target": carry.target, "logits": carry.logits is not None},
            "turn_born": self._turn_born,
            "turn_max_repeat": self._turn_max_repeat,
            "reserve": self._reserve,
            "returned": self._returned.state(),
            "stats": asdict(self.stats),
            "sampler": None if self._sampler is None else self._sampler.state(),
        }

    def state(self) -> SessionState:
        """All of this session but its cells.

        Raises SessionError while something waits to be decoded or is recalled, PoisonedError.
        """
        scalars = self.scalars()
        arrays = {f"ledger.{name}": column.copy() for name, column in self.ledger.columns().items()}
        if self._carry.logits is not None:
            arrays["carry.logits"] = self._carry.logits.copy()
        return SessionState(arrays, scalars)

    def snapshot(self) -> tuple[SessionState, bytes]:
        """The state, and the cells as `Engine.dump` has them, to go on from after the process has ended.

        The session goes on with these cells loaded again: so they stand where they will stand in whoever loads them,
        sums are added up in the same order, and what is drawn is the same to the last bit. Raises as `state`, and what
        the engine raises.
        """
        state = self.state()
        with shield():
            cells = self.engine.dump(self.seq)
            self._note_flush()
            if not self.engine.shared_until(self.seq):  # else it would have cells of its own where it shares some
                with self._atomically():
                    self.engine.load(self.seq, cells)
                self._check_agreement()
        return state, cells

    @classmethod
    def from_state(
        cls,
        state: SessionState,
        engine: Engine,
        policy: Policy,
        budget: Budget,
        *,
        seq: int = 0,
        borders: Boundaries = no_borders,
        on_evict: Callable[[Eviction], None] | None = None,
        also_score: frozenset[str] = frozenset(),
        journal: Journal | None = None,
    ) -> "Session":
        """A session of its own that goes on from `state`, with another policy or budget if wanted.

        The caller has put the cells into `seq` of `engine` (Engine.copy, or dump and load). Raises StateError for a
        state of another model or one that does not fit its cells, BudgetError if what is resident exceeds the budget.
        """
        other = cls._of_state(
            state, engine, policy, budget, seq=seq, borders=borders, on_evict=on_evict, also_score=also_score
        )
        other.listen(journal)
        logits = state.arrays.get("carry.logits")
        other._go_on(state.scalars, None if logits is None else logits.copy())
        other._check_agreement()
        return other

    @classmethod
    def rebuilt(
        cls,
        state: SessionState,
        engine: Engine,
        policy: Policy,
        budget: Budget,
        *,
        seq: int = 0,
        borders: Boundaries = no_borders,
        on_evict: Callable[[Eviction], None] | None = None,
        also_score: frozenset[str] = frozenset(),
        journal: Journal | None = None,
        watcher: Watcher | None = None,
    ) -> "Session":
        """As `from_state` where there are no cells: what is resident is decoded again, from position 0 on.

        Scores, born numbers, turns and pins stay as they are; cells that were saved have no position of their own any
        more. watcher: hears of the new positions. What `seq` holds is removed. Where keys cannot move on this engine,
        positions have gaps from now on.
        Raises StateError and BudgetError as `from_state`, StateError for tokens that were forgotten, and what the
        engine raises.
        """
        mode = state.scalars.get("positions")
        if mode == "packed" and not engine.spec.can_pack:
            state = replace(state, scalars=state.scalars | {"positions": "gaps"})
        other = cls._of_state(
            state, engine, policy, budget, seq=seq, borders=borders, on_evict=on_evict, also_score=also_score
        )
        if (other.ledger["token"] < 0).any():
            raise StateError("a token that is to be decoded again was forgotten")
        other.ledger.watcher = watcher
        last = read_again(engine, seq, other.ledger, other._needs)
        other.listen(journal)
        other._go_on(state.scalars, None, has_cells=False)
        other._epochs.give(0, other.ledger.next_pos)
        other._carry = _NOTHING if last is None else _carry(*last)
        other._check_agreement()
        return other

    @classmethod
    def _of_state(
        cls, state: SessionState, engine: Engine, policy: Policy, budget: Budget, **options: Any
    ) -> "Session":
        """One with the rows of `state`; the rest is left to `_go_on`."""
        scalars = state.scalars
        check_scalars(scalars)
        if engine.spec.fingerprint != scalars["fingerprint"]:
            raise StateError(f"{engine.spec.model} is not the model that this session was saved with")
        rows = state.ledger
        if len(rows["token"]) > budget.n_cells:
            raise BudgetError(
                f"{len(rows['token'])} tokens are resident; a budget of {budget.n_cells} cannot hold them"
            )
        other = cls(engine, policy, budget, positions=scalars["positions"], **options)
        other.ledger.append(rows["token"], rows)
        return other

    def listen(self, journal: Journal | None) -> None:
        """The journal gets what is resident, and all changes from now on; None: nobody does."""
        self.ledger.journal = journal
        if journal is not None and len(self.ledger):
            journal.appended(self.ledger.columns())

    def _go_on(self, scalars: Mapping[str, Any], logits: NDArray[np.float32] | None, *, has_cells: bool = True) -> None:
        """Takes over all but rows and cells. logits: of the last decoded row.

        Raises StateError where the scalars are not those of a session, or lack the logits that they speak of.
        """
        try:
            carry = scalars["carry"]
            if has_cells and carry["logits"] and logits is None:
                raise StateError("this is no saved session: it lacks the last decoded row")
            self.stats = SessionStats(**scalars["stats"])
            self.turn, self._born = scalars["turn"], scalars["born"]
            self._carry = Carry(dict(carry["scores"]), int(carry["target"]), logits if carry["logits"] else None)
            self._turn_born, self._turn_max_repeat = scalars["turn_born"], scalars["turn_max_repeat"]
            self._reserve = scalars["reserve"]
            self._pending.go_on(scalars["numbering"])
            self._epochs = PositionEpochs(**scalars["epochs"])
            self._returned = Returned(**scalars["returned"])
            self._borders = self._borders.after(scalars["tail"])
            if self.ledger["born"][-1:].tolist() > [self._born - 1]:
                raise StateError("this is no saved session: it has more tokens than were decoded")
            self.end_sampler()
            self._sampler = _sampler(self.engine, scalars["sampler"])
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise StateError(f"this is no saved session: {error!r}") from None

    def redo(self, logs: Sequence[bytes], scalars: Mapping[str, Any], saved: SavedFor = nothing_saved) -> int:
        """Does again what was done after the snapshot that this session was made from; `from_state` comes before.

        logs: what `Changes` took since then, in order, none left out. scalars: as of `Session.scalars` after the last;
        budget and positions follow them, the policy is the one that is there. saved: gives rows with cells that left
        before the snapshot, by born number. Neither journal nor watcher hears of it. Returns how many rows that were
        recalled for a turn had to be left out of it, since their cells are nowhere: what was decoded then is not quite
        as it was.
        Raises StateError if it cannot be done (a log is damaged, or is not of this session; cells are missing that came
        back; a token that must be decoded was forgotten; the engine has too few cells), or what the engine raises. Then
        the session cannot go on.
        """
        self.make_ready()
        redo = Redo(self.engine, self.seq, self.ledger, saved, self._needs)
        listeners = self.ledger.journal, self.ledger.watcher
        self.ledger.journal = self.ledger.watcher = None
        try:
            check_scalars(scalars)
            redo.run(logs)
            self._go_on(scalars, self._carry.logits if redo.logits is None else redo.logits)
            self._take_terms(scalars)
        except BaseException as error:  # a Ctrl-C too leaves it in between
            self._poison = f"what was logged could not be done again ({error})"
            raise
        finally:
            self.ledger.journal, self.ledger.watcher = listeners
        self._check_agreement()
        return redo.n_left_out

    def _take_terms(self, scalars: Mapping[str, Any]) -> None:
        """Budget, positions and needs as the scalars say."""
        try:
            budget = Budget(scalars["budget"])
            check_context(budget, self.engine)
            self.engine.claim(self.seq, budget.n_cells)
            self.ledger.resize(budget.n_cells)
            self.mode = resolve_positions(scalars["positions"], self.engine)
            self._needs |= frozenset(scalars["needs"])
        except (BudgetError, CapabilityError, SessionError) as error:
            raise StateError(f"what was logged does not fit this engine: {error}") from None
        self.budget, self.room = budget, Room(self.ledger, self.policy, budget)

    def fork(
        self, engine: Engine, policy: Policy, budget: Budget, *, seq: int = 0, also_score: frozenset[str] = frozenset()
    ) -> "Session":
        """A session of its own that goes on from here; what it does never changes this one. As `from_state`.

        Whoever listens to this one hears nothing of it: give it an `on_evict` of its own.
        """
        return Session.from_state(
            self.state(),
            engine,
            policy,
            budget,
            seq=seq,
            borders=self._borders,
            also_score=also_score,
        )

    def move_to(self, engine: Engine) -> None:
        """Goes on in another engine of the same model, with the same cells; the old one stays as it is.

        Raises CapabilityError or StateError, with nothing changed, if the other cannot take them.
        """
        self.make_ready()
        if engine.spec.fingerprint != self.engine.spec.fingerprint:
            raise CapabilityError(f"{engine.spec.model} is not the model of this conversation")
        resolve_positions(self.mode, engine)
        engine.claim(self.seq, self.budget.n_cells)
        with shield():  # the session is in the old engine or in the new one, and whoever owns them knows in which
            engine.load(self.seq, self.engine.dump(self.seq))
            self._note_flush()
            sampler = _sampler(engine, None if self._sampler is None else self._sampler.state())
            if engine.pos_range(self.seq)[1] != self.engine.pos_range(self.seq)[1]:
                raise StateError(f"{engine.spec.model} did not take all cells over")
            self.end_sampler()
            self.engine, self._sampler = engine, sampler

    # ---- what a user changes in mid-conversation -----------------------------------------------

    def forget(self, rows: NDArray[np.intp]) -> int:
        """Removes ledger `rows` and their cells, pinned or not, and returns how many those are.

        What later tokens took in from them when they were decoded stays in those.
        """
        self.make_ready()
        self._borders = self._borders.after("")  # the end of what was said last may be of what is forgotten
        if len(rows):
            self.evict(EvictionPlan(np.unique(rows), self.ledger.epoch, "forgotten"))
        return len(rows)

    def reset(self) -> None:
        """Empties the session: turn 0 begins again. What was counted stays counted, here and in its `stats`."""
        self.make_ready()
        self.end_recall()
        with shield():  # rows of no turn, or a turn of no rows, would be what the next message is added to
            self.discard_pending()
            if self.turn > 0 and self.ledger.journal is not None:  # a first system prompt replaced is no conversation
                self.ledger.journal.cleared()
            self.rewind(len(self.ledger))
            self.turn = 0
            self._borders = self._borders.after("")

    def set_policy(self, policy: Policy) -> None:
        """Makes room by another policy from now on. Raises BudgetError if the pins leave it none.

        Scores that were not computed so far stay unknown; those that were go on being computed.
        """
        room = Room(self.ledger, policy, self.budget)
        room.check_pins(0, f"policy {policy.spec}", "unpin something")
        self.policy, self.room = policy, room
        self._needs = self._needs | policy.needs
        if self.ledger.journal is not None:
            self.ledger.journal.changed("policy", policy.spec, self.turn)

    def set_budget(self, n_cells: int) -> int:
        """Changes the budget, and evicts at once what no longer fits, no more; returns how many tokens that are.

        What a raised budget brought back (`put_back`) leaves first, unless something was read since. Raises BudgetError
        if the engine has no such context, or the pins and a turn do not fit.
        """
        self.make_ready()
        self.room.check_budget(n_cells)
        budget = Budget(n_cells)
        check_context(budget, self.engine)
        self.end_recall()  # what is displaced returns into the cells that there are now
        room = Room(self.ledger, self.policy, budget)
        plan = room.plan_lowered(self.turn, self._returned.first(self.ledger["born"]), self._spared(self.ledger))
        self.engine.claim(self.seq, n_cells)
        with shield():
            if self.ledger.journal is not None:
                self.ledger.journal.changed("budget", n_cells, self.turn)
            if plan is not None:
                self.evict(plan)
            self.ledger.resize(n_cells)
            self.budget, self.room = budget, room
        return 0 if plan is None else len(plan)

    # ---- making room ---------------------------------------------------------------------------

    def _make_room(self, n: int) -> None:
        if self._pending.n_recalled and self.engine.spec.can_restore:
            self._displace(len(self.ledger) + n - self.budget.n_cells)
            return
        n_whole_turn = None if self._reserve is None else len(self._pending) + self._reserve
        if self.ledger.journal is not None:
            self.ledger.journal.asked(n, self.turn, n_whole_turn)
        is_recalling = self.is_recalling and self.engine.spec.can_restore
        n_stand = n_standing(self.ledger, self._displaced) if is_recalling else len(self.ledger)
        if (
            n_whole_turn is not None or n_stand + n > self.budget.n_cells
        ):  # mostly it fits, and this runs once per token
            stands = standing(self.ledger, self._displaced) if is_recalling else self.ledger
            room = Room(stands, self.policy, self.budget) if is_recalling else self.room
            plan = room.plan(n, self.turn, n_whole_turn, self._spared(stands))
            self._reserve = None
            if plan is not None:
                self.evict(plan, stands)
        if is_recalling:
            self._displace(len(self.ledger) + n - self.budget.n_cells)

    def evict(self, plan: EvictionPlan, stands: TokenLedger | None = None) -> None:
        """The only place where memory is lost. stands: what the plan was made for, if not the ledger."""
        started = time.perf_counter()
        stands = self.ledger if stands is None else stands
        if plan.epoch != stands.epoch:
            raise StalePlanError(f"the plan was made for epoch {plan.epoch}, the ledger is at {stands.epoch}")
        lost = ~stands["recalled"][plan.rows]  # what is recalled was evicted before
        event = Eviction(
            plan.why,
            self.turn,
            len(stands),
            {name: column[plan.rows][lost] for name, column in stands.columns().items()},
            self._born,
            None if plan.values is None else plan.values[lost],
            plan.cut,
        )
        rows = (
            plan.rows if stands is self.ledger else np.flatnonzero(np.isin(self.ledger["born"], event.columns["born"]))
        )
        with shield():  # around the archive, which would keep half; and the report: a loss must not go unsaid
            if self.before_eviction is not None and plan.why == "room":
                self.before_eviction(rows)
            self._displaced.drop(event.columns["born"])
            with self._unrecorded():
                self._take_out(rows)
            self.stats.evict_s += time.perf_counter() - started
            if len(event):
                self._report(event, plan.why)

    def _note_repeats(self, result: SliceResult) -> None:
        """The released code gives the first token of a chunk, here the turn, the chunk's maximum."""
        rows = result.scores.get("self_repeat")
        if rows is not None:
            self._turn_max_repeat = max(self._turn_max_repeat, float(rows.max()))
            self.ledger.update("self_repeat", self.ledger["born"] == self._turn_born, self._turn_max_repeat)
