"""The tokens of a model as texts, to be looked through for those that go on in a grammar."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from edge_sir.grammar.matcher import DEAD, Matcher

__all__ = ["TokenTree", "Vocabulary"]

_AFTER_ALL = "\U0010ffff" * 2

Node = tuple[int, int, int]
"""Texts first..stop of the sorted ones, which share so many characters."""


class Vocabulary:
    """All tokens. A token that spells a NUL fits nothing, as in llama.cpp.

    pieces: by token, its bytes, empty for a control token. is_end: whether a token ends a generation. texts: by token,
    None for bytes that are no text of their own; broken: those tokens. ends: those that end a generation.
    """

    def __init__(self, pieces: Sequence[bytes], is_end: Callable[[int], bool]) -> None:
        self.ends = frozenset(token for token in range(len(pieces)) if is_end(token))
        self.pieces = [b"" if b"\0" in piece or token in self.ends else piece for token, piece in enumerate(pieces)]
        self.texts = [_text(piece) for piece in self.pieces]
        self.broken = [token for token, text in enumerate(self.texts) if text is None]
        self.tree = TokenTree(self.texts)


class TokenTree:
    """The texts in order: those with one beginning stand together. texts: by token, None or "" for none."""

    def __init__(self, texts: Sequence[str | None]) -> None:
        known = sorted((text, token) for token, text in enumerate(texts) if text)
        self._texts = [text for text, _ in known]
        self._tokens = [token for _, token in known]
        self._known: dict[Node, tuple[int, dict[str, Node]]] = {}

    def fitting(self, matcher: Matcher, state: int, most: int, work_until: int) -> list[int] | None:
        """The tokens that can come in a state; None if they begin in more than `most` ways, or take too much work."""
        todo: list[tuple[Node, int]] = [((0, len(self._texts), 0), state)]
        found: list[int] = []
        n_seen = 0
        while todo:
            node, state = todo.pop()
            n_whole, children = self._below(node)
            found += self._tokens[node[0] : node[0] + n_whole]
            chars = _few_chars(matcher, state, len(children))
            n_seen += len(children) if chars is None else len(chars)
            if n_seen > most or matcher.work > work_until:
                return None
            for char in children if chars is None else chars:
                child = children.get(char)
                if child is not None and (after := matcher.step(state, ord(char))) != DEAD:
                    todo.append((child, after))
        return found

    def _below(self, node: Node) -> tuple[int, dict[str, Node]]:
        """How many texts end here, and what goes on, by its next character."""
        if node not in self._known:
            texts, (first, stop, depth) = self._texts, node
            at = first
            while at < stop and len(texts[at]) == depth:
                at += 1
            n_whole, children = at - first, dict[str, Node]()
            while at < stop:
                beginning = texts[at][: depth + 1]
                end = bisect_left(texts, beginning + _AFTER_ALL, at, stop)
                children[beginning[-1]] = (at, end, depth + 1)
                at = end
            self._known[node] = n_whole, children
        return self._known[node]


def _few_chars(matcher: Matcher, state: int, n: int) -> list[str] | None:
    """The characters that can come next, if they are fewer than `n`."""
    classes = matcher.classes(state)
    if sum(last - first + 1 for chars in classes for first, last in chars.ranges) >= n:
        return None
    return [chr(c) for c in {c for chars in classes for a, b in chars.ranges for c in range(a, b + 1)}]


def _text(piece: bytes) -> str | None:
    """None for bytes that are no text of their own."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None
