"""Requests become results on a Ray: `run_job`'s mapper, made of Ray Data.

    requests -> a part of them -> blocks -> actors, which give each result as its dialogue ends
                     ^-- what has no result in the end is asked again, one by one

Ray Data takes a Dataset, not an iterator, so requests are read part by part, which also bounds what is held here.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import EngineError
from edge_sir.ray.actor import HeldThere, Tries
from edge_sir.ray.cluster import Pool
from edge_sir.ray.wire import of_request, result_of

__all__ = ["RayMapper"]

_log = logging.getLogger(__name__)

_AT_ONCE = 16  # dialogues of an actor, as far as can be known before it has loaded the model
_WAVES = 8  # dialogues of a block for each that its actor holds at once: the last ones run beside free places
_BLOCKS = 8  # of a part for each actor: the last ones of a part run beside free actors
_LEAST_PART = 2**26  # bytes of text that a part may have, and for each dialogue that is held at once:
_PART_PER_PLACE = 2**18
_TRIES = 3  # of a block whose actors die, before its dialogues are held one by one
_ALONE = 2  # times that this is done


@dataclass(frozen=True, slots=True)
class RayMapper:
    """Maps requests to results on the actors of `pool`. options: as `edge_sir.load` takes them, model included.

    actor: what runs on the machines.
    """

    pool: Pool
    options: Mapping[str, Any]
    parallel: int | Literal["auto"] = "auto"
    actor: type[HeldThere] = HeldThere

    def __call__(self, requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        """Yields one result of each request, as they finish.

        No more requests are held than 64 for each dialogue that is held at once, nor more text than 256 KiB for each,
        64 MiB at least. Raises what loading the model raises on an actor, and EngineError where Ray fails.
        """
        while part := self._part(requests):
            yield from self._answered(part)

    @property
    def n_at_once(self) -> int:
        """Dialogues that an actor holds at a time."""
        return _AT_ONCE if self.parallel == "auto" else self.parallel

    def n_in_block(self, n: int) -> int:
        """Requests of a block of a part of `n`: as many as an actor holds at once, times a few if there are enough."""
        places = self.n_at_once * self.pool.n_actors
        waves = min(_WAVES, max(1, n // (2 * places)))
        return max(1, min(self.n_at_once * waves, math.ceil(n / self.pool.n_actors)))

    def _part(self, requests: Iterator[BatchRequest]) -> list[BatchRequest]:
        places = self.n_at_once * self.pool.n_actors
        part: list[BatchRequest] = []
        n_bytes = 0
        while len(part) < places * _WAVES * _BLOCKS and n_bytes < max(_LEAST_PART, places * _PART_PER_PLACE):
            request = next(requests, None)
            if request is None:
                break
            part.append(request)
            n_bytes += sum(map(len, request.said)) + sum(len(message.text) for message in request.messages)
        return part

    def _answered(self, part: Sequence[BatchRequest]) -> Iterator[BatchResult]:
        left = {request.custom_id: request for request in part}
        for n_in_block in (self.n_in_block(len(part)), *[1] * _ALONE):
            for result in self._run([*left.values()], n_in_block):
                if left.pop(result.custom_id, None) is not None:  # else it ran twice
                    yield result
            if not left:
                return
            _log.warning("%d dialogues are held again, one by one: the actors that held them died", len(left))
        for custom_id in left:
            message = f"the actor that held it died each of {_ALONE * _TRIES} times; Ray's logs say of what"
            yield BatchResult(custom_id, (), error=RequestError("server_error", message))

    def _run(self, requests: Sequence[BatchRequest], n_in_block: int) -> Iterator[BatchResult]:
        """The results that come; those of a block whose actors died too often do not."""
        import ray

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        rows = [{"request": of_request(request)} for request in requests]
        n_blocks = math.ceil(len(rows) / n_in_block)
        data = ray.data.from_items(rows, override_num_blocks=n_blocks)
        context = data.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1  # each result travels as soon as it is there
        context.max_errored_blocks = -1
        context.max_consecutive_actor_init_deaths = 2 * self.pool.n_actors
        n_actors = min(self.pool.n_actors, n_blocks)
        tries = ray.remote(num_cpus=0, max_restarts=-1)(Tries).remote(_TRIES)
        found = data.map_batches(
            self.actor,
            fn_constructor_kwargs={"options": dict(self.options), "parallel": self.parallel, "tries": tries},
            batch_size=None,  # a block
            # With a least size of 1, an actor that waits for a machine gets the place of one that has nothing to do.
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=n_actors, initial_size=n_actors, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=self.pool.n_cpus,
        )
        try:
            for row in found.iter_rows():
                yield result_of(row["result"])
        except ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise EngineError(f"Ray failed: {reason}; the same command goes on") from error
