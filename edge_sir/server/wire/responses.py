"""The body of /v1/responses."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from edge_sir.server.terms import ReplyTerms
from edge_sir.server.wire.messages import ChatMessage, Content
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.tools import Tool
from edge_sir.server.wire.values import WHOLE, Number, Text, Wire, quoted, refuse

__all__ = ["Item", "ResponseRequest"]

_NEEDED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name"),
    "function_call_output": ("call_id", "output"),
    "reasoning": (),
}


class Item(Wire):
    """What was said, a call of a tool, or what came of one. Thoughts that come back are no part of what was said."""

    type: Text = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content = Field(default_factory=list)
    call_id: Text = ""
    name: Text = ""
    arguments: Text = ""
    output: Content = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _without_thought(cls, document: Any) -> Any:
        is_thought = isinstance(document, dict) and document.get("type") == "reasoning"
        return {"type": "reasoning"} if is_thought else document

    @model_validator(mode="after")
    def _check_kind(self) -> "Item":
        if self.type not in _NEEDED:
            refuse(f"is an item of type {quoted(self.type)}, which this server does not know; leave it out")
        for name in _NEEDED[self.type]:
            if name not in self.model_fields_set:
                refuse(f"has no '{name}'")
        return self

    def messages(self) -> list[ChatMessage]:
        """The same as messages of a chat."""
        if self.type == "message":
            return [ChatMessage.model_construct({"role", "content"}, role=self.role, content=self.content)]
        if self.type == "function_call":
            function = {"name": self.name, "arguments": self.arguments}
            calls = [{"id": self.call_id, "type": "function", "function": function}]
            return [ChatMessage.model_validate({"role": "assistant", "tool_calls": calls})]
        if self.type == "function_call_output":
            fields: dict[str, Any] = {"role": "tool", "content": self.output, "tool_call_id": self.call_id}
            return [ChatMessage.model_construct(set(fields), **fields)]
        return []


class _FlatTool(Wire):
    type: Literal["function"]
    name: Text = Field(min_length=1, max_length=256)
    description: Text = ""
    parameters: dict[str, Any] = Field(default_factory=dict)

    def tool(self) -> Tool:
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return Tool.model_validate({"type": "function", "function": function})


class _FlatChoice(Wire):
    type: Literal["none", "auto", "required", "function"]
    name: Text = ""


class _Format(Wire):
    type: Literal["text", "json_object", "json_schema"] = "text"
    schema_: dict[str, Any] = Field(default_factory=lambda: {"type": "object"}, alias="schema")


class _TextForm(Wire):
    format: _Format = _Format()


def _items(value: Any) -> Any:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return value if isinstance(value, list) else refuse("must be text, or a list of items")


class ResponseRequest(Wire):
    """A request for a response, after the contract was applied."""

    input: Annotated[
        list[Item],
        BeforeValidator(_items),
        Field(min_length=1),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "object"}}]}),
    ]
    model: Text = ""
    instructions: Text = ""
    previous_response_id: Text = Field(default="", max_length=256)
    stream: bool = False
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31), WHOLE] | None = None
    temperature: Annotated[Number, Field(ge=0, le=10)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    text: _TextForm = _TextForm()
    tools: list[_FlatTool] = Field(default_factory=list)
    tool_choice: Annotated[
        _FlatChoice,
        BeforeValidator(lambda value: {"type": value} if isinstance(value, str) else value),
        WithJsonSchema({"anyOf": [{"enum": ["none", "auto"]}, {"type": "object"}]}),
    ] = _FlatChoice(type="auto")
    prompt_cache_key: Text = ""

    def terms(self) -> ReplyTerms:
        """On which terms the reply is asked for. Raises RefusedError for fields that contradict each other."""
        wanted = self.tool_choice
        if wanted.type in ("required", "function") and not any(
            wanted.type == "required" or tool.name == wanted.name for tool in self.tools
        ):
            raise RefusedError("'tool_choice' needs a tool that 'tools' do not hold", param="tool_choice")
        form = self.text.format
        given = {"temperature": self.temperature, "top_p": self.top_p}
        return ReplyTerms(
            max_tokens=self.max_output_tokens,
            sampling={name: value for name, value in given.items() if value is not None},
            json_schema="" if form.type == "text" else json.dumps(form.schema_, ensure_ascii=False),
            tool_choice="required" if wanted.type == "function" else wanted.type,
            tool=wanted.name if wanted.type == "function" else "",
        )

    def messages(self) -> list[ChatMessage]:
        """What was said, as messages of a chat; a reply and its calls are one message again."""
        messages: list[ChatMessage] = []
        for message in (message for item in self.input for message in item.messages()):
            if messages and message.tool_calls and messages[-1].role == "assistant":
                last = messages.pop()
                message = last.model_copy(update={"tool_calls": [*last.tool_calls, *message.tool_calls]})
            messages.append(message)
        return messages
