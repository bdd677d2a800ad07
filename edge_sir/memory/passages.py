"""Passages: pieces of messages as they were said, also where a policy thinned them.

A policy that evicts single tokens leaves "My name [1 dropped] Ada" of a sentence. Whoever asks for "My name is Ada"
means that sentence, so what is resident is read together with the words that the log of evictions still has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import FRAME, ROLES, TokenLedger, split
from edge_sir.engine import TextCodec
from edge_sir.memory.evictions import KEPT, EvictionLog
from edge_sir.text.boundaries import contains, pattern_of, words

__all__ = ["Match", "Passage", "PassageTokens", "Said", "match_of"]

Ints = NDArray[np.int64]

_EVICTED = -1


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of one message: a sentence, several, or all of it; never its template tokens.

    message: the message's id. said: the piece as it was said; text: what is resident of it, gaps marked by an ellipsis.
    n_resident: its tokens that are in the cache, or were before they were forgotten; n_evicted: those that made room.
    n_pinned: of the resident ones. n_before: tokens of the same message that left the cache just before the piece,
    counted where a view splits a message into resident pieces.
    """

    message: int
    turn: int
    role: str
    said: str
    text: str
    n_resident: int
    n_evicted: int
    n_pinned: int
    n_before: int = 0

    @property
    def n_tokens(self) -> int:
        """As it was said."""
        return self.n_resident + self.n_evicted

    @property
    def pinned(self) -> bool:
        """Whether all that is resident of it is pinned."""
        return self.n_pinned == self.n_resident > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, under the names of its format, in which tokens are resident ones."""
        facts = {"turn": self.turn, "role": self.role, "text": self.text}
        return facts | {"n_tokens": self.n_resident, "n_pinned": self.n_pinned}


@dataclass(frozen=True, slots=True)
class Match:
    """A passage that held the words asked for when it was said.

    words: those of them that are resident whole; state: whether these are all, some or none.
    """

    passage: Passage
    words: tuple[str, ...]
    state: Literal["whole", "partly", "none"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, under the names of its format, in which tokens are those of what was said."""
        passage = self.passage
        facts = {"turn": passage.turn, "role": passage.role, "said": passage.said, "resident": passage.text}
        counts = {"n_tokens": passage.n_tokens, "n_evicted": passage.n_evicted}
        return facts | {"words": self.words, "state": self.state} | counts


@dataclass(frozen=True, slots=True, eq=False)
class PassageTokens:
    """A passage token by token, int64 [n] each; row: -1 where it is not resident, place: in its message."""

    turn: int
    message: int
    role: str
    born: Ints
    token: Ints
    row: Ints
    place: Ints
    pieces: tuple[bytes, ...]

    @property
    def rows(self) -> Ints:
        """The ledger rows that are left of it."""
        rows: Ints = self.row[self.resident]
        return rows

    @property
    def resident(self) -> NDArray[np.bool_]:
        """Which of its tokens are in the cache, bool [n]."""
        resident: NDArray[np.bool_] = self.row != _EVICTED
        return resident

    @property
    def n_evicted(self) -> int:
        """Tokens that made room."""
        return int((~self.resident).sum())

    @property
    def text(self) -> str:
        """As it was said."""
        return b"".join(self.pieces).decode("utf-8", "ignore")

    @property
    def left(self) -> str:
        """What is resident of it, read on over the gaps."""
        here = (piece for piece, resident in zip(self.pieces, self.resident, strict=True) if resident)
        return b"".join(here).decode("utf-8", "ignore")

    def part(self, index: NDArray[np.intp]) -> "PassageTokens":
        """The tokens at `index`."""
        pieces = tuple(self.pieces[i] for i in index)
        born, token, row, place = (column[index] for column in (self.born, self.token, self.row, self.place))
        return PassageTokens(self.turn, self.message, self.role, born, token, row, place, pieces)

    def passage(self, pinned: NDArray[np.bool_]) -> Passage:
        """As text and counts. pinned: the ledger's column, bool [n rows]."""
        return Passage(
            message=self.message,
            turn=self.turn,
            role=self.role,
            said=self.text.strip(),
            text=_with_gaps(self.pieces, self.place, self.resident),
            n_resident=len(self.rows),
            n_evicted=self.n_evicted,
            n_pinned=int(pinned[self.rows].sum()),
        )


@dataclass(frozen=True, slots=True)
class Said:
    """Reads what is resident and what made room together: the messages as they were said."""

    ledger: TokenLedger
    log: EvictionLog
    codec: TextCodec

    def saying(self, text: str) -> list[PassageTokens]:
        """Every sentence that held `text` when it was said, resident or not; the message if it spans sentences.

        Only where nobody said so, those whose resident words read so: a person may copy what /memory shows.
        """
        as_said: list[PassageTokens] = []
        as_left: list[PassageTokens] = []
        for message, sentence in self._messages():
            indices = split(np.arange(len(sentence)), sentence)
            if contains(message.text, text):
                parts = [message.part(index) for index in indices]
                as_said += [part for part in parts if contains(part.text, text)] or [message]
            elif contains(message.left, text):
                parts = [message.part(index) for index in indices]
                as_left += [part for part in parts if contains(part.left, text)] or [message]
        return as_said or as_left

    def holding(self, rows: NDArray[np.integer[Any]]) -> list[PassageTokens]:
        """What these ledger rows say, message by message, with what was evicted of the same sentences.

        Template tokens say nothing.
        """
        parts = []
        for message, sentence in self._messages():
            here = np.isin(message.row, rows)
            if np.any(here):
                evicted = ~message.resident & np.isin(sentence, sentence[here])
                parts.append(message.part(np.flatnonzero(here | evicted)))
        return parts

    def without(self, parts: Sequence[PassageTokens]) -> dict[int, tuple[str, str]]:
        """The text of each message that has some of `parts`, and what is left of that without them, by message."""
        forgotten = np.concatenate([np.empty(0, np.int64), *(part.born for part in parts)])
        numbers = {part.message for part in parts}
        found = (message for message, _ in self._messages() if message.message in numbers)
        return {m.message: (m.text, m.part(np.flatnonzero(~np.isin(m.born, forgotten))).text) for m in found}

    def _messages(self) -> Iterator[tuple[PassageTokens, Ints]]:
        """Every message as it was said, in order, and the sentence of each of its tokens."""
        rows = np.flatnonzero(self.ledger["role"] != FRAME)
        here = {name: self.ledger[name][rows].astype(np.int64) for name in KEPT} | {"row": rows}
        away = self.log.words()
        away |= {"row": np.full(len(away["born"]), _EVICTED)}
        columns = {name: np.concatenate([here[name], away[name]]) for name in here}
        order = np.lexsort((columns["born"], columns["message"]))
        for part in split(order, columns["message"][order]):
            born, message, turn, sentence, role, token, row = (columns[name][part] for name in (*KEPT, "row"))
            pieces = tuple(self.codec.piece(int(t)) for t in token)
            place, number, who = np.arange(len(row)), int(message[0]), ROLES[role[-1]]
            yield PassageTokens(int(turn[0]), number, who, born, token, row, place, pieces), sentence


def match_of(tokens: PassageTokens, text: str, pinned: NDArray[np.bool_]) -> Match:
    """How much of `text` is resident in a passage that holds it; of several places the best. pinned: a ledger's."""
    # Bytes of no character become one character each, so that characters and tokens stay aligned.
    said = b"".join(tokens.pieces).decode("utf-8", "surrogateescape")
    here = np.repeat(tokens.resident, [len(piece) for piece in tokens.pieces])
    sizes = [len(c.encode("utf-8", "surrogateescape")) for c in said]
    starts = np.cumsum([0, *sizes[:-1]], dtype=np.intp)
    whole = np.logical_and.reduceat(here, starts) if said else here
    places = [match.span() for match in pattern_of(text).finditer(said)] or [(0, len(said))]
    found, n_words = max((_words_at(said, whole, *place) for place in places), key=lambda pair: len(pair[0]))
    state: Literal["whole", "partly", "none"] = "whole" if len(found) == n_words else "partly" if found else "none"
    return Match(tokens.passage(pinned), found, state)


def _words_at(said: str, whole: NDArray[np.bool_], start: int, stop: int) -> tuple[tuple[str, ...], int]:
    """The words of said[start:stop] that are resident, and how many there are."""
    spans = words(said[start:stop])
    resident = [said[start + a : start + b] for a, b in spans if whole[start + a : start + b].all()]
    return tuple(resident), len(spans)


def _with_gaps(pieces: tuple[bytes, ...], place: Ints, here: NDArray[np.bool_]) -> str:
    """The pieces that are here, an ellipsis where others of the message were between them."""
    index = np.flatnonzero(here)
    runs = split(index, place[index] - np.arange(len(index)))
    texts = (b"".join(pieces[i] for i in run).decode("utf-8", "ignore").strip() for run in runs)
    return " … ".join(filter(None, texts))
