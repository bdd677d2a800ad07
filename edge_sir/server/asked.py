"""One request for a reply, read and checked: what was said, on which terms, and the form of the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_sir.server.contract import CHAT, IgnoredFields, apply
from edge_sir.server.incoming import Incoming
from edge_sir.server.limits import Limits
from edge_sir.server.sender import Sender
from edge_sir.server.terms import Feature, ReplyTerms
from edge_sir.server.wire.chat import ChatRequest
from edge_sir.server.wire.messages import said_of, split_head
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.tools import tools_text
from edge_sir.server.wire.values import checked

__all__ = ["Asked", "read_chat"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a conversation needs to answer, and what the answer's form needs.

    reply_key: the client's id of the reply, "" if there is none. model: the name that the client gave.
    """

    incoming: Incoming
    terms: ReplyTerms
    reply_key: str = ""
    model: str = ""
    stream: bool = False
    include_usage: bool = False


def read_chat(
    document: Mapping[str, Any], sender: Sender, limits: Limits, can: frozenset[Feature], ignored: IgnoredFields
) -> Asked:
    """The body of /v1/chat/completions. can: what the model that answers can do. Raises RefusedError."""
    n = len(document["messages"]) if isinstance(document.get("messages"), list) else 0
    if n > limits.messages:
        raise RefusedError(f"{n} messages; the most are {limits.messages}, so leave out the oldest", param="messages")
    request = checked(ChatRequest, apply(CHAT, document, ignored))
    terms = request.terms()
    _check_can(request, terms, can)
    system, messages = split_head(said_of(request.messages))
    return Asked(
        Incoming(
            messages=messages,
            system=system,
            tools=tools_text(request.tools) if terms.tool_choice != "none" else "",
            namespace=sender.namespace,
            session_key=sender.session_key or request.prompt_cache_key,
            node_key=sender.node_key,
            is_utility=sender.is_utility,
        ),
        replace(terms, max_tokens=min(terms.max_tokens or limits.reply_tokens, limits.reply_tokens)),
        reply_key=sender.reply_key,
        model=request.model,
        stream=request.stream,
        include_usage=request.stream_options.include_usage,
    )


def _check_can(request: ChatRequest, terms: ReplyTerms, can: frozenset[Feature]) -> None:
    asked: dict[Feature, tuple[bool, str]] = {
        "tools": (bool(request.tools), "tools"),
        "json_schema": (bool(terms.json_schema), "response_format" if request.response_format else "json_schema"),
        "grammar": (bool(terms.grammar), "grammar"),
        "logprobs": (terms.top_logprobs is not None, "logprobs"),
        "logit_bias": (bool(terms.logit_bias), "logit_bias"),
        "n": (terms.n > 1, "n"),
    }
    for feature, (is_asked, param) in asked.items():
        if is_asked and feature not in can:
            raise RefusedError(
                f"'{param}' cannot be done with the model that is served; leave it out",
                param=param,
                code="unsupported_parameter",
            )
