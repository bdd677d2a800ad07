"""Which tokens of a vocabulary can come next, so that a text fits a grammar."""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sir.errors import ConfigError
from edge_sir.grammar.gbnf import parse_gbnf
from edge_sir.grammar.matcher import DEAD, Matcher
from edge_sir.grammar.vocabulary import Vocabulary

__all__ = ["Grammar", "Guide"]

_MOST_WORK = 100_000  # items of the matcher for one draw; a JSON schema takes some hundreds
_LEAST = {2: 0x80, 3: 0x800, 4: 0x10000}
_MOST_NODES = 3000  # of the tree of tokens; beyond it is quicker to look at the likeliest

Ids = NDArray[np.intp]
Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a reply, or the rest of one, must be.

    text: GBNF. begun: what stands there of it already. ends: tokens that end a reply beside those that always do.
    after: tokens that are drawn before it begins (a thought).
    """

    text: str
    begun: str = ""
    ends: tuple[int, ...] = ()
    after: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", tuple(self.ends))  # from JSON it is a list

    def check(self) -> None:
        """Raises ConfigError for a grammar that is wrong, or that does not go on from what is begun."""
        matcher = Matcher(parse_gbnf(self.text))
        if matcher.after(matcher.start, self.begun) == DEAD:
            raise ConfigError("what the reply begins with does not fit the grammar; change one of them")


class Guide:
    """Follows drawn tokens through a grammar. vocabulary: of the model that draws. drawn: tokens drawn already.

    Raises ConfigError as `Grammar.check`.
    """

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary, drawn: Iterable[int] = ()) -> None:
        grammar.check()
        self._matcher = Matcher(parse_gbnf(grammar.text))
        self._vocabulary = vocabulary
        self._ends = np.array(sorted(vocabulary.ends | set(grammar.ends)), np.intp)
        self._n_before = grammar.after
        self._state = self._matcher.after(self._matcher.start, grammar.begun)
        self._part = b""  # of a character
        self._work_until = 0  # of the matcher, for the present draw
        self._few: dict[int, Ids | None] = {}  # by state: what can come next, None where that is much
        for token in drawn:
            self.accept(token)

    @property
    def is_waiting(self) -> bool:
        """Whether the grammar has not begun yet: all tokens can come."""
        return self._n_before > 0

    def accept(self, token: int) -> None:
        """Goes on behind a token that was drawn. Raises ConfigError for one that could not come."""
        if self._n_before > 0:
            self._n_before -= 1
            return
        if token in self._ends:
            return
        found = self._after(token)
        if found is None:
            raise ConfigError("a drawn token does not fit the grammar; begin the reply anew")
        self._state, self._part = found

    def allows(self, token: int) -> bool:
        """Whether a token can come next."""
        if self.is_waiting:
            return True
        if token in self._ends:
            return self._may_end
        return bool(self._vocabulary.pieces[token]) and self._after(token) is not None

    def best(self, logits: Row, n: int, also: Iterable[int] = ()) -> Ids:
        """The `n` likeliest tokens that can come next, or all where there are fewer, in order of their numbers.

        logits: float32 [n_vocab]. also: tokens that are looked at, too, however unlikely. Raises ConfigError if there
        is none.
        """
        self._work_until = self._matcher.work + _MOST_WORK
        fitting = self._fitting()
        if fitting is None:
            found = self._likeliest(logits, n, also)
        else:
            fitting = np.append(fitting, self._ends) if self._may_end else fitting
            fitting = fitting[np.isfinite(logits[fitting])]
            order = np.argpartition(-logits[fitting], n)[:n] if len(fitting) > n else np.arange(len(fitting))
            found = np.append(fitting[order], np.intersect1d(fitting, np.fromiter(also, np.intp)))
        if not len(found):
            raise ConfigError("the grammar allows nothing that this model could say next; change the grammar")
        return np.unique(found)

    def _fitting(self) -> Ids | None:
        """All tokens that can come next but ends, in a state where they are few; None where they are many."""
        if self._part:
            return np.array([token for token in self._vocabulary.broken if self._after(token) is not None], np.intp)
        state = self._state
        if state not in self._few:
            few = self._vocabulary.tree.fitting(self._matcher, state, _MOST_NODES, self._work_until)
            if few is not None:
                few += [token for token in self._vocabulary.broken if self._after(token) is not None]
            self._few[state] = None if few is None else np.array(few, np.intp)
        return self._few[state]

    def _likeliest(self, logits: Row, n: int, also: Iterable[int]) -> Ids:
        """Looks at tokens from the likeliest on, until `n` are found."""
        found = [token for token in also if np.isfinite(logits[token]) and self.allows(token)]
        left, chunk = np.flatnonzero(np.isfinite(logits)), 2 * n + 64
        n_left = n
        while len(left) and n_left > 0:
            order = np.argpartition(-logits[left], chunk) if len(left) > chunk else np.arange(len(left))
            looked_at, left = left[order[:chunk]], left[order[chunk:]]
            for token in looked_at[np.argsort(-logits[looked_at], kind="stable")].tolist():
                if n_left > 0 and self.allows(token):
                    found.append(token)
                    n_left -= 1
                if self._matcher.work > self._work_until:
                    raise ConfigError("the grammar takes too long to look through; write it with fewer readings")
            chunk *= 4
        return np.array(found, np.intp)

    @property
    def _may_end(self) -> bool:
        return not self._part and self._matcher.accepts(self._state)

    def _after(self, token: int) -> tuple[int, bytes] | None:
        """The state behind a token, and what it leaves of a character; None if it cannot come."""
        text = None if self._part else self._vocabulary.texts[token]
        part = b""
        if text is None:
            try:
                text, part = _whole(self._part + self._vocabulary.pieces[token])
            except UnicodeDecodeError:
                return None
        state = self._matcher.after(self._state, text)
        if state == DEAD or (part and not self._can_become(state, part)):
            return None
        return state, part

    def _can_become(self, state: int, part: bytes) -> bool:
        """Whether a character that begins with these bytes can come."""
        n = 2 if part[0] < 0xE0 else 3 if part[0] < 0xF0 else 4
        low, high = (_code_point(part + fill * (n - len(part))) for fill in (b"\x80", b"\xbf"))
        low, high = max(low, _LEAST[n]), min(high, 0x10FFFF)  # UTF-8 is never longer than it must be
        if low > high or (low >= 0xD800 and high <= 0xDFFF):  # halves of a pair stand for nothing alone
            return False
        return any(chars.meets(low, high) for chars in self._matcher.classes(state))


def _whole(data: bytes) -> tuple[str, bytes]:
    """The characters of `data`, and the bytes of one that is not complete. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    return decoder.decode(data), decoder.getstate()[0]


def _code_point(data: bytes) -> int:
    """What a UTF-8 sequence stands for, valid or not."""
    point = data[0] & (0x7F >> len(data))
    for byte in data[1:]:
        point = point << 6 | byte & 0x3F
    return point
