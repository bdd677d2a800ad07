"""Says what was forgotten, in one line per turn of the conversation."""

from collections import Counter

import numpy as np

from edge_sir.core.ledger import ROLES
from edge_sir.core.records import Eviction
from edge_sir.engine import TextCodec

__all__ = ["Losses", "shown"]

_N_WORDS = 6
_SPOKEN = [ROLES.index(role) for role in ("user", "assistant", "tool")]


class Losses:
    """Collects evictions between two calls of `take`."""

    def __init__(self) -> None:
        self.codec: TextCodec | None = None
        self._tokens: Counter[int] = Counter()
        self._first_words: dict[int, str] = {}

    def note(self, eviction: Eviction) -> None:
        """An eviction listener. Thoughts leave by design, and who forgets on purpose knows."""
        if eviction.why != "room":
            return
        columns = eviction.columns
        self._tokens.update(columns["turn"].tolist())
        spoken = np.isin(columns["role"], _SPOKEN)
        for turn in set(columns["turn"].tolist()) - self._first_words.keys():
            rows = np.flatnonzero((columns["turn"] == turn) & spoken)
            first = rows[columns["message"][rows] == columns["message"][rows[0]]] if len(rows) else rows
            self._first_words[turn] = self._words(columns["token"][first].tolist())

    def take(self) -> str:
        """What was let go since the last call, empty if nothing was."""
        text = self.told()
        self.clear()
        return text

    def told(self, n_most: int | None = None) -> str:
        """As `take`, and it stays; n_most: turns that are named."""
        if not self._tokens:
            return ""
        n, turns = sum(self._tokens.values()), sorted(self._tokens)
        parts = [f"{turn}{self._first_words[turn]}" for turn in turns[:n_most]]
        if len(parts) < len(turns):
            parts.append(f"and {len(turns) - len(parts)} more (/memory)")
        return f"let go {n} tokens of turn{'s' if len(turns) > 1 else ''} {', '.join(parts)}"

    def clear(self) -> None:
        """Forgets what was collected."""
        self._tokens.clear()
        self._first_words.clear()

    def _words(self, tokens: list[int]) -> str:
        if self.codec is None or not tokens:
            return ""
        text = b"".join(self.codec.piece(t) for t in tokens[:32]).decode("utf-8", "ignore").split()
        return f" “{shown(' '.join(text[:_N_WORDS]))}{' …' if len(text) > _N_WORDS else ''}”"


def shown(text: str) -> str:
    """`text` without control codes, which a terminal would obey."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
