"""Answers of /v1/responses: one object, or numbered events."""

from collections.abc import Iterator
from typing import Any, ClassVar

from edge_sir.server.outcome import Choice, Match, Outcome, Shown
from edge_sir.server.wire.answers import edge_sir_of, usage_of
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.response_items import Items
from edge_sir.server.wire.responses import ResponseRequest

__all__ = ["ResponseAnswer"]

Event = dict[str, Any]


class ResponseAnswer:
    """The answer to one request, in either form. id: `resp_...`. created: unix seconds."""

    has_names: ClassVar[bool] = True

    def __init__(self, id: str, created: int, model: str, request: ResponseRequest) -> None:
        self._id, self._created, self._model, self._request = id, created, model, request
        self._items = Items(id.removeprefix("resp_"))
        self._n_events = 0

    def whole(self, session: str, match: Match, outcome: Outcome) -> dict[str, Any]:
        """All of it."""
        choice = outcome.choices[0]
        is_cut = choice.finish in ("length", "cancelled")
        response = self._response("incomplete" if is_cut else "completed", self._items.whole(choice))
        details = {"reason": "max_output_tokens"} if is_cut else None
        memory = edge_sir_of(session, match, outcome)
        return response | {"incomplete_details": details, "usage": _usage(outcome), "edge_sir": memory}

    def kept(self, text: str) -> dict[str, Any]:
        """What is left of it later: its text."""
        return self._response("completed", self._items.whole(Choice(text, "stop")))

    def first(self) -> Iterator[Event]:
        """The response is there, and nothing of it."""
        for name in ("created", "in_progress"):
            yield self._numbered({"type": f"response.{name}", "response": self._response("in_progress", [])})

    def shown(self, shown: Shown) -> Iterator[Event]:
        """A bit of one of its items."""
        yield from map(self._numbered, self._items.shown(shown))

    def last(self, session: str, match: Match, outcome: Outcome) -> Iterator[Event]:
        """The last item ends, and all of it once more."""
        yield from map(self._numbered, self._items.end())
        whole = self.whole(session, match, outcome)
        yield self._numbered({"type": f"response.{whole['status']}", "response": whole})

    def failed(self, refused: RefusedError) -> Iterator[Event]:
        """The response is there, and says why it is none."""
        error = {"code": refused.code or refused.kind, "message": str(refused)}
        yield self._numbered({"type": "response.failed", "response": self._response("failed", []) | {"error": error}})

    def _numbered(self, event: Event) -> Event:
        self._n_events += 1
        return event | {"sequence_number": self._n_events - 1}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        request = self._request
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions or None,
            "max_output_tokens": request.max_output_tokens,
            "metadata": {},
            "model": self._model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": request.previous_response_id or None,
            "temperature": request.temperature,
            "text": request.text.model_dump(by_alias=True, exclude_unset=True) or {"format": {"type": "text"}},
            "tool_choice": request.tool_choice.type if not request.tool_choice.name else _named(request),
            "tools": [tool.model_dump() for tool in request.tools],
            "top_p": request.top_p,
            "usage": None,
        }


def _named(request: ResponseRequest) -> dict[str, str]:
    return {"type": "function", "name": request.tool_choice.name}


def _usage(outcome: Outcome) -> dict[str, Any]:
    usage = usage_of(outcome)
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    }
