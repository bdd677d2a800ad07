"""Keeps Ctrl-C and kill out of the few lines where ledger and cache must change together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["shield"]

_DELAYED = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
_inside = False  # signal handlers belong to the process, and so does this


@contextmanager
def shield() -> Iterator[None]:
    """Delays what SIGINT, SIGTERM and SIGHUP do to the end of the block.

    Only in the main thread, where Python runs handlers. Somebody else's SIGINT handler is left alone. Inside
    another shield it does nothing, and costs nothing.
    """
    global _inside
    if _inside or threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {n: h for n in _DELAYED if callable(h := signal.getsignal(n))}
    if handlers.get(signal.SIGINT) is not signal.default_int_handler:
        handlers.pop(signal.SIGINT, None)
    came: list[tuple[int, FrameType | None]] = []
    try:
        _inside = True
        for number in handlers:
            signal.signal(number, lambda number, frame: came.append((number, frame)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _inside = False
    if came:
        handlers[signal.Signals(came[0][0])](*came[0])
