"""Whole units go or stay, by the mean surprisal of what they say.

What is kept reads on, which helps a model use it; but at a tight budget most turns are evicted whole, and
of twenty things that were said a question may be about any. docs/results has it beside `sir`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import split
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import FRAME, LedgerView, Mask, Policy
from edge_sir.errors import ConfigError

__all__ = ["Units"]

Unit = Literal["turn", "message", "sentence"]
Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Units(Policy):
    """Drops the units with the lowest decayed mean surprisal of their content.

    unit: where units are cut. max_unit: tokens; a longer unit is cut at its sentence borders.
    Role markers are not valued; they go and stay with their unit. A unit that need not go
    as a whole is thinned from its end, so that what stays of it reads on.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"surprisal"})
    ranks_by: ClassVar[str] = "mean surprisal of the unit, decayed"
    whole_units: ClassVar[bool] = True

    decay: float = 0.995
    unit: Unit = "turn"
    max_unit: int = 96

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit not in get_args(Unit):
            raise ConfigError(f"unit must be one of {', '.join(get_args(Unit))}, not '{self.unit}'")
        if self.max_unit < 1:
            raise ConfigError(f"max_unit must be at least 1, not {self.max_unit}")

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        taken: list[Rows] = []
        worth: list[float] = []
        n_dropped, cut = 0, None
        for value, unit in self._worst_first(view, self.candidates(protect, n_drop)):
            if n_dropped >= view.n_must:
                cut = value if cut is None else cut
                break
            if n_dropped + len(unit) > n_drop:
                unit, cut = _thin(view, unit, n_drop - n_dropped), value
            taken.append(unit)
            worth.append(value)
            n_dropped += len(unit)
        rows = np.concatenate(taken) if taken else np.empty(0, np.intp)
        values = np.repeat(np.asarray(worth, np.float64), [len(unit) for unit in taken])
        order = np.argsort(rows)
        return EvictionPlan(rows[order].astype(np.int64), view.epoch, "room", values[order], cut)

    def _worst_first(self, view: LedgerView, free: Rows) -> list[tuple[float, Rows]]:
        units = self._units(view, free)
        values = [self._value(view, rows) for rows in units]
        # Of equal units the older stays, as everywhere.
        order = np.lexsort((-np.arange(len(units)), np.asarray(values)))
        return [(values[i], units[i]) for i in order]

    def _units(self, view: LedgerView, free: Rows) -> list[Rows]:
        """Splits the rows that may go into units, in the order of the stream."""
        units: list[Rows] = []
        for unit in split(free, view[self.unit][free]):
            if len(unit) <= self.max_unit:
                units.append(unit)
                continue
            part: list[Rows] = []
            for sentence in split(unit, view["sentence"][unit]):
                if part and sum(map(len, part)) + len(sentence) > self.max_unit:
                    units.append(np.concatenate(part))
                    part = []
                part.append(sentence)
            units.append(np.concatenate(part))
        return units

    def _value(self, view: LedgerView, unit: Rows) -> float:
        """Mean surprisal of the unit's content in nats, decayed; markers alone are worth nothing."""
        content = unit[view["role"][unit] != FRAME]
        surprisal = view["surprisal"][content]
        known = surprisal[~np.isnan(surprisal)]
        if not len(known):
            return -1.0
        age = view.turn_now - int(view["turn"][unit[-1]])
        return float(known.mean()) * self.decay**age


def _thin(view: LedgerView, unit: Rows, n: int) -> Rows:
    """The last `n` rows of the unit, content before markers."""
    is_frame = view["role"][unit] == FRAME
    order = np.concatenate([unit[~is_frame][::-1], unit[is_frame][::-1]])
    return np.sort(order[:n])
