"""On which terms a reply is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Feature", "ReplyTerms"]

Feature = Literal["tools", "json_schema", "grammar", "logprobs", "logit_bias", "n"]
"""What a model, or the way it is served, may be unable to do."""


@dataclass(frozen=True, slots=True)
class ReplyTerms:
    """What a request says of its reply; what it does not say is the server's.

    max_tokens: None where the server chooses. sampling: fields of `SamplingParams` that the request gives. stop: texts
    that end the reply. n: replies to the same message. logit_bias: added to a token's logit, by token. top_logprobs:
    likeliest tokens shown beside each drawn one, None for no log-probabilities at all. grammar: GBNF, "" for none.
    json_schema: JSON text of a schema that the reply must fit, "" for none. tool_choice: "required" for a call of
    any tool, or of the one that `tool` names.
    """

    max_tokens: int | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    n: int = 1
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None
    grammar: str = ""
    json_schema: str = ""
    tool_choice: Literal["none", "auto", "required"] = "auto"
    tool: str = ""
