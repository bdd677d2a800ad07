"""The OpenAPI document, made of the wire types."""

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from edge_sir.server.wire.chat import ChatRequest
from edge_sir.server.wire.completions import CompletionRequest
from edge_sir.server.wire.documents import (
    ChatChunk,
    ChatCompletion,
    Completion,
    ErrorDocument,
    ModelDocument,
    ModelList,
    Response,
)
from edge_sir.server.wire.responses import ResponseRequest
from edge_sir.server.wire.session_documents import (
    SESSION_DOCUMENTS,
    Deleted,
    ForgottenNow,
    FoundMessages,
    FoundWords,
    MaybeWhat,
    MemoryDocument,
    Pinned,
    RecalledNow,
    SessionDocument,
    SessionList,
    UndoneTurn,
    Unpinned,
    WhatBody,
)
from edge_sir.server.wire.values import Wire

__all__ = ["openapi"]

_REFERENCE = "#/components/schemas/{model}"
_REQUESTS: dict[str, tuple[type[Wire], type[Wire]]] = {
    "/v1/chat/completions": (ChatRequest, ChatCompletion),
    "/v1/completions": (CompletionRequest, Completion),
    "/v1/responses": (ResponseRequest, Response),
}
"""What is sent to each path, and what is answered."""
_DOCUMENTS: list[type[Wire]] = [
    *(d for pair in _REQUESTS.values() for d in pair),
    ChatChunk,
    ErrorDocument,
    ModelDocument,
    ModelList,
    *SESSION_DOCUMENTS,
    WhatBody,
    MaybeWhat,
]


@cache
def openapi() -> dict[str, Any]:
    """Version 3.1, as a document."""
    _, schemas = models_json_schema([(m, "validation") for m in _DOCUMENTS], ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge-sir", "version": "1"},
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _paths() -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        **{path: {"post": _asked(request, answer)} for path, (request, answer) in _REQUESTS.items()},
        "/v1/models": {"get": {"responses": _answers(ModelList, "401", "403")}},
        "/v1/models/{name}": {"get": {"parameters": [name], "responses": _answers(ModelDocument, "401", "403", "404")}},
        **_sessions(),
        "/health": {"get": {"responses": {status: _plain("application/json") for status in ("200", "503")}}},
        "/metrics": {"get": {"responses": {"200": _plain("text/plain")}}},
        "/openapi.json": {"get": {"responses": {"200": _plain("application/json")}}},
    }


def _sessions() -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    words = {"name": "q", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}
    form = {"name": "format", "in": "query", "schema": {"enum": ["jsonl", "markdown"]}}
    id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    refused = ("400", "401", "403", "404", "409", "413", "429", "500", "503")

    def looked(model: type[Wire], *parameters: dict[str, Any]) -> dict[str, Any]:
        return {"parameters": list(parameters), "responses": _answers(model, *refused)}

    def changed(model: type[Wire], body: type[Wire] | None) -> dict[str, Any]:
        asked = {} if body is None else {"requestBody": {"required": body is WhatBody, "content": _json(body)}}
        return {**looked(model, name), **asked}

    texts = {"200": {"description": "the text", "content": {"application/jsonl": {}, "text/markdown": {}}}}
    one = "/sessions/{name}"
    return {
        "/v1/responses/{id}": {"get": looked(Response, id), "delete": looked(Deleted, id)},
        "/sessions": {"get": looked(SessionList)},
        "/sessions/search": {"get": looked(FoundMessages, words)},
        one: {"get": looked(SessionDocument, name), "delete": looked(Deleted, name)},
        f"{one}/memory": {"get": looked(MemoryDocument, name)},
        f"{one}/find": {"get": looked(FoundWords, name, words)},
        f"{one}/search": {"get": looked(FoundMessages, name, words)},
        f"{one}/export": {"get": {"parameters": [name, form], "responses": {**_answers(Deleted, *refused), **texts}}},
        f"{one}/pin": {"post": changed(Pinned, WhatBody)},
        f"{one}/unpin": {"post": changed(Unpinned, MaybeWhat)},
        f"{one}/recall": {"post": changed(RecalledNow, WhatBody)},
        f"{one}/forget": {"post": changed(ForgottenNow, WhatBody)},
        f"{one}/undo": {"post": changed(UndoneTurn, None)},
    }


def _asked(request: type[Wire], answer: type[Wire]) -> dict[str, Any]:
    answers = _answers(answer, "400", "401", "403", "404", "408", "409", "413", "429", "500", "503")
    answers["200"]["content"]["text/event-stream"] = {}
    return {"requestBody": {"required": True, "content": _json(request)}, "responses": answers}


def _answers(model: type[Wire], *refusals: str) -> dict[str, Any]:
    refused = {status: {"description": "refused", "content": _json(ErrorDocument)} for status in refusals}
    return {"200": {"description": "answered", "content": _json(model)}, **refused}


def _json(model: type[Wire]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}


def _plain(media_type: str) -> dict[str, Any]:
    return {"description": "answered", "content": {media_type: {"schema": {}}}}
