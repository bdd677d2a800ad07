"""A result: what came of one request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_sir.text.reply import Reply

__all__ = ["BatchResult", "RequestError"]


@dataclass(frozen=True, slots=True)
class RequestError:
    """Why a request got no result, or not all of it. code: as OpenAI's. message: one line."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one request.

    replies: in order; with an error, those finished before it. edge_sir: what the dialogue evicted, recalled and still
    holds, as JSON has values. error: None if every reply is there.
    """

    custom_id: str
    replies: tuple[Reply, ...]
    edge_sir: Mapping[str, Any] = field(default_factory=dict)
    error: RequestError | None = None

    @property
    def n_read(self) -> int:
        """Tokens that were read, what stood before included."""
        return int(self.edge_sir.get("read", sum(reply.n_read for reply in self.replies)))

    @property
    def n_generated(self) -> int:
        """Tokens of all replies."""
        return sum(reply.n_generated for reply in self.replies)
