"""Answers of /v1/chat/completions: one object, or chunks of a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edge_sir.server.outcome import Choice, Drawn, Finish, Match, Outcome, Shown, ToolCall
from edge_sir.server.wire.refusal import RefusedError

__all__ = ["FINISHES", "ChatAnswer", "edge_sir_of", "usage_of"]

FINISHES: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "cancelled": "length",  # by a limit of the server: a client that leaves reads nothing any more
}
"""Our finish, in OpenAI's words."""


@dataclass(slots=True)
class ChatAnswer:
    """The answer to one request, in either form. created: unix seconds. n: choices."""

    id: str
    created: int
    model: str
    n: int = 1
    include_usage: bool = False
    has_names: ClassVar[bool] = False
    _n_calls: int = 0

    def whole(self, session: str, match: Match, outcome: Outcome) -> dict[str, Any]:
        """All of it."""
        return {
            **self._head("chat.completion"),
            "choices": [_choice(i, choice) for i, choice in enumerate(outcome.choices)],
            "usage": usage_of(outcome),
            "edge_sir": edge_sir_of(session, match, outcome),
        }

    def first(self) -> Iterator[dict[str, Any]]:
        """What a stream begins with: a role, and no text."""
        for i in range(self.n):
            yield self._chunk(i, {"role": "assistant", "content": ""})

    def shown(self, shown: Shown) -> Iterator[dict[str, Any]]:
        """A bit of the reply. The name of a tool comes once: clients append what comes twice."""
        delta: dict[str, Any] = {}
        if shown.thought:
            delta["reasoning_content"] = shown.thought
        if shown.text:
            delta["content"] = shown.text
        if shown.call is not None:
            delta["tool_calls"] = [{"index": self._n_calls, **_call(shown.call)}]
            self._n_calls += 1
        yield self._chunk(shown.choice, delta, logprobs=_logprobs(shown.drawn))

    def last(self, session: str, match: Match, outcome: Outcome) -> Iterator[dict[str, Any]]:
        """What a stream ends with. Usage has a chunk of its own, and only if it was asked for."""
        for i, choice in enumerate(outcome.choices):
            chunk = self._chunk(i, {}, finish=FINISHES[choice.finish])
            is_last = i == len(outcome.choices) - 1
            yield chunk | ({"edge_sir": edge_sir_of(session, match, outcome)} if is_last else {})
        if self.include_usage:
            yield {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_of(outcome)}

    def failed(self, refused: RefusedError) -> Iterator[dict[str, Any]]:
        """OpenAI's clients raise what this says."""
        yield refused.as_dict()

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(
        self, index: int, delta: dict[str, Any], *, finish: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]} | (
            {"usage": None} if self.include_usage else {}
        )


def usage_of(outcome: Outcome) -> dict[str, Any]:
    """What was attended to counts as the prompt, what was resident of it as cached, and what was read as written."""
    n_prompt = outcome.n_held + outcome.n_read
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": outcome.n_generated,
        "total_tokens": n_prompt + outcome.n_generated,
        "prompt_tokens_details": {"cached_tokens": outcome.n_held, "cache_write_tokens": outcome.n_read},
        "completion_tokens_details": {"reasoning_tokens": outcome.n_thought},
    }


def edge_sir_of(session: str, match: Match, outcome: Outcome) -> dict[str, Any]:
    """What became of the memory: clients that do not know it leave it alone."""
    return {
        "session": session,
        "match": match,
        "resident": outcome.resident,
        "evicted": outcome.evicted,
        "recalled": [recalled.as_dict() for recalled in outcome.recalled],
    }


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.thought:
        message["reasoning_content"] = choice.thought
    if choice.calls:
        message |= {"content": choice.text or None, "tool_calls": [_call(call) for call in choice.calls]}
    finish = FINISHES[choice.finish]
    return {"index": index, "message": message, "logprobs": _logprobs(choice.drawn), "finish_reason": finish}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprobs(drawn: Sequence[Drawn]) -> dict[str, Any] | None:
    if not drawn:
        return None
    content = [
        _token(d.text, d.logprob) | {"top_logprobs": [_token(text, logprob) for text, logprob in d.likeliest]}
        for d in drawn
    ]
    return {"content": content, "refusal": None}


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    """A token may hold a part of a character, so its bytes are given, too. JSON knows no infinity."""
    return {"token": text.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(text)}
