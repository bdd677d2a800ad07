"""Says what was forgotten, in one line per turn of the conversation."""

from collections import Counter
from collections.abc import Iterable

from edge_sir.core.records import Eviction
from edge_sir.transcript import Message, Transcript

__all__ = ["N_TURNS", "Losses", "first_words", "shown"]

N_TURNS = 4  # that are named at most; /memory shows all
_N_WORDS = 5
_N_CHARS = 40  # a web address is one word, too


class Losses:
    """Collects evictions between two calls of `take`: how much of which turn. transcript: what the turns were."""

    def __init__(self) -> None:
        self.transcript: Transcript | None = None
        self._tokens: Counter[int] = Counter()

    def note(self, eviction: Eviction) -> None:
        """An eviction listener. Thoughts leave by design, and who forgets on purpose knows."""
        if eviction.why == "room":
            self._tokens.update(eviction.columns["turn"].tolist())

    def take(self) -> str:
        """What was let go since the last call, empty if nothing was."""
        text = self.told()
        self.clear()
        return text

    def told(self, n_most: int = N_TURNS) -> str:
        """As `take`, and it stays; n_most: turns that are named, those that lost most.

        Not which tokens: of twenty turns a few words each, that would be a page and read as none.
        """
        n, n_turns = sum(self._tokens.values()), len(self._tokens)
        if n_turns == 0:
            return ""
        worst = sorted(self._tokens, key=lambda turn: (-self._tokens[turn], turn))[:n_most]
        if not worst:
            return f"let go {n} tokens of {_turns(n_turns)} (/memory)"
        if n_turns == 1:
            return f"let go {n} tokens of {self._named(worst[0])}"
        parts = [f"of {self._named(turn)} {self._tokens[turn]}" for turn in worst]
        if len(parts) < n_turns:
            parts.append(f"and {_turns(n_turns - len(parts), 'more ')} (/memory)")
        return f"let go {n} tokens: {', '.join(parts)}"

    def clear(self) -> None:
        """Forgets what was collected."""
        self._tokens.clear()

    def _named(self, turn: int) -> str:
        words = "" if self.transcript is None else shown(first_words(self.transcript.of(turn)))
        return f"turn {turn} ({words})" if words else f"turn {turn}"


def first_words(said: Iterable[Message]) -> str:
    """How a turn began, as it was said; without the user's words what else there is."""
    texts = sorted(said, key=lambda message: message.role != "user")
    words = texts[0].text.split() if texts else []
    begun = " ".join(words[:_N_WORDS])
    cut = len(words) > _N_WORDS or len(begun) > _N_CHARS
    return begun[:_N_CHARS].rstrip() + (" …" if cut else "")


def _turns(n: int, more: str = "") -> str:
    return f"{n} {more}turn{'s' if n > 1 else ''}"


def shown(text: str) -> str:
    """`text` without control codes, which a terminal would obey."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
