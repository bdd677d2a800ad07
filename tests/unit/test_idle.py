"""What is done while a person does not type: once a wait, never beside them, and its failure is shown to them."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from edge_sir.cli._idle import Idle
from edge_sir.cli._terminal import _ask
from edge_sir.errors import StoreError


class Reader:
    """A person who answers when `wait` returns."""

    shows_state, typed = True, False

    def __init__(self, *waits: Callable[[], object]) -> None:
        self.waits = list(waits)

    def read(self) -> str:
        self.waits.pop(0)()
        return "hello"


def test_who_types_in_time_is_not_disturbed() -> None:
    calls: list[str] = []
    idle = Idle(lambda: calls.append("saved"), after_s=30)
    n_threads, begun = threading.active_count(), time.monotonic()
    for _ in range(50):
        assert _ask(Reader(lambda: None), idle) == "hello"
    assert calls == [] and threading.active_count() == n_threads and time.monotonic() - begun < 10


def test_a_long_wait_calls_once_and_the_next_again() -> None:
    called = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        called.set()

    idle = Idle(work, after_s=0.01)
    assert _ask(Reader(lambda: (called.wait(20), time.sleep(0.2))), idle) == "hello"
    assert len(threads) == 1 and threads[0] is not threading.current_thread()
    called.clear()
    _ask(Reader(lambda: called.wait(20)), idle)
    assert len(threads) == 2 and not any(thread.is_alive() for thread in threads)


def test_what_is_under_way_is_waited_for() -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.3)
        done.set()

    _ask(Reader(lambda: begun.wait(20)), Idle(work, after_s=0.01))
    assert done.is_set()


def test_ctrl_c_does_not_cut_the_wait_short(capsys: pytest.CaptureFixture[str]) -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)  # the person's line has come, and the main thread waits for this one
        time.sleep(0.3)
        done.set()

    seen: list[bool] = []
    reader = Reader(lambda: begun.wait(20), lambda: seen.append(done.is_set()))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert _ask(reader, Idle(work, after_s=0.01)) == "hello"
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [True] and "Ctrl-C once more" in capsys.readouterr().out


def test_a_failure_is_shown_when_the_person_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    called = threading.Event()

    def work() -> None:
        called.set()
        raise StoreError("the disk is full")

    idle = Idle(work, after_s=0.01)
    assert _ask(Reader(lambda: called.wait(20)), idle) == "hello"
    assert capsys.readouterr().err == "edge-sir: the disk is full\n"
    assert _ask(Reader(lambda: None), Idle(work, after_s=30)) == "hello"
    assert capsys.readouterr().err == ""


def test_who_leaves_leaves_no_thread() -> None:
    def leave() -> None:
        raise EOFError

    n_threads = threading.active_count()
    assert _ask(Reader(leave), Idle(lambda: None, after_s=30)) is None
    assert threading.active_count() == n_threads
