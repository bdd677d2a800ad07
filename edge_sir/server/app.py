"""The HTTP application: what is asked at which path."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from edge_sir.errors import UserError
from edge_sir.server.asked import Asked, Reader
from edge_sir.server.contract import IgnoredFields
from edge_sir.server.conversations import Conversations
from edge_sir.server.failures import refused_by
from edge_sir.server.form import Form
from edge_sir.server.guard import Access, Guard, key_of, too_large
from edge_sir.server.limits import Limits
from edge_sir.server.loaded import Served
from edge_sir.server.manager import Manager
from edge_sir.server.metrics import Metrics
from edge_sir.server.openapi import openapi
from edge_sir.server.sender import Sender, namespace_of, sender_of
from edge_sir.server.sending import ReplySender
from edge_sir.server.session_routes import SessionEndpoints
from edge_sir.server.ticket import Ticket
from edge_sir.server.wire.answers import ChatAnswer
from edge_sir.server.wire.completions import CompletionAnswer
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.response_answer import ResponseAnswer
from edge_sir.server.wire.values import parse_json
from edge_sir.server.worker import Worker

__all__ = ["App", "Endpoints", "Served", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server behaves. grace_s: how long replies may go on once it is to end."""

    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    grace_s: float = 5.0


class App:
    """The application. Its lifespan starts the worker; whoever serves it calls `end`, which closes `conversations`.

    manager: of their sessions, for /sessions and single responses; None for neither.
    """

    def __init__(
        self,
        conversations: Conversations,
        served: Served,
        settings: Settings | None = None,
        manager: Manager | None = None,
    ) -> None:
        settings = settings or Settings()
        metrics = Metrics()
        self._worker = Worker(conversations, settings.limits, metrics)
        self._grace_s = settings.grace_s
        self.limits = settings.limits
        endpoints = Endpoints(self._worker, served, settings.limits, metrics)
        routes = [] if manager is None else endpoints.of_sessions(manager, settings.access).routes()
        self._app = _guarded(endpoints, routes, settings, metrics, self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._app(scope, receive, send)

    async def end(self) -> None:
        """Takes no more requests, gives replies their time, cuts them, and saves all; a second call only waits.

        To be called while connections are still open: HTTP servers wait for those, and they for their replies.
        """
        await anyio.to_thread.run_sync(self._worker.stop, self._grace_s)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._worker.start()
        try:
            yield
        finally:
            await self.end()


def _guarded(
    endpoints: "Endpoints", more: list[Route], settings: Settings, metrics: Metrics, lifespan: Lifespan[Starlette]
) -> ASGIApp:
    routes = [
        *more,
        Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
        Route("/v1/completions", endpoints.completion, methods=["POST"]),
        Route("/v1/responses", endpoints.response, methods=["POST"]),
        Route("/v1/models", endpoints.models),
        Route("/v1/models/{name:path}", endpoints.model),
        Route("/health", endpoints.health),
        Route("/metrics", endpoints.metrics_text),
        Route("/openapi.json", endpoints.openapi),
    ]
    refuse = dict.fromkeys([UserError, HTTPException, Exception], _refuse)
    app: ASGIApp = Starlette(routes=routes, exception_handlers=refuse, lifespan=lifespan)
    app = Guard(app, settings.access, settings.limits, metrics, [route.path for route in routes])
    if settings.access.origins:  # outermost: a browser's first question holds no key
        origins = sorted(settings.access.origins)
        exposed = ["x-request-id", "x-edge-sir-session", "x-edge-sir-match"]
        app = CORSMiddleware(app, origins, ("GET", "POST", "DELETE"), ["*"], expose_headers=exposed)
    return app


class Endpoints:
    """What is done at each path."""

    def __init__(self, worker: Worker, served: Served, limits: Limits, metrics: Metrics) -> None:
        self._worker, self._served, self._limits, self._metrics = worker, served, limits, metrics
        self._reader = Reader(limits, served.can, IgnoredFields())

    def of_sessions(self, manager: Manager, access: Access) -> SessionEndpoints:
        """Those of /sessions."""

        def sees_all(request: Request) -> bool:
            return not access.keys and self._sender(request).namespace == namespace_of("", "", self._served.fingerprint)

        return SessionEndpoints(
            manager, self._worker, self._sender, self._body, sees_all=sees_all, model=self._served.name
        )

    async def chat(self, request: Request) -> ASGIApp:
        """One reply in a conversation."""
        asked, read = self._reader.chat(parse_json(await self._body(request)), self._sender(request))
        head = (f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), self._served.name)
        return self._answer(asked, ChatAnswer(*head, n=read.n, include_usage=read.stream_options.include_usage))

    async def completion(self, request: Request) -> ASGIApp:
        """A text that is continued."""
        asked, read = self._reader.completion(parse_json(await self._body(request)), self._sender(request))
        head = (f"cmpl-{secrets.token_hex(12)}", int(time.time()), self._served.name)
        return self._answer(asked, CompletionAnswer(*head, include_usage=read.stream_options.include_usage))

    async def response(self, request: Request) -> ASGIApp:
        """One reply in a conversation, which goes on from an earlier one by its id."""
        id = f"resp_{secrets.token_hex(16)}"
        asked, read = self._reader.response(parse_json(await self._body(request)), self._sender(request), id)
        return self._answer(asked, ResponseAnswer(id, int(time.time()), self._served.name, read))

    async def models(self, _: Request) -> Response:
        """Answered at once, whatever is decoded: clients poll it, and do not wait."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """The one model."""
        if request.path_params["name"] != self._served.name:
            name = self._served.name
            raise RefusedError(f"there is no such model; this server has '{name}'", status=404, code="model_not_found")
        return JSONResponse(self._model())

    async def health(self, _: Request) -> Response:
        """Whether requests are taken."""
        is_open = self._worker.is_open
        return JSONResponse({"status": "ok" if is_open else "ending"}, 200 if is_open else 503)

    async def metrics_text(self, _: Request) -> Response:
        """Counts and times."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, _: Request) -> Response:
        """The description of all this."""
        return JSONResponse(openapi())

    def _sender(self, request: Request) -> Sender:
        headers = request.headers
        return sender_of(headers, key=key_of(headers), fingerprint=self._served.fingerprint)

    def _answer(self, asked: Asked, form: Form) -> ASGIApp:
        ticket = Ticket(asked)
        self._worker.submit(ticket)
        return ReplySender(ticket, form, self._worker, self._limits, self._metrics)

    def _model(self) -> dict[str, Any]:
        return {"id": self._served.name, "object": "model", "created": self._served.created, "owned_by": "edge-sir"}

    async def _body(self, request: Request) -> bytes:
        """The body. Its length may not have been said before."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for part in request.stream():
                    body += part
                    if len(body) > self._limits.body_bytes:
                        raise too_large(self._limits)
        except (ClientDisconnect, TimeoutError):
            raise RefusedError("the body did not come to its end; send it again", status=408, retry_after=1) from None
        return bytes(body)


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        hint = (
            "a client's base address ends in /v1" if error.status_code == HTTPStatus.NOT_FOUND else "see /openapi.json"
        )
        refused = RefusedError(f"{error.detail}; {hint}", status=error.status_code)
        return JSONResponse(refused.as_dict(), refused.status, {**(error.headers or {}), **refused.headers()})
    refused = refused_by(error)
    return JSONResponse(refused.as_dict(), refused.status, refused.headers())
