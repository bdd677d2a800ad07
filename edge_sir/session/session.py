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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_sir._owner import Owner
from edge_sir._shield import shield
from edge_sir.core.budget import Budget
from edge_sir.core.ledger import ROLES, Journal, TokenLedger
from edge_sir.core.plan import EvictionPlan, moves_between, runs_of
from edge_sir.core.policy import LedgerView, Policy
from edge_sir.core.records import Eviction, SessionStats
from edge_sir.core.returned import Returned
from edge_sir.core.room import Room
from edge_sir.core.scores import Carry
from edge_sir.engine import Engine, Sampler, SamplingParams, Slice, SliceResult
from edge_sir.errors import (
    BudgetError,
    CapabilityError,
    EngineError,
    PoisonedError,
    SessionError,
    StalePlanError,
    StateError,
)
from edge_sir.session.displaced import Displaced, standing
from edge_sir.session.pending import Boundaries, PendingTokens, no_borders
from edge_sir.session.positions import (
    PositionEpochs,
    PositionMode,
    Positions,
    pack,
    places_among,
    read_again,
    resolve_positions,
)
from edge_sir.session.saved import SavedRows
from edge_sir.session.state import SessionState

__all__ = ["SavedPassage", "Session", "check_context"]

SavedPassage = tuple[SavedRows, ArrayLike]
"""Saved rows, and which of them are meant, sorted int [n]."""

_log = logging.getLogger(__name__)

_NOTHING = Carry({}, -1, None)
_SPARE = 32  # cells displaced beside those needed, or each token of the reply would displace one, and shift all keys
_SOON = 128  # tokens of the message that waits for which room is displaced together with that for what is recalled


def check_context(budget: Budget, engine: Engine) -> None:
    """Raises BudgetError for a budget beyond the engine's context or its model's trained length."""
    budget.check_trained_length(engine.spec.n_ctx_train, engine.spec.model)
    if budget.n_cells > engine.spec.n_ctx:
        raise BudgetError(f"a budget of {budget.n_cells} cells exceeds the context of {engine.spec.n_ctx}")


def _carry(piece: Slice, result: SliceResult) -> Carry:
    last = {name: float(rows[-1]) for name, rows in result.scores.items()}
    return Carry(last, int(piece.targets[-1]), result.logits)


def _sampler(engine: Engine, state: Mapping[str, Any] | None) -> Sampler | None:
    """One that goes on from the `state` of another, None for none."""
    return None if state is None else engine.sampler(SamplingParams(**state["params"]), state["drawn"])


class Session:
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
        self.owner = Owner("chat")
        self.engine = engine
        self.policy = policy
        self.budget = budget
        self.seq = seq
        self.mode: PositionMode = resolve_positions(positions, engine)
        self.ledger = TokenLedger(budget.n_cells, journal)
        self.room = Room(self.ledger, policy, budget)
        self.room.check_budget()
        self.stats = SessionStats()
        self.turn = 0
        self.on_evict = on_evict
        self.before_eviction: Callable[[NDArray[np.integer]], None] | None = None
        self._borders = borders
        self._needs = policy.needs | also_score
        self._pending = PendingTokens()
        self._born = 0
        self._epochs = PositionEpochs()
        self._displaced = Displaced()
        self._returned = Returned()
        self._carry = _NOTHING
        self._in_flight: Slice | None = None
        self._sampler: Sampler | None = None
        self._poison = ""
        self._turn_born = 0
        self._turn_max_repeat = -np.inf
        self._reserve: int | None = None  # None: this turn's room is made

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
    def n_born(self) -> int:
        """Tokens ever decoded."""
        return self._born

    @property
    def n_pending(self) -> int:
        """Tokens fed but not decoded yet."""
        return len(self._pending)

    @property
    def pending_tokens(self) -> NDArray[np.int32]:
        """Those tokens, int32 [n_pending]."""
        tokens: NDArray[np.int32] = self._pending.head(len(self._pending))["token"].copy()
        return tokens

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
        n = min(len(self._pending), self.engine.spec.n_batch, self.room.slice_limit())
        n = n if n_most is None else min(n, max(1, n_most))
        n = min(n, self._pending.n_recalled or n)
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

    # ---- what is saved, and what comes back ------------------------------------------------------

    def save_rows(self, rows: ArrayLike, *, cells: bool = True) -> SavedRows:
        """The ledger `rows` (sorted, int [n]) with their cells, for `restore` after they were evicted.

        cells: False for the rows alone, which cost nothing and cannot be restored. Raises CapabilityError where the
        engine cannot restore cells (`EngineSpec.why_restore`).
        """
        self.make_ready()
        index = np.asarray(rows, np.intp)
        if not len(index) or np.any(np.diff(index) < 1) or index[0] < 0 or index[-1] >= len(self.ledger):
            raise SessionError(f"{len(index)} rows of a ledger of {len(self.ledger)} are no passage to save")
        columns = {name: column[index].copy() for name, column in self.ledger.columns().items()}
        if not cells:
            return SavedRows(columns, self._epochs.now, b"")
        first, *more = runs_of(index, self.ledger["pos"])
        with shield():  # a pending K-shift is applied by a decode
            return SavedRows(columns, self._epochs.now, self.engine.save(self.seq, *first, *more))

    def restore(
        self,
        saved: SavedRows,
        rows: ArrayLike | None = None,
        *,
        place: Literal["own", "last"] = "own",
        recalled: bool = False,
        why: str = "",
    ) -> int:
        """Makes those of the saved rows resident again that are not, with no decode; returns how many those are.

        rows: which of them, sorted int [n]; None for all. place: "own" is the one in the order of birth (packed: among
        the survivors, which move up; with gaps: at the old positions, or between its neighbours if those belong to
        others by now); "last" is behind all that is resident, so right before a message that was fed and not decoded
        yet: there they are tokens of the running turn, born anew. recalled: they leave with `end_recall`. why: as in
        `Journal.restoring`. The last decoded row stays as it was. Rows of turns that were taken back are the caller's
        to leave out, and so is making room.
        Raises SessionError if they do not fit the budget, StateError where their text must be read instead: the cells
        were not saved, are damaged, of another model or context, or must move and cannot. Then nothing has changed.
        """
        self.make_ready()
        if not saved.cells:
            raise StateError("these rows were saved without their cells; read their text again")
        missing = self._missing(saved, rows)
        if not len(missing):
            return 0
        if len(self.ledger) + len(missing) > self.budget.n_cells:
            n = len(self.ledger) + len(missing) - self.budget.n_cells
            raise SessionError(f"{len(missing)} rows do not fit beside {len(self.ledger)}: evict {n} first")
        columns = {name: column[missing].copy() for name, column in saved.columns.items()}
        columns["recalled"] = np.full(len(missing), recalled)
        if place == "last":
            columns |= {"born": self._born + np.arange(len(missing)), "turn": np.full(len(missing), self.turn)}
        at = np.searchsorted(self.ledger["born"], columns["born"])
        places = self._places(columns["pos"], at, saved.epoch if place == "own" else -1)
        self._insert(saved.cells, columns, at, places, why)
        return len(missing)

    def put_back(self, passages: Sequence[SavedPassage], why: str) -> int:
        """As `restore`, for each passage and its rows and for good; returns how many rows came back.

        What cannot be restored is left out. why: as in `Journal.restoring`. Raises SessionError if they do not fit.
        """
        n = 0
        with shield():
            for saved, rows in passages:
                with contextlib.suppress(EngineError, CapabilityError):
                    n += self.restore(saved, rows, why=why)
        return n

    def can_put_back(self, saved: SavedRows, rows: ArrayLike | None = None) -> bool:
        """Whether their positions are free, or keys can move; else `put_back` leaves these rows out."""
        missing = self._missing(saved, rows)
        with contextlib.suppress(StateError):
            born = saved.columns["born"][missing]
            self._places(saved.columns["pos"][missing], np.searchsorted(self.ledger["born"], born), saved.epoch)
            return True
        return False

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

    def _missing(self, saved: SavedRows, rows: ArrayLike | None) -> NDArray[np.intp]:
        """Which of the saved rows (of `rows`, or of all) are not resident."""
        chosen = np.arange(len(saved)) if rows is None else np.asarray(rows, np.intp)
        return chosen[~np.isin(saved.columns["born"][chosen], self.ledger["born"])]

    def _places(self, pos: NDArray[Any], at: NDArray[np.intp], epoch: int) -> NDArray[np.int64]:
        """The position of every row when rows from positions `pos`, saved in `epoch`, come in before the rows `at`."""
        own: NDArray[np.int64] = np.insert(self.ledger["pos"].astype(np.int64), at, pos)
        spec, is_own = self.engine.spec, epoch >= 0 and self._epochs.still_own(epoch, int(pos[-1]))
        if self.mode == "gaps" and is_own and np.all(np.diff(own) > 0):
            return own
        if not spec.can_pack:
            raise StateError(
                f"the positions of these cells belong to others, and keys of {spec.model} cannot move ({spec.why}); "
                "read their text again"
            )
        first = self.engine.shared_until(self.seq)
        places = places_among(self.ledger["pos"], at, first, packed=self.mode == "packed")
        if 0 < spec.n_ctx_train <= places[-1]:
            places = places_among(self.ledger["pos"], at, first, packed=True)
        return places

    def _insert(
        self, cells: bytes, columns: dict[str, NDArray[Any]], at: NDArray[np.intp], places: NDArray[np.int64], why: str
    ) -> None:
        new = at + np.arange(len(at))
        moves = moves_between(self.ledger["pos"], np.delete(places, new))
        is_moved = bool(moves) or not np.array_equal(places[new], columns["pos"])
        with shield():
            self.engine.restore(self.seq, cells, columns["pos"], places[new], moves)
            with self._atomically():
                if self.ledger.journal is not None:
                    self.ledger.journal.restoring(why, self.turn)
                self.ledger.insert(columns, places)
                self._returned.note(why, columns["born"], self.turn)
                if self.mode == "gaps" and is_moved:
                    self._epochs.give(min([int(places[new[0]]), *(p0 for p0, _, _ in moves)]), self.ledger.next_pos)
                n_anew = int((columns["born"] >= self._born).sum())
                self._turn_born += n_anew if self._turn_born >= self._born else 0
                self._born += n_anew
                self.stats.restored += len(new)
                self.stats.kshifts += is_moved
            self._check_agreement()

    # ---- recalled for a turn -------------------------------------------------------------------

    def recall(self, passages: Sequence[SavedPassage], place: Literal["own", "last"] = "own") -> list[int]:
        """As `restore` for each passage and its rows, until `end_recall`; returns how many rows of each came back.

        What must make room is displaced, at once for all of them, and returns at the end. Room for what is decoded
        meanwhile is made as if nothing had been recalled, so that what is evicted is the same. Of passages that cannot
        be restored none comes back. Raises SessionError if not as many cells may be displaced.
        """
        self.make_ready()
        wanted = [(saved, self._missing(saved, rows)) for saved, rows in passages]
        n_wanted = sum(len(rows) for _, rows in wanted)
        if not n_wanted:
            return [0] * len(wanted)
        n_over = len(self.ledger) + n_wanted - self.budget.n_cells
        beside = np.isin(self.ledger["born"], [b for saved, _ in wanted for b in saved.columns["born"]])
        if n_over > int((self._displaceable() & ~beside).sum()):
            beside[:] = False
        if n_over > int(self._displaceable().sum()):
            raise SessionError(f"no room to recall that: {n_over} cells would have to be displaced")
        self._displace(n_over + min(len(self._pending), _SOON), beside)
        came = [0] * len(wanted)
        with shield(), self._unrecorded():
            for i, (saved, rows) in enumerate(wanted):
                with contextlib.suppress(StateError):
                    came[i] = self.restore(saved, rows, place=place, recalled=True)
        if self.ledger.journal is not None and any(came):
            self.ledger.journal.recalled(self.ledger["born"][self.ledger["recalled"]], self.turn)
        return came

    def feed_recalled(self, messages: Sequence[Sequence[tuple[str, NDArray[np.int32]]]]) -> None:
        """Queues messages before all that waits, roles and tokens of each: read again, until `end_recall`.

        What must make room for them is displaced, as in `recall`; evicted, where the engine cannot restore cells.
        """
        numbered = [[(ROLES.index(role), np.asarray(tokens, np.int32)) for role, tokens in m] for m in messages]
        with shield():
            self._pending.feed_first(numbered, self.turn)

    def end_recall(self) -> int:
        """What was recalled leaves, what was displaced returns; returns how many rows left. Nothing is decoded.

        What cannot return (its positions were given away and keys cannot move) is evicted.
        """
        if self._pending.n_recalled:
            self._undo_in_flight()
            self._pending.drop(self._pending.n_recalled)
        rows = np.flatnonzero(self.ledger["recalled"])
        if len(rows) or len(self._displaced):
            self.make_ready()
            lost: list[tuple[SavedRows, NDArray[np.intp]]] = []
            with shield():
                with self._unrecorded():
                    self._take_out(rows)
                    for saved, back in self._displaced.take():
                        try:
                            self.restore(saved, back)
                        except (EngineError, CapabilityError):
                            lost.append((saved, back))
                for saved, back in lost:
                    columns = {name: column[back] for name, column in saved.columns.items()}
                    self._report(Eviction("room", self.turn, len(self.ledger), columns, self._born), "displaced")
        return len(rows)

    @property
    def n_recallable(self) -> int:
        """Most rows that can be recalled now: those of free cells, and of cells whose rows may be displaced."""
        return self.budget.n_cells - len(self.ledger) + int(self._displaceable().sum())

    @property
    def is_recalling(self) -> bool:
        """Whether something is recalled or displaced."""
        return len(self._displaced) > 0 or bool(self.ledger["recalled"].any())

    def _displaceable(self) -> NDArray[np.bool_]:
        """The rows that may be displaced, bool [n]: all but those fixed, recalled, or of the running turn.

        Nor the last one: what is decoded next would get its position. None where the policy never evicts: it does not
        say which.
        """
        ledger = self.ledger
        if not self.policy.evicts:
            return np.zeros(len(ledger), np.bool_)
        may_go: NDArray[np.bool_] = ~(self.room.fixed() | ledger["recalled"] | (ledger["turn"] == self.turn))
        may_go[-1:] = False
        return may_go

    def _displace(self, n: int, keep: NDArray[np.bool_] | None = None) -> None:
        """Frees `n` cells and some to spare, those that the policy values least; recalled rows yield if others may not.

        keep: ledger rows that stay, bool [len(ledger)]: what is resident of a passage that is to be recalled.
        """
        n_short = n - int(self._displaceable().sum())
        if n_short > 0:
            with shield(), self._unrecorded():
                self._take_out(np.flatnonzero(self.ledger["recalled"])[:n_short])
            n -= n_short
        protect = ~self._displaceable() if keep is None else ~self._displaceable() | keep
        n = min(n + _SPARE, int((~protect).sum())) if n > 0 else 0
        if not n:
            return
        view = LedgerView(self.ledger.columns(), self.turn, self.ledger.epoch, n)
        rows = self.policy.plan(view, n, protect).rows
        with shield():  # they are resident or displaced, never both
            if self.before_eviction is not None:
                self.before_eviction(rows)
            self._displaced.add(self.save_rows(rows))
            with self._unrecorded():
                self._take_out(rows)

    @contextmanager
    def _unrecorded(self) -> Iterator[None]:
        """The journal learns nothing of what happens in here: it follows what would be resident without a recall.

        To be used in a shield, or Ctrl-C could leave the journal off.
        """
        journal, self.ledger.journal = self.ledger.journal, None
        try:
            yield
        finally:
            self.ledger.journal = journal

    # ---- the session as a value ----------------------------------------------------------------

    def state(self) -> SessionState:
        """All of this session but its cells. Raises SessionError while something waits to be decoded."""
        self._check_usable()
        if len(self._pending) or self._in_flight is not None:
            raise SessionError("decode what was fed first")
        if self.is_recalling:
            raise SessionError("end the turn first: something is recalled for it")
        arrays = {f"ledger.{name}": column.copy() for name, column in self.ledger.columns().items()}
        if self._carry.logits is not None:
            arrays["carry.logits"] = self._carry.logits.copy()
        scalars = {
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
            "carry": {"scores": self._carry.scores, "target": self._carry.target},
            "turn_born": self._turn_born,
            "turn_max_repeat": self._turn_max_repeat,
            "reserve": self._reserve,
            "returned": self._returned.state(),
            "stats": asdict(self.stats),
            "sampler": None if self._sampler is None else self._sampler.state(),
        }
        return SessionState(arrays, scalars)

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
        scalars = state.scalars
        if missing := {"fingerprint", "positions", "numbering", "epochs", "carry", "stats", "sampler"} - scalars.keys():
            raise StateError(f"this is no saved session: it lacks {', '.join(sorted(missing))}")
        if engine.spec.fingerprint != scalars["fingerprint"]:
            raise StateError(f"{engine.spec.model} is not the model that this session was saved with")
        rows = state.ledger
        if len(rows["token"]) > budget.n_cells:
            raise BudgetError(
                f"{len(rows['token'])} tokens are resident; a budget of {budget.n_cells} cannot hold them"
            )
        other = cls(
            engine,
            policy,
            budget,
            seq=seq,
            positions=scalars["positions"],
            borders=borders.after(scalars["tail"]),
            on_evict=on_evict,
            also_score=also_score,
            journal=journal,
        )
        other.ledger.append(rows["token"], rows)
        other.stats = SessionStats(**scalars["stats"])
        other.turn, other._born = scalars["turn"], scalars["born"]
        logits = state.arrays.get("carry.logits")
        carry = scalars["carry"]
        other._carry = Carry(dict(carry["scores"]), carry["target"], None if logits is None else logits.copy())
        other._turn_born, other._turn_max_repeat = scalars["turn_born"], scalars["turn_max_repeat"]
        other._reserve = scalars["reserve"]
        other._pending.go_on(scalars["numbering"])
        other._epochs = PositionEpochs(**scalars["epochs"])
        other._returned = Returned(scalars.get("returned"))
        other._sampler = _sampler(engine, scalars["sampler"])
        other._check_agreement()
        return other

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
        with shield():  # the session is in the old engine or in the new one, and whoever owns them knows in which
            engine.load(self.seq, self.engine.dump(self.seq))
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

    def _report(self, event: Eviction, why: str) -> None:
        if self.ledger.journal is not None:
            self.ledger.journal.evicting(why, self.turn, event.n_resident)
            self.ledger.journal.dropped(event.columns["born"])
        self.stats.evicted += len(event)
        self.stats.evictions += 1
        if self.on_evict is not None:
            self.on_evict(event)

    def _take_out(self, rows: NDArray[np.integer]) -> None:
        """Ledger `rows` leave their cells, and what stays closes up where positions are packed."""
        if not len(rows):
            return
        with shield(), self._atomically():
            pos = self.ledger["pos"].copy()
            self.ledger.drop(rows, self.ledger.epoch)
            for p0, p1 in runs_of(rows, pos):
                self.engine.remove(self.seq, p0, p1)
            if self.mode == "packed":
                self.stats.kshifts += pack(self.engine, self.seq, self.ledger)
        self._check_agreement()

    def _must_renumber(self, n: int) -> bool:
        """Whether `n` more tokens would go beyond the trained length."""
        return self.mode == "gaps" and 0 < self.engine.spec.n_ctx_train < self.ledger.next_pos + n

    def _renumber(self) -> None:
        """Gap mode at the trained length: pack the survivors once, or decode them again where keys cannot move."""
        done = "moved together" if self.engine.spec.can_pack else "read again"
        n, n_ctx_train = len(self.ledger), self.engine.spec.n_ctx_train
        _log.warning("the trained length of %d positions is reached: %d tokens are %s", n_ctx_train, n, done)
        with self._atomically(), shield():
            if self.engine.spec.can_pack:
                self.stats.kshifts += pack(self.engine, self.seq, self.ledger)
                self.stats.packs += 1
            else:
                read_again(self.engine, self.seq, self.ledger)
                self.stats.rereads += 1
            self._epochs.give(0, self.ledger.next_pos)

    # ---- bookkeeping ---------------------------------------------------------------------------

    def make_ready(self) -> None:
        """Takes back what was handed out but not committed. Raises PoisonedError if ledger and cache disagree."""
        self._check_usable()
        self._undo_in_flight()
        self._check_agreement()

    def _note_positions(self, p0: int, n: int, born: int) -> None:
        if self.mode == "gaps":  # packed, every eviction gives positions to others, and what comes back moves anyway
            self._epochs.decoded(p0, n, born)

    def _note_repeats(self, result: SliceResult) -> None:
        """The released code gives the first token of a chunk, here the turn, the chunk's maximum."""
        rows = result.scores.get("self_repeat")
        if rows is not None:
            self._turn_max_repeat = max(self._turn_max_repeat, float(rows.max()))
            self.ledger.update("self_repeat", self.ledger["born"] == self._turn_born, self._turn_max_repeat)

    def _undo_in_flight(self) -> None:
        """A slice that was handed out but never committed (an error, Ctrl-C) is taken out of the cache."""
        if self._in_flight is not None:
            self.engine.remove(self.seq, self._in_flight.p0, -1)
            self._in_flight = None

    def _check_usable(self) -> None:
        self.owner.check()
        if self._poison:
            raise PoisonedError(f"the session cannot go on: {self._poison}")

    def _check_agreement(self) -> None:
        last = self.engine.pos_range(self.seq)[1]
        expected = self.ledger.next_pos - 1
        # A sliding-window cache forgets its end after a long truncation (llama_kv_cache_iswa::seq_pos_max).
        if last != expected and not (self.engine.spec.n_swa and last == -1):
            self._poison = f"the cache ends at position {last}, the ledger at {expected}"
            self._check_usable()

    @contextmanager
    def _atomically(self) -> Iterator[None]:
        """Marks the session as unusable if the block does not run to its end."""
        self._check_usable()
        try:
            yield
        except KeyboardInterrupt:  # a delayed Ctrl-C arrives after the block did its work
            raise
        except BaseException as error:
            self._poison = f"an eviction or rewind broke off ({error})"
            raise
