"""What every request passes first: its Host and Origin, its key, its size; and what every answer gets: an id."""

import hmac
import logging
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_sir.server.limits import Limits
from edge_sir.server.metrics import Metrics
from edge_sir.server.sending import send_json
from edge_sir.server.wire.refusal import RefusedError

__all__ = ["LOOPBACK", "Access", "Guard", "key_of", "too_large"]

_log = logging.getLogger(__name__)

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPEN = ("/health",)
_POLLED = ("/health", "/metrics", "/v1/models")
"""Asked so often that the log would hold little else."""
_SESSIONS = "/sessions/..."


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask. keys: any of them is needed; none means that none is. hosts: names by which the server is reached,
    empty for any. origins: pages of other places that may ask, as a browser names them."""

    keys: frozenset[str] = frozenset()
    hosts: Collection[str] = LOOPBACK
    origins: Collection[str] = field(default_factory=frozenset)


def key_of(headers: Headers) -> str:
    """The key that a request presents, as `Bearer` or `X-Api-Key`; "" for none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


class Guard:
    """Wraps the application. routes: the paths that are counted by their names."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, metrics: Metrics, routes: Collection[str]) -> None:
        self._app, self._access, self._limits, self._metrics = app, access, limits, metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began = f"req_{secrets.token_hex(12)}", time.monotonic()
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        route, status = self._route(scope["path"]), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
                self._metrics.responses.labels(route, str(status)).inc()
            await send(message)

        try:
            await self._pass_on(scope, receive, answer)
        finally:
            level = logging.DEBUG if route in _POLLED and status == HTTPStatus.OK else logging.INFO
            done = scope["state"].get("done", "")
            _log.log(level, "%s %s %d, %.3f s%s", request_id, route, status, time.monotonic() - began, done)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(Headers(scope=scope), scope["path"])
        except RefusedError as refused:
            await send_json(send, refused.status, refused.as_dict(), refused.headers())
            return
        await self._app(scope, receive, send)

    def _route(self, path: str) -> str:
        """What is counted and logged: no path as it came, which may hold anything."""
        if path in self._routes:
            return path
        return _SESSIONS if path.startswith("/sessions/") else "other"

    def _check(self, headers: Headers, path: str) -> None:
        self._check_host(headers)
        self._check_origin(headers)
        if path not in _OPEN:
            self._check_key(key_of(headers))
        length = headers.get("content-length", "0")
        if len(length) > 20 or not (length.isascii() and length.isdigit()) or int(length) > self._limits.body_bytes:
            raise too_large(self._limits)

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere may have its own name lead here, and would be let in by the browser."""
        host = _name(headers.get("host", ""))
        if self._access.hosts and host not in self._access.hosts:
            raise RefusedError("the Host header names another server; add it with --allow-host", status=403)

    def _check_origin(self, headers: Headers) -> None:
        """A browser sends simple requests for any page without asking first."""
        origin = headers.get("origin")
        if origin is None or origin in self._access.origins:
            return
        if _place(origin) != headers.get("host", ""):
            raise RefusedError("pages of this origin may not ask; list it with --allow-origin", status=403)

    def _check_key(self, presented: str) -> None:
        if not self._access.keys:
            return
        # All keys are compared, each in constant time: how long it takes says nothing of them.
        found = [hmac.compare_digest(presented.encode(), key.encode()) for key in self._access.keys]
        if not any(found):
            raise RefusedError(
                "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
                status=401,
                kind="authentication_error",
                code="invalid_api_key",
            )


def too_large(limits: Limits) -> RefusedError:
    """What a body gets that is larger than the limit."""
    most = limits.body_bytes
    return RefusedError(f"the body may have {most} bytes; leave out the oldest messages", status=413)


def _place(origin: str) -> str | None:
    """Host and port of an origin; None for what is none, as "null"."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _name(host: str) -> str:
    """A Host header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
