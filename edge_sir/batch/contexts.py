"""The contexts of a batch: as many as were asked for, or the way that writes fastest here, which is measured first."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from edge_sir.batch.loop import BatchLoop, Request
from edge_sir.batch.measure import Way, choose, counts_up_to, in_words, measure, together
from edge_sir.batch.run import BatchRun
from edge_sir.batch.terms import BatchTerms
from edge_sir.batch.workers import BatchWorkers
from edge_sir.engine import Engine
from edge_sir.errors import BudgetError, ConfigError

__all__ = ["Contexts", "Parallel", "checked"]

_log = logging.getLogger("edge_sir.batch")

Parallel = int | Literal["auto"]
"""How many dialogues are held at once."""

_AT_ONCE = 16  # dialogues at most where the number is chosen
_N_RESIDENT = 256  # tokens that a dialogue holds while that is measured, or three quarters of a smaller budget
_MOST_AT_ONCE = 255  # llama.cpp has 256 sequences, and one is where cells are restored


def checked(parallel: Parallel) -> Parallel:
    """Raises ConfigError for what is no number of dialogues."""
    if parallel != "auto" and (type(parallel) is not int or not 1 <= parallel <= _MOST_AT_ONCE):
        raise ConfigError(f"parallel is a number of dialogues from 1 to {_MOST_AT_ONCE}, or 'auto', not {parallel!r}")
    return parallel


@dataclass(slots=True)
class _Set:
    """Contexts that are open, for `n_each` dialogues each."""

    engines: list[Engine]
    n_each: int
    closing: ExitStack

    def close(self) -> None:
        """Frees them."""
        self.engines = []
        self.closing.close()


@dataclass(slots=True)
class Contexts:
    """Opens contexts on one model.

    open: makes one for so many dialogues of so many cells each, with so many threads (0: as many as one context has
    here); raises BudgetError where memory does not suffice. free: frees it. threads: that one context has here.
    """

    open: Callable[[int, int, int], Engine]
    free: Callable[[Engine], None]
    threads: int
    # By the most dialogues there may be, and the tokens that each holds meanwhile.
    _chosen: dict[tuple[int, int], tuple[Way, tuple[int, ...]]] = field(default_factory=dict)

    @contextmanager
    def run(
        self, requests: Iterable[Request], terms: BatchTerms, n_cells: int, parallel: Parallel
    ) -> Iterator[BatchRun]:
        """Requests on their way to results, in contexts that are freed at the end. n_cells: of each dialogue."""
        with ExitStack() as opened:
            at_once: Sequence[int] = ()
            if parallel == "auto":
                source = iter(requests)
                first = list(itertools.islice(source, _AT_ONCE))
                requests = itertools.chain(first, source)
                engines, at_once = self._best(n_cells, max(1, len(first)), opened)
            else:
                engines = self._open(n_cells, 1, parallel, opened).engines
            run: BatchRun = (
                BatchLoop(requests, terms, engines[0], at_once)
                if len(engines) == 1
                else BatchWorkers(requests, terms, engines, at_once)
            )
            yield opened.enter_context(run)

    def _open(self, n_cells: int, n_contexts: int, n_each: int, opened: ExitStack) -> _Set:
        with ExitStack() as closing:
            engines = []
            for _ in range(n_contexts):
                engines.append(engine := self.open(n_each, n_cells, 0 if n_contexts == 1 else 1))
                closing.callback(self.free, engine)
            return _Set(engines, n_each, opened.enter_context(closing.pop_all()))

    # ---- the number that is chosen -------------------------------------------------------------

    def _best(self, n_cells: int, n_most: int, opened: ExitStack) -> tuple[list[Engine], tuple[int, ...]]:
        """Contexts for at most so many dialogues, as many as memory holds, in the way that writes fastest here; and how
        many of those that could write do so together."""
        key = n_most, min(_N_RESIDENT, n_cells * 3 // 4)
        if key in self._chosen:
            way, at_once = self._chosen[key]
            with contextlib.suppress(BudgetError):  # memory may be less than it was
                return self._open(n_cells, way.n_contexts, way.n_each, opened).engines, at_once
        one = self._fitting(n_cells, n_most, opened)
        if one.n_each == 1:
            return one.engines, ()
        ways = measure(one.engines, counts_up_to(one.n_each), n_resident=key[1])
        several = self._several(one, n_cells, opened)
        if several.engines:
            ways += measure(several.engines, counts_up_to(several.n_each), n_resident=key[1])
        way = choose(ways, one.n_each)
        at_once = together(ways, way)
        self._chosen[key] = way, at_once
        _log.info("%s", in_words(ways, way, at_once))
        kept = None
        for found in (one, several):
            if (len(found.engines), found.n_each) == (way.n_contexts, way.n_each):
                kept = found
            else:
                found.close()
        kept = kept or self._open(n_cells, way.n_contexts, way.n_each, opened)
        return kept.engines, at_once

    def _several(self, one: _Set, n_cells: int, opened: ExitStack) -> _Set:
        """Contexts of one thread each for the dialogues of `one`, which is freed if there is no memory for both.

        None where one thread is all there is, or memory does not hold them: each has buffers of its own.
        """
        n_contexts = min(self.threads, one.n_each)
        n_each = one.n_each // n_contexts
        if n_contexts > 1:
            with contextlib.suppress(BudgetError):
                return self._open(n_cells, n_contexts, n_each, opened)
            one.close()
            with contextlib.suppress(BudgetError):
                return self._open(n_cells, n_contexts, n_each, opened)
        return _Set([], 0, ExitStack())

    def _fitting(self, n_cells: int, n_most: int, opened: ExitStack) -> _Set:
        """A context for `n_most` dialogues or a half of it or a half of that; raises BudgetError if none fits."""
        while True:
            try:
                return self._open(n_cells, 1, n_most, opened)
            except BudgetError:
                if n_most == 1:
                    raise
                n_most //= 2
