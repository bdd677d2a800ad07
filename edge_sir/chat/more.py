"""What a reply may be asked for, beside how it is drawn, how long it is and what stops it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from edge_sir.chat.turn import Terms
from edge_sir.errors import ConfigError
from edge_sir.grammar.guide import Grammar
from edge_sir.grammar.json_schema import schema_to_gbnf
from edge_sir.text.tools import ToolChoice, Tools

__all__ = ["More", "terms_with"]

_MOST_LOGPROBS = 100


class More(TypedDict, total=False):
    """What `Chat.stream` says of these."""

    grammar: str
    json_schema: str | Mapping[str, Any]
    logit_bias: Mapping[int, float]
    top_logprobs: int | None
    tool_choice: ToolChoice
    tool: str


def terms_with(terms: Terms, more: More, tools: Tools, n_vocab: int, begun: str = "") -> Terms:
    """The terms with what else is asked for. begun: how the reply begins. Raises ConfigError for what cannot be had."""
    if unknown := sorted(more.keys() - More.__annotations__.keys()):
        raise ConfigError(
            f"a reply cannot be asked for with '{unknown[0]}'; {', '.join(More.__annotations__)} are known"
        )
    grammars = [*filter(None, (_text_of(more), _of_schema(more), _of_call(more, tools)))]
    if len(grammars) > 1:
        raise ConfigError("a reply fits one of grammar, json_schema and a tool that must be called; ask for one")
    sampling = terms.sampling
    if more.get("logit_bias"):
        sampling = replace(sampling, logit_bias=more["logit_bias"])
    if grammars:
        sampling = replace(sampling, grammar=Grammar(grammars[0], begun))
    sampling.check_vocabulary(n_vocab)
    top = more.get("top_logprobs")
    if top is not None and not (isinstance(top, int) and 0 <= top <= _MOST_LOGPROBS):
        raise ConfigError(f"top_logprobs is a whole number up to {_MOST_LOGPROBS}, not {top!r}")
    is_read = bool(tools) and more.get("tool_choice", "auto") != "none"
    return replace(terms, sampling=sampling, top_logprobs=top, tools=tools.names if is_read else ())


def _text_of(more: More) -> str:
    grammar = more.get("grammar") or ""
    if not isinstance(grammar, str):
        raise ConfigError(f"a grammar is text, not {type(grammar).__name__}")
    return grammar


def _of_schema(more: More) -> str:
    schema = more.get("json_schema")
    if schema is None or schema == "":
        return ""
    try:
        return schema_to_gbnf(schema if isinstance(schema, str) else json.dumps(schema))
    except (TypeError, RecursionError):
        raise ConfigError("the JSON schema holds what is no JSON") from None


def _of_call(more: More, tools: Tools) -> str:
    choice, name = more.get("tool_choice", "auto"), more.get("tool") or ""
    if choice not in ("none", "auto", "required"):
        raise ConfigError(f"tool_choice is none, auto or required, not {choice!r}")
    return tools.grammar(name) if choice == "required" else ""
