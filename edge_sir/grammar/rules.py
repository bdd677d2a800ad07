"""The rules of a grammar as a table, checked: what is built from one cannot fail later.

A grammar is a list of elements. A rule has alternatives, each a run of elements that ends with an `END`; an element is
one character out of a class, or a reference to a rule. No rule begins with itself, so that no walk is without end.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_sir.errors import ConfigError

__all__ = ["END", "MOST_ELEMENTS", "CharClass", "Element", "Rules"]

END = "end"
MOST_ELEMENTS = 200_000
_LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CharClass:
    """Characters, as ranges (first, last) of code points: sorted, apart from each other."""

    ranges: Ranges
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_firsts", tuple(first for first, _ in self.ranges))

    @classmethod
    def of(cls, ranges: Sequence[tuple[int, int]], *, negated: bool = False) -> "CharClass":
        """Of ranges in any order; negated: of all other characters."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            elif first <= last:
                merged.append((first, last))
        if negated:
            edges = [-1, *(edge for pair in merged for edge in pair), _LAST + 1]
            merged = [(a + 1, b - 1) for a, b in zip(edges[::2], edges[1::2], strict=True) if a + 1 < b]
        return cls(tuple(merged))

    def __contains__(self, char: int) -> bool:
        at = bisect_right(self._firsts, char) - 1
        return at >= 0 and char <= self.ranges[at][1]

    def meets(self, first: int, last: int) -> bool:
        """Whether any character of first..last is in it."""
        return any(a <= last and first <= b for a, b in self.ranges)


Element = CharClass | int | str
"""One character of a class, a rule by its number, or END."""


class Rules:
    """A checked grammar.

    elements: of all alternatives, each ended by END. starts: by rule, where its alternatives begin. nullable: by rule,
    whether it may be nothing at all. Raises ConfigError for a rule that is not defined, or begins with itself.
    """

    def __init__(self, names: Sequence[str], rules: Sequence[Sequence[Sequence[Element]] | None], root: int) -> None:
        for name, rule in zip(names, rules, strict=True):
            if rule is None:
                raise ConfigError(f"the grammar uses '{name[:60]}' and does not define it; add a rule for it")
        self.root = root
        self.elements: list[Element] = []
        self.starts: list[tuple[int, ...]] = []
        for rule in rules:
            starts = []
            for alternative in rule or ():
                starts.append(len(self.elements))
                self.elements += [*alternative, END]
            self.starts.append(tuple(starts))
        self.nullable = self._find_nullable()
        self._refuse_left_recursion(names)

    def _alternative(self, start: int) -> list[Element]:
        stop = start
        while self.elements[stop] is not END:
            stop += 1
        return self.elements[start:stop]

    def _find_nullable(self) -> list[bool]:
        """Counts down, for each alternative of rules alone, those that are not known to be nullable yet."""
        nullable = [False] * len(self.starts)
        used_in: dict[int, list[tuple[int, int]]] = {}
        n_left: dict[int, int] = {}
        todo: list[int] = []
        for rule, starts in enumerate(self.starts):
            for start in starts:
                alternative = self._alternative(start)
                if any(isinstance(element, CharClass) for element in alternative):
                    continue
                n_left[start] = len(alternative)
                for element in alternative:
                    assert isinstance(element, int)
                    used_in.setdefault(element, []).append((rule, start))
                if not alternative:
                    todo.append(rule)
        while todo:
            rule = todo.pop()
            if nullable[rule]:
                continue
            nullable[rule] = True
            for other, start in used_in.get(rule, ()):
                n_left[start] -= 1
                if not n_left[start]:
                    todo.append(other)
        return nullable

    def _refuse_left_recursion(self, names: Sequence[str]) -> None:
        """Takes rules away that begin with none that is left; what stays goes round in a ring."""
        begins: list[set[int]] = []
        for starts in self.starts:
            found: set[int] = set()
            for start in starts:
                for element in self._alternative(start):
                    if not isinstance(element, int):
                        break
                    found.add(element)
                    if not self.nullable[element]:
                        break
            begins.append(found)
        begun_by: list[list[int]] = [[] for _ in begins]
        for rule, found in enumerate(begins):
            for other in found:
                begun_by[other].append(rule)
        n_left = [len(found) for found in begins]
        todo = [rule for rule, n in enumerate(n_left) if not n]
        while todo:
            for other in begun_by[todo.pop()]:
                n_left[other] -= 1
                if not n_left[other]:
                    todo.append(other)
        ring = next((rule for rule, n in enumerate(n_left) if n), None)
        if ring is not None:
            name = names[ring].partition("|")[0]
            raise ConfigError(
                f"the rule '{name[:60]}' of the grammar can begin with itself, or repeats what may be nothing; "
                "write it so that a character comes first"
            )
