"""Ctrl-C waits for the end of a shielded block, and nothing else does."""

import signal
import threading
from collections.abc import Iterator

import pytest

from edge_sir._shield import shield

HANDLER = signal.default_int_handler


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, HANDLER)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_without_a_shield_the_interrupt_is_immediate() -> None:
    """The control: else the tests below would prove nothing."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt()
        done.append("after")
    assert done == []


@pytest.mark.parametrize("n_interrupts", [1, 3])
def test_the_interrupt_comes_once_and_after_the_block(n_interrupts: int) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        with shield():
            for _ in range(n_interrupts):
                interrupt()
            done.append("block")
        done.append("behind")
    assert done == ["block"]
    assert signal.getsignal(signal.SIGINT) is HANDLER


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_kill_and_a_terminal_that_went_away_wait_too(number: int) -> None:
    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    done: list[str] = []
    before = signal.signal(number, end)
    try:
        with pytest.raises(SystemExit), shield():
            signal.raise_signal(number)
            done.append("block")
    finally:
        signal.signal(number, before)
    assert done == ["block"]


def test_without_an_interrupt_nothing_happens() -> None:
    with shield():
        assert signal.getsignal(signal.SIGINT) is not HANDLER
    assert signal.getsignal(signal.SIGINT) is HANDLER


def test_the_outermost_block_decides() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), shield():
        with shield():
            interrupt()
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is HANDLER


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_exception_passes_and_the_handler_comes_back(interrupted: bool) -> None:
    with pytest.raises(ZeroDivisionError), shield():
        if interrupted:
            interrupt()
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is HANDLER


def test_a_shield_can_be_used_again() -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), shield():
            interrupt()


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    with shield():
        interrupt()
        assert came == [signal.SIGINT]


def test_other_threads_only_run_the_block() -> None:
    found: list[object] = []

    def work() -> None:
        with shield():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [HANDLER]
