"""A callable class for Ray Data: an actor loads the model once and answers batch after batch of rows."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_sir.batch.body import quoted
from edge_sir.batch.line import read_request
from edge_sir.batch.output import digest_of, output_line
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import ConfigError, UserError
from edge_sir.runtime import Model, load

__all__ = ["BatchAnswers", "load_here"]

_ADDED = ("replies", "error", "n_read", "n_generated", "n_evicted", "result")


class BatchAnswers:
    """Answers the rows of a `ray.data.Dataset`; give it to `map_batches` with `ActorPoolStrategy`.

    A row has `custom_id` (text, its own in the whole Dataset: draws follow from it) and `body`: an object as a line of
    `edge-sir batch` has it, or that object as JSON text. Each row comes back in its place, its other columns as
    they were, with these: `replies` (list of texts), `error` (text, null if all replies are there), `n_read`,
    `n_generated`, `n_evicted` (tokens) and `result` (text: the line that `edge-sir batch` writes).

    The rows of a batch are held at once, as many as `parallel` says, so a `batch_size` of several times that leaves few
    of its places empty. A batch that runs again, since its actor died, gives the same number of rows in the same order.
    """

    def __init__(
        self, model: str | Path | None = None, *, parallel: int | Literal["auto"] = "auto", **options: Any
    ) -> None:
        """model, options: as `edge_sir.load` takes them; files must be there on every machine. parallel: as in
        `Model.batch`. threads are by default the CPUs that Ray gives the actor (`num_cpus`). Raises as `load`.
        """
        self._model, self._parallel = load_here(model, options), parallel

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Answers a batch: an array of each column, of equal lengths. Raises ConfigError if a column is missing, and
        as `Model.batch`; what is wrong with one row is its `error`.
        """
        rows = _rows(batch)
        found: list[BatchResult | None] = [None] * len(rows)
        asked: dict[str, int] = {}
        requests = []
        for i, (custom_id, body) in enumerate(rows):
            request = _request(custom_id, body)
            if isinstance(request, BatchResult):
                found[i] = request
            elif request.custom_id in asked:
                message = f"custom_id {custom_id!a} is that of another row; give each row its own"
                found[i] = BatchResult(custom_id, (), error=RequestError("duplicate_custom_id", message))
            else:
                asked[request.custom_id] = i
                requests.append(request)
        for result in self._model.batch(requests, parallel=self._parallel) if requests else ():
            found[asked[result.custom_id]] = result
        results = [result for result in found if result is not None]
        return {name: column for name, column in batch.items() if name not in _ADDED} | self._columns(results)

    def _columns(self, results: list[BatchResult]) -> dict[str, Any]:
        columns: dict[str, list[Any]] = {name: [] for name in _ADDED}
        for result in results:
            line = output_line(
                result, digest_of(result.custom_id), model=self._model.path.name, created=int(time.time())
            )
            row = (
                [reply.text for reply in result.replies],
                None if result.error is None else result.error.message,
                result.n_read,
                result.n_generated,
                sum(reply.evicted for reply in result.replies),
                line.decode().rstrip("\n"),
            )
            for name, value in zip(_ADDED, row, strict=True):
                columns[name].append(value)
        return columns


def load_here(model: str | Path | None, options: Mapping[str, Any]) -> Model:
    """The model, with a thread for each CPU that Ray has given this actor, unless the options say how many."""
    chosen = {"quiet": True} | dict(options)
    if not chosen.get("threads"):
        chosen["threads"] = _assigned_cpus()
    return load(model, **chosen)


def _assigned_cpus() -> int:
    """CPUs that Ray has given this actor; 0 elsewhere."""
    import ray

    if not ray.is_initialized():
        return 0
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def _rows(batch: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if not isinstance(batch, Mapping):
        raise ConfigError("rows are taken as arrays by name; leave out batch_format, or give batch_format='numpy'")
    for name in ("custom_id", "body"):
        if name not in batch:
            raise ConfigError(f"the rows have no column '{name}' but {', '.join(map(repr, batch))}; name it so")
    return [(str(_plain(i)), body) for i, body in zip(batch["custom_id"], batch["body"], strict=True)]


def _request(custom_id: str, body: Any) -> BatchRequest | BatchResult:
    try:
        return read_request({"custom_id": custom_id, "body": _parsed(body) if isinstance(body, str) else _plain(body)})
    except UserError as error:
        return BatchResult(custom_id, (), error=RequestError("invalid_request_error", str(error)))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"'body' is no JSON: {quoted(text)}") from None


def _plain(value: Any) -> Any:
    """A value as JSON has it.

    Arrow gives every row the fields of all rows, null where a row had none, and turns whole numbers beside missing ones
    into floats.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None and v == v}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
