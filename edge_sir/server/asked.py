"""One request for a reply, read and checked: what was said, on which terms, and whether it comes as a stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_sir.server.contract import CHAT, COMPLETIONS, RESPONSES, IgnoredFields, apply
from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.limits import Limits
from edge_sir.server.sender import Sender
from edge_sir.server.terms import Feature, ReplyTerms
from edge_sir.server.wire.chat import ChatRequest
from edge_sir.server.wire.completions import CompletionRequest
from edge_sir.server.wire.messages import ChatMessage, said_of, split_head
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.responses import ResponseRequest
from edge_sir.server.wire.tools import Tool, tools_text
from edge_sir.server.wire.values import checked

__all__ = ["Asked", "Reader"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a conversation needs to answer.

    raw: a text that is to be continued as it is, with no conversation; "" for a chat. reply_key: the id by which the
    client will name this reply, as `node_key` of `incoming`, "" if there is none.
    """

    incoming: Incoming
    terms: ReplyTerms
    raw: str = ""
    reply_key: str = ""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the bodies of requests. can: what the model that answers can do. All raise RefusedError."""

    limits: Limits
    can: frozenset[Feature]
    ignored: IgnoredFields

    def chat(self, document: Mapping[str, Any], sender: Sender) -> tuple[Asked, ChatRequest]:
        """Of /v1/chat/completions."""
        self._check_number(document, "messages")
        request = checked(ChatRequest, apply(CHAT, document, self.ignored))
        terms = self._within(request.terms(), has_tools=bool(request.tools))
        incoming = _incoming(request.messages, request.tools, terms, sender)
        incoming = replace(incoming, session_key=sender.session_key or request.prompt_cache_key)
        return Asked(incoming, terms, reply_key=sender.reply_key, stream=request.stream), request

    def completion(self, document: Mapping[str, Any], sender: Sender) -> tuple[Asked, CompletionRequest]:
        """Of /v1/completions: no conversation."""
        request = checked(CompletionRequest, apply(COMPLETIONS, document, self.ignored))
        incoming = Incoming((Said("user", request.prompt),), "", "", sender.namespace, is_utility=True)
        terms = self._within(request.terms(), has_tools=False)
        return Asked(incoming, terms, raw=request.prompt, stream=request.stream), request

    def response(self, document: Mapping[str, Any], sender: Sender, id: str) -> tuple[Asked, ResponseRequest]:
        """Of /v1/responses. id: of the response. With `previous_response_id` the messages are the new ones alone."""
        self._check_number(document, "input")
        request = checked(ResponseRequest, apply(RESPONSES, document, self.ignored))
        terms = self._within(request.terms(), has_tools=bool(request.tools))
        messages = request.messages()
        if not messages:
            raise RefusedError("'input' holds nothing that was said", param="input")
        incoming = _incoming(messages, [tool.tool() for tool in request.tools], terms, sender)
        system = "\n\n".join(filter(None, (request.instructions, incoming.system)))
        key, node = sender.session_key or request.prompt_cache_key, request.previous_response_id or sender.node_key
        is_rest = bool(request.previous_response_id)
        incoming = replace(incoming, system=system, session_key=key, node_key=node, is_rest=is_rest)
        return Asked(incoming, terms, reply_key=id, stream=request.stream), request

    def _check_number(self, document: Mapping[str, Any], name: str) -> None:
        """Before each of them is looked at."""
        n = len(document[name]) if isinstance(document.get(name), list) else 0
        if n > self.limits.messages:
            raise RefusedError(
                f"{n} messages; the most are {self.limits.messages}, so leave out the oldest", param=name
            )

    def _within(self, terms: ReplyTerms, *, has_tools: bool) -> ReplyTerms:
        """The terms, if they can be met; a reply beyond the limit is as long as that."""
        asked: dict[Feature, bool] = {
            "tools": has_tools,
            "json_schema": bool(terms.json_schema),
            "grammar": bool(terms.grammar),
            "logprobs": terms.top_logprobs is not None,
            "logit_bias": bool(terms.logit_bias),
            "n": terms.n > 1,
        }
        for feature, is_asked in asked.items():
            if is_asked and feature not in self.can:
                what = "a JSON schema" if feature == "json_schema" else f"'{feature}'"
                reason = f"{what} cannot be had from the model that is served; leave it out"
                raise RefusedError(reason, param=feature, code="unsupported_parameter")
        most = self.limits.reply_tokens
        return replace(terms, max_tokens=min(terms.max_tokens or most, most))


def _incoming(messages: Sequence[ChatMessage], tools: Sequence[Tool], terms: ReplyTerms, sender: Sender) -> Incoming:
    system, rest = split_head(said_of(messages))
    return Incoming(
        messages=rest,
        system=system,
        tools=tools_text(tools) if terms.tool_choice != "none" else "",
        namespace=sender.namespace,
        node_key=sender.node_key,
        is_utility=sender.is_utility,
    )
