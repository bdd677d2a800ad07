"""What a policy is: a pure function from what is resident to what goes.

The author of a simple policy writes one expression, `score`; the base class owns the selection:

    @dataclass(frozen=True)
    class Longest(ScorePolicy):
        '''Keeps what was born last.'''
        def score(self, view):
            return view["born"].astype(float)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import FRAME
from edge_sir.core.plan import EvictionPlan
from edge_sir.errors import ConfigError, SessionError

__all__ = ["FRAME", "LedgerView", "Policy", "ScorePolicy", "drop_lowest"]

Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What a policy sees: the ledger's columns, read-only, and the state of the conversation.

    n_must: the fewest rows that have to go; a policy may stop there when dropping whole units.
    """

    columns: Mapping[str, NDArray[Any]]
    turn_now: int
    epoch: int
    n_must: int

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["token"])


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """Base of all policies; a frozen dataclass whose fields are the keys of `--policy name:key=value`.

    decay: factor per turn of age on a score, 0 < decay <= 1. n_sink: rows at the head of the ledger that
    never go. n_recent: newest rows beside the running turn that are kept by their place. seed: for policies that draw.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Score columns that must be filled (of `core.scores.SCORE_NAMES`)."""
    per_turn: ClassVar[bool] = False
    """Make room once for the whole turn, exactly (the paper), instead of slice by slice."""
    evicts: ClassVar[bool] = True
    """False for the policy that never gives up a token."""
    whole_units: ClassVar[bool] = False
    """Evicts units of many tokens together, each by one value; a last one may be thinned."""
    ranks_by: ClassVar[str] = "a score of its own"
    """What the values of its plans are, in a few words for people."""
    recalls: ClassVar[bool] = False
    """Whether `recall=auto` brings back what it evicted."""

    decay: float = 1.0
    n_sink: int = 4
    n_recent: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must be above 0 and at most 1, not {self.decay}")
        for name in ("n_sink", "n_recent", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")

    @cached_property
    def spec(self) -> str:
        """`name[:key=value,...]` without defaults, from which `policies.from_spec` builds it; its file has the name."""
        name = type(self).__module__.rpartition(".")[2].replace("_", "-")
        keys = [f for f in fields(self) if f.repr and getattr(self, f.name) != f.default]
        changed = [f"{f.name}={getattr(self, f.name)}" for f in keys]
        return f"{name}:{','.join(changed)}" if changed else name

    @abstractmethod
    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        """Chooses rows to drop: at least `view.n_must`, at most `n_drop`, none where `protect` [n] is set.

        Pure and deterministic. The session guarantees that enough rows are unprotected.
        """

    def candidates(self, protect: Mask, n_drop: int) -> NDArray[np.intp]:
        """Rows that may go: unprotected ones but the `n_newest` of them, which yield only to need."""
        free, n_newest = np.flatnonzero(~protect), self.n_newest(len(protect))
        return free[: len(free) - n_newest] if n_newest <= len(free) - n_drop else free

    def n_newest(self, n_rows: int) -> int:
        """How many of `n_rows` resident tokens are kept for being new, beside the running turn."""
        return self.n_recent

    def decayed(self, scores: NDArray[np.floating[Any]], view: LedgerView) -> Scores:
        """`scores * decay ** age` (paper, section 3.3); an unscored token (NaN) ranks above all others."""
        age = view.turn_now - view["turn"]
        return np.where(np.isnan(scores), np.inf, scores * np.power(self.decay, age))


@dataclass(frozen=True, kw_only=True)
class ScorePolicy(Policy):
    """Drops the `n_drop` lowest scores; of equal ones the older token stays."""

    @abstractmethod
    def score(self, view: LedgerView) -> Scores:
        """One float per row; higher is kept longer."""

    def plan(self, view: LedgerView, n_drop: int, protect: Mask) -> EvictionPlan:
        scores, candidates = self.score(view), self.candidates(protect, n_drop)
        rows = drop_lowest(scores, candidates, n_drop)
        # A plan says what it was made from, so that a person can be told why.
        return EvictionPlan(rows, view.epoch, "room", scores[rows], _lowest(scores, np.setdiff1d(candidates, rows)))


def _lowest(scores: Scores, rows: NDArray[np.integer[Any]]) -> float | None:
    return float(scores[rows].min()) if len(rows) else None


def drop_lowest(scores: Scores, candidates: NDArray[np.intp], n_drop: int) -> NDArray[np.int64]:
    """The `n_drop` rows of `candidates` with the lowest scores, sorted; of equal ones the newer goes first."""
    if n_drop > len(candidates):
        raise SessionError(f"{n_drop} rows must go but only {len(candidates)} may")
    order = np.lexsort((-candidates, scores[candidates]))
    return np.sort(candidates[order[:n_drop]]).astype(np.int64)
