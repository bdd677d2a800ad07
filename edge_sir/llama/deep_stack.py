"""Calls a function on a thread whose stack is large whoever calls."""

import threading
from collections.abc import Callable
from typing import TypeVar

from edge_sir._shield import shield
from edge_sir.errors import EngineError

__all__ = ["STACK_BYTES", "on_deep_stack"]

T = TypeVar("T")

STACK_BYTES = 64 << 20
"""Only what is used of it takes memory. llama.cpp's regexes need 320 bytes for each of up to 65,536 characters."""

_lock = threading.Lock()


def on_deep_stack(call: Callable[[], T]) -> T:
    """What `call` returns or raises, run on a thread of its own with a stack of `STACK_BYTES`.

    The main thread's stack is what `ulimit -s` says, and other threads' may be a fraction of it. Ctrl-C is raised
    after the call has ended, as with any call of llama.cpp: it must not find its model freed. Raises EngineError
    if no thread can be started.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="edge-sir tokenizer", daemon=True)
    interrupts: list[BaseException] = []
    with shield():
        _start(thread)
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as interrupt:  # of a handler that the shield leaves alone
                interrupts.append(interrupt)
    for trouble in (*interrupts, *errors):
        raise trouble
    return results[0]


def _start(thread: threading.Thread) -> None:
    with _lock:  # the size is one setting for all threads to come
        before = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        except RuntimeError as error:
            raise EngineError(f"no thread can be started for a long text: {error}") from None
        finally:
            threading.stack_size(before)
