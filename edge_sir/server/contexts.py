"""Contexts for the sessions that are live: one that a session leaves is emptied, and is the next one's."""

from edge_sir.chat.conversation import Host
from edge_sir.engine import Engine

__all__ = ["Contexts"]

_PADDING = 256  # cells: llama.cpp rounds a context up to a multiple of it


class Contexts:
    """A `Host` for chats. n_cells: of each context; one that is larger is not kept for another session."""

    def __init__(self, host: Host, n_cells: int) -> None:
        self._host, self._n_cells = host, n_cells
        self._free: list[Engine] = []
        self._spoilt: list[Engine] = []

    def open_engine(self, n_cells: int) -> Engine:
        """An empty one. Raises BudgetError where memory does not suffice."""
        if n_cells <= self._n_cells and self._free:
            return self._free.pop()
        return self._host.open_engine(max(n_cells, self._n_cells))

    def release(self, engine: Engine) -> None:
        """Takes it back."""
        if engine in self._spoilt:
            self._spoilt.remove(engine)
        elif engine.spec.n_ctx_seq < self._n_cells + _PADDING:
            engine.remove(0, 0, -1)
            engine.times.decode_s = engine.times.score_s = 0.0
            self._free.append(engine)
            return
        self._host.release(engine)

    def spoil(self, engine: Engine) -> None:
        """It failed: what it holds cannot be trusted, emptied or not, so it is freed once it is released."""
        self._spoilt.append(engine)

    def close(self) -> None:
        """Frees those that no session has."""
        while self._free:
            self._host.release(self._free.pop())
