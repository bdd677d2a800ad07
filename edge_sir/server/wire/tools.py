"""Tools that a client offers, and calls of them."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edge_sir.server.wire.values import Text, Wire, canonical, refuse

__all__ = ["Call", "Tool", "ToolChoice", "calls_text", "tools_text"]


class _Function(Wire):
    name: Text = Field(min_length=1, max_length=256)
    description: Text = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tool(Wire):
    """A function that the client can run."""

    type: Literal["function"]
    function: _Function


class _Named(Wire):
    name: Text = Field(min_length=1, max_length=256)


class ToolChoice(Wire):
    """Whether a tool must be called; `function` names the one that must be."""

    type: Literal["none", "auto", "required", "function"]
    function: _Named | None = None

    @model_validator(mode="after")
    def _check_name(self) -> "ToolChoice":
        if (self.type == "function") != (self.function is not None):
            refuse("has no 'function', or one that its type does not go with")
        return self


class _Called(Wire):
    name: Text
    arguments: Text = ""

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return canonical(value) if isinstance(value, dict) else value  # as Ollama's clients send them


class Call(Wire):
    """A call that an assistant message holds."""

    id: Text = ""
    type: Text = "function"
    function: _Called


def tools_text(tools: Sequence[Tool]) -> str:
    """Canonical JSON of the tools, "" for none.

    Within `parameters` the client's order stays: a model fills in arguments in the order in which they are described.
    """
    if not tools:
        return ""
    functions = [{"name": t.function.name, "description": t.function.description} for t in tools]
    shown = [
        {"type": "function", "function": function | {"parameters": tool.function.parameters}}
        for function, tool in zip(functions, tools, strict=True)
    ]
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def calls_text(calls: Sequence[Call]) -> str:
    """Canonical JSON of calls, "" for none; arguments as a value where they are JSON, whatever form it was sent in."""
    if not calls:
        return ""
    return canonical(
        [{"id": c.id, "name": c.function.name, "arguments": _arguments(c.function.arguments)} for c in calls]
    )


def _arguments(text: str) -> Any:
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return text
