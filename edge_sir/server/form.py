"""The form of an answer: what each of OpenAI's APIs makes of the same events."""

from collections.abc import Iterator
from typing import Any, Protocol

from edge_sir.server.outcome import Match, Outcome, Shown
from edge_sir.server.wire.refusal import RefusedError

__all__ = ["Form"]


class Form(Protocol):
    """One answer, at once (`whole`) or as a stream (the rest, in this order)."""

    @property
    def has_names(self) -> bool:
        """Whether events have names, and the last of them ends the stream; else [DONE] does."""

    def whole(self, session: str, match: Match, outcome: Outcome) -> dict[str, Any]:
        """All of it."""

    def first(self) -> Iterator[dict[str, Any]]:
        """What a stream begins with."""

    def shown(self, shown: Shown) -> Iterator[dict[str, Any]]:
        """A bit of the reply."""

    def last(self, session: str, match: Match, outcome: Outcome) -> Iterator[dict[str, Any]]:
        """What a stream ends with."""

    def failed(self, refused: RefusedError) -> Iterator[dict[str, Any]]:
        """What a stream ends with after an error."""
