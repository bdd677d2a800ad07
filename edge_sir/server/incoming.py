"""A chat request after the contract was applied; nothing of HTTP is in it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Incoming", "Role", "Said"]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Said:
    """One message as the client sent it: parts joined, `developer` as `system`, neighbours of one role merged.

    text: "" for an assistant message with tool calls alone. tool_calls: canonical JSON, "" if there are none.
    """

    role: Role
    text: str
    tool_calls: str = ""
    tool_call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One chat request.

    messages: without the system messages at the head. system: those, joined by a blank line; "" if there are none.
    tools: canonical JSON of `tools`, "" if there are none. namespace: API key, user header and model fingerprint,
    hashed, as hex. session_key: names the conversation, "" if nothing does. node_key: the client's id of the message
    that is answered, or the id of a response of ours, "" if there is none. is_utility: a header says that this is a
    task beside the conversation. is_rest: what `node_key` names must be known, since the messages before it are not
    sent again.
    """

    messages: tuple[Said, ...]
    system: str
    tools: str
    namespace: str
    session_key: str = ""
    node_key: str = ""
    is_utility: bool = False
    is_rest: bool = False
