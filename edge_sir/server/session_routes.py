"""The paths below /sessions, and those of single responses: JSON for programs and for a page."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_sir.server.manager import Document, Manager
from edge_sir.server.normal import owner_of
from edge_sir.server.sender import Sender
from edge_sir.server.ticket import Job
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.response_answer import ResponseAnswer
from edge_sir.server.wire.responses import ResponseRequest
from edge_sir.server.wire.session_documents import MaybeWhat, WhatBody
from edge_sir.server.wire.values import checked, parse_json
from edge_sir.server.worker import Worker

__all__ = ["SessionEndpoints"]

T = TypeVar("T")
_ASKED = checked(ResponseRequest, {"input": "?"})  # what was asked is in the session, and on which terms nowhere
_MEDIA = {"jsonl": "application/jsonl; charset=utf-8", "markdown": "text/markdown; charset=utf-8"}


class SessionEndpoints:
    """What is done at each path.

    sender: who sends a request; body: what it holds. sees_all: whether a request without a key sees all sessions: so it
    is where no keys are needed.
    """

    def __init__(
        self,
        manager: Manager,
        worker: Worker,
        sender: Callable[[Request], Sender],
        body: Callable[[Request], Awaitable[bytes]],
        *,
        sees_all: Callable[[Request], bool],
        model: str,
    ) -> None:
        self._manager, self._worker, self._sender, self._body = manager, worker, sender, body
        self._sees_all, self._model = sees_all, model

    def routes(self) -> list[Route]:
        """In the order in which they are tried."""
        one = "/sessions/{name}"
        return [
            Route("/v1/responses/{id}", self.response, methods=["GET"]),
            Route("/v1/responses/{id}", self.delete_response, methods=["DELETE"]),
            Route("/sessions", self.list),
            Route("/sessions/search", self.search),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.remove, methods=["DELETE"]),
            Route(f"{one}/memory", self.memory),
            Route(f"{one}/find", self.find),
            Route(f"{one}/search", self.search),
            Route(f"{one}/export", self.export),
            Route(f"{one}/pin", self.pin, methods=["POST"]),
            Route(f"{one}/unpin", self.unpin, methods=["POST"]),
            Route(f"{one}/recall", self.recall, methods=["POST"]),
            Route(f"{one}/forget", self.forget, methods=["POST"]),
            Route(f"{one}/undo", self.undo, methods=["POST"]),
        ]

    # ---- looking -------------------------------------------------------------------------------

    async def list(self, request: Request) -> Response:
        """All that the sender may see."""
        return await self._answer(request, lambda owner: self._manager.sessions(owner))

    async def show(self, request: Request) -> Response:
        """One, with what was said."""
        return await self._answer(request, lambda owner: self._manager.show(owner, _name(request)))

    async def memory(self, request: Request) -> Response:
        """What is resident of it."""
        return await self._answer(request, lambda owner: self._manager.memory(owner, _name(request)))

    async def find(self, request: Request) -> Response:
        """What is left of words."""
        words = _words(request)
        return await self._answer(request, lambda owner: self._manager.find(owner, _name(request), words))

    async def search(self, request: Request) -> Response:
        """Messages with all words, in one or in all."""
        words, name = _words(request), request.path_params.get("name")
        return await self._answer(request, lambda owner: self._manager.search(owner, words, name))

    async def export(self, request: Request) -> Response:
        """The text of all of it."""
        form = request.query_params.get("format", "jsonl")
        if form not in _MEDIA:
            raise RefusedError("'format' is jsonl or markdown", param="format")
        kind: Literal["jsonl", "markdown"] = "jsonl" if form == "jsonl" else "markdown"
        text = await self._do(request, lambda owner: self._manager.export(owner, _name(request), kind))
        return Response(text, media_type=_MEDIA[form])

    # ---- changing ------------------------------------------------------------------------------

    async def pin(self, request: Request) -> Response:
        """Keeps something."""
        what = (await self._checked(request, WhatBody)).what
        return await self._answer(request, lambda owner: self._manager.pin(owner, _name(request), what))

    async def unpin(self, request: Request) -> Response:
        """Lets it compete again."""
        what = (await self._checked(request, MaybeWhat)).what
        return await self._answer(request, lambda owner: self._manager.unpin(owner, _name(request), what))

    async def recall(self, request: Request) -> Response:
        """Puts back what was evicted."""
        what = (await self._checked(request, WhatBody)).what
        return await self._answer(request, lambda owner: self._manager.recall(owner, _name(request), what))

    async def forget(self, request: Request) -> Response:
        """Removes something for good."""
        what = (await self._checked(request, WhatBody)).what
        return await self._answer(request, lambda owner: self._manager.forget(owner, _name(request), what))

    async def undo(self, request: Request) -> Response:
        """Takes the last turn back."""
        return await self._answer(request, lambda owner: self._manager.undo(owner, _name(request)))

    async def remove(self, request: Request) -> Response:
        """Removes a session."""
        return await self._answer(request, lambda owner: self._manager.remove(owner, _name(request)))

    # ---- responses -----------------------------------------------------------------------------

    async def response(self, request: Request) -> Response:
        """The text of an earlier response; what else belonged to it is not kept."""
        id, namespace = request.path_params["id"], self._sender(request).namespace
        text, saved = await self._do(request, lambda _: self._manager.response(namespace, id))
        answer = ResponseAnswer(id, int(saved), self._model, _ASKED)
        return JSONResponse(answer.kept(text))

    async def delete_response(self, request: Request) -> Response:
        """Its id leads nowhere any more."""
        id, namespace = request.path_params["id"], self._sender(request).namespace
        return await self._answer(request, lambda _: self._manager.forget_response(namespace, id))

    # ---- helpers -------------------------------------------------------------------------------

    async def _answer(self, request: Request, do: Callable[[bytes | None], Document]) -> Response:
        return JSONResponse(await self._do(request, do))

    async def _do(self, request: Request, do: Callable[[bytes | None], T]) -> T:
        """In the worker's thread, between two steps."""
        sender = self._sender(request)
        owner = None if self._sees_all(request) else owner_of(sender.namespace)
        job = Job(sender.namespace, lambda: do(owner))
        self._worker.submit(job)
        try:
            result: T = await job.done
        except BaseException:
            self._worker.cancel(job)
            raise
        return result

    async def _checked(self, request: Request, kind: "type[Any]") -> Any:
        body = await self._body(request)
        return checked(kind, parse_json(body) if body else {})


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _words(request: Request) -> str:
    words = request.query_params.get("q", "").strip()
    if not words:
        raise RefusedError("'q' is missing: which words?", param="q")
    return words
