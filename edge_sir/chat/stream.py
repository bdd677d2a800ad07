"""A reply as it comes: an iterator of pieces, which has the whole reply afterwards."""

from collections.abc import Callable, Generator
from types import TracebackType

from edge_sir.chat.turn import Turn, drive
from edge_sir.engine import Engine
from edge_sir.errors import SessionError
from edge_sir.text.reply import Piece, Reply

__all__ = ["ReplyStream"]


class ReplyStream:
    """Yields the pieces of one reply; nothing happens before the first is asked for.

    Leaving early (`close`, Ctrl-C, or nobody holds it any more) stops the reply: what was said of it stays, closed by
    its end marker. After an error while the message is read, it is still queued and goes in with the next turn.
    begin: makes the turn. settle: ends it, however far it came.
    """

    def __init__(self, engine: Callable[[], Engine], begin: Callable[[], Turn], settle: Callable[[Turn], None]) -> None:
        self._turn: Turn | None = None
        self._pieces = self._run(engine, begin, settle)

    def _run(
        self, engine: Callable[[], Engine], begin: Callable[[], Turn], settle: Callable[[Turn], None]
    ) -> Generator[Piece, None, None]:
        self._turn = turn = begin()
        try:
            yield from drive(turn, engine())
        finally:
            settle(turn)

    def __iter__(self) -> "ReplyStream":
        return self

    def __next__(self) -> Piece:
        return next(self._pieces)

    def close(self) -> None:
        """Stops the reply, if it was begun; a second call does nothing."""
        self._pieces.close()

    def __enter__(self) -> "ReplyStream":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def reply(self) -> Reply:
        """The whole reply. Raises SessionError before it is finished."""
        if self._turn is None:
            raise SessionError("the reply was not asked for yet")
        return self._turn.reply

    @property
    def text(self) -> str:
        """The answer so far."""
        return "" if self._turn is None else self._turn.text

    @property
    def is_finished(self) -> bool:
        """Whether `reply` is there."""
        return self._turn is not None and self._turn.phase == "done"
