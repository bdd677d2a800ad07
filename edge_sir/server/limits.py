"""What one client can make the server do at most."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request, of the queue, and of time.

    body_bytes, body_s: of a request, and how long it may take to come. messages: in one request. reply_tokens: longest
    reply, and what is taken where the request gives no length. waiting: requests in the queue, of which one namespace
    has at most waiting_each. wait_s: how long a request waits for its turn. reply_s: how long a reply is read for and
    written; it is cut then. match_s: how long a stream waits for its match before it begins without naming it in its
    headers. heartbeat_s: a silent stream sends a comment that often. silent_s: how long a connection may be open on
    which the client neither sends a request nor reads what was written for it.
    """

    body_bytes: int = 2**25
    body_s: float = 60.0
    messages: int = 2**15
    reply_tokens: int = 4096
    waiting: int = 64
    waiting_each: int = 48
    wait_s: float = 300.0
    reply_s: float = 1800.0
    match_s: float = 5.0
    heartbeat_s: float = 10.0
    silent_s: float = 60.0
