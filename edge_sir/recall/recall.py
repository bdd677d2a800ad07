"""Brings back what a message asks about: evicted passages that match it are resident while its turn runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN
from edge_sir.engine import TextCodec
from edge_sir.errors import StateError
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive, Piece
from edge_sir.recall.index import TurnIndex
from edge_sir.session import SavedRows, Session

__all__ = ["Recall", "Recalled"]

_USER = ROLES.index("user")
_LEAST = 4  # tokens; less of a passage says nothing


@dataclass(frozen=True, slots=True)
class Recalled:
    """What came back of a turn. n_tokens: cells that it took. text: what they say, without template tokens."""

    turn: int
    n_tokens: int
    text: str


class Recall:
    """Recalls for one conversation. share: the most cells that recalled tokens take, as a share of the budget."""

    def __init__(
        self, session: Session, codec: TextCodec, transcript: Transcript, archive: Archive, *, share: float = 0.25
    ) -> None:
        self.archive = archive
        self._session, self._codec, self._transcript = session, codec, transcript
        self._index = TurnIndex()
        self._share = share

    def close(self) -> None:
        """Frees the index, and what the archive holds."""
        self._index.close()
        self.archive.clear()

    def begin(self, text: str) -> tuple[Recalled, ...]:
        """Makes what matches `text` resident for the running turn, whose message was fed and not decoded yet.

        Nothing matches, or all that does is resident: nothing is changed. Raises what the engine raises.
        """
        session = self._session
        archived = self.archive.turns()
        if not archived:
            return ()
        self._index.sync(message for message in self._transcript if message.turn < session.turn)
        n_left = int(self._share * session.budget.n_cells)
        found: list[Recalled] = []
        for match in self._index.search(text):
            if n_left < _LEAST:
                break
            if match.turn in archived and (recalled := self._turn(match.turn, n_left)) is not None:
                found.append(recalled)
                n_left -= recalled.n_tokens
        return tuple(found)

    def _turn(self, turn: int, n_most: int) -> Recalled | None:
        """Recalls of a turn what is missing, what the user said first; None if that is nothing."""
        pieces = sorted(self.archive.of_turn(turn), key=lambda p: (not _by_user(p), int(p.born[0])))
        n, texts = 0, []
        for piece in pieces:
            saved = self.archive.cells_of(piece)
            if saved is None:
                continue
            rows = np.flatnonzero(~np.isin(piece.born, self._session.ledger["born"]))[: n_most - n]
            if len(rows) < min(_LEAST, len(piece.born)) or not self._put_back(saved, rows):
                continue
            n += len(rows)
            texts.append(self._text(piece, rows))
        return Recalled(turn, n, " ".join(filter(None, texts))) if n else None

    def _put_back(self, saved: SavedRows, rows: NDArray[np.intp]) -> bool:
        try:
            return self._session.recall(saved, rows) > 0
        except StateError:  # of these cells only the text is of use
            return False

    def _text(self, piece: Piece, rows: NDArray[np.intp]) -> str:
        columns = piece.saved.columns
        said = rows[~np.isin(columns["role"][rows], UNSPOKEN)]
        return b"".join(self._codec.piece(int(t)) for t in columns["token"][said]).decode("utf-8", "ignore").strip()


def _by_user(piece: Piece) -> bool:
    return bool(np.any(piece.saved.columns["role"] == _USER))
