"""Where a request's terms become a turn of a chat: the one place in which a reply is begun."""

from dataclasses import replace
from typing import Any

from edge_sir.chat.chat import Chat
from edge_sir.chat.turn import Turn
from edge_sir.engine import SamplingParams
from edge_sir.server.asked import Asked
from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.terms import ReplyTerms
from edge_sir.text.reply import Reply

__all__ = ["begin_turn", "read", "said_by", "sampled", "system_of", "text_of"]


def system_of(incoming: Incoming) -> str:
    """The system prompt that the model reads for a request."""
    return incoming.system


def text_of(said: Said) -> str:
    """What the model reads of a message."""
    return "\n".join(filter(None, (said.text, said.tool_calls)))


def read(chat: Chat, said: Said) -> None:
    """Feeds a whole message; nothing is decoded yet."""
    if said.role == "system":
        chat.add_note(said.text)
    else:
        chat.add(said.role, text_of(said))


def sampled(params: SamplingParams, terms: ReplyTerms) -> SamplingParams:
    """How a reply is drawn: as the request says, and else as the server does."""
    given: dict[str, Any] = dict(terms.sampling)
    return replace(params, **given)


def begin_turn(chat: Chat, said: Said | None, asked: Asked, *, begun: str = "", is_again: bool = False) -> Turn:
    """A reply to a user's message, or with None to what was read last; nothing is decoded yet.

    begun: how it begins. is_again: it is another reply to the same message.
    """
    terms = asked.terms
    sampling, stop = sampled(chat.sampling, terms), (*chat.stop, *terms.stop)
    if said is not None:
        return chat.turn(said.text, sampling=sampling, max_tokens=terms.max_tokens, stop=stop, begun=begun)
    return chat.answer(sampling=sampling, max_tokens=terms.max_tokens, stop=stop, begun=begun, is_again=is_again)


def said_by(reply: Reply) -> Said:
    """The reply as a client sends it back."""
    return Said("assistant", reply.text)
