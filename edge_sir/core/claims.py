"""Which sequence may fill how many of the cells of a context: checked before, not when they run out."""

from edge_sir.errors import BudgetError

__all__ = ["Claims"]


class Claims:
    """Cells of `n_cells` that each sequence may fill. n_each: those of a sequence where none are shared, else 0."""

    def __init__(self, n_cells: int, n_each: int = 0) -> None:
        self._n_cells, self._n_each = n_cells, n_each
        self._of: dict[int, int] = {}

    def claim(self, seq: int, n_cells: int) -> None:
        """As `Engine.claim`."""
        if self._n_each:
            if n_cells > self._n_each:
                raise BudgetError(
                    f"a budget of {n_cells} cells does not fit: each sequence has {self._n_each} cells of its own; use "
                    f"--budget {self._n_each} or less"
                )
            return
        n_others = sum(n for other, n in self._of.items() if other != seq)
        if n_others + n_cells > self._n_cells:
            raise BudgetError(
                f"a budget of {n_cells} cells does not fit: other sequences have {n_others} of the {self._n_cells} "
                f"cells of the context; use --budget {self._n_cells - n_others} or less"
            )
        self._of[seq] = n_cells
