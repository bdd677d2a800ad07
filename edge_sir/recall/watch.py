"""What happened to an archive's pieces since somebody last asked: what a record on disk has to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sir.recall.piece import Piece

__all__ = ["ArchiveChanges", "ArchiveWatch"]


@dataclass(frozen=True, slots=True)
class ArchiveChanges:
    """What happened to pieces, by number. Of one that came and left in between there is nothing.

    pieces: those that were added, or whose rows are others now, as they are. dropped: those that left. new_cells: of
    `pieces`, those that came with cells and have them still. lost_cells: those that were there before and stay, whose
    cells were taken away. What a store pushes out for its bound is no change.
    """

    pieces: Mapping[int, Piece] = field(default_factory=dict)
    dropped: tuple[int, ...] = ()
    new_cells: tuple[int, ...] = ()
    lost_cells: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything happened."""
        return bool(self.pieces or self.dropped)


class ArchiveWatch:
    """Collects changes until they are taken."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pieces: dict[int, Piece] = {}
        self._fresh: set[int] = set()  # added since
        self._dropped: list[int] = []
        self._lost: list[int] = []

    def added(self, piece: Piece) -> None:
        """A piece that there was not before."""
        self._pieces[piece.number] = piece
        self._fresh.add(piece.number)

    def replaced(self, old: Piece, new: Piece) -> None:
        """A piece is another now, under the same number."""
        self._pieces[new.number] = new
        if new.is_text and not old.is_text and new.number not in self._fresh:
            self._lost.append(new.number)

    def dropped(self, piece: Piece) -> None:
        """A piece left."""
        self._pieces.pop(piece.number, None)
        if piece.number not in self._fresh:
            self._dropped.append(piece.number)

    def take(self) -> ArchiveChanges:
        """What came since the last time."""
        dropped = set(self._dropped)
        changes = ArchiveChanges(
            self._pieces,
            tuple(self._dropped),
            tuple(number for number, piece in self._pieces.items() if number in self._fresh and not piece.is_text),
            tuple(number for number in self._lost if number not in dropped),
        )
        self._begin()
        return changes
