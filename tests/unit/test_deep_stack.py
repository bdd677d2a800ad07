"""Calls on a thread with a stack of its own."""

import _thread
import signal
import threading
import time

import pytest

from edge_sir.errors import EngineError
from edge_sir.llama import deep_stack
from edge_sir.llama.deep_stack import on_deep_stack


def test_it_returns_what_the_call_returns_and_raises_what_it_raises() -> None:
    def fail() -> None:
        raise KeyError("so")

    assert on_deep_stack(lambda: threading.current_thread().name) == "edge-sir tokenizer"
    with pytest.raises(KeyError, match="so"):
        on_deep_stack(fail)


def test_the_size_of_other_threads_stays() -> None:
    before = threading.stack_size()
    on_deep_stack(lambda: None)
    assert threading.stack_size() == before


def test_ctrl_c_waits_for_the_call() -> None:
    ended = []

    def call() -> None:
        _thread.interrupt_main(signal.SIGINT)
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        on_deep_stack(call)
    assert ended == [True]


def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.stack_size()

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(deep_stack.threading, "Thread", NoThread)
    with pytest.raises(EngineError, match="can't start new thread"):
        on_deep_stack(lambda: None)
    assert threading.stack_size() == before
