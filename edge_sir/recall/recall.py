"""Brings back what a message asks about: evicted passages that match it are resident while its turn runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN, split
from edge_sir.engine import TextCodec
from edge_sir.errors import StateError
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive, Piece
from edge_sir.recall.index import Match, TurnIndex
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


@dataclass(frozen=True, slots=True, eq=False)
class _Sentence:
    """Of a piece the missing rows of one sentence. n_shared: of the message's words those that it holds."""

    piece: Piece
    rows: NDArray[np.intp]
    n_shared: int
    by_user: bool
    born: int


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
            if match.turn in archived and (recalled := self._turn(match, n_left)) is not None:
                found.append(recalled)
                n_left -= recalled.n_tokens
        return tuple(found)

    def _turn(self, match: Match, n_most: int) -> Recalled | None:
        """Recalls of a turn what is missing, sentence by sentence; None if that is nothing.

        What holds the words of the message comes first, what the user said before what the model said.
        """
        missing = [part for piece in self.archive.of_turn(match.turn) for part in self._sentences(piece, match.held)]
        wanted: dict[int, list[NDArray[np.intp]]] = {}
        n_left = n_most
        for part in sorted(missing, key=lambda part: (-part.n_shared, not part.by_user, part.born)):
            if len(part.rows) <= n_left and (part.n_shared or part.by_user or n_left > n_most // 2):
                wanted.setdefault(part.piece.key, []).append(part.rows)
                n_left -= len(part.rows)
        n, texts = 0, []
        for piece in self.archive.of_turn(match.turn):
            saved = self.archive.cells_of(piece) if piece.key in wanted else None
            if saved is None:
                continue
            rows = np.sort(np.concatenate(wanted[piece.key]))
            if self._put_back(saved, rows):
                n += len(rows)
                texts.append(self._text(piece, rows))
        return Recalled(match.turn, n, " ".join(filter(None, texts))) if n else None

    def _sentences(self, piece: Piece, held: frozenset[str]) -> list["_Sentence"]:
        """The sentences of a piece that are not whole any more, and which of their rows are missing."""
        columns = piece.saved.columns
        is_missing = ~np.isin(piece.born, self._session.ledger["born"])
        parts = []
        for index in split(np.arange(len(piece.born)), columns["sentence"]):
            rows = index[is_missing[index]]
            if len(rows):
                n_shared = self._index.n_shared(self._text(piece, index), held)
                by_user = bool(np.any(columns["role"][index] == _USER))
                parts.append(_Sentence(piece, rows, n_shared, by_user, int(piece.born[rows[0]])))
        return parts

    def _put_back(self, saved: SavedRows, rows: NDArray[np.intp]) -> bool:
        try:
            return self._session.recall(saved, rows) > 0
        except StateError:  # of these cells only the text is of use
            return False

    def _text(self, piece: Piece, rows: NDArray[np.intp]) -> str:
        columns = piece.saved.columns
        said = rows[~np.isin(columns["role"][rows], UNSPOKEN)]
        return b"".join(self._codec.piece(int(t)) for t in columns["token"][said]).decode("utf-8", "ignore").strip()
