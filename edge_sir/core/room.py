"""Making room, as arithmetic: how much, what may not go, and whether it can work at all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.budget import Budget, Need
from edge_sir.core.ledger import ROLES, TokenLedger
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import FRAME, LedgerView, Mask, Policy
from edge_sir.errors import BudgetError, SessionError, StalePlanError

__all__ = ["MIN_TURN", "Room", "check_fit"]

MIN_TURN = 32
"""Cells that must stay free of sinks and pins, or no turn could pass."""

_THOUGHT = ROLES.index("thought")

_CHUNK_CELLS = 32  # room made at once where a policy makes it exactly, so that not every token evicts


def check_fit(
    policy: Policy, n_cells: int, n_fixed: int, what: str = "", instead: str = "", *, alone: bool = False
) -> None:
    """Raises BudgetError unless a short turn fits into `n_cells` beside `n_fixed` cells that never go.

    What a user asks for and has no room is refused here, before anything changes, so that all complaints name the same
    least budget. what: whatever was tried, if not just a budget; instead: what else would help. alone: nothing else is
    resident, so that it is in the way of the next turn whether or not the policy evicts.
    """
    n_fixed = max(n_fixed, policy.n_sink) if policy.evicts or alone else policy.n_sink
    least = n_fixed + MIN_TURN
    if n_cells < least:
        trouble = f"{what} does not fit into {n_cells} cells" if what else f"a budget of {n_cells} cells is too small"
        raise BudgetError(
            f"{trouble}: {n_fixed} would be fixed (sinks, system prompt, pins) and a turn needs at least {MIN_TURN}; "
            f"use --budget {least} or more{f', or {instead}' if instead else ''}"
        )


@dataclass(frozen=True, slots=True)
class Room:
    """The rules that hold between a ledger, the policy that thins it and the budget."""

    ledger: TokenLedger
    policy: Policy
    budget: Budget

    def check_budget(self, n_cells: int | None = None) -> None:
        """Raises BudgetError if a short turn does not fit into the budget, or into `n_cells`, beside what is fixed."""
        check_fit(self.policy, self.budget.n_cells if n_cells is None else n_cells, self._n_fixed(0))

    def check_pins(self, n_more: int, what: str, instead: str = "shorten it", *, n_freed: int = 0) -> None:
        """Raises BudgetError if `n_more` more fixed tokens, in place of `n_freed`, would leave no room for a turn."""
        size = f" ({n_more} cell{'s' * (n_more != 1)})" if n_more else ""  # not tokens: template tokens are no content
        n_fixed = self._n_fixed(max(0, n_more - n_freed))
        check_fit(self.policy, self.budget.n_cells, n_fixed, f"{what}{size}", instead)

    def check_incoming(self, n: int, *, n_freed: int = 0) -> None:
        """Raises the policy's BudgetError if it never evicts and `n` tokens find no free cells; `n_freed` will be free.

        With all other policies the fixed cells alone can be in the way, and those are checked when they are fixed.
        """
        if not self.policy.evicts and len(self.ledger) - n_freed + n > self.budget.n_cells:
            view = LedgerView(self.ledger.columns(), 0, self.ledger.epoch, n)
            self.policy.plan(view, n, self.fixed())

    def _n_fixed(self, n_more: int) -> int:
        # What comes first may be sinks itself.
        n_missing_sinks = max(0, self.policy.n_sink - len(self.ledger))
        return int(self.fixed().sum()) + max(n_more, n_missing_sinks)

    def fixed(self) -> Mask:
        """Sinks and pins: rows that never go, bool [n]."""
        fixed: Mask = self.ledger["pinned"].copy()
        fixed[: self.policy.n_sink] = True
        return fixed

    def slice_limit(self) -> int:
        """A slice must leave room for what it refers to: at most half of what is not fixed."""
        if not self.policy.evicts:
            return self.budget.n_cells
        return max(1, (self.budget.n_cells - int(self.fixed().sum())) // 2)

    def plan(self, n: int, turn_now: int, n_whole_turn: int | None, spared: Mask | None = None) -> EvictionPlan | None:
        """What must go for `n` incoming tokens, None if they fit.

        n_whole_turn: all that the turn will bring, for policies that make room once per turn. spared: rows that stay
        where others suffice. Raises BudgetError if the fixed rows leave no room, SessionError if the policy broke its
        contract.
        """
        need = self._need(n, n_whole_turn)
        if need.n_must == 0:
            return None
        protect = self._spare(self._protected(need, turn_now, n), need.n_must, spared)
        return self.choose(need.n_must, min(need.n_may, int((~protect).sum())), turn_now, protect)

    def choose(self, n_must: int, n_may: int, turn_now: int, protect: Mask) -> EvictionPlan:
        """What the policy would drop: at least `n_must` rows, at most `n_may`, none of those to `protect`, bool [n].

        Raises StalePlanError or SessionError if the policy broke its contract.
        """
        view = LedgerView(self.ledger.columns(), turn_now, self.ledger.epoch, n_must)
        plan = self.policy.plan(view, n_may, protect.copy())
        if plan.epoch != self.ledger.epoch:
            raise StalePlanError(
                f"{type(self.policy).__name__} planned for epoch {plan.epoch}, not {self.ledger.epoch}"
            )
        n_wrong = int(protect[plan.rows].sum()) if len(plan) and plan.rows[-1] < len(protect) else len(plan)
        if n_wrong or not n_must <= len(plan) <= n_may:
            raise SessionError(
                f"{type(self.policy).__name__} planned {len(plan)} rows, {n_wrong} of them protected or unknown; "
                f"asked for {n_must} to {n_may} of those that may go"
            )
        return plan

    def plan_lowered(self, turn_now: int, first: NDArray[np.intp], spared: Mask | None = None) -> EvictionPlan | None:
        """What must go where the budget is lower than what is resident, None if all fits. spared: as in `plan`.

        first: rows that leave before all others, in that order. Raises BudgetError as `plan`.
        """
        n_must = len(self.ledger) - self.budget.n_cells
        leaving = first[~self.fixed()[first]][: max(0, n_must)]
        if not self.policy.evicts or not len(leaving):
            return self.plan(0, turn_now, None, spared)
        rows, values, cut = np.sort(leaving), None, None
        if n_rest := n_must - len(leaving):
            protect = self._spare(self._protected(Need(n_must, n_must), turn_now, 0), n_must, spared)
            protect[leaving] = True
            rest = self.choose(n_rest, n_rest, turn_now, protect)
            rows, cut = np.union1d(rows, rest.rows), rest.cut
            if rest.values is not None:
                values = np.full(len(rows), np.nan)
                values[np.searchsorted(rows, rest.rows)] = rest.values
        return EvictionPlan(rows, self.ledger.epoch, "room", values, cut)

    def _need(self, n: int, n_whole_turn: int | None) -> Need:
        """Room for the whole turn where the policy wants that and it fits, else for a chunk."""
        exact = self.policy.per_turn
        if n_whole_turn is None and len(self.ledger) + n <= self.budget.n_cells:
            return Need(0, 0)
        if n == 0:  # a lower budget: nothing comes in, so only what does not fit any more goes
            return self.budget.need(len(self.ledger), 0, exact=True)
        sizes = [n]
        if exact:
            sizes = [max(n, _CHUNK_CELLS), n]
            if n_whole_turn is not None:
                sizes.insert(0, max(n, n_whole_turn))
        n_fixed = int(self.fixed().sum())
        for n_incoming in sizes:
            need = self.budget.need(len(self.ledger), n_incoming, exact=exact)
            if not self.policy.evicts or n_fixed + n_incoming <= self.budget.n_cells:
                return need
        raise BudgetError(
            f"{n_fixed} of {self.budget.n_cells} cells are fixed by sinks and pins and {n} tokens do not fit "
            f"beside them: unpin something, or use --budget {n_fixed + max(n, MIN_TURN)} or more"
        )

    def _spare(self, protect: Mask, n_must: int, spared: Mask | None) -> Mask:
        more = protect if spared is None else protect | spared
        return more if int((~more).sum()) >= n_must else protect

    def _protected(self, need: Need, turn_now: int, n_incoming: int) -> Mask:
        """Fixed rows and the running turn; of a turn of over half the cells, its markers and its newest part.

        A long paste would otherwise push out all that was said before it, ahead of its own first lines. A thought
        leaves when the turn ends: what is older than its newest part goes before anything that was said.
        """
        fixed = self.fixed()
        running: Mask = self.ledger["turn"] == turn_now
        protect: Mask
        thought = np.flatnonzero(running & ~fixed & (self.ledger["role"] == _THOUGHT))
        if len(thought) - need.n_must >= self.budget.n_cells // 4:
            protect = np.ones(len(self.ledger), np.bool_)
            protect[thought[: min(need.n_may, len(thought) - self.budget.n_cells // 4)]] = False
            return protect
        protect = fixed | running
        is_long = int(running.sum()) + n_incoming > self.budget.n_cells // 2
        if int((~protect).sum()) >= need.n_must and not is_long:
            return protect
        protect = fixed | (running & (self.ledger["role"] == FRAME))
        if int((~protect).sum()) < need.n_must:
            protect = fixed
        loose = np.flatnonzero(~protect)
        n_newest = min(len(loose) - need.n_must, self.budget.n_cells // 4)
        protect[loose[len(loose) - n_newest :]] = True
        return protect
