"""What a session tells about itself: its counts, and each loss as a value."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Eviction", "SessionStats"]


@dataclass(frozen=True, slots=True, eq=False)
class Eviction:
    """What one plan took: the ledger columns of the rows that went, [n] each, as they were.

    why: "room", "thought" (it leaves when its turn ends) or "forgotten" (the user asked). n_resident: before it.
    n_born: tokens ever decoded before it. values and cut: as in `EvictionPlan`.
    """

    why: str
    turn_now: int
    n_resident: int
    columns: dict[str, NDArray[Any]]
    n_born: int = 0
    values: NDArray[np.float64] | None = None
    cut: float | None = None

    def __len__(self) -> int:
        return len(self.columns["token"])


@dataclass(slots=True)
class SessionStats:
    """Counts of one conversation, from its start. `evicted` counts tokens, `evictions` plans, `kshifts` graph runs.

    tokens_in: decoded but not generated, template tokens included. rewound: tokens taken back (a stop string,
    truncate, an answer that is read again). restored: evicted tokens that were put back. What came in and was restored,
    less what was evicted and rewound, is resident. packs and rereads: how often gap mode reached the trained length and
    renumbered by K-shift or by decoding the survivors again.
    """

    decodes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    max_resident: int = 0
    resident_sum: int = 0
    evicted: int = 0
    rewound: int = 0
    restored: int = 0
    evictions: int = 0
    kshifts: int = 0
    packs: int = 0
    rereads: int = 0
    evict_s: float = 0.0

    @property
    def mean_resident(self) -> float:
        """Mean of the resident tokens, taken after every decode."""
        return self.resident_sum / self.decodes if self.decodes else 0.0

    def plus(self, other: "SessionStats") -> "SessionStats":
        """Those of two conversations, one after the other."""
        total = SessionStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
        total.max_resident = max(self.max_resident, other.max_resident)
        return total

    def count_decode(self, n_read: int, n_generated: int, n_resident: int) -> None:
        """Counts one llama_decode of so many tokens after which `n_resident` cells are occupied."""
        self.decodes += 1
        self.resident_sum += n_resident
        self.max_resident = max(self.max_resident, n_resident)
        self.tokens_in += n_read
        self.tokens_out += n_generated
