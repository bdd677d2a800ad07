"""Several loops, each on an engine and in a thread of its own, over one source of requests.

Threads, not processes: llama.cpp computes without Python's lock, and weights that it laid out anew for this processor
lie in memory once. What ends the process ends all of them; a job goes on from its file of results.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence

from edge_sir.batch.loop import BatchLoop, Request
from edge_sir.batch.result import BatchResult
from edge_sir.batch.run import BatchRun
from edge_sir.batch.terms import BatchTerms
from edge_sir.engine import Engine

__all__ = ["BatchWorkers"]

_LOOK_EVERY_S = 0.2  # whether it is over, while nobody takes results


class BatchWorkers(BatchRun):
    """As `BatchLoop`, with engines for one. They are its alone until `close`; freeing them is the caller's.

    Each request goes to one of the loops. What one of them raises, or the source, ends all. at_once: of each loop.
    """

    def __init__(
        self, requests: Iterable[Request], terms: BatchTerms, engines: Sequence[Engine], at_once: Sequence[int] = ()
    ) -> None:
        source = _Shared(requests)
        self._loops = [BatchLoop(source, terms, engine, at_once) for engine in engines]
        self._results: queue.Queue[list[BatchResult] | BaseException | None] = queue.Queue(len(engines))
        self._threads = [threading.Thread(target=self._run, args=(loop,), daemon=True) for loop in self._loops]
        self._n_at_work = len(self._loops)
        self._stop = threading.Event()
        self._is_begun = False

    @property
    def is_over(self) -> bool:
        """Whether all requests have their results."""
        return not self._n_at_work

    def step(self) -> list[BatchResult]:
        """Waits for what comes next; raises as `BatchLoop.step`."""
        if self.is_over:
            return []
        if not self._is_begun:
            self._is_begun = True
            for thread in self._threads:
                thread.start()
        found = self._results.get()
        if isinstance(found, BaseException):
            self.close()
            raise found
        if found is None:
            self._n_at_work -= 1
        return found or []

    def close(self) -> None:
        """Ends all that is not over, with no result; returns once no thread is at work."""
        self._stop.set()
        if self._is_begun:
            for thread in self._threads:
                thread.join()
        for loop in self._loops:
            loop.close()
        self._n_at_work = 0

    def _run(self, loop: BatchLoop) -> None:
        try:
            while not loop.is_over and not self._stop.is_set():
                if results := loop.step():
                    self._give(results)
            self._give(None)
        except BaseException as error:
            self._give(error)

    def _give(self, found: list[BatchResult] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._results.put(found, timeout=_LOOK_EVERY_S)
                return
            except queue.Full:
                continue


class _Shared(Iterator[Request]):
    """One iterator for several threads."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)
        self._lock = threading.Lock()

    def __next__(self) -> Request:
        with self._lock:
            return next(self._requests)
