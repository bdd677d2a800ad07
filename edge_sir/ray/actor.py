"""What runs on the machines for `RayMapper`.

Ray gives what an actor held to another one when it dies, again and again; a dialogue that ends its process would do so
for ever. So an actor asks first how often its block was begun, and leaves it alone after a few times.
"""

import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.errors import EdgeSirError
from edge_sir.ray.answers import load_here
from edge_sir.ray.wire import of_error, of_result, request_of

__all__ = ["HeldThere", "Tries"]


class Tries:
    """Counts how often each block is begun; an actor of its own, so that it outlives those that die."""

    def __init__(self, most: int) -> None:
        self._most, self._counts = most, Counter[str]()

    def begin(self, block: str) -> bool:
        """Whether the block may be tried once more. block: the custom_id of its first request."""
        self._counts[block] += 1
        return self._counts[block] <= self._most


class HeldThere:
    """What an actor runs: rows of requests become rows of results, as dialogues end; both are text (wire.py).

    What it would raise is a row, too: Ray would only say that an actor died. A block that was tried too often has none.
    tries: a handle of `Tries`.
    """

    def __init__(self, options: Mapping[str, Any], parallel: int | Literal["auto"], tries: Any) -> None:
        self._parallel, self._tries = parallel, tries
        self._failure: str | None = None
        try:
            self._model = load_here(None, options)
        except Exception as error:
            self._failure = _text_of(error)

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[str]]]:
        import ray

        requests = [request_of(str(text)) for text in batch["request"]]
        if not ray.get(self._tries.begin.remote(requests[0].custom_id)):
            return
        if self._failure is not None:
            yield {"result": [self._failure]}
            return
        try:
            for result in self.results(requests):
                yield {"result": [of_result(result)]}
        except Exception as error:
            yield {"result": [_text_of(error)]}

    def results(self, requests: Sequence[BatchRequest]) -> Iterator[BatchResult]:
        """One of each request, as they finish."""
        return self._model.batch(requests, parallel=self._parallel)


def _text_of(error: Exception) -> str:
    if isinstance(error, EdgeSirError):
        return of_error(error)
    return of_error(RuntimeError("on an actor: " + "".join(traceback.format_exception(error))))
