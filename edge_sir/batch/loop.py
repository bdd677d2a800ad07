"""Executes what `schedule` decides, step by step: requests in, results out as they finish."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_sir._shield import shield
from edge_sir.batch.dialogue import Dialogue, error_of
from edge_sir.batch.line import read_request
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.batch.run import BatchRun
from edge_sir.batch.schedule import Join, Running, schedule
from edge_sir.batch.terms import BatchTerms, Prepared
from edge_sir.engine import Engine, Slice, SliceResult
from edge_sir.errors import BudgetError, EdgeSirError, EngineError, ShiftError

__all__ = ["BatchLoop", "Request"]

Request = BatchRequest | BatchResult | Mapping[str, Any]
"""A request, a line's object that stands for one, or what there is to say of a line that holds none."""


class BatchLoop(BatchRun):
    """Dialogues in the sequences of `engine`, which is the loop's alone until `close`; freeing it is the caller's.

    No more requests are taken than there are free sequences, so that other loops find those that it cannot begin.
    at_once: as `schedule` has it.
    """

    def __init__(
        self, requests: Iterable[Request], terms: BatchTerms, engine: Engine, at_once: Sequence[int] = ()
    ) -> None:
        self._requests = iter(requests)
        self._at_once = at_once
        self._terms, self._engine = terms, engine
        self._waiting: list[Prepared] = []
        self._running: dict[int, Dialogue] = {}  # in the order in which they began
        self._is_last = False

    @property
    def is_over(self) -> bool:
        """Whether all requests have their results."""
        return self._is_last and not self._waiting and not self._running

    def step(self) -> list[BatchResult]:
        """Does what comes next and returns the results that are there with it.

        Raises what the source of requests raises, SessionError if the engine was closed, and ShiftError.
        """
        results = self._take_in()
        spec = self._engine.spec
        step = schedule(
            [one.waiting for one in self._waiting],
            [_running(seq, dialogue) for seq, dialogue in self._running.items()],
            n_seq=spec.n_seq_max,
            n_cells=spec.n_ctx,
            n_batch=spec.n_batch,
            streams=spec.n_ctx_seq < spec.n_ctx,
            at_once=self._at_once,
        )
        ended = {seq: self._running.pop(seq) for seq in step.ends}
        results += [self._end(seq, dialogue) for seq, dialogue in ended.items()]
        results += self._join(step.joins, ended)
        for seq in {*ended, *(join.seq for join in step.joins)} - self._running.keys():
            self._engine.remove(seq, 0, -1)
        self._decode(step.decodes)
        return results

    def close(self) -> None:
        """Ends all that is not over, with no result."""
        for dialogue in self._running.values():
            dialogue.close()
        self._running.clear()
        self._waiting.clear()
        self._is_last = True

    # ---- coming and going ----------------------------------------------------------------------

    def _take_in(self) -> list[BatchResult]:
        """Prepares a request for each free sequence; returns the results of those that are none."""
        refused: list[BatchResult] = []
        n_free = self._engine.spec.n_seq_max - sum(one.phase != "over" for one in self._running.values())
        while not self._is_last and len(self._waiting) + len(refused) < n_free:
            request = next(self._requests, None)
            if request is None:
                self._is_last = True
            elif isinstance(request, BatchResult):
                refused.append(request)
            else:
                try:
                    self._waiting.append(self._prepared(request))
                except EdgeSirError as error:
                    refused.append(BatchResult(_id_of(request), (), error=error_of(error)))
        return refused

    def _prepared(self, request: BatchRequest | Mapping[str, Any]) -> Prepared:
        prepared = self._terms.prepare(request if isinstance(request, BatchRequest) else read_request(request))
        wanted, n_cells = prepared.waiting.n_cells, self._engine.spec.n_ctx_seq
        if wanted > n_cells:
            raise BudgetError(
                f"a budget of {wanted} cells exceeds the {n_cells} cells that a dialogue can have; use --budget "
                f"{n_cells} or less here, or more for all"
            )
        return prepared

    def _end(self, seq: int, dialogue: Dialogue) -> BatchResult:
        self._engine.claim(seq, 0)  # of a closed engine this raises: the dialogue's error was not its own then
        result = dialogue.result()
        dialogue.close()
        return result

    def _join(self, joins: Sequence[Join], ended: Mapping[int, Dialogue]) -> list[BatchResult]:
        """Begins dialogues; returns the results of those that cannot."""
        refused = []
        for join in joins:
            prepared = self._waiting[join.waiting]
            like = None if join.like is None else self._running.get(join.like) or ended[join.like]
            opened = None if like is None else like.opened
            n = 0 if opened is None else len(opened.ledger["token"])
            if join.like in (None, join.seq):
                self._engine.remove(join.seq, n, -1)
            else:
                self._engine.copy(join.like, join.seq, 0, n)
            try:
                self._running[join.seq] = prepared.begin(self._engine, join.seq, opened)
            except EdgeSirError as error:
                self._engine.claim(join.seq, 0)
                refused.append(BatchResult(prepared.request.custom_id, (), error=error_of(error)))
        begun = {join.waiting for join in joins}
        self._waiting = [one for i, one in enumerate(self._waiting) if i not in begun]
        return refused

    # ---- decoding ------------------------------------------------------------------------------

    def _decode(self, seqs: Sequence[int]) -> None:
        pieces = {seq: piece for seq in seqs if (piece := self._running[seq].next_slice()) is not None}
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            for seq, result in self._results(pieces).items():
                self._running[seq].commit(result)

    def _results(self, pieces: Mapping[int, Slice]) -> dict[int, SliceResult]:
        """What the engine gives for each slice; where all of them fail together, each is decoded alone."""
        if not pieces:
            return {}
        try:
            return dict(zip(pieces, self._engine.decode([*pieces.values()]), strict=True))
        except ShiftError:  # the cells of all are wrong
            raise
        except EngineError as error:
            if len(pieces) > 1:
                return {k: v for seq, piece in pieces.items() for k, v in self._results({seq: piece}).items()}
            [seq] = pieces
            self._running[seq].fail(error)
            return {}


def _running(seq: int, dialogue: Dialogue) -> Running:
    of = dialogue.of.waiting
    return Running(seq, of.n_cells, "" if dialogue.failed else of.opening, dialogue.phase, dialogue.n_next)


def _id_of(request: BatchRequest | Mapping[str, Any]) -> str:
    custom_id = request.custom_id if isinstance(request, BatchRequest) else request.get("custom_id")
    return custom_id if isinstance(custom_id, str) else ""
