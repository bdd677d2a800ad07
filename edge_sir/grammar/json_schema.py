"""JSON schemas as grammars.

What a schema says of structure holds for every reply: types, properties in their order, required ones, items, enums,
lengths, patterns, bounds of whole numbers, references within the schema. Not looked at, so that a reply may miss them:
`multipleOf`, `uniqueItems`, bounds of other numbers, formats but date, time, date-time and uuid. A schema that says
something else that a grammar cannot is refused. Where properties are listed, others come only with
`additionalProperties`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.grammar.gbnf import MOST_CHARACTERS, MOST_TIMES
from edge_sir.grammar.integers import integers_between
from edge_sir.grammar.patterns import string_of_pattern

__all__ = ["SchemaRules", "literal", "schema_to_gbnf"]

_MOST_NESTED = 100
_MOST_TEXT = 1_000_000  # characters
_MOST_MERGED = 30_000  # parts, and what stands in them: references may double them at every step
_REFUSED = (
    "not",
    "if",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "contains",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
)
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_FORMATS = {
    "date": 'date ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "time": 'time ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
    '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
    "date-time": 'date-time ::= date "T" time',
    "uuid": 'uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
}
_SHARED = r"""
ws ::= | " " | "\n" [ \t]{0,20}
hex ::= [0-9a-fA-F]
char ::= [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] hex{3} | [dD] [0-7] hex{2}))
string ::= "\"" char* "\""
digits ::= "0" | [1-9] [0-9]{0,15}
integer ::= "-"? digits
number ::= "-"? digits ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
object ::= "{" ws (member ("," ws member)*)? ws "}"
member ::= string ws ":" ws any
array ::= "[" ws (any ("," ws any)*)? ws "]"
any ::= object | array | string | number | boolean | null
"""


def schema_to_gbnf(text: str) -> str:
    """The grammar of the JSON texts that fit a schema, given as JSON text. Raises ConfigError for one it has not."""
    if len(text) > _MOST_TEXT:
        raise ConfigError(f"a JSON schema of {len(text)} characters is too large; the most are {_MOST_TEXT}")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the JSON schema is no JSON: {' '.join(str(error).split())[:100]}") from None
    rules = SchemaRules()
    return rules.grammar(rules.of(schema))


def literal(text: str) -> str:
    """A text as a grammar has it."""
    escaped = "".join(
        f"\\{c}" if c in '"\\' else c if " " <= c != "\x7f" and c < "\u0100" else f"\\U{ord(c):08X}" for c in text
    )
    return f'"{escaped}"'


class SchemaRules:
    """Collects the rules of one or several schemas."""

    def __init__(self) -> None:
        self._rules: list[str] = []
        self._n_characters = 0
        self._n_merged = 0
        self._refs: dict[tuple[int, str], str] = {}
        self._formats: dict[str, None] = {}

    def grammar(self, root: str) -> str:
        """All of it, with `root` as what a reply is."""
        formats = ("date", "time", "date-time") if "date-time" in self._formats else self._formats
        shown = [_FORMATS[name] for name in dict.fromkeys([*formats, *self._formats])]
        return "\n".join([f"root ::= {root}", *self._rules, *shown]) + _SHARED

    def of(self, schema: Any) -> str:
        """What stands for a schema in a rule. Raises ConfigError."""
        return self._visit(schema, schema, 0)

    # ---- by kind -------------------------------------------------------------------------------

    def _visit(self, schema: Any, whole: Any, depth: int) -> str:
        if schema is True or schema == {}:
            return "any"
        if not isinstance(schema, dict):
            raise ConfigError(f"a part of the JSON schema is {_short(schema)}; it must be an object")
        if depth > _MOST_NESTED:
            raise ConfigError(f"the JSON schema is nested more than {_MOST_NESTED} deep; make it flatter")
        for name in _REFUSED:
            if name in schema:
                raise ConfigError(f"'{name}' of a JSON schema cannot be kept by a grammar; leave it out")
        if "$ref" in schema:
            return self._ref(schema["$ref"], whole, depth)
        if "allOf" in schema:
            parts = [self._resolved(part, whole) for part in _list(schema, "allOf")]
            return self._visit(self._merge([_without(schema, "allOf"), *parts]), whole, depth + 1)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                base = _without(schema, name)
                alternatives = [
                    self._visit(
                        self._merge([base, self._resolved(part, whole)]) if _says(base) else part, whole, depth + 1
                    )
                    for part in _list(schema, name)
                ]
                return self._add(" | ".join(alternatives))
        if "const" in schema:
            return self._value(schema["const"])
        if "enum" in schema:
            return self._add(" | ".join(map(self._value, _list(schema, "enum"))))
        return self._by_type(schema, whole, depth)

    def _by_type(self, schema: Mapping[str, Any], whole: Any, depth: int) -> str:
        kinds = schema.get("type", _type_of(schema))
        if kinds is None:
            return "any"
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
            raise ConfigError(
                f"'type' of a JSON schema is {_short(schema.get('type'))}; it is one of {', '.join(_TYPES)}"
            )
        if schema.get("nullable") is True and "null" not in kinds:
            kinds = [*kinds, "null"]
        found = [self._of_type(kind, schema, whole, depth) for kind in kinds]
        return found[0] if len(found) == 1 else self._add(" | ".join(found))

    def _of_type(self, kind: str, schema: Mapping[str, Any], whole: Any, depth: int) -> str:
        if kind == "object":
            return self._object(schema, whole, depth)
        if kind == "array":
            return self._array(schema, whole, depth)
        if kind == "string":
            return self._string(schema)
        if kind == "integer":
            return self._integer(schema)
        return kind

    def _object(self, schema: Mapping[str, Any], whole: Any, depth: int) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise ConfigError("'properties' of a JSON schema must be an object, and 'required' a list")
        required = dict.fromkeys(name for name in required if isinstance(name, str))
        properties = properties | {name: True for name in required if name not in properties}
        others = schema.get("additionalProperties", not properties)
        if not properties and others is True:
            return "object"
        more = ""
        if others is not False:
            value = "any" if others is True else self._visit(others, whole, depth + 1)
            more = self._add(f'string ws ":" ws {value}')
        # What may stand from each property on: where one came before, and where none did.
        behind = self._add(f'("," ws {more})*' if more else '""')
        first = self._add(f'({more} ("," ws {more})*)?' if more else '""')
        for name, part in reversed(properties.items()):
            value = self._visit(part, whole, depth + 1)
            member = self._add(f'{self._value(name)} ws ":" ws {value}')
            first = self._add(f"{member} {behind}" + ("" if name in required else f" | {first}"))
            behind = self._add(f'"," ws {member} {behind}' + ("" if name in required else f" | {behind}"))
        return self._add(f'"{{" ws {first} ws "}}"')

    def _array(self, schema: Mapping[str, Any], whole: Any, depth: int) -> str:
        least, most = _bounds(schema, "minItems", "maxItems")
        prefix = schema.get("prefixItems", schema["items"] if isinstance(schema.get("items"), list) else [])
        if not isinstance(prefix, list):
            raise ConfigError("'prefixItems' of a JSON schema must be a list")
        if prefix:
            items = ' "," ws '.join(self._visit(part, whole, depth + 1) for part in prefix)
            return self._add(f'"[" ws {items} ws "]"')
        if most == 0:
            return self._add('"[" ws "]"')
        item = self._visit(schema.get("items", True), whole, depth + 1)
        times = f"{{{max(0, least - 1)},{'' if most is None else most - 1}}}"
        items = f'{item} ("," ws {item}){times}'
        return self._add(f'"[" ws {items if least else f"({items})?"} ws "]"')

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema:
            if not isinstance(schema["pattern"], str):
                raise ConfigError("'pattern' of a JSON schema must be text")
            return self._add(f'"\\"" {string_of_pattern(schema["pattern"])} "\\""')
        if isinstance(name := schema.get("format"), str) and name in _FORMATS:
            self._formats[name] = None
            return self._add(f'"\\"" {name} "\\""')
        least, most = _bounds(schema, "minLength", "maxLength")
        if not least and most is None:
            return "string"
        return self._add(f'"\\"" char{{{least},{"" if most is None else most}}} "\\""')

    def _integer(self, schema: Mapping[str, Any]) -> str:
        bounds = []
        for name, beyond, step in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
            found = [_number(schema, name, step, exclusive=False), _number(schema, beyond, step, exclusive=True)]
            known = [value for value in found if value is not None]
            bounds.append((max(known) if step > 0 else min(known)) if known else None)
        return "integer" if bounds == [None, None] else self._add(integers_between(*bounds))

    # ---- helpers -------------------------------------------------------------------------------

    def _value(self, value: Any) -> str:
        return literal(json.dumps(value, ensure_ascii=False))

    def _ref(self, ref: Any, whole: Any, depth: int) -> str:
        key = id(whole), str(ref)
        if key not in self._refs:
            target = _target(ref, whole)
            name = self._refs[key] = f"ref-{len(self._refs)}"
            self._write(name, self._visit(target, whole, depth + 1))
        return self._refs[key]

    def _resolved(self, schema: Any, whole: Any) -> Any:
        for _ in range(_MOST_NESTED):
            if not (isinstance(schema, dict) and "$ref" in schema):
                return schema
            schema = _target(schema["$ref"], whole)
        raise ConfigError("the references of the JSON schema go round in a ring")

    def _merge(self, parts: Sequence[Any]) -> dict[str, Any]:
        said = [value for part in parts if isinstance(part, dict) for value in part.values()]
        self._n_merged += len(parts) + sum(len(value) for value in said if isinstance(value, list | dict))
        if self._n_merged > _MOST_MERGED:
            raise ConfigError("the JSON schema is too large for a grammar; make it smaller")
        return _merged(parts)

    def _add(self, rule: str) -> str:
        name = f"r{len(self._rules)}"
        self._write(name, rule)
        return name

    def _write(self, name: str, rule: str) -> None:
        self._rules.append(f"{name} ::= {rule}")
        self._n_characters += len(rule)
        if self._n_characters > MOST_CHARACTERS // 2:
            raise ConfigError("the JSON schema is too large for a grammar; make it smaller")


def _target(ref: Any, whole: Any) -> Any:
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        raise ConfigError(f"'$ref' {_short(ref)} of the JSON schema points elsewhere; one to '#/...' can be followed")
    found = whole
    for step in ref.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise ConfigError(f"'$ref' {_short(ref)} points to nothing in the JSON schema")
    return found


def _merged(schemas: Sequence[Any]) -> dict[str, Any]:
    """One schema that says what all of them say; of what two say differently, the later one's."""
    both: dict[str, Any] = {}
    for schema in schemas:
        if schema is True:
            continue
        if not isinstance(schema, dict):
            raise ConfigError(f"a part of the JSON schema is {_short(schema)}; it must be an object")
        for name, value in schema.items():
            before = both.get(name)
            if name == "properties" and isinstance(before, dict) and isinstance(value, dict):
                both[name] = before | value
            elif name in ("required", "allOf") and isinstance(before, list) and isinstance(value, list):
                both[name] = before + value
            else:
                both[name] = value
    return both


def _type_of(schema: Mapping[str, Any]) -> str | None:
    """The type that a schema means which does not name it."""
    means = {
        "object": ("properties", "required", "additionalProperties"),
        "array": ("items", "prefixItems", "minItems", "maxItems"),
        "string": ("pattern", "minLength", "maxLength", "format"),
        "integer": (),
    }
    return next((kind for kind, names in means.items() if any(name in schema for name in names)), None)


def _says(schema: Mapping[str, Any]) -> bool:
    """Whether it says anything of what fits."""
    return any(name in schema for name in ("type", "properties", "required", "items", "additionalProperties"))


def _without(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


def _list(schema: Mapping[str, Any], name: str) -> list[Any]:
    found = schema[name]
    if not isinstance(found, list) or not found:
        raise ConfigError(f"'{name}' of a JSON schema must be a list that is not empty")
    return found


def _bounds(schema: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    found = [schema.get(least, 0), schema.get(most)]
    for name, value in zip((least, most), found, strict=True):
        if value is not None and (not isinstance(value, int | float) or value != value // 1 or value < 0):
            raise ConfigError(f"'{name}' of a JSON schema is {_short(value)}; it must be a whole number")
    low, high = int(found[0] or 0), None if found[1] is None else int(found[1])
    if high is not None and high < low:
        raise ConfigError(f"'{most}' of a JSON schema is less than its '{least}'; nothing fits that")
    if low > MOST_TIMES:
        raise ConfigError(f"'{least}' of a JSON schema is {low}; the most are {MOST_TIMES}")
    return low, None if high is not None and high > MOST_TIMES else high  # no reply is as long


def _number(schema: Mapping[str, Any], name: str, step: int, *, exclusive: bool) -> int | None:
    """The outermost whole number that a bound lets in."""
    value = schema.get(name)
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, int | float) or not abs(value) <= 10**15:
        raise ConfigError(f"'{name}' of a JSON schema is {_short(value)}; it must be a number of at most 15 digits")
    inner = -(-value // 1) if step > 0 else value // 1
    return int(inner) + (step if exclusive and inner == value else 0)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
