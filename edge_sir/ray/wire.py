"""Requests, results and errors as JSON text, for their way between the machines: nothing that is read can be code."""

import json
from dataclasses import asdict
from typing import Any

from edge_sir import errors
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import EdgeSirError
from edge_sir.memory.transcript import Message
from edge_sir.text.reply import Drawn, Recalled, Reply, ToolCall

__all__ = ["of_error", "of_request", "of_result", "request_of", "result_of"]


def of_request(request: BatchRequest) -> str:
    """The text that `request_of` reads."""
    return json.dumps(asdict(request))


def request_of(text: str) -> BatchRequest:
    """The request that was written."""
    found = json.loads(text)
    terms: dict[str, Any] = found["terms"]
    if isinstance(stop := terms.get("stop"), list):
        terms["stop"] = tuple(stop)
    messages = tuple(Message(**message) for message in found["messages"])
    return BatchRequest(found["custom_id"], messages, tuple(found["said"]), terms)


def of_result(result: BatchResult) -> str:
    """The text that `result_of` reads."""
    return json.dumps({"result": asdict(result)}, default=_of_bytes)


def of_error(error: EdgeSirError | RuntimeError) -> str:
    """The text from which `result_of` raises the error again."""
    return json.dumps({"raised": type(error).__name__, "message": str(error)})


def result_of(text: str) -> BatchResult:
    """The result that was written. Raises the error that was: one of `edge_sir.errors` by its name, or RuntimeError."""
    found = json.loads(text)
    if (name := found.get("raised")) is not None:
        kind = getattr(errors, name) if name in errors.__all__ else RuntimeError
        raise kind(found["message"])
    result = found["result"]
    error = None if result["error"] is None else RequestError(**result["error"])
    return BatchResult(result["custom_id"], tuple(map(_reply, result["replies"])), result["edge_sir"], error)


def _reply(found: dict[str, Any]) -> Reply:
    recalled = tuple(Recalled(**one) for one in found.pop("recalled"))
    calls = tuple(ToolCall(**one) for one in found.pop("calls"))
    drawn = tuple(_drawn(**one) for one in found.pop("drawn"))
    return Reply(**found, recalled=recalled, calls=calls, drawn=drawn)


def _drawn(text: str, logprob: float, likeliest: list[tuple[str, float]]) -> Drawn:
    return Drawn(_bytes(text), logprob, tuple((_bytes(other), value) for other, value in likeliest))


def _of_bytes(data: bytes) -> str:
    return data.decode("latin-1")  # a character for each byte, for _bytes


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
