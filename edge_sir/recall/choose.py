"""Which sentences of a turn that matches come back, where not all of them have room."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Sentence", "chosen"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a turn. n_shared: of the message's words those that it holds; born: orders those of one turn."""

    n_tokens: int
    n_shared: int
    by_user: bool
    born: int


def chosen(sentences: Sequence[Sentence], n_most: int, *, by_meaning: bool = False) -> list[tuple[int, int]]:
    """Indices of sentences, and how many of their first tokens: `n_most` in all at most.

    First those with the message's words, the last one cut where it must be. Beside them others, the user's first, as
    long as they leave half of the room to other turns. by_meaning: no word of the message is in the turn, and the
    others are all there is.
    """
    ranked = sorted(enumerate(sentences), key=lambda one: (-one[1].n_shared, not one[1].by_user, one[1].born))
    found: list[tuple[int, int]] = []
    n_left = n_most
    for index, part in ranked:
        n = min(part.n_tokens, n_left) if part.n_shared else part.n_tokens
        if 0 < n <= n_left and (part.n_shared or ((found or by_meaning) and n_left - n >= n_most // 2)):
            found.append((index, n))
            n_left -= n
    return found
