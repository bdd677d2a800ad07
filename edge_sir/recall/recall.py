"""Brings back what a message asks about: evicted passages that match it are resident while its turn runs."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, split
from edge_sir.engine import TextCodec
from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive
from edge_sir.recall.choose import Sentence, chosen
from edge_sir.recall.dense import SentenceEncoder
from edge_sir.recall.index import Match, TurnIndex
from edge_sir.recall.piece import Piece
from edge_sir.session import Session
from edge_sir.text.boundaries import spelled
from edge_sir.text.encoder import MessageEncoder, Part
from edge_sir.text.reply import Recalled

__all__ = ["SHARE", "Recall", "Wanted"]

SHARE = 0.25
"""The most cells that recalled tokens take, as a share of the budget."""

_USER = ROLES.index("user")
_LEAST = 4  # tokens; less of a passage says nothing


@dataclass(frozen=True, slots=True, eq=False)
class _Missing:
    """Of a piece the missing rows of one sentence. given: what it is chosen by."""

    piece: Piece
    rows: NDArray[np.intp]
    given: Sentence


class _Passage(NamedTuple):
    """Rows of a piece that are to be recalled."""

    piece: Piece
    rows: NDArray[np.intp]


class Wanted(NamedTuple):
    """What is to be put back of a turn. born: of these tokens, int64 [n]."""

    recalled: Recalled
    born: NDArray[np.int64]


class Recall:
    """Recalls for one conversation.

    What is found comes back as cells, as far as the archive has them and they can be put back; else its text is read
    again. share: the most cells that recalled tokens take, as a share of the budget. place: where cells return to, as
    in `Session.restore`. encoder: of sentences, for the index.
    """

    def __init__(
        self,
        session: Session,
        codec: TextCodec,
        transcript: Transcript,
        archive: Archive,
        *,
        share: float = SHARE,
        place: Literal["own", "last"] = "own",
        encoder: SentenceEncoder | None = None,
    ) -> None:
        self.archive = archive
        self._session, self._codec, self._transcript = session, codec, transcript
        self._index = TurnIndex(encoder=encoder)
        self._share = share
        self._place: Literal["own", "last"] = place

    @property
    def n_bytes(self) -> int:
        """Bytes that evicted cells, their rows and the index of what was said take."""
        return self.archive.n_bytes + self._index.n_bytes

    def clear(self) -> None:
        """A new conversation: nothing of the old one is in the index."""
        self._index.sync(())

    def close(self) -> None:
        """Frees the index, and what the archive holds."""
        self._index.sync(())
        self._index.close()
        self.archive.clear()

    def on(self, session: Session) -> "Recall":
        """The same for a fork of its session, of which nothing is archived. Close this one alone."""
        other = copy.copy(self)
        other._session = session
        return other

    def begin(self, text: str, encoder: MessageEncoder, turns: Sequence[int] | None = None) -> tuple[Recalled, ...]:
        """Makes what matches `text` resident for the running turn, whose message was fed and not decoded yet.

        encoder: of messages that are read again. turns: recalled whole, in place of what matches. Nothing matches, or
        all that does is resident: nothing is changed. Raises what the engine raises.
        """
        n_most = self._n_most
        passages = self._matching(self._matches(text), n_most) if turns is None else self._whole(turns, n_most)
        if not passages:
            return ()
        n_tokens = self._put_back(passages)
        left = [passage for passage, n in zip(passages, n_tokens, strict=True) if not n]
        texts = [
            self._text(p.piece, self._beside(p, resident=True)) if n else ""
            for p, n in zip(passages, n_tokens, strict=True)
        ]
        for n, text in self._read(left, encoder, n_most - sum(n_tokens)):
            n_tokens.append(n)
            texts.append(text)
        found: dict[int, Recalled] = {}
        for (piece, _), n, text in zip([*passages, *left], n_tokens, texts, strict=True):
            if n:
                so_far = found.get(piece.turn, Recalled(piece.turn, 0, ""))
                found[piece.turn] = Recalled(piece.turn, so_far.n_tokens + n, f"{so_far.text} {text}".strip())
        return tuple(found.values())

    def find(self, what: int | str) -> tuple[Wanted, ...]:
        """What to put back on request, of a turn or of every turn that matches a text, best first.

        Of a turn as much as half of the cells that are not fixed hold, of a text no more than `share`, too. Nothing of
        a turn that is resident, or whose cells are not kept. Raises ConfigError if nothing was said that matches.
        """
        if isinstance(what, int):
            turns = [what] if self._transcript.of(what) else []
            passages = self._of_turn(what, None, self._session.room.slice_limit())
        else:
            self._index.sync(self._transcript)
            matches = self._index.search(what, is_asked=True)
            turns = [match.turn for match in matches]
            passages = self._matching(matches, min(self._n_share, self._session.room.slice_limit()))
        if not turns:
            named = f"turn {what}" if isinstance(what, int) else f"“{what}”"
            raise ConfigError(f"nothing was said that matches {named}; /memory shows what was")
        kept = [passage for passage in passages if self.archive.cells_of(passage.piece) is not None]
        return tuple(self._wanted(turn, [p for p in kept if p.piece.turn == turn]) for turn in turns)

    def _wanted(self, turn: int, passages: Sequence[_Passage]) -> Wanted:
        texts = filter(None, (self._text(p.piece, self._beside(p, resident=True)) for p in passages))
        born = np.concatenate([np.empty(0, np.int64), *(piece.born[rows] for piece, rows in passages)])
        return Wanted(Recalled(turn, len(born), " ".join(texts)), born)

    # ---- what comes back -----------------------------------------------------------------------

    @property
    def _n_most(self) -> int:
        return min(self._n_share, self._session.n_recallable)

    @property
    def _n_share(self) -> int:
        return int(self._share * self._session.budget.n_cells)

    def _matches(self, text: str) -> list[Match]:
        """The turns before the running one that match; none while nothing was evicted."""
        if not self.archive.turns():
            return []
        self._index.sync(message for message in self._transcript if message.turn < self._session.turn)
        return self._index.search(text)

    def _matching(self, matches: Sequence[Match], n_most: int) -> list[_Passage]:
        """What is missing of the turns that match, best first; `n_most` rows in all at most."""
        passages: list[_Passage] = []
        n_left = n_most
        for match in matches:
            if n_left < _LEAST:
                break
            if match.turn in self.archive.turns():
                passages += self._of_turn(match.turn, match.held, n_left)
                n_left = n_most - sum(len(p.rows) for p in passages)
        return passages

    def _whole(self, turns: Sequence[int], n_most: int) -> list[_Passage]:
        """What is missing of these turns, the user's sentences first; `n_most` rows in all at most."""
        passages: list[_Passage] = []
        for turn in turns:
            n_left = n_most - sum(len(p.rows) for p in passages)
            passages += self._of_turn(turn, None, n_left)
        return passages

    def _of_turn(self, turn: int, held: frozenset[str] | None, n_most: int) -> list[_Passage]:
        """Which of a turn's missing sentences come back, by the words `held` of the message; all, with None for them.

        `n_most` rows in all at most.
        """
        pieces = self.archive.of_turn(turn)
        missing = [part for piece in pieces for part in self._sentences(piece, held)]
        wanted: dict[int, list[NDArray[np.intp]]] = {}
        for index, n in chosen([part.given for part in missing], n_most, by_meaning=held == frozenset()):
            wanted.setdefault(missing[index].piece.number, []).append(missing[index].rows[:n])
        return [_Passage(p, np.sort(np.concatenate(wanted[p.number]))) for p in pieces if p.number in wanted]

    def _put_back(self, passages: Sequence[_Passage]) -> list[int]:
        """How many rows of each came back from its cells; 0 where its text must be read."""
        there = {i: saved for i, p in enumerate(passages) if (saved := self.archive.cells_of(p.piece)) is not None}
        n_rows = self._session.recall([(saved, passages[i].rows) for i, saved in there.items()], self._place)
        came = dict(zip(there, n_rows, strict=True))
        return [came.get(i, 0) for i in range(len(passages))]

    def _read(self, passages: Sequence[_Passage], encoder: MessageEncoder, n_most: int) -> list[tuple[int, str]]:
        """How many tokens each takes that is read again, as a message of its own, and its text; 0 if it does not fit.

        Its sentences are read whole, with what is resident of them: the missing words alone say little. Of those that
        do not fit the last ones are left out, and of a single one its end.
        """
        messages: dict[int, list[Part]] = {}
        read = []
        for piece, rows in passages:
            n, text = 0, ""
            for said in self._shorter(_Passage(piece, rows), n_most):
                text = self._text(piece, said)
                parts = encoder.message(self._role(piece, rows), text, first=False) if text else []
                n = sum(len(tokens) for _, tokens in parts)
                if 0 < n <= n_most:
                    messages[int(piece.born[0])] = parts
                    break
                n = 0
            n_most -= n
            read.append((n, text if n else ""))
        if messages:
            self._session.feed_recalled([messages[born] for born in sorted(messages)])
        return read

    def _shorter(self, passage: _Passage, n_most: int) -> Iterator[NDArray[np.intp]]:
        """The rows of a passage's sentences, then without the last one, and so on; of the first alone ever fewer."""
        piece, rows = passage
        while True:
            said = self._beside(_Passage(piece, rows))
            yield said
            sentences = piece.rows["sentence"][rows]
            if sentences[0] == sentences[-1]:
                break
            rows = rows[sentences != sentences[-1]]
        for n in range(min(n_most, len(said) - 1), _LEAST, -_LEAST):
            yield said[:n]

    def _role(self, piece: Piece, rows: NDArray[np.intp]) -> str:
        """Who said it."""
        said = piece.rows["role"][rows[piece.is_said[rows]]]
        return ROLES[said[0]] if len(said) else "user"

    # ---- what is missing -----------------------------------------------------------------------

    def _sentences(self, piece: Piece, held: frozenset[str] | None) -> list[_Missing]:
        """The sentences of a piece that are not whole any more, and which of their rows are missing, markers included.

        None for the words: each counts as if it held one.
        """
        is_missing = ~np.isin(piece.born, self._session.ledger["born"])
        is_said_missing = is_missing & piece.is_said
        parts = []
        for index in split(np.arange(len(piece.born)), piece.rows["sentence"]):
            rows = index[is_missing[index]]
            if is_said_missing[index].any():
                n_shared = 1 if held is None else self._index.n_shared(self._text(piece, index), held)
                by_user = bool(np.any(piece.rows["role"][index] == _USER))
                given = Sentence(len(rows), n_shared, by_user, int(piece.born[rows[0]]))
                parts.append(_Missing(piece, rows, given))
        return parts

    def _beside(self, passage: _Passage, *, resident: bool = False) -> NDArray[np.intp]:
        """The rows of the sentences that the passage is of. resident: of these its own, and those that are resident."""
        piece, rows = passage
        wanted = np.isin(piece.rows["sentence"], piece.rows["sentence"][rows])
        if resident:
            wanted &= np.isin(piece.born, self._session.ledger["born"])
            wanted[rows] = True
        return np.flatnonzero(wanted)

    def _text(self, piece: Piece, rows: NDArray[np.intp]) -> str:
        return spelled(self._codec, piece.rows["token"][rows[piece.is_said[rows]]]).strip()
