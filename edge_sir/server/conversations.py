"""The seam between the server and the conversations: who answers a request, step by step.

Everything here is called by the worker's thread alone.
"""

from collections.abc import Sequence
from typing import Protocol

from edge_sir.server.asked import Asked
from edge_sir.server.outcome import Match, Outcome, Shown

__all__ = ["Answering", "Conversations"]


class Answering(Protocol):
    """One request being answered, as a step machine."""

    @property
    def session(self) -> str:
        """The conversation's name."""

    @property
    def match(self) -> Match:
        """How the conversation was found."""

    def step(self) -> Sequence[Shown] | None:
        """Decodes once, at most a chunk of the prompt, and returns what can be shown; None once all is done.

        Raises UserError for what the client can mend; then, and after any error, it is over.
        """

    def cancel(self) -> None:
        """Stops here. The steps that follow only bring the conversation to where it can go on; soon one is the last."""

    def outcome(self) -> Outcome:
        """What came of it, once a step returned None."""


class Conversations(Protocol):
    """All conversations that the server has, those on disk included."""

    def begin(self, asked: Asked) -> Answering | None:
        """Finds the conversation and begins the turn; nothing is decoded yet.

        None if that must wait: another request is at work on the conversation, or no place is free. It is asked again
        once another request has ended. Raises UserError.
        """

    def rest(self) -> float | None:
        """Called while there is nothing to do: saves what takes a moment.

        Returns after how many seconds it wants to be called again if there is nothing to do still; None for not at all.
        """

    def close(self) -> None:
        """Saves what is to be saved, and frees all."""
