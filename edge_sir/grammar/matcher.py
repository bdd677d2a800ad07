"""How far a text came in a grammar, character by character.

A state is the set of characters that may come next, each with what is still to follow it. What follows is shared among
all that it follows, so that a grammar with many readings of one text does not grow with their number.
"""

from collections.abc import Iterable

from edge_sir.errors import ConfigError
from edge_sir.grammar.rules import END, CharClass, Rules

__all__ = ["DEAD", "Matcher"]

DEAD = -1
"""The state of a text that does not fit."""

_MOST_ITEMS = 50_000
_MOST_KNOWN = 1_000_000
_ROOT_END = (-1, -1)

Item = tuple[int, int]
"""An element, and what follows its rule: the number of a set of items; during a step, -1 - r stands for those that
follow rule r where it was begun in this step."""


class Matcher:
    """The states of one grammar, by number; `start` is that of an empty text. work: items looked at so far."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._follows: list[frozenset[Item]] = []
        self._follow_numbers: dict[frozenset[Item], int] = {}
        self._states: list[tuple[tuple[CharClass, int, int], ...]] = []
        self._accepts: list[bool] = []
        self._state_numbers: dict[tuple[bool, frozenset[Item]], int] = {}
        self._known: dict[tuple[int, int], int] = {}
        self.work = 0
        end = self._follow(frozenset([_ROOT_END]))
        self.start = self._state([(start, end) for start in rules.starts[rules.root]])

    def accepts(self, state: int) -> bool:
        """Whether the text may end here."""
        return self._accepts[state]

    def classes(self, state: int) -> set[CharClass]:
        """The characters that may come next."""
        return {found for found, _, _ in self._states[state]}

    def step(self, state: int, char: int) -> int:
        """The state behind one more character, `DEAD` if it cannot come. Raises ConfigError if it has too many."""
        key = state, char
        found = self._known.get(key)
        if found is None:
            ways = [(at + 1, follow) for chars, at, follow in self._states[state] if char in chars]
            found = self._state(ways) if ways else DEAD
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def after(self, state: int, text: str) -> int:
        """The state behind a text."""
        for char in text:
            state = self.step(state, ord(char))
            if state == DEAD:
                break
        return state

    # ---- making states -------------------------------------------------------------------------

    def _state(self, items: Iterable[Item]) -> int:
        """The state of all that these items lead to before a character comes."""
        rules, elements = self._rules, self._rules.elements
        begun: dict[int, tuple[set[Item], set[int]]] = {}  # by rule: what follows it, and whose follow it takes over
        todo, seen, ends = list(items), set[Item](), False
        while todo:
            item = todo.pop()
            if item in seen:
                continue
            seen.add(item)
            if len(seen) > _MOST_ITEMS:
                raise ConfigError("the grammar has too many readings of one text; write it so that it has fewer")
            at, follow = item
            element = elements[at] if at >= 0 else END
            if item == _ROOT_END:
                ends = True
            elif element is END:
                # What is nothing at all was passed over where it was begun.
                todo += self._follows[follow] if follow >= 0 else ()
            elif isinstance(element, int):
                if element not in begun:
                    begun[element] = set(), set()
                    todo += [(start, -1 - element) for start in rules.starts[element]]
                if elements[at + 1] is END:
                    begun[element][1].add(follow)
                else:
                    begun[element][0].add((at + 1, follow))
                if rules.nullable[element]:
                    todo.append((at + 1, follow))
        self.work += len(seen)
        numbers = self._numbered(begun)
        waiting = frozenset(
            (at, numbers[-1 - follow] if follow < 0 else follow)
            for at, follow in seen
            if at >= 0 and isinstance(elements[at], CharClass)
        )
        return self._intern(ends, waiting)

    def _numbered(self, begun: dict[int, tuple[set[Item], set[int]]]) -> dict[int, int]:
        """The number of what follows each rule that was begun, those that it stands on first."""
        numbers: dict[int, int] = {}
        todo = list(begun)
        while todo:
            rule = todo[-1]
            if rule in numbers:
                todo.pop()
                continue
            own, taken = begun[rule]
            follows = (*taken, *(follow for _, follow in own))
            needed = {-1 - follow for follow in follows if follow < 0 and -1 - follow not in numbers}
            if needed:
                todo += needed
                continue
            found = {(at, numbers[-1 - follow] if follow < 0 else follow) for at, follow in own}
            for follow in taken:
                found |= self._follows[numbers[-1 - follow] if follow < 0 else follow]
            numbers[rule] = self._follow(frozenset(found))
            todo.pop()
        return numbers

    def _follow(self, items: frozenset[Item]) -> int:
        number = self._follow_numbers.setdefault(items, len(self._follows))
        if number == len(self._follows):
            self._follows.append(items)
        return number

    def _intern(self, ends: bool, waiting: frozenset[Item]) -> int:
        key = ends, waiting
        number = self._state_numbers.setdefault(key, len(self._states))
        if number == len(self._states):
            found = []
            for at, follow in sorted(waiting):
                element = self._rules.elements[at]
                assert isinstance(element, CharClass)
                found.append((element, at, follow))
            self._states.append(tuple(found))
            self._accepts.append(ends)
        return number
