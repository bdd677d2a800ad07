"""Who is at work on something that two must not use at once, and that must not be freed while one does.

A chat, an engine and a sampler let one thread in at a time; a model lets in all. All of them refuse a forked process.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isfunction
from typing import Any, TypeVar

from edge_sir.errors import SessionError

__all__ = ["Owner", "owned"]

T = TypeVar("T", bound=type)

_FORKED = "was opened before os.fork(): a forked process cannot use it; open another in a process that is spawned"

_forks = 0  # forks between the process that loaded this module and this one


def _note_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Owner:
    """Lets one thread in at a time, as often as it likes, or with `shared` all of them: `with owner: ...`.

    what: its name in messages. wait_s: how many seconds a call waits for another thread's to end; 0 refuses at once.
    A signal's handler and garbage collection run in the middle of whatever their thread does: nothing here deadlocks
    where they come back to it.
    """

    def __init__(self, what: str, *, shared: bool = False, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        self.over = ""  # why nobody may go on, once it is closed
        self.before_leaving: Callable[[], None] | None = None  # called by whoever goes out last, who is still in
        self._what, self._shared = what, shared
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._n_waiting = 0
        self._thread = 0  # who is in
        self._n_in = 0
        self._holder: object = None
        self._last = 0  # the thread that changed something last
        self._n_reports = 0
        self._free: Callable[[], None] | None = None
        self._freeing = 0  # the thread that is in `_free`
        self._forks = _forks

    # ---- going in ------------------------------------------------------------------------------

    def enter(self, holder: object = None, *, looks: bool = False, waits: bool = True) -> None:
        """Goes in; `leave` must follow. Raises SessionError in a forked process, or if another thread is in.

        holder: for whom, see `hold`. looks: nothing will be changed, so neither a holder nor a report is in the way.
        waits: for `wait_s`.
        """
        self._check_process()
        me = threading.get_ident()
        if self._n_in and self._thread == me and not self._shared:
            if self._n_reports and not looks:
                raise SessionError(f"a callback may look at the {self._what}; it cannot change it")
            self._n_in += 1
            return
        with self._lock:
            if not self._is_free(me, holder, looks):
                self._wait(lambda: self._is_free(me, holder, looks), self.wait_s if waits else 0)
            if self._shared and self.over:
                raise SessionError(self.over)
            self._thread = me
            self._last = self._last if looks else me
            self._n_in += 1

    def _is_free(self, me: int, holder: object, looks: bool) -> bool:
        if self._shared:
            return True
        if self._n_in:
            return False
        if self._holder is None or self._last == me or looks or holder is self._holder:
            return True
        return self._last not in {thread.ident for thread in threading.enumerate()}  # its thread has ended

    def _wait(self, is_free: Callable[[], bool], limit_s: float) -> None:
        self._n_waiting += 1
        try:
            if not self._changed.wait_for(is_free, min(limit_s, threading.TIMEOUT_MAX)):
                raise SessionError(f"another call drives this {self._what}")
        finally:
            self._n_waiting -= 1

    def leave(self) -> None:
        """Goes out again; whoever waits comes in, and what is closed is freed."""
        try:
            if self._n_in == 1 and self.before_leaving is not None and not self.over:
                self.before_leaving()
        finally:
            self._go_out()

    def _go_out(self) -> None:
        with self._lock:
            self._n_in -= 1
            if not self._n_in:
                if self._free is not None:
                    self._free_now()
                if self._n_waiting:
                    self._changed.notify_all()

    def __enter__(self) -> "Owner":
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def is_forked(self) -> bool:
        """Whether this is another process than the one that it was made in."""
        return self._forks != _forks

    @property
    def is_used(self) -> bool:
        """Whether somebody is in."""
        return self._n_in > 0

    def check(self) -> None:
        """Raises SessionError in a forked process, once it is closed, and while another thread is in."""
        self._check_process()
        if self.over and self._freeing != threading.get_ident():
            raise SessionError(self.over)
        if self._n_in and not self._shared and self._thread != threading.get_ident():
            raise SessionError(f"another call drives this {self._what}")

    def _check_process(self) -> None:
        if self.is_forked:
            raise SessionError(f"this {self._what} {_FORKED}")

    # ---- between calls -------------------------------------------------------------------------

    def hold(self, holder: object) -> None:
        """Between calls, too, it is for `holder` and for the thread that changed something last."""
        self._holder = holder

    def release(self, holder: object) -> None:
        """Between calls it is for everybody again, if it was for `holder`."""
        with self._changed:
            if self._holder is holder:
                self._holder = None
                self._changed.notify_all()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """What is called in here may look, and it may close."""
        with self._lock:
            self._n_reports += 1
            self._changed.notify_all()  # whoever closes does not wait for this
        try:
            yield
        finally:
            self._n_reports -= 1

    # ---- the end -------------------------------------------------------------------------------

    def close(self, free: Callable[[], None]) -> None:
        """Closes it and calls `free`, which may still use it, once nobody is in; a second call does nothing.

        It waits for the step that another thread is in, but not for a report: the thread may wait for this one. Then,
        and if this thread itself is in, `free` is called by who goes out last. A forked process frees nothing.
        """
        over = f"the {self._what} is closed"
        if self.is_forked:
            self.over = over
            return
        with self._changed:
            if self.over:
                return
            self.over, self._free = over, free
            if not self._shared and self._thread != threading.get_ident():
                self._n_waiting += 1
                self._changed.wait_for(lambda: not self._n_in or self._n_reports)
                self._n_waiting -= 1
            if not self._n_in:
                self._free_now()

    def _free_now(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            self._freeing = threading.get_ident()
            try:
                free()
            finally:
                self._freeing = 0


def owned(*looks: str, alone: tuple[str, ...] = ()) -> Callable[[T], T]:
    """Every public method of a class goes in to the object's `owner`. looks: those that change nothing, properties too.

    alone: those that are left as they are: they go in themselves, or need not.
    """

    def wrap(cls: T) -> T:
        for name, method in list(vars(cls).items()):
            if isfunction(method) and not name.startswith("_") and name not in alone:
                setattr(cls, name, _owned(method, name in looks))
            elif isinstance(method, property) and name in looks and method.fget is not None:
                setattr(cls, name, property(_owned(method.fget, True)))
        return cls

    return wrap


def _owned(method: Callable[..., Any], looks: bool) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **named: Any) -> Any:
        owner: Owner = self.owner
        owner.enter(self, looks=looks)
        try:
            return method(self, *args, **named)
        finally:
            owner.leave()

    return call
