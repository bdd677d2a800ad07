"""Where a request's terms become a turn of a chat: the one place in which a reply is begun."""

import json
from dataclasses import replace
from typing import Any

from edge_sir.chat.chat import Chat
from edge_sir.chat.more import More, terms_with
from edge_sir.chat.turn import Terms, Turn
from edge_sir.engine import SamplingParams
from edge_sir.server.asked import Asked
from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.terms import ReplyTerms
from edge_sir.server.wire.values import canonical
from edge_sir.text.calls import split_calls
from edge_sir.text.reply import Reply, ToolCall
from edge_sir.text.tools import Tools

__all__ = ["begin_turn", "check", "more", "read", "said_by", "sampled"]


def read(chat: Chat, said: Said) -> None:
    """Feeds a whole message; nothing is decoded yet."""
    if said.role == "system":
        chat.add_note(said.text)
        return
    text, calls = said.text, _calls(said.tool_calls)
    if said.role == "assistant" and not calls:  # as the transcript has it
        text, calls = split_calls(text, chat.tools.names)
    chat.add(said.role, text, calls=calls)


def _calls(text: str) -> tuple[ToolCall, ...]:
    """Calls as a request has them; what else stands there is none."""
    found = json.loads(text) if text else []
    return tuple(ToolCall(call["id"], call["name"], _arguments(call["arguments"])) for call in found)


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check(asked: Asked, n_vocab: int) -> None:
    """Raises ConfigError for terms that cannot be met, before anything is read for them."""
    terms = Terms(SamplingParams(), 1)
    more_of = more(asked.terms)
    begun = asked.incoming.messages[-1].text if _goes_on(asked.incoming) else ""
    terms_with(terms, more_of, Tools.of(asked.incoming.tools), n_vocab, begun)


def _goes_on(incoming: Incoming) -> bool:
    """Whether the last message is the beginning of a reply."""
    return not incoming.is_utility and incoming.messages[-1].role == "assistant"


def more(terms: ReplyTerms) -> More:
    """What a reply is asked for beside how it is drawn. A tool that must be called comes before a schema."""
    must_call = terms.tool_choice == "required"
    found: More = {"tool_choice": terms.tool_choice, "top_logprobs": terms.top_logprobs}
    if terms.grammar:
        found["grammar"] = terms.grammar
    if terms.json_schema and not must_call:
        found["json_schema"] = terms.json_schema
    if terms.logit_bias:
        found["logit_bias"] = terms.logit_bias
    if must_call:
        found["tool"] = terms.tool
    return found


def sampled(params: SamplingParams, terms: ReplyTerms) -> SamplingParams:
    """How a reply is drawn: as the request says, and else as the server does."""
    given: dict[str, Any] = dict(terms.sampling)
    return replace(params, **given)


def begin_turn(chat: Chat, said: Said | None, asked: Asked, *, begun: str = "", is_again: bool = False) -> Turn:
    """A reply to a user's message, or with None to what was read last; nothing is decoded yet.

    begun: how it begins. is_again: it is another reply to the same message.
    """
    terms = asked.terms
    sampling, stop, length = sampled(chat.sampling, terms), (*chat.stop, *terms.stop), terms.max_tokens
    if said is not None:
        return chat.turn(said.text, sampling=sampling, max_tokens=length, stop=stop, begun=begun, **more(terms))
    return chat.answer(sampling=sampling, max_tokens=length, stop=stop, begun=begun, is_again=is_again, **more(terms))


def said_by(reply: Reply) -> Said:
    """The reply as a client sends it back."""
    calls = [{"id": c.id, "name": c.name, "arguments": json.loads(c.arguments)} for c in reply.calls]
    return Said("assistant", reply.text, canonical(calls) if calls else "")
