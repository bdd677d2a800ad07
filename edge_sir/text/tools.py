"""Tools that a model may call: checked, described to it, and as a grammar where it must call one."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_sir.errors import ConfigError
from edge_sir.grammar.json_schema import SchemaRules, literal
from edge_sir.text.calls import CALL_TAGS

__all__ = ["NO_TOOLS", "RESPONSE_TAGS", "ToolChoice", "Tools", "response_text"]

ToolChoice = Literal["none", "auto", "required"]

RESPONSE_TAGS = ("<tool_response>", "</tool_response>")
"""What surrounds what a tool gave back."""

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,256}")
_MOST_CHARACTERS = 1_000_000
_MOST_DEPTH = 64  # templates and grammars go down in them by calling themselves


@dataclass(frozen=True, slots=True)
class Tools:
    """Functions that a model may ask for, in OpenAI's form. text: JSON of a list of them, "" for none."""

    text: str = ""

    @classmethod
    def of(cls, tools: "Sequence[Mapping[str, Any]] | str | Tools | None") -> "Tools":
        """Out of a list of definitions, or JSON text of one. Raises ConfigError for one that is none."""
        if isinstance(tools, Tools):
            return tools
        try:
            given = json.loads(tools) if isinstance(tools, str) and tools else tools or []
            listed = json.loads(json.dumps(list(given), allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise ConfigError("the tools are no list of JSON objects") from None
        if _is_deeper(listed, _MOST_DEPTH):
            raise ConfigError(f"the tools nest more than {_MOST_DEPTH} deep; make their parameters flatter")
        shown = [_checked(tool) for tool in listed]
        names = [tool["function"]["name"] for tool in shown]
        if len(set(names)) < len(names):
            raise ConfigError("two tools have one name; name them apart")
        text = json.dumps(shown, ensure_ascii=False, separators=(",", ":")) if shown else ""
        if len(text) > _MOST_CHARACTERS:
            raise ConfigError(f"the tools take {len(text)} characters; the most are {_MOST_CHARACTERS}")
        return cls(text)

    def __bool__(self) -> bool:
        return bool(self.text)

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """Each in OpenAI's form."""
        found: list[dict[str, Any]] = json.loads(self.text) if self.text else []
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Of the functions, in order."""
        return tuple(tool["function"]["name"] for tool in self.definitions)

    @property
    def prompt(self) -> str:
        """How they are described to a model whose chat template says nothing of tools."""
        shown = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in self.definitions)
        return (
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{shown}\n</tools>\n\n"
            "For each function call, return a json object with function name and arguments within "
            f"{''.join(CALL_TAGS)} XML tags:\n{CALL_TAGS[0]}\n"
            f'{{"name": <function-name>, "arguments": <args-json-object>}}\n{CALL_TAGS[1]}'
        )

    def grammar(self, name: str = "") -> str:
        """GBNF of a reply that is one call, of the function `name`, or with "" of any.

        Raises ConfigError if there is no such function, or its parameters are no schema that a grammar can keep.
        """
        chosen = [tool["function"] for tool in self.definitions if name in ("", tool["function"]["name"])]
        if not chosen:
            what = f"no tool is named '{name}'" if name else "there are no tools"
            raise ConfigError(f"{what}, so none can be called; give it with the others")
        rules = SchemaRules()
        calls = [_call_rule(function, rules) for function in chosen]
        opening, closing = literal(f"{CALL_TAGS[0]}\n"), literal(f"\n{CALL_TAGS[1]}")
        return rules.grammar(f"{opening} ({' | '.join(calls)}) {closing}")


NO_TOOLS = Tools()


def response_text(text: str) -> str:
    """What a tool gave back, for a model whose chat template says nothing of that."""
    return f"{RESPONSE_TAGS[0]}\n{text}\n{RESPONSE_TAGS[1]}"


def _call_rule(function: Mapping[str, Any], rules: SchemaRules) -> str:
    arguments = rules.of(function["parameters"]) if function["parameters"] else '"{" "}"'
    before = f'{{"name": {json.dumps(function["name"])}, "arguments": '
    return f"{literal(before)} {arguments} {literal('}')}"


def _is_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects stand in one another more often than that."""
    level = [value]
    for _ in range(most):
        inner = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer)]
        level = [one for one in inner if isinstance(one, dict | list)]
    return bool(level)


def _checked(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type", "function") == "function" else None
    if not isinstance(function, dict):
        raise ConfigError("a tool is an object with 'type': 'function' and a 'function'")
    name, description = function.get("name"), function.get("description") or ""
    parameters = function.get("parameters") or {}
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"the name of a tool is {ascii(name)[:60]}; it is of letters, digits, '_' and '-'")
    if not isinstance(description, str) or not isinstance(parameters, dict):
        raise ConfigError(f"tool '{name[:60]}' needs a text as description and an object as parameters")
    kind = parameters.get("type", "object")
    if parameters and kind != "object":
        raise ConfigError(f"the parameters of tool '{name[:60]}' must be a schema of type object")
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
