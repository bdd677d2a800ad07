"""Brings back what a message asks about: evicted passages that match it are resident while its turn runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN, split
from edge_sir.engine import TextCodec
from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive, Piece
from edge_sir.recall.index import Match, TurnIndex
from edge_sir.session import SavedRows, Session
from edge_sir.text.boundaries import spelled
from edge_sir.text.reply import Recalled

__all__ = ["Recall", "Wanted"]

_USER = ROLES.index("user")
_LEAST = 4  # tokens; less of a passage says nothing


@dataclass(frozen=True, slots=True, eq=False)
class _Sentence:
    """Of a piece the missing rows of one sentence. n_shared: of the message's words those that it holds."""

    piece: Piece
    rows: NDArray[np.intp]
    n_shared: int
    by_user: bool
    born: int


class _Found(NamedTuple):
    """Rows of a passage that are to be recalled."""

    saved: SavedRows
    rows: NDArray[np.intp]


class Wanted(NamedTuple):
    """What is to be put back of a turn. born: of these tokens, int64 [n]."""

    recalled: Recalled
    born: NDArray[np.int64]


def _born(parts: Iterable[_Found]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(part.saved.columns["born"][part.rows] for part in parts)])


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
        if not self.archive.turns():
            return ()
        self._index.sync(message for message in self._transcript if message.turn < session.turn)
        found = self._matching(text)
        if found:
            session.recall([(part.saved, part.rows) for _, parts in found for part in parts])
        return tuple(self._recalled(turn, parts) for turn, parts in found)

    def find(self, what: int | str) -> tuple["Wanted", ...]:
        """What to put back on request, of a turn or of every turn that matches a text, best first.

        Of a turn as much as half of the cells that are not fixed hold, of a text as much as `begin` recalls. Nothing of
        a turn that is resident, or whose cells are not kept. Raises ConfigError if nothing was said that matches.
        """
        self._index.sync(self._transcript)
        if isinstance(what, int):
            turns = [what] if self._transcript.of(what) else []
            found = {what: self._missing_of(what)}
        else:
            turns = [match.turn for match in self._index.search(what)]
            found = dict(self._matching(what))
        if not turns:
            named = f"turn {what}" if isinstance(what, int) else f"“{what}”"
            raise ConfigError(f"nothing was said that matches {named}; /memory shows what was")
        return tuple(Wanted(self._recalled(turn, parts := found.get(turn, [])), _born(parts)) for turn in turns)

    def _missing_of(self, turn: int) -> list["_Found"]:
        """What is not resident of a turn, as much of it as half of the cells that are not fixed hold."""
        here, n_left = self._session.ledger["born"], self._session.room.slice_limit()
        found = []
        for piece in self.archive.of_turn(turn):
            rows = np.flatnonzero(~np.isin(piece.born, here))[: max(0, n_left)]
            if len(rows) and (saved := self.archive.cells_of(piece)) is not None:
                found.append(_Found(saved, rows))
                n_left -= len(rows)
        return found

    def _recalled(self, turn: int, parts: list["_Found"]) -> Recalled:
        texts = filter(None, (self._text(*part) for part in parts))
        return Recalled(turn, sum(len(part.rows) for part in parts), " ".join(texts))

    def _matching(self, text: str) -> list[tuple[int, list["_Found"]]]:
        """What to recall of which turn, best first, in the room that there is for it."""
        archived = self.archive.turns()
        n_left = min(int(self._share * self._session.budget.n_cells), self._session.n_recallable)
        found: list[tuple[int, list[_Found]]] = []
        for match in self._index.search(text):
            if n_left < _LEAST:
                break
            if match.turn in archived and (parts := self._of_turn(match, n_left)):
                found.append((match.turn, parts))
                n_left -= sum(len(part.rows) for part in parts)
        return found

    def _of_turn(self, match: Match, n_most: int) -> list["_Found"]:
        """What to recall of a turn: of what is missing the sentences with the message's words.

        Beside them others, the user's first, as long as they leave half of the room to other turns. Of each piece the
        rows, int [n], `n_most` in all.
        """
        pieces = self.archive.of_turn(match.turn)
        missing = [part for piece in pieces for part in self._sentences(piece, match.held)]
        wanted: dict[int, list[NDArray[np.intp]]] = {}
        n_left = n_most
        for part in sorted(missing, key=lambda part: (-part.n_shared, not part.by_user, part.born)):
            rows = part.rows[:n_left] if part.n_shared else part.rows
            if 0 < len(rows) <= n_left and (part.n_shared or (wanted and n_left - len(rows) >= n_most // 2)):
                wanted.setdefault(part.piece.key, []).append(rows)
                n_left -= len(rows)
        found = []
        for piece in pieces:
            if piece.key in wanted and (saved := self.archive.cells_of(piece)) is not None:
                found.append(_Found(saved, np.sort(np.concatenate(wanted[piece.key]))))
        return found

    def _sentences(self, piece: Piece, held: frozenset[str]) -> list["_Sentence"]:
        """The sentences of a piece that are not whole any more, and which of their rows are missing."""
        columns = piece.saved.columns
        is_missing = ~np.isin(piece.born, self._session.ledger["born"])
        parts = []
        for index in split(np.arange(len(piece.born)), columns["sentence"]):
            rows = index[is_missing[index]]
            if len(rows):
                n_shared = self._index.n_shared(self._text(piece.saved, index), held)
                by_user = bool(np.any(columns["role"][index] == _USER))
                parts.append(_Sentence(piece, rows, n_shared, by_user, int(piece.born[rows[0]])))
        return parts

    def _text(self, saved: SavedRows, rows: NDArray[np.intp]) -> str:
        columns = saved.columns
        said = rows[~np.isin(columns["role"][rows], UNSPOKEN)]
        return spelled(self._codec, columns["token"][said]).strip()
