"""One caller at a time drives a chat, and nothing is freed while it is in use. On the toy, and on a tiny model."""

import gc
import inspect
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chatting import ToyHost, make_chat, script, transcript
from driving import agrees

from edge_sir._owner import Owner
from edge_sir.chat import Chat
from edge_sir.engine import Slice
from edge_sir.errors import SessionError
from edge_sir.testing import ToyEngine

LIMIT_S = 20.0  # nothing here takes a second; more is a deadlock
METHODS = [
    name
    for name, method in inspect.getmembers(Chat, inspect.isfunction)
    if not name.startswith("_") and name != "close"
]
VIEWS = {"memory", "find", "matches", "n_evicted", "search", "stats", "run_stats"}


class Gate(ToyEngine):
    """A decode that waits, once `shut`, for `opened`; `came` is set when one does."""

    def __init__(self) -> None:
        super().__init__(512)
        self.shut, self.came, self.opened = False, threading.Event(), threading.Event()

    def decode(self, slices: Any) -> Any:
        if self.shut:
            self.came.set()
            assert self.opened.wait(LIMIT_S)
        return super().decode(slices)


class Thread(threading.Thread):
    """A thread whose result or error `end` gives."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call, self._result, self._error = call, None, None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def end(self) -> Any:
        self.join(LIMIT_S)
        assert not self.is_alive(), "a deadlock"
        if self._error is not None:
            raise self._error
        return self._result


@contextmanager
def at_work(**options: Any) -> Iterator[tuple[Chat, Gate, Thread]]:
    """A chat in which another thread is in the middle of a reply."""
    engine = Gate()
    chat = make_chat(["Hello.", "Fine."], engine=engine, **options)
    chat.reply("Hi")
    engine.shut = True
    thread = Thread(lambda: chat.reply("How?").text)
    assert engine.came.wait(LIMIT_S)
    try:
        yield chat, engine, thread
    finally:
        engine.shut = False
        engine.opened.set()


def arguments(name: str) -> list[Any]:
    given = {"text": "Hi", "what": "Hi", "words": "Hi", "role": "user", "turn": 1, "spec": "sir", "n_cells": 200}
    given |= {"message": 1, "tools": ()}
    parameters = [p for p in inspect.signature(getattr(Chat, name)).parameters.values() if p.kind is not p.VAR_KEYWORD]
    needed = [p for p in parameters if p.default is p.empty]
    return [[] if p.name == "messages" else given[p.name] for p in needed if p.name != "self"]


# ---- two threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_second_call_is_refused_at_once(name: str) -> None:
    with at_work() as (chat, engine, first):
        with pytest.raises(SessionError, match="another call drives this chat"):
            called = getattr(chat, name)(*arguments(name))
            next(called)  # a stream begins with its first piece
        engine.opened.set()
        assert first.end() == "Fine."
    assert [m.text for m in chat.transcript] == ["Hi", "Hello.", "How?", "Fine."]
    assert agrees(chat.session)


def test_a_second_call_waits_if_it_is_asked_to() -> None:
    with at_work(wait_s=LIMIT_S) as (chat, engine, first):
        second = Thread(lambda: chat.add("user", "And?"))
        view = Thread(lambda: chat.stats().turns)
        time.sleep(0.05)
        assert second.is_alive() and view.is_alive()
        engine.opened.set()
        assert first.end() == "Fine." and second.end() == 3 and view.end() in (2, 3)
    assert agrees(chat.session)


def test_who_waits_too_long_is_refused() -> None:
    with at_work(wait_s=0.05) as (chat, _, _), pytest.raises(SessionError, match="another call drives this chat"):
        chat.reply("And?")


def test_while_a_stream_is_open_its_thread_alone_makes_calls() -> None:
    chat = make_chat(["Hello Anna.", "Fine."])
    stream = chat.stream("Hi")
    next(stream)
    for name in (n for n in METHODS if n not in VIEWS):
        with pytest.raises(SessionError, match="another call drives this chat"):
            Thread(lambda name=name: getattr(chat, name)(*arguments(name))).end()
    assert Thread(chat.stats).end().turns == Thread(lambda: chat.memory().turn_now).end() == 1  # views look
    assert Thread(lambda: next(stream).text).end() == "e"  # and a stream may be handed on
    assert Thread(lambda: "".join(p.text for p in stream)).end() == "llo Anna."
    assert Thread(lambda: chat.reply("How?").text).end() == "Fine."
    assert agrees(chat.session)


def test_a_stream_whose_thread_has_ended_is_in_nobodys_way() -> None:
    chat = make_chat(["Hello Anna."])
    kept = []

    def begin() -> None:
        kept.append(chat.stream("Hi"))
        next(kept[0])

    Thread(begin).end()
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.script[:] = script("Fine.")
    assert chat.reply("How?").text == "Fine."
    with pytest.raises(SessionError, match="another call ended this reply"):
        next(kept[0])
    assert agrees(chat.session)


def test_an_error_in_one_thread_leaves_the_chat_to_others() -> None:
    chat = make_chat(["Hello."])
    assert isinstance(chat.engine, ToyEngine)
    chat.engine.fail_next = SessionError("made up")
    with pytest.raises(SessionError, match="made up"):
        Thread(lambda: chat.reply("Hi")).end()
    assert chat.reply("How?").text == "Hello."


def test_one_stream_in_two_threads() -> None:
    engine = Gate()
    chat = make_chat(["Hello."], engine=engine)
    stream = chat.stream("Hi")
    engine.shut = True
    first = Thread(lambda: next(stream).text)
    assert engine.came.wait(LIMIT_S)
    for call in (lambda: next(stream), stream.close):
        with pytest.raises(SessionError, match="another call drives this"):
            call()
    engine.opened.set()
    assert first.end() == "H" and "".join(p.text for p in stream) == "ello."


def test_a_turn_that_others_drive_is_stepped_by_one_thread() -> None:
    chat = make_chat(["Hello."])
    turn = chat.turn("Hi")
    piece = turn.next_slice()
    assert piece is not None
    with pytest.raises(SessionError, match="another call drives this chat"):
        Thread(lambda: chat.add("user", "x")).end()
    [result] = chat.engine.decode([piece])
    chat.add("user", "And?")  # the same thread ends the turn
    with pytest.raises(SessionError, match="another call ended this reply"):
        turn.commit(result)
    assert agrees(chat.session)


# ---- callbacks, signals, garbage -----------------------------------------------------------------


def test_a_callback_may_look_but_not_change() -> None:
    seen: list[Any] = []

    def look(event: Any) -> None:
        for call in (lambda: chat.memory().n_resident, lambda: chat.reply("x"), lambda: chat.undo(), stream.close):
            try:
                seen.append(call())
            except SessionError as error:
                seen.append(str(error))

    chat = make_chat(["Fine."] * 8, budget=96, on_evict=look)
    for _ in range(3):
        stream = chat.stream("Something to fill the cells with.")
        list(stream)
    refused = "a callback may look at the chat; it cannot change it"
    assert len(seen) >= 4 and seen[:3] == [seen[0], refused, refused] and isinstance(seen[0], int)
    assert agrees(chat.session) and len(chat.transcript) == 6


def test_a_callback_may_close_the_chat() -> None:
    host = ToyHost()
    chat = make_chat(["Fine."] * 8, budget=96, engine=host.open_engine(256), host=host, on_evict=lambda _: chat.close())
    with pytest.raises(SessionError, match="the chat is closed"):
        for _ in range(9):
            chat.reply("Something to fill the cells with.")
    assert chat.is_closed and host.made[0].pos_range(0) == (-1, -1)


def test_close_waits_for_the_step_that_another_thread_is_in() -> None:
    released: list[bool] = []

    class Host(ToyHost):
        def release(self, engine: Any) -> None:
            released.append(gate.opened.is_set())

    with at_work(host=Host()) as (chat, gate, first):
        closing = Thread(chat.close)
        while not chat.is_closed:
            time.sleep(0.001)
        assert closing.is_alive() and not released
        gate.opened.set()
        closing.end()
        with pytest.raises(SessionError, match="the chat is closed"):
            first.end()
        assert released == [True]
    chat.close()
    assert released == [True]


def test_close_does_not_wait_for_a_callback_that_waits_for_it() -> None:
    def close_elsewhere(_: Any) -> None:
        Thread(chat.close).end()

    chat = make_chat(["Fine."] * 8, budget=96, host=ToyHost(), on_evict=close_elsewhere)
    with pytest.raises(SessionError, match="the chat is closed"):
        for _ in range(9):
            chat.reply("Something to fill the cells with.")


def test_a_signal_closes_the_chat_in_the_middle_of_a_reply() -> None:
    class Signalled(ToyEngine):
        def decode(self, slices: list[Slice]) -> Any:
            if self.script == script("Hello Anna.")[3:]:
                signal.raise_signal(signal.SIGUSR1)
            return super().decode(slices)

    before = signal.signal(signal.SIGUSR1, lambda *_: chat.close())
    try:
        chat = make_chat(["Hello Anna."], engine=Signalled(512), host=ToyHost())
        with pytest.raises(SessionError, match="the chat is closed"):
            chat.reply("Hi")
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(SessionError, match="the chat is closed"):
        chat.reply("Hi")


@pytest.mark.parametrize("when", ["between", "within"])
def test_a_stream_that_garbage_collection_finds(when: str) -> None:
    class Collecting(ToyEngine):
        collects = False

        def decode(self, slices: list[Slice]) -> Any:
            if self.collects:
                self.collects = False
                gc.collect()
            return super().decode(slices)

    engine = Collecting(512)
    chat = make_chat(["Hello Anna."], engine=engine)
    cycle: list[Any] = [chat.stream("Hi")]
    next(cycle[0])
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        if when == "between":
            gc.collect()
        engine.collects = when == "within"
        engine.script[:] = script("Fine.")
        assert chat.reply("How?").text == "Fine."
    finally:
        gc.enable()
    assert not engine.collects and agrees(chat.session)
    assert [m.text for m in chat.transcript] == ["Hi", "H", "How?", "Fine."]
    assert transcript(chat).count("<|im_start|>") == transcript(chat).count("<|im_end|>") == 4


def test_an_owner_frees_once_and_after_the_last_is_out() -> None:
    freed: list[int] = []
    shared = Owner("model", shared=True)
    shared.enter()
    shared.enter()
    shared.close(lambda: freed.append(1))
    shared.close(lambda: freed.append(2))
    with pytest.raises(SessionError, match="the model is closed"):
        shared.enter()
    shared.leave()
    assert not freed
    shared.leave()
    assert freed == [1]


# ---- processes -----------------------------------------------------------------------------------

HEAD = """
import atexit, gc, os, sys, threading, time
from pathlib import Path
import edge_sir
from edge_sir.errors import SessionError
TERMS = dict(threads=2, quiet=True, max_tokens=8, temperature=0, budget=128)
model = edge_sir.load(sys.argv[1], **TERMS)
"""

FORKED = """
with model.chat() as chat:
    chat.reply("Hi")
    stream = chat.stream("And?")
    next(stream)
    child = os.fork()
    if child == 0:
        calls = [lambda: chat.reply("x"), lambda: next(stream), lambda: chat.memory(), lambda: chat.undo(), model.chat,
                 lambda: chat.engine.pos_range(0), lambda: model.codec.encode("x", special=False),
                 lambda: edge_sir.load(sys.argv[1], **TERMS)]
        for call in calls:
            try:
                call()
            except SessionError as error:
                assert "forked" in str(error), error
            else:
                sys.exit("a call went through")
        del stream
        gc.collect()
        model.close()
        sys.exit(0)  # through the block: the chat is closed in the child
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "".join(p.text for p in stream) is not None
    chat.reply("Still there?")
print("done")
"""

AT_EXIT = """
chat = model.chat(max_tokens=10**6, budget=512)
def talk():
    try:
        while True:
            chat.reply("Hi")
    except SessionError:
        pass
atexit.register(model.close)
threading.Thread(target=talk, daemon=True).start()
time.sleep(0.2)
print("done")
"""

LEFT_OPEN = """
chat = model.chat()
stream = chat.stream("Hi")
next(stream)
print("done")
"""


@pytest.mark.parametrize("program", [FORKED, AT_EXIT, LEFT_OPEN], ids=["forked", "at exit", "left open"])
def test_a_process_ends_as_it_should(program: str, tiny_llama_path: Path) -> None:
    if program == FORKED and not hasattr(__import__("os"), "fork"):
        pytest.skip("no fork on this system")
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + program, str(tiny_llama_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
