"""Server-sent events, in the form that OpenAI's clients read."""

import json
from typing import Any

__all__ = ["DONE", "HEADERS", "HEARTBEAT", "frame"]

DONE = b"data: [DONE]\n\n"
HEARTBEAT = b":\n\n"
"""A comment: clients skip it, and know that the connection lives."""
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def frame(document: dict[str, Any], name: str = "") -> bytes:
    """One event. JSON has no line break inside, so it is one line."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
