"""The one thread that owns the engine: it begins what waits, and gives every request under way a step in turn."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_sir.errors import UserError
from edge_sir.server.conversations import Answering, Conversations
from edge_sir.server.limits import Limits
from edge_sir.server.metrics import Metrics
from edge_sir.server.outcome import Outcome, Shown
from edge_sir.server.ticket import Failed, Job, MustWaitError, Opened, Ticket
from edge_sir.server.waiting import FullError, Waiting
from edge_sir.server.wire.refusal import RefusedError

__all__ = ["Worker"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Live:
    """A request under way. is_cut: it was cancelled, and comes to its end."""

    ticket: Ticket
    answering: Answering
    began: float
    is_cut: bool = False


class Worker:
    """Answers requests from the event loop in a thread of its own, which alone touches `conversations`."""

    def __init__(self, conversations: Conversations, limits: Limits, metrics: Metrics) -> None:
        self._conversations, self._limits, self._metrics = conversations, limits, metrics
        self._changed = threading.Condition()
        self._waiting: Waiting[Ticket | Job] = Waiting(limits)
        self._may_begin = False  # whether what waits was not asked since something changed
        self._live: list[_Live] = []
        self._stop_by: float | None = None
        self._reply_s = 5.0  # how long a reply took, on the average
        self._thread = threading.Thread(target=self._run, name="edge-sir worker", daemon=True)

    # ---- from the event loop -------------------------------------------------------------------

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it takes requests."""
        return self._stop_by is None and self._thread.is_alive()

    def submit(self, ticket: Ticket | Job) -> None:
        """Queues a request or a job. Raises RefusedError if the queue is full, or the server ends."""
        with self._changed:
            if not self.is_open:
                raise _ending()
            try:
                self._waiting.add(ticket)
            except FullError:
                raise self._full() from None
            self._may_begin = True
            self._count()
            self._changed.notify()

    def cancel(self, ticket: Ticket | Job) -> None:
        """Nobody wants the rest of it: it stops within one decode step. What was said of it stays."""
        with self._changed:
            ticket.cancelled = True
            self._waiting.discard(ticket)
            self._count()
            self._changed.notify()

    def stop(self, grace_s: float) -> None:
        """Takes no more requests, lets those under way end for so long, cuts them then, and saves all. Waits for it."""
        with self._changed:
            if self._stop_by is None:
                self._stop_by = time.monotonic() + grace_s
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _full(self) -> RefusedError:
        seconds = min(max(self._reply_s * (1 + len(self._waiting)) / max(1, len(self._live)), 1.0), 60.0)
        return RefusedError(
            f"{len(self._waiting)} requests wait already; try again later",
            status=429,
            kind="rate_limit_error",
            code="queue_full",
            retry_after=seconds,
        )

    # ---- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait():
                self._begin_waiting()
                for live in tuple(self._live):
                    self._step(live)
        except BaseException:
            _log.exception("the worker ended by an error")
            raise
        finally:
            self._end()

    def _wait(self) -> bool:
        """Until there is something to do; False once all is done for good."""
        rest_s: float | None = 0.0
        while self._is_idle(rest_s):
            rest_s = self._rest()
        with self._changed:
            if self._stop_by is not None:
                self._refuse_waiting()
            return bool(self._live) or self._stop_by is None

    def _is_idle(self, most_s: float | None) -> bool:
        """Waits for so long, None for ever, and says whether there is still nothing to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._live or self._may_begin or self._stop_by is not None, most_s)
            return not (self._live or self._may_begin or self._stop_by is not None)

    def _rest(self) -> float | None:
        try:
            return self._conversations.rest()
        except Exception:  # nobody waits for it
            _log.exception("what is done at rest failed")
            return None

    def _begin_waiting(self) -> None:
        with self._changed:
            if not self._may_begin:
                return
            self._may_begin = False
            waiting = tuple(self._waiting)
        for ticket in waiting:
            if isinstance(ticket, Job):
                self._do(ticket)
            else:
                self._begin(ticket)

    def _do(self, job: Job) -> None:
        if job.cancelled:
            return
        result: Any = None
        failed: Exception | None = None
        try:
            result = job.do()
        except MustWaitError:
            return
        except Exception as error:
            failed = error
            self._log_failure(error)
        self._leave_queue(job)
        job.end(result, failed)

    def _begin(self, ticket: Ticket) -> None:
        """Begins what can begin; the others stay where they are in the queue."""
        if ticket.cancelled:
            return
        try:
            answering = self._conversations.begin(ticket.asked)
        except Exception as error:
            self._leave_queue(ticket)
            self._fail(ticket, error)
            return
        if answering is None:
            return
        self._leave_queue(ticket)
        now = time.monotonic()
        ticket.deadline = now + self._limits.reply_s
        self._live.append(_Live(ticket, answering, now))
        self._metrics.begun(answering.match, now - ticket.arrived)
        self._metrics.live.set(len(self._live))
        ticket.put(Opened(answering.session, answering.match))

    def _leave_queue(self, ticket: Ticket | Job) -> None:
        with self._changed:
            self._waiting.take(ticket)
            self._count()

    def _step(self, live: _Live) -> None:
        try:
            if not live.is_cut and self._must_cut(live):
                live.is_cut = True
                live.answering.cancel()
            shown = live.answering.step()
            outcome = live.answering.outcome() if shown is None else None
        except Exception as error:
            self._drop(live)
            self._fail(live.ticket, error)
            return
        if outcome is not None:
            self._finish(live, outcome)
        self._show(live.ticket, shown or ())

    def _must_cut(self, live: _Live) -> bool:
        ends = live.ticket.deadline if self._stop_by is None else min(live.ticket.deadline, self._stop_by)
        return live.ticket.cancelled or time.monotonic() >= ends

    def _show(self, ticket: Ticket, shown: Sequence[Shown]) -> None:
        if ticket.asked.stream and not ticket.cancelled:
            for bit in shown:
                ticket.put(bit)

    def _finish(self, live: _Live, outcome: Outcome) -> None:
        self._drop(live)
        self._reply_s += 0.2 * (time.monotonic() - live.began - self._reply_s)
        self._metrics.ended(outcome)
        live.ticket.put(outcome)

    def _drop(self, live: _Live) -> None:
        self._live.remove(live)
        self._metrics.live.set(len(self._live))
        with self._changed:
            self._may_begin = bool(self._waiting)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        self._log_failure(error)
        ticket.put(Failed(error))

    def _log_failure(self, error: Exception) -> None:
        if not isinstance(error, UserError):
            _log.error("a request failed", exc_info=error)

    # ---- the end -------------------------------------------------------------------------------

    def _refuse_waiting(self) -> None:
        for ticket in tuple(self._waiting):
            self._waiting.discard(ticket)
            if isinstance(ticket, Job):
                ticket.end(None, _ending())
            else:
                ticket.put(Failed(_ending()))
        self._may_begin = False
        self._count()

    def _end(self) -> None:
        with self._changed:
            self._stop_by = self._stop_by or time.monotonic()
            self._refuse_waiting()
        for live in self._live:
            live.ticket.put(Failed(_ending()))
        self._conversations.close()

    def _count(self) -> None:
        self._metrics.waiting.set(len(self._waiting))


def _ending() -> RefusedError:
    return RefusedError(
        "the server is ending; try again", status=503, kind="server_error", code="ending", retry_after=5
    )
