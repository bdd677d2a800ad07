"""GBNF, llama.cpp's notation of grammars, read into `Rules`. llama.cpp never sees it: it would end the process on some.

    root   ::= answer " " [0-9]{1,3} "."
    answer ::= "yes" | "no"      # a comment

Known are literals, [classes], `.`, groups, `| * + ? {m} {m,} {m,n}`, and the escapes \\x41 \\u0041 \\U00000041 \\n \\r
\\t \\\\ \\" \\[ \\] \\-. Not known are single tokens (`<[id]>`, `<name>`).
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

from edge_sir.errors import ConfigError
from edge_sir.grammar.rules import MOST_ELEMENTS, CharClass, Element, Rules

__all__ = ["MOST_CHARACTERS", "MOST_TIMES", "parse_gbnf"]

MOST_CHARACTERS = 200_000
MOST_TIMES = 20_000
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_TIMES = re.compile(r"\{[ \t]*([0-9]{1,9})[ \t]*(?:(,)[ \t]*([0-9]{1,9})?[ \t]*)?\}")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"} | {c: c for c in '\\"[]-'}
_HEX = {"x": 2, "u": 4, "U": 8}
_ANY = CharClass.of([(0, 0x10FFFF)])

Symbol = list[Element]


@dataclass(slots=True)
class _Open:
    """A rule or a group that is being read."""

    rule: int
    alternatives: list[list[Symbol]] = field(default_factory=lambda: [[]])


@lru_cache(maxsize=16)
def parse_gbnf(text: str) -> Rules:
    """The rules of a grammar, begun by `root`. Raises ConfigError, in one line, for one that cannot be used."""
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"a grammar of {len(text)} characters is too long; the most are {MOST_CHARACTERS}")
    return _Parser(text).parse()


@lru_cache(maxsize=1024)
def _one(char: int) -> CharClass:
    return CharClass(((char, char),))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._rules: list[list[list[Element]] | None] = []
        self._n_elements = 0

    def parse(self) -> Rules:
        self._skip(_BLANK_LINES)
        while self._at < len(self._text):
            self._rule()
            self._skip(_BLANK_LINES)
        if self._numbers.get("root") is None:
            raise ConfigError("the grammar has no rule 'root'; add one, with which replies begin")
        return Rules(self._names, self._rules, self._numbers["root"])

    # ---- rules ---------------------------------------------------------------------------------

    def _rule(self) -> None:
        name = self._name()
        self._skip(_BLANK)
        if not self._text.startswith("::=", self._at):
            self._fail("'::=' is missing")
        self._at += 3
        self._skip(_BLANK_LINES)
        self._alternatives(self._number(name))
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            self._fail("the rule should end here")

    def _alternatives(self, rule: int) -> None:
        """Reads to the end of the rule; groups in groups are kept on a list, however deep they are."""
        opened = [_Open(rule)]
        while self._at < len(self._text):
            current, char = opened[-1], self._text[self._at]
            blank = _BLANK_LINES if len(opened) > 1 else _BLANK
            if char == "|":
                current.alternatives.append([])
                blank = _BLANK_LINES
                self._at += 1
            elif char == "(":
                opened.append(_Open(self._new_rule(rule)))
                blank = _BLANK_LINES
                self._at += 1
            elif char == ")" and len(opened) > 1:
                self._at += 1
                self._close(opened.pop())
                opened[-1].alternatives[-1].append([current.rule])
                blank = _BLANK_LINES if len(opened) > 1 else _BLANK
            elif not self._symbol(char, current, rule):
                break
            self._skip(blank)
        if len(opened) > 1:
            self._fail("')' is missing")
        self._close(opened[0])

    def _symbol(self, char: str, current: _Open, rule: int) -> bool:
        """Reads a symbol, or what repeats the last one; False where the rule ends."""
        symbols = current.alternatives[-1]
        if char == '"':
            symbols.append(self._literal())
        elif char == "[":
            symbols.append([self._class()])
        elif char == ".":
            self._at += 1
            symbols.append([_ANY])
        elif char in "*+?{":
            if not symbols:
                self._fail(f"'{char}' repeats nothing")
            symbols[-1] = self._repeated(symbols[-1], *self._times(), rule)
        elif char in "<!":
            self._fail("single tokens cannot be asked for; write their text")
        elif _NAME.match(char):
            symbols.append([self._number(self._name())])
        else:
            return False
        return True

    def _close(self, opened: _Open) -> None:
        if self._rules[opened.rule] is not None:
            self._fail(f"'{self._names[opened.rule][:60]}' is defined twice")
        rule = [[e for symbol in alternative for e in symbol] for alternative in opened.alternatives]
        self._count(sum(map(len, rule)) + len(rule))
        self._rules[opened.rule] = rule

    # ---- symbols -------------------------------------------------------------------------------

    def _literal(self) -> Symbol:
        self._at += 1
        found: Symbol = []
        while (char := self._character('"')) is not None:
            found.append(_one(char))
        self._count(len(found))
        return found

    def _class(self) -> CharClass:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        ranges = []
        while (first := self._character("]")) is not None:
            last: int | None = first
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                last = self._character("")
            assert last is not None
            ranges.append((first, last))
        return CharClass.of(ranges, negated=negated)

    def _character(self, end: str) -> int | None:
        """The next character of a literal or a class; None at its end."""
        text, at = self._text, self._at
        char = text[at : at + 1]
        if not char or (char == "\\" and at + 1 == len(text)):
            self._fail("the grammar ends in the middle of a literal or a class")
        self._at += 1
        if char == end:
            return None
        if char != "\\":
            return ord(char)
        kind = text[at + 1]
        self._at += 1
        if kind in _ESCAPED:
            return ord(_ESCAPED[kind])
        n = _HEX.get(kind, 0)
        digits = text[at + 2 : at + 2 + n]
        if not n or not re.fullmatch(rf"[0-9a-fA-F]{{{n}}}", digits) or int(digits, 16) > 0x10FFFF:
            self._at = at
            self._fail("this escape is not known")
        self._at += n
        return int(digits, 16)

    def _times(self) -> tuple[int, int | None]:
        char = self._text[self._at]
        if char != "{":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        found = _TIMES.match(self._text, self._at)
        if found is None:
            self._fail("'{' needs numbers as in {2}, {2,} or {2,5}")
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        if max(least, most or 0) > MOST_TIMES or (most is not None and most < least):
            self._fail(f"repeat 0 to {MOST_TIMES} times, the smaller number first")
        self._at = found.end()
        return least, most

    def _repeated(self, symbol: Symbol, least: int, most: int | None, rule: int) -> Symbol:
        """The symbol, written out: S{2,4} is S S R2, where R2 is nothing or S R1, and R1 nothing or S."""
        if not symbol:
            return symbol
        self._count((least + 1) * len(symbol))
        if len(symbol) > 1 and (least > 1 or most is None or most > 1):
            symbol = [self._added(rule, [symbol])]
        tail: Symbol = []
        if most is None:
            again = self._new_rule(rule)
            self._define(again, [[*symbol, again], []])
            tail = [again]
        else:
            for _ in range(most - least):
                tail = [self._added(rule, [[*symbol, *tail], []])]
        return [*(symbol * least), *tail]

    # ---- helpers -------------------------------------------------------------------------------

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = self._append(name)
        return self._numbers[name]

    def _new_rule(self, within: int) -> int:
        """A rule without a name, written inside of another."""
        return self._append(f"{self._names[within].partition('|')[0]}|")

    def _added(self, within: int, rule: list[list[Element]]) -> int:
        number = self._new_rule(within)
        self._define(number, rule)
        return number

    def _define(self, number: int, rule: list[list[Element]]) -> None:
        self._count(sum(map(len, rule)) + len(rule))
        self._rules[number] = rule

    def _append(self, name: str) -> int:
        self._names.append(name)
        self._rules.append(None)
        return len(self._names) - 1

    def _count(self, n: int) -> None:
        self._n_elements += n
        if self._n_elements > MOST_ELEMENTS:
            raise ConfigError("the grammar is too large once its repetitions are written out; repeat less")

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._fail("a rule's name should stand here")
        self._at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _fail(self, what: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        near = ascii(self._text[self._at : self._at + 20])
        raise ConfigError(f"the grammar is wrong in line {line}, at {near}: {what}")
