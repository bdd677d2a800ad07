"""Brings back what a message asks about: evicted passages that match it are resident while its turn runs."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN, split
from edge_sir.engine import TextCodec
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive, Piece
from edge_sir.recall.choose import Sentence, chosen
from edge_sir.recall.index import Match, TurnIndex
from edge_sir.session import SavedRows, Session
from edge_sir.text.boundaries import spelled
from edge_sir.text.reply import Recalled

__all__ = ["Recall"]

_USER = ROLES.index("user")
_LEAST = 4  # tokens; less of a passage says nothing


@dataclass(frozen=True, slots=True, eq=False)
class _Missing:
    """Of a piece the missing rows of one sentence. given: what it is chosen by."""

    piece: Piece
    rows: NDArray[np.intp]
    given: Sentence


class _Found(NamedTuple):
    """Rows of a passage that are to be recalled."""

    saved: SavedRows
    rows: NDArray[np.intp]


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
        found: list[tuple[int, list[_Found]]] = []
        for match in self._index.search(text):
            if n_left < _LEAST:
                break
            if match.turn in archived and (parts := self._of_turn(match, n_left)):
                found.append((match.turn, parts))
                n_left -= sum(len(part.rows) for part in parts)
        if found:
            session.recall([(part.saved, part.rows) for _, parts in found for part in parts])
        return tuple(
            Recalled(turn, sum(len(p.rows) for p in parts), " ".join(filter(None, (self._text(*p) for p in parts))))
            for turn, parts in found
        )

    def _of_turn(self, match: Match, n_most: int) -> list["_Found"]:
        """What to recall of a turn: the chosen ones of its missing sentences, `n_most` tokens in all at most."""
        pieces = self.archive.of_turn(match.turn)
        missing = [part for piece in pieces for part in self._sentences(piece, match.held)]
        wanted: dict[int, list[NDArray[np.intp]]] = {}
        for index, n in chosen([part.given for part in missing], n_most):
            wanted.setdefault(missing[index].piece.key, []).append(missing[index].rows[:n])
        found = []
        for piece in pieces:
            if piece.key in wanted and (saved := self.archive.cells_of(piece)) is not None:
                found.append(_Found(saved, np.sort(np.concatenate(wanted[piece.key]))))
        return found

    def _sentences(self, piece: Piece, held: frozenset[str]) -> list["_Missing"]:
        """The sentences of a piece that are not whole any more, and which of their rows are missing."""
        columns = piece.saved.columns
        is_missing = ~np.isin(piece.born, self._session.ledger["born"])
        parts = []
        for index in split(np.arange(len(piece.born)), columns["sentence"]):
            rows = index[is_missing[index]]
            if len(rows):
                n_shared = self._index.n_shared(self._text(piece.saved, index), held)
                by_user = bool(np.any(columns["role"][index] == _USER))
                given = Sentence(len(rows), n_shared, by_user, int(piece.born[rows[0]]))
                parts.append(_Missing(piece, rows, given))
        return parts

    def _text(self, saved: SavedRows, rows: NDArray[np.intp]) -> str:
        columns = saved.columns
        said = rows[~np.isin(columns["role"][rows], UNSPOKEN)]
        return spelled(self._codec, columns["token"][said]).strip()
