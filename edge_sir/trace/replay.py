"""Runs a recorded conversation's memory again, under its own or another policy, with no model.

What came in, and when room was asked for, is taken from a trace; what goes is decided anew. What the
model would have answered with another memory cannot be known: the words stay those of the record.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.budget import Budget
from edge_sir.core.ledger import UNSPOKEN, TokenLedger
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import Policy
from edge_sir.core.returned import Returned
from edge_sir.core.room import Room
from edge_sir.errors import BudgetError, ConfigError
from edge_sir.policies import from_spec
from edge_sir.trace.record import columns_of

__all__ = ["Moment", "Replayed", "replay"]

_EARLY_KEPT_PERCENT = 85  # the low-water mark before traces said it


@dataclass(frozen=True, slots=True)
class Moment:
    """What was resident when a turn ended: tokens by turn, of what was said (markers and thoughts are not)."""

    turn: int
    resident: Mapping[int, int]


@dataclass(slots=True)
class Replayed:
    """What a policy did with a trace.

    evictions: those that made room; evicted: their tokens. recalled: tokens that came back for one turn each, as the
    record says; they change nothing here. turns: tokens of what was said in each turn. kept: born
    numbers resident at the end. as_recorded: whether every eviction took just the tokens that the record says.
    refused: why the policy could not go on, "" if it could; the figures end there. part: which of the `parts`
    (conversations; clearing begins another) of the trace this is, from 1.
    """

    policy: str
    budget: int
    evictions: int = 0
    evicted: int = 0
    recalled: int = 0
    max_resident: int = 0
    mean_resident: float = 0.0
    turns: dict[int, int] = field(default_factory=dict)
    kept: frozenset[int] = frozenset()
    moments: list[Moment] = field(default_factory=list)
    as_recorded: bool = True
    refused: str = ""
    part: int = 1
    parts: int = 1
    seconds: float = 0.0

    @property
    def resident(self) -> Mapping[int, int]:
        """Tokens by turn at the end."""
        return self.moments[-1].resident if self.moments else {}


def replay(records: Iterable[Mapping[str, Any]], policy: Policy | None = None, budget: int | None = None) -> Replayed:
    """Runs the records of a trace (`read_trace`) under `policy` and `budget`; None for what was recorded.

    Of several conversations in it, the last one in which anything was said. Under the recorded policy every
    eviction comes out as it was. Raises ConfigError for a damaged record or a policy whose scores the trace does not
    hold, BudgetError for a budget in which nothing fits.
    """
    started = time.perf_counter()
    parts = _Parts(policy, budget)
    try:
        for record in records:
            parts.take(record)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"the trace is damaged ({type(error).__name__}: {error})") from None
    out = parts.finish()
    out.seconds = round(time.perf_counter() - started, 4)
    return out


class _Parts:
    """A run for every conversation of a trace, one after another; keeps the last in which anything was said."""

    def __init__(self, policy: Policy | None, budget: int | None) -> None:
        self._policy, self._budget = policy, budget
        self._n = 0
        self._run: _Run | None = None
        self._last: Replayed | BudgetError | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        """Takes the next record; after a refusal nothing is done until the next part."""
        if self._n > 0 and record["kind"] != "start":
            if self._run is not None and not self._run.out.refused:
                try:
                    self._run.take(record)
                except BudgetError as error:
                    self._run.out.refused = str(error)
            return
        self._close()
        self._n += 1
        try:
            self._run = _Run(record, self._policy, self._budget)
            self._run.out.part = self._n
        except BudgetError as error:  # a later part may have had more cells
            self._last = error

    def finish(self) -> Replayed:
        self._close()
        if self._last is None:
            raise ConfigError("the trace is empty")
        if isinstance(self._last, BudgetError):
            raise self._last
        self._last.parts = self._n
        return self._last

    def _close(self) -> None:
        if self._run is None:
            return
        out, self._run = self._run.finish(), None
        said = any(turn > 0 and n > 0 for turn, n in out.turns.items())
        if said or out.refused or not isinstance(self._last, Replayed):
            self._last = out


class _Run:
    """A ledger that is filled from a trace and thinned by a policy."""

    def __init__(self, start: Mapping[str, Any], policy: Policy | None, budget: int | None) -> None:
        self._follow_policy, self._follow_budget = policy is None, budget is None
        self._policy = policy or from_spec(start["policy"])
        self._scores = frozenset(start["scores"])
        self._check_scores()
        mark = start.get("kept_percent", _EARLY_KEPT_PERCENT), start.get("least_batch", 0)
        terms = Budget(budget or start["budget"], *mark)
        self._ledger = TokenLedger(terms.n_cells)
        self._room = Room(self._ledger, self._policy, terms)
        self._room.check_budget()
        self.out = Replayed(self._policy.spec, terms.n_cells)
        self._turn = 0
        self._planned: list[tuple[int, ...]] = []
        self._resident_sum = self._n_slices = 0
        self._stream = _Stream()
        self._returned = Returned()
        self._repeated: list[int] = []  # restored for a turn that is about to begin

    def _check_scores(self) -> None:
        missing = self._policy.needs - self._scores
        if missing:
            raise ConfigError(f"{self._policy.spec} needs {', '.join(sorted(missing))}, which the trace lacks")

    def take(self, record: Mapping[str, Any]) -> None:
        ops = record["ops"]
        for op, after in zip(ops, [*ops[1:], {}], strict=False):
            # A token that was taken back to be decoded again never left.
            again = op["op"] == "rewind" and after.get("op") == "redo"
            self._OPS[op["op"]](self, {**op, "born": op["born"] + 1} if again else op)
        if record["kind"] != "eviction":
            return
        self._stream.evict(record["born"])
        self._now(record["turn"])
        if record["why"] != "room":
            rows = np.flatnonzero(np.isin(self._ledger["born"], record["born"]))
            self._ledger.drop(rows, self._ledger.epoch)
            return
        if "ask" in record:
            n, turn, whole = record["ask"]
            self._make_room(n, turn, whole)
        recorded = tuple(record["born"])
        self.out.as_recorded &= self._planned == [recorded]
        self._planned.clear()

    def finish(self) -> Replayed:
        self._moment()
        out = self.out
        out.as_recorded &= not self._planned
        out.kept = frozenset(self._ledger["born"].tolist())
        out.turns = self._stream.said()
        out.mean_resident = round(self._resident_sum / max(1, self._n_slices), 2)
        return out

    # ---- ops: one method per name in the trace -------------------------------------------------

    def _append(self, op: Mapping[str, Any]) -> None:
        columns, at = columns_of(op), 0
        whole = op["whole"]
        for i, n in enumerate(op["slices"]):
            end = at + n
            # Another policy may fix more cells: a slice that refers to too much of the rest is cut.
            while at < end:
                step = min(end - at, self._room.slice_limit())
                if i > 0 or not op["asked"] or at > 0 or step < n:
                    self._make_room(step, op["turn"], whole)
                whole = None
                self._add(columns, slice(at, at + step))
                at += step
        self._returned.read()

    def _update(self, op: Mapping[str, Any]) -> None:
        values = np.array([np.nan if v is None else v for v in op["values"]])
        rows = np.flatnonzero(np.isin(self._ledger["born"], op["born"]))
        self._ledger.update(op["name"], rows, values[np.isin(op["born"], self._ledger["born"])])
        if op["name"] == "role":  # what turns out to be a thought was not said
            self._stream.relabel(op["born"], op["values"])

    def _rewind(self, op: Mapping[str, Any]) -> None:
        begins = self._stream.rewind(op["born"])
        if begins is not None:  # what another policy still holds of it goes, too
            turn, born = self._ledger["turn"], self._ledger["born"]
            rows = np.flatnonzero((turn > begins[0]) | ((turn == begins[0]) & (born >= begins[1])))
            self._ledger.drop(rows, self._ledger.epoch)

    def _redo(self, op: Mapping[str, Any]) -> None:
        """Changes nothing: `take` had the rewind leave this token where it was."""

    def _restore(self, op: Mapping[str, Any]) -> None:
        columns = columns_of(op)
        self._stream.restore(columns)
        missing = ~np.isin(columns["born"], self._ledger["born"])  # another policy may hold them still
        rows = {name: column[missing] for name, column in columns.items()}
        n = int(missing.sum())
        if len(self._ledger) + n > self._room.budget.n_cells:  # another policy may have more fixed
            n = min(n, self._room.slice_limit())
        if n:
            self._make_room(n, op["turn"], None)
            rows = {name: column[-n:] for name, column in rows.items()}
            self._repeated += rows["born"].tolist()
            self._ledger.insert(rows, np.union1d(self._ledger["born"], rows["born"]))
            self._returned.note(op.get("why", ""), rows["born"], op["turn"])
            self.out.max_resident = max(self.out.max_resident, len(self._ledger))

    def _recall(self, op: Mapping[str, Any]) -> None:
        self.out.recalled += len(op["born"])

    def _ask(self, op: Mapping[str, Any]) -> None:
        self._make_room(op["n"], op["turn"], op["whole"])

    def _policy_op(self, op: Mapping[str, Any]) -> None:
        if self._follow_policy:
            self._policy = from_spec(op["value"])
            self._check_scores()
            self._room = Room(self._ledger, self._policy, self._room.budget)
            self._room.check_budget()
            self.out.policy += f" -> {op['value']}"

    def _budget_op(self, op: Mapping[str, Any]) -> None:
        if self._follow_budget:
            self._room = Room(self._ledger, self._policy, replace(self._room.budget, n_cells=op["value"]))
            self._room.check_budget()
            turn = op.get("turn", self._turn)  # early traces did not say
            self._now(turn)
            first, spared = self._returned.first(self._ledger["born"]), self._spared(turn)
            self._evict(self._room.plan_lowered(turn, first, spared))
            self._ledger.resize(op["value"])
            self.out.budget = op["value"]

    _OPS = MappingProxyType(
        {
            "append": _append,
            "redo": _redo,
            "restore": _restore,
            "recall": _recall,
            "update": _update,
            "rewind": _rewind,
            "ask": _ask,
            "policy": _policy_op,
            "budget": _budget_op,
        }
    )

    # ---- helpers -------------------------------------------------------------------------------

    def _make_room(self, n: int, turn: int, whole: int | None) -> None:
        self._now(turn)
        if whole is not None:  # the turn begins
            self._stream.begin(turn)
            stale = (self._ledger["turn"] >= turn) & ~np.isin(self._ledger["born"], self._repeated)
            self._ledger.drop(np.flatnonzero(stale), self._ledger.epoch)
            self._repeated = []
        self._evict(self._room.plan(n, turn, whole, self._spared(turn)))

    def _spared(self, turn: int) -> NDArray[np.bool_]:
        return self._returned.spared(self._ledger["born"], turn)

    def _evict(self, plan: EvictionPlan | None) -> None:
        if plan is None:
            return
        self._planned.append(tuple(self._ledger["born"][plan.rows].tolist()))
        self._ledger.drop(plan.rows, plan.epoch)
        self.out.evictions += 1
        self.out.evicted += len(plan)

    def _add(self, columns: Mapping[str, NDArray[Any]], rows: slice) -> None:
        part = {name: column[rows] for name, column in columns.items()}
        self._stream.append(part)
        token = part.pop("token")
        # Born numbers grow along the ledger as positions must; no policy may look at positions.
        self._ledger.append(token, part | {"pos": part["born"]})
        self._n_slices += 1
        self._resident_sum += len(self._ledger)
        self.out.max_resident = max(self.out.max_resident, len(self._ledger))

    def _now(self, turn: int) -> None:
        if turn != self._turn:
            self._moment()
            self._turn = turn

    def _moment(self) -> None:
        said = self._ledger["turn"][~np.isin(self._ledger["role"], UNSPOKEN)]
        turns, counts = np.unique(said, return_counts=True)
        self.out.moments.append(Moment(self._turn, dict(zip(turns.tolist(), counts.tolist(), strict=True))))


class _Stream:
    """What came in, whatever this policy did with it: what was said by turn, and what the record still held."""

    def __init__(self) -> None:
        self._said: dict[int, set[int]] = {}  # turn to born numbers
        self._held: dict[int, int] = {}  # born number to turn

    def said(self) -> dict[int, int]:
        """How many tokens were said in each turn, less what was taken back."""
        return {turn: len(born) for turn, born in sorted(self._said.items()) if born}

    def begin(self, turn: int) -> None:
        """Turns from this one on that were taken back with nothing of them resident left no other sign."""
        self._said = {t: born for t, born in self._said.items() if t < turn}

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        for born, turn, role in zip(*(columns[name].tolist() for name in ("born", "turn", "role")), strict=True):
            self._held[born] = turn
            if role not in UNSPOKEN:
                self._said.setdefault(turn, set()).add(born)

    def restore(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """The record holds these again. They were said before, or are repeated and not said."""
        self._held |= dict(zip(columns["born"].tolist(), columns["turn"].tolist(), strict=True))

    def relabel(self, born: Iterable[int], roles: Iterable[int]) -> None:
        for one, role in zip(born, roles, strict=True):
            said = self._said.setdefault(self._held[one], set())
            (said.discard if role in UNSPOKEN else said.add)(one)

    def evict(self, born: Iterable[int]) -> None:
        for one in born:
            self._held.pop(one, None)

    def rewind(self, born: int) -> tuple[int, int] | None:
        """Takes back what the record held from `born` on, and what had been evicted of the same.

        Returns in which turn and with which token that begins; None if nothing was held.
        """
        dropped = [one for one in self._held if one >= born]
        if not dropped:
            return None
        turn = self._held[min(dropped)]
        for one in dropped:
            del self._held[one]
        if turn not in self._held.values():  # all of the turn, with what was evicted before
            born = 0
        kept = {one for one in self._said.get(turn, ()) if one < born}
        self._said = {t: said for t, said in self._said.items() if t < turn} | {turn: kept}
        return turn, born
