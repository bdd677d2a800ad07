"""The documents that the server sends, for /openapi.json and for tests; `answers` makes them."""

from typing import Any, Literal

from edge_sir.server.wire.values import Text, Wire

__all__ = ["ChatChunk", "ChatCompletion", "Completion", "ErrorDocument", "ModelDocument", "ModelList", "Response"]


class _PromptDetails(Wire):
    cached_tokens: int
    cache_write_tokens: int


class _CompletionDetails(Wire):
    reasoning_tokens: int


class _Usage(Wire):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails
    completion_tokens_details: _CompletionDetails


class _Recalled(Wire):
    turn: int
    tokens: int
    text: Text


class _EdgeSir(Wire):
    session: Text
    match: Literal["exact", "anchor", "fork", "rebuilt", "new", "scratch", "retry", "prefill"]
    resident: int
    evicted: int
    recalled: list[_Recalled]


class _Message(Wire):
    role: Literal["assistant"]
    content: Text | None = None
    reasoning_content: Text | None = None
    refusal: Text | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(Wire):
    index: int
    message: _Message
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Wire):
    """A whole answer."""

    id: Text
    object: Literal["chat.completion"]
    created: int
    model: Text
    choices: list[_Choice]
    usage: _Usage
    edge_sir: _EdgeSir


class _Delta(Wire):
    role: Literal["assistant"] | None = None
    content: Text | None = None
    reasoning_content: Text | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _ChunkChoice(Wire):
    index: int
    delta: _Delta
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None


class ChatChunk(Wire):
    """An event of a stream."""

    id: Text
    object: Literal["chat.completion.chunk"]
    created: int
    model: Text
    choices: list[_ChunkChoice]
    usage: _Usage | None = None
    edge_sir: _EdgeSir | None = None


class _Continued(Wire):
    index: int
    text: Text
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None


class Completion(Wire):
    """A continued text."""

    id: Text
    object: Literal["text_completion"]
    created: int
    model: Text
    choices: list[_Continued]
    usage: _Usage | None = None


class _ResponseUsage(Wire):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: _PromptDetails
    output_tokens_details: _CompletionDetails


class Response(Wire):
    """A response."""

    id: Text
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: Text
    output: list[dict[str, Any]]
    usage: _ResponseUsage | None = None
    edge_sir: _EdgeSir | None = None


class _Error(Wire):
    message: Text
    type: Text
    param: Text | None = None
    code: Text | None = None


class ErrorDocument(Wire):
    """Why a request is refused."""

    error: _Error


class ModelDocument(Wire):
    """A model that can be asked."""

    id: Text
    object: Literal["model"]
    created: int
    owned_by: Text


class ModelList(Wire):
    """All models that can be asked."""

    object: Literal["list"]
    data: list[ModelDocument]
