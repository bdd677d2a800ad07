"""Says what was evicted, in one line per turn of the conversation."""

import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

from edge_sir.chat import Chat
from edge_sir.cli._counts import many
from edge_sir.core.ledger import ROLES
from edge_sir.memory.evictions import Evicted
from edge_sir.memory.transcript import Message
from edge_sir.text.reply import Recalled

__all__ = ["N_TURNS", "Losses", "first_words", "folded", "loss_line", "recall_line", "shown"]

N_TURNS = 4  # that are named at most; /memory shows all
_USER = ROLES.index("user")
_N_WORDS = 5
_N_CHARS = 40  # a web address is one word, too


class Losses:
    """What made room since the last call of `take`, as the chat's log of evictions has it: how much of which turn."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._from = len(chat.evictions)

    def listed(self) -> list[dict[str, Any]]:
        """As values, by turn: tokens evicted, how many of them were template tokens, and how the turn began."""
        tokens, template = self._counted()
        return [
            {
                "turn": turn,
                "tokens": tokens[turn] + template[turn],
                "markers": template[turn],
                "text": self._words(turn),
            }
            for turn in sorted(tokens.keys() | template.keys())
        ]

    def take(self) -> str:
        """What was evicted since the last call, empty if nothing was."""
        text = self.line()
        self.clear()
        return text

    def line(self, n_most: int = N_TURNS) -> str:
        """As `take`, and it stays; n_most: turns that are named, those that lost most."""
        tokens, _ = self._counted()
        return loss_line(tokens, self._own(), self._named, n_most)

    def clear(self) -> None:
        """From now on, only what is evicted later counts."""
        self._from = len(self._chat.evictions)

    def _entries(self) -> list[Evicted]:
        """Thoughts leave by design, even early, and who forgets on purpose knows."""
        found = self._chat.evictions.since(self._from)
        return [entry for entry in found if isinstance(entry, Evicted) and entry.why == "room"]

    def _counted(self) -> tuple[Counter[int], Counter[int]]:
        """Tokens of what was said, and template tokens, by turn; a turn that lost none is in neither."""
        tokens: Counter[int] = Counter()
        template: Counter[int] = Counter()
        for loss in (loss for entry in self._entries() for loss in entry.losses):
            tokens[loss.turn] += loss.n_content
            template[loss.turn] += loss.n_template
        return +tokens, +template

    def _own(self) -> int:
        """Tokens that the newest turn's message lost while the turn ran: it was longer than its cells."""
        entries = self._entries()
        now = max((entry.turn_now for entry in entries), default=0)
        columns = [entry.columns for entry in entries if entry.turn_now == now]
        return sum(int(((c["turn"] == now) & (c["role"] == _USER)).sum()) for c in columns)

    def _named(self, turn: int) -> str:
        words = shown(self._words(turn))
        return f"turn {turn} ({words})" if words else f"turn {turn}"

    def _words(self, turn: int) -> str:
        return first_words(self._chat.transcript.of(turn))


def loss_line(tokens: Mapping[int, int], n_own: int, named: Callable[[int], str], n_most: int) -> str:
    """One line about `tokens` evicted by turn; n_own: of them, those of the last message.

    Not which tokens: of twenty turns a few words each, that would be a page and read as none. Nor template tokens: they
    are no content, and a turn without them is still whole.
    """
    n, n_turns = sum(tokens.values()), len(tokens)
    if n_turns == 0:
        return ""
    worst = sorted(tokens, key=lambda turn: (-tokens[turn], turn))[:n_most]
    if not worst:
        own = f", {n_own} of them of your last message" if n_own else ""
        return f"evicted {many(n, 'token')} of {many(n_turns, 'turn')}{own} (/memory)"
    if n_turns == 1:
        return f"evicted {many(n, 'token')} of {named(worst[0])}"
    parts = [f"of {named(turn)} {tokens[turn]}" for turn in worst]
    if len(parts) < n_turns:
        parts.append(f"and {many(n_turns - len(parts), 'more turn')} (/memory)")
    return f"evicted {n} tokens: {', '.join(parts)}"


def first_words(said: Iterable[Message]) -> str:
    """How a turn began, as it was said; without the user's words what else there is."""
    texts = sorted(said, key=lambda message: message.role != "user")
    return _begun(texts[0].text) if texts else ""


def _begun(text: str) -> str:
    words = text.split()
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


def recall_line(recalled: Sequence[Recalled]) -> str:
    """What came back for a turn, in one line; empty for nothing."""
    if not recalled:
        return ""
    named = [f"turn {r.turn} ({many(r.n_tokens, 'token')}: “{_begun(r.text)}”)" for r in recalled[:N_TURNS]]
    more = len(recalled) - len(named)
    return f"recalled {', '.join(named)}" + (f" and {many(more, 'more turn')}" if more else "")
