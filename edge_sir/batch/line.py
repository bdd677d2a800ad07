"""A line of a job's input becomes a request, or a result that says why it is none."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from edge_sir.batch.body import checked_text, quoted, read_body
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import ConfigError, UserError
from edge_sir.options import nearest

__all__ = ["MOST_ID", "read_line", "read_request"]

MOST_ID = 512
"""Characters of a custom_id."""

_FIELDS = ("custom_id", "method", "url", "body")
_ASKED = {"method": "POST", "url": "/v1/chat/completions"}


def read_line(line: bytes) -> BatchRequest | BatchResult:
    """The request that a line holds, or a result with the error. Never raises for what a line may hold.

    The result's custom_id is "" if the line has none that could be read.
    """
    try:
        document = _parsed(line)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers or nesting beyond all bounds
        return BatchResult("", (), error=RequestError("invalid_json_line", f"the line is no JSON ({_reason(error)})"))
    custom_id = ""
    try:
        custom_id = _custom_id(document)
        return read_request(document)
    except UserError as error:
        return BatchResult(custom_id, (), error=RequestError("invalid_request_error", str(error)))


def read_request(document: Mapping[str, Any]) -> BatchRequest:
    """The request that a line's object stands for: custom_id, method, url and body as OpenAI has them.

    method and url may be left out. Raises ConfigError, in one line.
    """
    custom_id = _custom_id(document)
    for name in document:
        if name not in _FIELDS:
            raise ConfigError(f"unknown field {quoted(name)} beside 'body'{nearest(name, _FIELDS).replace('-', '_')}")
    for name, asked in _ASKED.items():
        if document.get(name, asked) != asked:
            raise ConfigError(f"'{name}' must be '{asked}', not {quoted(document[name])}")
    body = document.get("body")
    if not isinstance(body, Mapping):
        raise ConfigError(f"'body' must be an object, not {quoted(body)}")
    messages, said, terms = read_body(body)
    return BatchRequest(custom_id, messages, said, terms)


def _custom_id(document: Any) -> str:
    if not isinstance(document, Mapping):
        raise ConfigError(f"the line must be an object, not {quoted(document)}")
    custom_id = checked_text(document.get("custom_id"), "'custom_id'")
    if not 1 <= len(custom_id) <= MOST_ID:
        raise ConfigError(f"'custom_id' must have 1 to {MOST_ID} characters, not {len(custom_id)}")
    return custom_id


def _parsed(line: bytes) -> Any:
    return json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is no UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, at character {error.pos + 1}"
    return "its nesting is too deep" if isinstance(error, RecursionError) else str(error)
