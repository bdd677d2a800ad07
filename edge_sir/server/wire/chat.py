"""The body of /v1/chat/completions."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from edge_sir.server.terms import ReplyTerms
from edge_sir.server.wire.messages import ChatMessage
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.tools import Tool, ToolChoice
from edge_sir.server.wire.values import WHOLE, Number, Text, Wire, quoted, refuse

__all__ = ["ChatRequest", "ResponseFormat", "Sampled", "StreamOptions"]

_MOST_SEED = 2**32
_MOST_STOPS = 16
_MOST_REPLIES = 8


def _texts(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_TEXT_LIST = {"type": "array", "items": {"type": "string"}, "maxItems": _MOST_STOPS}
Stops = Annotated[
    list[Text],
    BeforeValidator(_texts),
    Field(max_length=_MOST_STOPS),
    WithJsonSchema({"anyOf": [{"type": "string"}, _TEXT_LIST]}),
]
_NAME = {"type": "string", "minLength": 1}
_NAMED_TOOL = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": _NAME},
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}
Choice = Annotated[
    ToolChoice,
    BeforeValidator(lambda value: {"type": value} if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"enum": ["none", "auto", "required"]}, _NAMED_TOOL]}),
]
Bias = Annotated[Number, Field(ge=-100, le=100)]


class StreamOptions(Wire):
    """What a stream holds beside the reply."""

    include_usage: bool = False


class _Schema(Wire):
    name: Text = ""
    schema_: dict[str, Any] = Field(default={}, alias="schema")


class ResponseFormat(Wire):
    """The form that the reply must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            refuse("has no 'json_schema'")
        return self

    def text(self) -> str:
        """JSON text of the schema, "" where the reply is free. Its order stays: a reply is written in it."""
        if self.type == "text":
            return ""
        schema = {"type": "object"} if self.json_schema is None else self.json_schema.schema_
        return json.dumps(schema, ensure_ascii=False)


class Sampled(Wire):
    """What requests for a reply have in common: how it is drawn, and what ends it."""

    model: Text = ""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Annotated[int, Field(ge=-1, lt=2**31, json_schema_extra={"not": {"const": 0}}), WHOLE] = -1
    temperature: Annotated[Number, Field(ge=0, le=10)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31), WHOLE] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Number, Field(ge=0.01, le=10)] | None = None
    repeat_last_n: Annotated[int, Field(ge=0, le=2**20), WHOLE] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-10, le=10)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-10, le=10)] | None = None
    logit_bias: dict[Text, Bias] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": {"pattern": "^[0-9]{1,9}$"}}
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), WHOLE] | None = None
    stop: Stops = Field(default_factory=list)
    n: Annotated[int, Field(ge=1, le=_MOST_REPLIES), WHOLE] = 1

    @field_validator("logit_bias")
    @classmethod
    def _check_tokens(cls, bias: dict[str, float]) -> dict[str, float]:
        for token in bias:
            if not (token.isascii() and token.isdigit() and len(token) <= 9):
                refuse("has a key that is no number of a token")
        return bias

    @field_validator("max_tokens")
    @classmethod
    def _check_length(cls, n: int) -> int:
        if n == 0:
            refuse("must be 1 or more, or -1 to leave it to the server")
        return n

    def sampling(self) -> dict[str, float]:
        """The fields of `SamplingParams` that are given, in its ranges."""
        names = ("temperature", "top_p", "min_p", "repeat_penalty", "repeat_last_n")
        given = {name: getattr(self, name) for name in (*names, "frequency_penalty", "presence_penalty")}
        given["top_k"] = None if self.top_k is None else max(self.top_k, 0)
        given["seed"] = None if self.seed is None else self.seed % _MOST_SEED
        return {name: value for name, value in given.items() if value is not None}

    def bias(self) -> dict[int, float]:
        """`logit_bias` by the number of a token."""
        return {int(token): value for token, value in self.logit_bias.items()}

    def stops(self) -> tuple[str, ...]:
        """The texts that end the reply."""
        return tuple(filter(None, self.stop))


class ChatRequest(Sampled):
    """A chat request, after the contract was applied: fields that are refused are not in it any more."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31), WHOLE] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None
    response_format: ResponseFormat | None = None
    grammar: Text = ""
    json_schema: dict[str, Any] | None = None
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Choice = ToolChoice(type="auto")
    prompt_cache_key: Text = ""

    def terms(self) -> ReplyTerms:
        """On which terms the reply is asked for. Raises RefusedError for fields that contradict each other."""
        self._check_together()
        length = self.max_completion_tokens or (self.max_tokens if self.max_tokens > 0 else None)
        name = "" if self.tool_choice.function is None else self.tool_choice.function.name
        return ReplyTerms(
            max_tokens=length,
            sampling=self.sampling(),
            stop=self.stops(),
            n=self.n,
            logit_bias=self.bias(),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            grammar=self.grammar,
            json_schema=self._schema(),
            tool_choice="required" if self.tool_choice.type == "function" else self.tool_choice.type,
            tool=name,
        )

    def _schema(self) -> str:
        if self.json_schema is not None:
            return json.dumps(self.json_schema, ensure_ascii=False)
        return "" if self.response_format is None else self.response_format.text()

    def _check_together(self) -> None:
        names = [tool.function.name for tool in self.tools]
        wanted = self.tool_choice
        if self.top_logprobs and not self.logprobs:
            raise RefusedError("'top_logprobs' needs 'logprobs': true", param="top_logprobs")
        if self.grammar and (self._schema() or self.tools):
            raise RefusedError("'grammar' excludes a JSON schema and 'tools'; give one of them", param="grammar")
        if self.json_schema is not None and self.response_format is not None and self.response_format.text():
            raise RefusedError("give one of 'json_schema' and 'response_format'", param="json_schema")
        if wanted.type == "required" and not names:
            raise RefusedError("'tool_choice' needs 'tools'", param="tool_choice")
        if wanted.function is not None and wanted.function.name not in names:
            raise RefusedError(f"'tools' hold no {quoted(wanted.function.name)}", param="tool_choice")
