"""Sends what the worker makes of one request, as a stream or at once, and stops the work when nobody reads any more."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from edge_sir.server.failures import refused_by
from edge_sir.server.form import Form
from edge_sir.server.limits import Limits
from edge_sir.server.metrics import Metrics
from edge_sir.server.outcome import Outcome, Shown
from edge_sir.server.sse import DONE, HEADERS, HEARTBEAT, frame
from edge_sir.server.ticket import Event, Failed, Opened, Ticket
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.worker import Worker

__all__ = ["ReplySender", "send_json"]


async def send_json(send: Send, status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """A whole response."""
    body = json.dumps(document, ensure_ascii=False).encode()
    length = {"content-type": "application/json", "content-length": str(len(body))}
    await _start(send, status, {**length, **headers})
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


class ReplySender:
    """An ASGI application for one request that the worker has: it sends the answer in the form of `answer`."""

    def __init__(self, ticket: Ticket, answer: Form, worker: Worker, limits: Limits, metrics: Metrics) -> None:
        self._ticket, self._answer, self._worker = ticket, answer, worker
        self._limits, self._metrics = limits, metrics
        self._opened: Opened | None = None
        self._outcome: Outcome | None = None
        self._is_silent = True  # whether nothing of the reply was shown yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all of it; a client that disconnects ends the work."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            scope.setdefault("state", {})["done"] = self._done()
            self._worker.cancel(self._ticket)  # of one that is done nothing is left to cancel
            for task in (sending, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await task

    async def _send(self, send: Send) -> None:
        streams = self._ticket.asked.stream
        try:
            event = await self._next_event(self._limits.match_s)
        except RefusedError as refused:
            await send_json(send, refused.status, refused.as_dict(), refused.headers())
            return
        await (self._stream(send, event) if streams else self._send_whole(send, event))

    # ---- at once -------------------------------------------------------------------------------

    async def _send_whole(self, send: Send, event: Event | None) -> None:
        try:
            while not isinstance(event, Outcome):
                event = await self._next_event(self._limits.heartbeat_s)
        except RefusedError as refused:
            await send_json(send, refused.status, refused.as_dict(), refused.headers() | self._found())
            return
        opened = self._opened_now()
        await send_json(send, 200, self._answer.whole(opened.session, opened.match, event), self._found())

    # ---- as a stream ---------------------------------------------------------------------------

    async def _stream(self, send: Send, event: Event | None) -> None:
        await _start(send, 200, HEADERS | self._found())
        try:
            while True:
                await _send_part(send, b"".join(self._frames(event)))
                if isinstance(event, Outcome):
                    break
                event = await self._next_event(self._limits.heartbeat_s)
        except RefusedError as refused:
            await _send_part(send, b"".join(map(self._frame, self._answer.failed(refused))))
        await send({"type": "http.response.body", "body": b"" if self._answer.has_names else DONE})

    def _frames(self, event: Event | None) -> Iterable[bytes]:
        answer = self._answer
        if event is None:
            yield HEARTBEAT
        elif isinstance(event, Opened):
            yield from map(self._frame, answer.first())
        elif isinstance(event, Shown):
            if self._is_silent:
                self._is_silent = False
                self._metrics.first_s.observe(time.monotonic() - self._ticket.arrived)
            yield from map(self._frame, answer.shown(event))
        elif isinstance(event, Outcome):
            opened = self._opened_now()
            yield from map(self._frame, answer.last(opened.session, opened.match, event))

    def _frame(self, document: dict[str, Any]) -> bytes:
        return frame(document, document["type"] if self._answer.has_names else "")

    # ---- events --------------------------------------------------------------------------------

    async def _next_event(self, timeout_s: float) -> Event | None:
        """The next event; None if none came for so long. Raises RefusedError for what ends it."""
        if self._opened is None:
            timeout_s = min(timeout_s, self._limits.wait_s)
        event = await self._ticket.next(timeout_s)
        if isinstance(event, Failed):
            raise refused_by(event.error)
        if isinstance(event, Opened):
            self._opened = event
        if isinstance(event, Outcome):
            self._outcome = event
        if event is None and self._opened is None and time.monotonic() - self._ticket.arrived >= self._limits.wait_s:
            raise _waited_too_long(self._limits.wait_s)
        return event

    def _opened_now(self) -> Opened:
        if self._opened is None:
            raise AssertionError("a reply came of a turn that was not begun")
        return self._opened

    def _done(self) -> str:
        """For the log: figures, nothing of what was said."""
        if self._opened is None:
            return ""
        found, end = f": {self._opened.session} {self._opened.match}", self._outcome
        if end is None:
            return f"{found}, ended before its reply was whole"
        return f"{found}, {end.n_read} read, {end.n_generated} written, {end.evicted} evicted"

    def _found(self) -> dict[str, str]:
        if self._opened is None:
            return {}
        return {"x-edge-sir-session": self._opened.session, "x-edge-sir-match": self._opened.match}


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _waited_too_long(wait_s: float) -> RefusedError:
    return RefusedError(
        f"no place was free for {wait_s:g} seconds; try again later",
        status=503,
        kind="server_error",
        code="waited_too_long",
        retry_after=30,
    )
