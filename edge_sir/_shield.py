"""Keeps Ctrl-C out of the few lines where ledger and cache must change together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["shield"]


@contextmanager
def shield() -> Iterator[None]:
    """Delays KeyboardInterrupt to the end of the block.

    Only in the main thread and with Python's own handler: elsewhere no KeyboardInterrupt is raised.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        signal.default_int_handler(*came[0])
