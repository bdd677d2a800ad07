"""Work that is done while a person does not type."""

import threading
from collections.abc import Callable

from edge_sir._shield import shield
from edge_sir.errors import EdgeSirError

__all__ = ["IDLE_S", "Idle"]

IDLE_S = 60.0


class Idle:
    """A `with` block around a wait for input: `work` is called in a thread if the wait takes longer than `after_s`.

    Once a wait. When the block ends the call is cancelled, or, if it is under way, waited for, whatever Ctrl-C says: so
    two threads never use the chat at once. error: what the last call raised of edge-sir's, None if it succeeded.
    """

    def __init__(self, work: Callable[[], object], after_s: float = IDLE_S) -> None:
        self._work, self._after_s = work, after_s
        self._timer: threading.Timer | None = None
        self.error: EdgeSirError | None = None

    def __enter__(self) -> "Idle":
        self._timer = threading.Timer(self._after_s, self._run)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            with shield():
                timer.cancel()
                timer.join()

    def _run(self) -> None:
        self.error = None
        try:
            self._work()
        except EdgeSirError as error:  # shown when the person is back
            self.error = error
