"""How many cells there are, and how many must be freed for what comes in. Exact counts, never ratios."""

from dataclasses import dataclass

from edge_sir.errors import BudgetError

__all__ = ["KEPT_PERCENT", "LEAST_BATCH", "Budget", "Need"]

KEPT_PERCENT = 95
"""A chunked eviction keeps at least this share of what the budget allows: the low-water mark."""

LEAST_BATCH = 8
"""But of a small budget, where that would be a cell or two, so many cells go at once if 85 % stay."""

_LEAST_KEPT_PERCENT = 85


@dataclass(frozen=True, slots=True)
class Need:
    """Room to be made: at least `n_must` rows go, at most `n_may`."""

    n_must: int
    n_may: int


@dataclass(frozen=True, slots=True)
class Budget:
    """`n_cells`: the most tokens ever resident, the incoming ones included (the paper's cache size).

    kept_percent, least_batch: the low-water mark; a replay has that of its record.
    """

    n_cells: int
    kept_percent: int = KEPT_PERCENT
    least_batch: int = LEAST_BATCH

    def __post_init__(self) -> None:
        if self.n_cells < 1:
            raise BudgetError(f"a budget of {self.n_cells} cells holds nothing; give at least one")

    def need(self, n_resident: int, n_incoming: int, *, exact: bool) -> Need:
        """Room for `n_incoming` tokens beside `n_resident`.

        `exact` frees just what is needed (the paper); otherwise down to a low-water mark may go, so
        that a run of small slices does not pay for an eviction each.
        """
        n_allowed = max(0, self.n_cells - n_incoming)
        n_must = max(0, n_resident - n_allowed)
        if n_must == 0 or exact:
            return Need(n_must, n_must)
        return Need(n_must, max(n_must, n_resident - n_allowed + self._n_spare(n_allowed)))

    @property
    def low_water(self) -> int:
        """How many tokens a chunked eviction leaves where nothing comes in."""
        return self.n_cells - self._n_spare(self.n_cells)

    def _n_spare(self, n_allowed: int) -> int:
        n_spare = n_allowed * (100 - self.kept_percent) // 100
        if self.n_cells * (100 - self.kept_percent) // 100 < self.least_batch:
            n_spare = max(n_spare, min(self.least_batch, n_allowed * (100 - _LEAST_KEPT_PERCENT) // 100))
        return n_spare

    def check_trained_length(self, n_ctx_train: int, model: str) -> None:
        """Raises BudgetError if the budget exceeds the positions that the model was trained on (0: unknown)."""
        if 0 < n_ctx_train < self.n_cells:
            raise BudgetError(
                f"a budget of {self.n_cells} cells exceeds the {n_ctx_train} positions that {model} was trained on; "
                f"use --budget {n_ctx_train} or less"
            )
