"""Which sequence may fill how many of the cells that sequences share: checked before, not when they run out."""

from edge_sir.errors import BudgetError

__all__ = ["Claims"]


class Claims:
    """Cells of `n_cells` that each sequence may fill."""

    def __init__(self, n_cells: int) -> None:
        self._n_cells = n_cells
        self._of: dict[int, int] = {}

    def claim(self, seq: int, n_cells: int) -> None:
        """As `Engine.claim`."""
        n_others = sum(n for other, n in self._of.items() if other != seq)
        if n_others + n_cells > self._n_cells:
            raise BudgetError(
                f"a budget of {n_cells} cells does not fit: other sequences have {n_others} of the {self._n_cells} "
                f"cells of the context; use --budget {self._n_cells - n_others} or less"
            )
        self._of[seq] = n_cells
