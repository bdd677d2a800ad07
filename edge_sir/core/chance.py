"""The random numbers of sampling: one per drawn token, so that a sampler can go on where another one was.

llama.cpp's own last link draws a number of its own only where more than one candidate is left, and keeps it to
itself; a saved conversation could not draw on as an uninterrupted one would.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chance", "pick"]


class Chance:
    """Uniform numbers in [0, 1), the same ones for the same `seed`; `n_drawn` of them were taken already."""

    def __init__(self, seed: int, n_drawn: int = 0) -> None:
        self._generator = np.random.Generator(np.random.Philox(seed))
        if n_drawn:
            self._generator.random(n_drawn)

    def next(self) -> float:
        """The next number."""
        return float(self._generator.random())


def pick(weights: NDArray[np.floating], u: float) -> int:
    """The index that the number `u` in [0, 1) picks from `weights` [n], which need not add up to 1."""
    total = np.cumsum(weights, dtype=np.float64)
    return min(int(np.searchsorted(total, u * total[-1], side="right")), len(total) - 1)
