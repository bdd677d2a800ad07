"""Work on one request, one decode at a step; what it comes to is written by those who derive from it."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence

from edge_sir.chat.turn import Turn
from edge_sir.engine import Engine
from edge_sir.server.outcome import Choice, Outcome, Shown
from edge_sir.text.reply import Piece

__all__ = ["Work"]


class Work(ABC):
    """Replies to one request, on `engine`. is_cut: it was cancelled. whole: the replies that are."""

    def __init__(self, engine: Engine) -> None:
        self.is_cut = False
        self.whole: list[Choice] = []
        self._engine = engine
        self._turn: Turn | None = None
        self._steps = self._run()

    @property
    def is_reading(self) -> bool:
        """Whether nothing of a reply is written yet."""
        return not self.whole and (self._turn is None or self._turn.phase == "reading")

    def step(self) -> Sequence[Shown] | None:
        """As `Answering.step`."""
        return next(self._steps, None)

    def cancel(self) -> None:
        """As `Answering.cancel`."""
        self.is_cut = True

    def close(self) -> None:
        """Nobody will go on with it."""
        self._steps.close()

    @abstractmethod
    def outcome(self) -> Outcome:
        """As `Answering.outcome`."""

    @abstractmethod
    def _run(self) -> Generator[Sequence[Shown], None, None]:
        """All steps; what each one shows."""

    @property
    def _choices(self) -> tuple[Choice, ...]:
        return tuple(self.whole) or (Choice("", "cancelled"),)

    def _drive(self, turn: Turn) -> Iterator[list[Piece]]:
        """Runs a turn to its end, or to where it is cut; what each decode has to show."""
        self._turn = turn
        while True:
            if self.is_cut and turn.phase == "writing":
                turn.cancel()
            piece = turn.next_slice()
            if piece is None:
                return
            yield turn.commit(self._engine.decode([piece])[0])
