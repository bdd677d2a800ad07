"""A request under way, between the event loop that sends its answer and the worker that makes it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_sir.server.asked import Asked
from edge_sir.server.outcome import Match, Outcome, Shown

__all__ = ["Event", "Failed", "Job", "MustWaitError", "Opened", "Ticket"]


@dataclass(frozen=True, slots=True)
class Opened:
    """The conversation was found, and the turn has begun."""

    session: str
    match: Match


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ended with an error."""

    error: Exception


Event = Opened | Shown | Outcome | Failed
"""What the worker says of a request: Opened, any number of Shown, and one Outcome; or Failed at any time."""


class Ticket:
    """Made on the event loop. What is written for a slow reader waits here: a reply has a longest length.

    cancelled: nobody wants the rest. deadline: by time.monotonic(), once the reply is begun.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.cancelled = False
        self.deadline = float("inf")
        self.arrived = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    @property
    def sender(self) -> str:
        """Whose turn it takes in the queue."""
        return self.asked.incoming.namespace

    def put(self, event: Event) -> None:
        """From the worker's thread; a loop that has ended wants nothing more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self, timeout_s: float) -> Event | None:
        """The next event; None if there is none for so long."""
        try:
            return await asyncio.wait_for(self._events.get(), timeout_s)
        except TimeoutError:
            return None


class MustWaitError(Exception):
    """A job cannot be done yet: what it is about is at work for another request."""


class Job:
    """Something that the worker does between two steps, once. do: raises MustWaitError to be called again later."""

    def __init__(self, sender: str, do: Callable[[], Any]) -> None:
        self.sender, self.do = sender, do
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Any] = self._loop.create_future()

    def end(self, result: Any, error: Exception | None = None) -> None:
        """From the worker's thread; a loop that has ended wants nothing more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, result, error)

    def _end(self, result: Any, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(result)
            else:
                self.done.set_exception(error)
