"""Who sends a request, and which conversation its headers name."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Sender", "namespace_of", "sender_of"]

_USER = ("x-edge-sir-user", "x-openwebui-user-id")
_SESSION = ("x-edge-sir-session", "x-openwebui-chat-id", "x-conversation-id")
_NODE = ("x-openwebui-user-message-parent-id",)
_REPLY = ("x-openwebui-message-id",)
_TASK = ("x-openwebui-task",)
_MOST = 256  # characters of a key


@dataclass(frozen=True, slots=True)
class Sender:
    """What the headers of a request say.

    namespace: nobody's conversations but its own can be found. session_key: names the conversation. node_key: the
    client's id of the message that is answered. reply_key: its id of the reply to come. "" where a header is missing.
    """

    namespace: str
    session_key: str = ""
    node_key: str = ""
    reply_key: str = ""
    is_utility: bool = False


def sender_of(headers: Mapping[str, str], *, key: str, fingerprint: str) -> Sender:
    """headers: by name in small letters. key: the API key that was presented, "" for none. fingerprint: the model's."""
    return Sender(
        namespace=namespace_of(key, _first(headers, _USER), fingerprint),
        session_key=_first(headers, _SESSION),
        node_key=_first(headers, _NODE),
        reply_key=_first(headers, _REPLY),
        is_utility=bool(_first(headers, _TASK)),
    )


def namespace_of(*parts: str) -> str:
    """Hex digest of the parts; their lengths are in it, so that no two lists of parts are one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first header that says something; a template that the client did not fill in ({{CHAT_ID}}) says nothing."""
    values = (headers.get(name, "").strip() for name in names)
    return next((v[:_MOST] for v in values if v and not v.startswith("{{")), "")
