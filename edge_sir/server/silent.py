"""Connections on which a client does nothing: it neither sends its request nor takes what was written for it."""

import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["SilentConnections"]


class SilentConnections:
    """Ends those that are silent for so long. What is written for them is in memory, and each takes a file's place.

    silent_s: how long. clock: as time.monotonic().
    """

    def __init__(self, silent_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_s, self._clock = silent_s, clock
        self._since: dict[tuple[Any, Any, int], float] = {}

    def check(self, connections: Iterable[Any]) -> None:
        """To be called now and then with all of uvicorn's connections, of whichever of its two protocols."""
        now = self._clock()
        states = [_state(one) for one in connections if _is_silent(one)]
        self._since = {state: self._since.get(state, now) for state in states}
        for (connection, *_), since in self._since.items():
            if now - since >= self._silent_s:
                connection.transport.abort()


def _is_silent(connection: Any) -> bool:
    """Whether it is the client's turn."""
    cycle = connection.cycle
    has_no_request = cycle is None or cycle.response_complete
    return has_no_request or connection.flow.write_paused or connection.transport.is_closing()


def _state(connection: Any) -> tuple[Any, Any, int]:
    """What is another one as soon as the client does something: sends one more request, or reads."""
    return connection, connection.cycle, connection.transport.get_write_buffer_size()
