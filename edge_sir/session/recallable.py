"""Rows that are resident for the running turn alone, and those that make room for them and return."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.budget import Budget
from edge_sir.core.ledger import ROLES, Journal
from edge_sir.core.policy import Policy
from edge_sir.core.records import Eviction
from edge_sir.core.room import Room
from edge_sir.engine import Engine
from edge_sir.errors import CapabilityError, EngineError, SessionError, StateError
from edge_sir.session.displaced import Displaced
from edge_sir.session.pending import PendingTokens
from edge_sir.session.positions import Positions
from edge_sir.session.resident import ResidentRows
from edge_sir.session.saved import SavedPassage, SavedRows

__all__ = ["RecallableRows"]

_SPARE = 32  # cells displaced beside those needed, or each token of the reply would displace one, and shift all keys
_SOON = 128  # tokens of the message that waits for which room is displaced together with that for what is recalled


class RecallableRows(ResidentRows):
    """Resident rows of which `policy` says what makes room, within `budget`.

    before_eviction: gets ledger rows, int [n], before they leave, evicted or displaced. on_evict: gets every loss.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        budget: Budget,
        *,
        seq: int,
        positions: Positions,
        on_evict: Callable[[Eviction], None] | None,
        journal: Journal | None,
    ) -> None:
        super().__init__(engine, budget.n_cells, seq=seq, positions=positions, journal=journal)
        self.policy = policy
        self.budget = budget
        self.room = Room(self.ledger, policy, budget)
        self.on_evict = on_evict
        self.before_eviction: Callable[[NDArray[np.integer]], None] | None = None
        self._pending = PendingTokens()
        self._displaced = Displaced()

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
        n_over, may_go = len(self.ledger) + n_wanted - self.budget.n_cells, self._displaceable()
        beside = np.isin(self.ledger["born"], np.concatenate([saved.columns["born"] for saved, _ in wanted]))
        if n_over > int((may_go & ~beside).sum()):
            beside[:] = False
        if n_over > int(may_go.sum()):
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
        if n <= 0:
            return
        n_short = n - int(self._displaceable().sum())
        if n_short > 0:
            with shield(), self._unrecorded():
                self._take_out(np.flatnonzero(self.ledger["recalled"])[:n_short])
            n -= n_short
        protect = ~self._displaceable() if keep is None else ~self._displaceable() | keep
        n = min(n + _SPARE, int((~protect).sum())) if n > 0 else 0
        if not n:
            return
        rows = self.room.choose(n, n, self.turn, protect).rows
        with shield():  # they are resident or displaced, never both
            if self.before_eviction is not None:
                self.before_eviction(rows)
            self._displaced.add(self.save_rows(rows))
            with self._unrecorded():
                self._take_out(rows)

    def _report(self, event: Eviction, why: str) -> None:
        if self.ledger.journal is not None:
            self.ledger.journal.evicting(why, self.turn, event.n_resident)
            self.ledger.journal.dropped(event.columns["born"])
        self.stats.evicted += len(event)
        self.stats.evictions += 1
        if self.on_evict is not None:
            self.on_evict(event)
