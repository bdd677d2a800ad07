"""What was said token by token, also where a policy thinned it: finds the sentences that held some words.

A policy that lets single tokens go leaves "My name [1 gone] Ada" of a sentence. Whoever asks for "My name is Ada" means
that sentence, so the tokens that went are kept here, as plain numbers beside the ledger, and read together with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import FRAME, ROLES, TokenLedger, split
from edge_sir.engine import TextCodec
from edge_sir.memory.evictions import KEPT, EvictionLog
from edge_sir.text.boundaries import contains, pattern_of, words

__all__ = ["Known", "Said", "Stretch", "known_of"]

Ints = NDArray[np.int64]

_GONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A sentence or a message as it was said. born, token and row: int64 [n], row -1 where a token is gone."""

    turn: int
    message: int
    role: str
    born: Ints
    token: Ints
    row: Ints
    pieces: tuple[bytes, ...]

    @property
    def rows(self) -> Ints:
        """The ledger rows that are left of it."""
        rows: Ints = self.row[self.row != _GONE]
        return rows

    @property
    def n_gone(self) -> int:
        """Tokens that are not resident any more."""
        return int((self.row == _GONE).sum())

    @property
    def text(self) -> str:
        """As it was said."""
        return b"".join(self.pieces).decode("utf-8", "ignore")

    @property
    def left(self) -> str:
        """What is resident of it, read on over the gaps."""
        here = (piece for piece, row in zip(self.pieces, self.row, strict=True) if row != _GONE)
        return b"".join(here).decode("utf-8", "ignore")

    def part(self, index: NDArray[np.intp]) -> "Stretch":
        """The tokens at `index`."""
        pieces = tuple(self.pieces[i] for i in index)
        return Stretch(self.turn, self.message, self.role, self.born[index], self.token[index], self.row[index], pieces)


@dataclass(frozen=True, slots=True)
class Known:
    """How much of some words is still resident in one sentence.

    said: the sentence as it was said; resident: what is left of it, gaps marked by an ellipsis. words: those of the
    words asked for that are resident whole; state: whether these are all, some or none. n_tokens: of the sentence as
    it was said; n_gone: those of them that are not resident any more.
    """

    turn: int
    role: str
    said: str
    resident: str
    words: tuple[str, ...]
    state: Literal["whole", "partly", "gone"]
    n_tokens: int
    n_gone: int


@dataclass(frozen=True, slots=True)
class Said:
    """Reads what is resident and what made room together: the messages as they were said."""

    ledger: TokenLedger
    log: EvictionLog
    codec: TextCodec

    def saying(self, text: str) -> list[Stretch]:
        """Every sentence that held `text` when it was said, resident or not; the message if it spans sentences.

        Only where nobody said so, those whose resident words read so: a person may copy what /memory shows.
        """
        as_said: list[Stretch] = []
        as_left: list[Stretch] = []
        for message, sentence in self._messages():
            indices = split(np.arange(len(sentence)), sentence)
            if contains(message.text, text):
                parts = [message.part(index) for index in indices]
                as_said += [part for part in parts if contains(part.text, text)] or [message]
            elif contains(message.left, text):
                parts = [message.part(index) for index in indices]
                as_left += [part for part in parts if contains(part.left, text)] or [message]
        return as_said or as_left

    def without(self, parts: Sequence[Stretch]) -> dict[int, tuple[str, str]]:
        """The text of each message that has some of `parts`, and what is left of that without them, by message."""
        forgotten = np.concatenate([np.empty(0, np.int64), *(part.born for part in parts)])
        numbers = {part.message for part in parts}
        found = (message for message, _ in self._messages() if message.message in numbers)
        return {m.message: (m.text, m.part(np.flatnonzero(~np.isin(m.born, forgotten))).text) for m in found}

    def _messages(self) -> Iterator[tuple[Stretch, Ints]]:
        """Every message as it was said, in order, and the sentence of each of its tokens."""
        rows = np.flatnonzero(self.ledger["role"] != FRAME)
        here = {name: self.ledger[name][rows].astype(np.int64) for name in KEPT} | {"row": rows}
        away = self.log.words()
        away |= {"row": np.full(len(away["born"]), _GONE)}
        columns = {name: np.concatenate([here[name], away[name]]) for name in here}
        order = np.lexsort((columns["born"], columns["message"]))
        for part in split(order, columns["message"][order]):
            born, message, turn, sentence, role, token, row = (columns[name][part] for name in (*KEPT, "row"))
            pieces = tuple(self.codec.piece(int(t)) for t in token)
            yield Stretch(int(turn[0]), int(message[0]), ROLES[role[-1]], born, token, row, pieces), sentence


def known_of(stretch: Stretch, text: str) -> Known:
    """How much of `text` is resident in a sentence that holds it; of several places the best."""
    # Bytes of no character become one character each, so that characters and tokens stay aligned.
    said = b"".join(stretch.pieces).decode("utf-8", "surrogateescape")
    here = np.repeat(stretch.row != _GONE, [len(piece) for piece in stretch.pieces])
    sizes = [len(c.encode("utf-8", "surrogateescape")) for c in said]
    starts = np.cumsum([0, *sizes[:-1]], dtype=np.intp)
    whole = np.logical_and.reduceat(here, starts) if said else here
    places = [match.span() for match in pattern_of(text).finditer(said)] or [(0, len(said))]
    words, n_words = max((_words_at(said, whole, *place) for place in places), key=lambda found: len(found[0]))
    return Known(
        turn=stretch.turn,
        role=stretch.role,
        said=stretch.text.strip(),
        resident=_with_gaps(stretch.pieces, stretch.row != _GONE),
        words=words,
        state="whole" if len(words) == n_words else "partly" if words else "gone",
        n_tokens=len(stretch.pieces),
        n_gone=stretch.n_gone,
    )


def _words_at(said: str, whole: NDArray[np.bool_], start: int, stop: int) -> tuple[tuple[str, ...], int]:
    """The words of said[start:stop] that are resident, and how many there are."""
    spans = words(said[start:stop])
    resident = [said[start + a : start + b] for a, b in spans if whole[start + a : start + b].all()]
    return tuple(resident), len(spans)


def _with_gaps(pieces: tuple[bytes, ...], here: NDArray[np.bool_]) -> str:
    """The pieces that are here, an ellipsis where others were between them."""
    runs = split(np.flatnonzero(here), np.cumsum(~here, dtype=np.intp)[here])
    texts = (b"".join(pieces[i] for i in run).decode("utf-8", "ignore").strip() for run in runs)
    return " … ".join(filter(None, texts))
