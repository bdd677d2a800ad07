"""Regular expressions of JSON schemas as parts of a grammar: the inside of a JSON string that fits one."""

import re

from edge_sir.errors import ConfigError
from edge_sir.grammar.rules import CharClass

__all__ = ["string_of_pattern"]

_PLAIN = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x10FFFF))  # characters that stand for themselves in a JSON string
_DIGITS, _WORDS, _BLANKS = ((48, 57),), ((48, 57), (65, 90), (95, 95), (97, 122)), ((32, 32), (0xA0, 0xA0))
_SETS = {"d": _DIGITS, "w": _WORDS, "s": _BLANKS}
_NAMED = {"n": "\\\\n", "r": "\\\\r", "t": "\\\\t", "f": "\\\\f"}  # as a JSON string has them
_TIMES = re.compile(r"[*+?]|\{\d{1,5}(?:,\d{0,5})?\}")
_MOST_NESTED = 100

Ranges = tuple[tuple[int, int], ...]


def string_of_pattern(pattern: str) -> str:
    """What stands for the texts in which the pattern is found. Raises ConfigError for one that a grammar cannot keep.

    Known are characters, classes, groups, alternatives and repetitions, and ^ and $ at the ends.
    """
    reader = _Reader(pattern)
    inner = reader.alternatives(0)
    if reader.at < len(pattern):
        raise reader.refused()
    before = "" if reader.is_begun else "char* "
    return f"{before}({inner})" + ("" if reader.is_ended else " char*")


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.is_begun = pattern.startswith("^")
        self.is_ended = pattern.endswith("$") and (len(pattern) - len(pattern[:-1].rstrip("\\"))) % 2 == 1
        self._pattern = pattern[: len(pattern) - 1] if self.is_ended else pattern
        self.at = int(self.is_begun)
        if (self.is_begun or self.is_ended) and _has_open_alternative(self._pattern):
            raise self.refused()  # ^a|b$ is (^a)|(b$)
        self._length = len(self._pattern)
        self.is_ended_at = self._length

    def refused(self) -> ConfigError:
        return ConfigError(f"the pattern {self._pattern[:60]!r} of the JSON schema cannot be kept; write a plainer one")

    def alternatives(self, depth: int) -> str:
        if depth > _MOST_NESTED:
            raise self.refused()
        found: list[list[str]] = [[]]
        while self.at < self._length:
            char = self._pattern[self.at]
            if char == ")":
                break
            self.at += 1
            if char == "|":
                found.append([])
                continue
            found[-1].append(self._unit(char, depth) + self._times())
        if depth == 0 and self.at == self._length:
            self.at = len(self._pattern) + self.is_ended
        return " | ".join(" ".join(units) or '""' for units in found)

    def _unit(self, char: str, depth: int) -> str:
        if char == "(":
            if self._pattern.startswith("?", self.at):
                if not self._pattern.startswith("?:", self.at):
                    raise self.refused()
                self.at += 2
            inner = self.alternatives(depth + 1)
            if self.at >= self._length:
                raise self.refused()
            self.at += 1
            return f"({inner})"
        if char == "[":
            return self._class()
        if char == ".":
            return "char"
        if char == "\\":
            return self._escaped()
        if char in "*+?{}^$]":
            raise self.refused()
        return _character(char)

    def _escaped(self) -> str:
        if self.at >= self._length:
            raise self.refused()
        char = self._pattern[self.at]
        self.at += 1
        if char.lower() in _SETS:
            return _class_of(_SETS[char.lower()], negated=char.isupper())
        if char in _NAMED:
            return f'"{_NAMED[char]}"'
        if char.isalnum():
            raise self.refused()
        return _character(char)

    def _class(self) -> str:
        ranges: list[tuple[int, int]] = []
        negated = self._pattern.startswith("^", self.at)
        self.at += negated
        while True:
            first = self._in_class()
            if first is None:
                return _class_of(tuple(ranges), negated=negated)
            if isinstance(first, tuple):
                ranges += first
                continue
            last: int = first
            if self._pattern.startswith("-", self.at) and not self._pattern.startswith("-]", self.at):
                self.at += 1
                end = self._in_class()
                if not isinstance(end, int) or end < first:
                    raise self.refused()
                last = end
            ranges.append((first, last))

    def _in_class(self) -> int | Ranges | None:
        """The next character of a class, or those of a set in it; None at its end."""
        if self.at >= self._length:
            raise self.refused()
        char = self._pattern[self.at]
        self.at += 1
        if char == "]":
            return None
        if char != "\\":
            return ord(char)
        if self.at >= self._length:
            raise self.refused()
        char = self._pattern[self.at]
        self.at += 1
        if char in _SETS:
            return _SETS[char]
        if char.isalnum():
            raise self.refused()
        return ord(char)

    def _times(self) -> str:
        found = _TIMES.match(self._pattern, self.at)
        if found is None:
            return ""
        self.at = found.end()
        if self._pattern.startswith("?", self.at):  # which of several readings, does not matter here
            self.at += 1
        return found[0]


def _has_open_alternative(pattern: str) -> bool:
    """Whether a | stands outside of all groups and classes."""
    bare = re.sub(r"\\.", "", pattern, flags=re.DOTALL)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    depth = 0
    for char in bare:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            return True
    return False


def _character(char: str) -> str:
    """One character, as a JSON string has it."""
    if char in '"\\':
        return '"\\\\' + f'\\{char}"'
    if char < " ":
        return f'"\\\\u{ord(char):04x}"'
    return f'"\\U{ord(char):08X}"'


def _class_of(ranges: Ranges, *, negated: bool) -> str:
    wanted = CharClass.of(ranges, negated=negated)
    plain = [(max(a, c), min(b, d)) for a, b in wanted.ranges for c, d in _PLAIN if max(a, c) <= min(b, d)]
    found = "".join(f"\\U{a:08X}-\\U{b:08X}" for a, b in plain)
    quoted = [_character(c) for c in '"\\' if ord(c) in wanted]
    return f"([{found}]" + "".join(f" | {part}" for part in quoted) + ")"
