"""A reply as it comes: an iterator of pieces, which has the whole reply afterwards."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TypeVar

from edge_sir._owner import Owner
from edge_sir.chat.turn import Turn, drive
from edge_sir.engine import Engine
from edge_sir.errors import SessionError
from edge_sir.text.reply import Piece, Reply

__all__ = ["ReplyStream"]

T = TypeVar("T")


class ReplyStream:
    """Yields the pieces of one reply; nothing happens before the first is asked for.

    Leaving early (`close`, Ctrl-C, or nobody holds it any more) stops the reply: what was said of it stays, closed by
    its end marker. After an error while the message is read, it is still queued and goes in with the next turn.
    While it is open, only its own thread may make other calls on the chat. owner: the chat's. begin: makes the turn.
    settle: ends it, however far it came.
    """

    def __init__(
        self, owner: Owner, engine: Callable[[], Engine], begin: Callable[[], Turn], settle: Callable[[Turn], None]
    ) -> None:
        self._turn: Turn | None = None
        self._owner = owner
        self._is_in = False
        self._pieces = self._run(engine, begin, settle)

    def _run(
        self, engine: Callable[[], Engine], begin: Callable[[], Turn], settle: Callable[[Turn], None]
    ) -> Generator[Piece, None, None]:
        self._turn = turn = begin()
        try:
            yield from drive(turn, engine())
        finally:
            try:
                self._settle(lambda: settle(turn))
            finally:
                self._owner.release(turn)

    def _settle(self, settle: Callable[[], None]) -> None:
        owner = self._owner
        if owner.over or owner.is_forked or sys.is_finalizing():
            return
        if self._is_in:
            settle()
            return
        # Nobody holds the stream any more. Garbage collection comes in the middle of whatever its thread does: if that
        # is a call on this chat, or another thread's is at work, the next call ends the reply.
        if not owner.is_used:
            with contextlib.suppress(SessionError):
                self._drive(settle, waits=False)

    def _drive(self, call: Callable[[], T], *, waits: bool = True) -> T:
        self._owner.enter(self._turn, waits=waits)
        try:
            if self._is_in:
                raise SessionError("another call drives this reply")
            self._is_in = True
            try:
                return call()
            finally:
                self._is_in = False
        finally:
            self._owner.leave()

    def __iter__(self) -> "ReplyStream":
        return self

    def __next__(self) -> Piece:
        return self._drive(self._pieces.__next__)

    def close(self) -> None:
        """Stops the reply, if it was begun; a second call does nothing."""
        if inspect.getgeneratorstate(self._pieces) != inspect.GEN_CLOSED and not self._owner.is_forked:
            self._drive(self._pieces.close)

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
