"""Says what was forgotten, in one line per turn of the conversation."""

import os
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np

from edge_sir.cli._counts import many
from edge_sir.core.ledger import FRAME, ROLES, UNSPOKEN
from edge_sir.core.records import Eviction
from edge_sir.transcript import Message, Transcript

__all__ = ["N_TURNS", "Losses", "first_words", "folded", "shown"]

N_TURNS = 4  # that are named at most; /memory shows all
_USER = ROLES.index("user")
_N_WORDS = 5
_N_CHARS = 40  # a web address is one word, too


class Losses:
    """Collects evictions between two calls of `take`: how much of which turn. transcript: what the turns were."""

    def __init__(self) -> None:
        self.transcript: Transcript | None = None
        self._tokens: Counter[int] = Counter()
        self._markers: Counter[int] = Counter()
        self._own: Counter[int] = Counter()  # of a turn's message, to the turn itself

    def note(self, eviction: Eviction) -> None:
        """An eviction listener. Thoughts leave by design, even early, and who forgets on purpose knows."""
        if eviction.why == "room":
            turn, role = eviction.columns["turn"], eviction.columns["role"]
            self._tokens.update(turn[~np.isin(role, UNSPOKEN)].tolist())
            self._markers.update(turn[role == FRAME].tolist())
            self._own[eviction.turn_now] += int((turn[role == _USER] == eviction.turn_now).sum())

    def listed(self) -> list[dict[str, Any]]:
        """As values, by turn: tokens that went, how many of them were markers, and how the turn began."""
        turns = sorted(self._tokens.keys() | self._markers.keys())
        return [
            {
                "turn": turn,
                "tokens": self._tokens[turn] + self._markers[turn],
                "markers": self._markers[turn],
                "text": self._words(turn),
            }
            for turn in turns
        ]

    def take(self) -> str:
        """What was let go since the last call, empty if nothing was."""
        text = self.told()
        self.clear()
        return text

    def told(self, n_most: int = N_TURNS) -> str:
        """As `take`, and it stays; n_most: turns that are named, those that lost most.

        Not which tokens: of twenty turns a few words each, that would be a page and read as none. Nor markers: they
        are nobody's words, and a turn without them is still whole.
        """
        n, n_turns = sum(self._tokens.values()), len(self._tokens)
        if n_turns == 0:
            return ""
        worst = sorted(self._tokens, key=lambda turn: (-self._tokens[turn], turn))[:n_most]
        if not worst:
            n_own = self._own[max(self._own)] if self._own else 0  # a message longer than its cells
            own = f", {n_own} of them of your last message" if n_own else ""
            return f"let go {many(n, 'token')} of {many(n_turns, 'turn')}{own} (/memory)"
        if n_turns == 1:
            return f"let go {many(n, 'token')} of {self._named(worst[0])}"
        parts = [f"of {self._named(turn)} {self._tokens[turn]}" for turn in worst]
        if len(parts) < n_turns:
            parts.append(f"and {many(n_turns - len(parts), 'more turn')} (/memory)")
        return f"let go {n} tokens: {', '.join(parts)}"

    def clear(self) -> None:
        """Forgets what was collected."""
        self._tokens.clear()
        self._markers.clear()
        self._own.clear()

    def _named(self, turn: int) -> str:
        words = shown(self._words(turn))
        return f"turn {turn} ({words})" if words else f"turn {turn}"

    def _words(self, turn: int) -> str:
        return "" if self.transcript is None else first_words(self.transcript.of(turn))


def first_words(said: Iterable[Message]) -> str:
    """How a turn began, as it was said; without the user's words what else there is."""
    texts = sorted(said, key=lambda message: message.role != "user")
    words = texts[0].text.split() if texts else []
    begun = " ".join(words[:_N_WORDS])
    cut = len(words) > _N_WORDS or len(begun) > _N_CHARS
    return begun[:_N_CHARS].rstrip() + (" …" if cut else "")


def shown(text: str) -> str:
    """`text` without control codes, which a terminal would obey."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def folded(text: str, stream: TextIO) -> str:
    """One line as a terminal should show it, broken between words; unchanged for anything else, which greps it."""
    if not stream.isatty():
        return text
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return text
    return textwrap.fill(text, max(20, width), break_long_words=False, break_on_hyphens=False) if width else text
