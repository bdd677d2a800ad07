"""A JSON schema becomes a grammar of the texts that fit it, or is refused in one line."""

import json
import random
from typing import Any

import pytest

from edge_sir.errors import ConfigError
from edge_sir.grammar.gbnf import parse_gbnf
from edge_sir.grammar.integers import integers_between
from edge_sir.grammar.json_schema import schema_to_gbnf
from edge_sir.grammar.matcher import DEAD, Matcher

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "number"}, "k": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["v", "k"],
            "additionalProperties": False,
        }
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}, "tag": {"enum": ["a", 1, None]}},
    "required": ["name"],
}


def matcher_of(schema: Any) -> Matcher:
    return Matcher(parse_gbnf(schema_to_gbnf(json.dumps(schema))))


def fits(matcher: Matcher, text: str) -> bool:
    state = matcher.after(matcher.start, text)
    return state != DEAD and matcher.accepts(state)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (True, [1, "x", None, {"a": [1, {}]}, -2.5e3], []),
        (
            PERSON,
            [{"name": 'ä\n"'}, {"name": "", "age": 3}, {"name": "x", "tag": 1}, {"name": "", "age": None, "tag": "a"}],
            [{}, {"age": 3}, {"name": 1}, {"name": "x", "tag": 2}, {"name": "x", "other": 1}, {"tag": 1, "name": "x"}],
        ),
        (TREE, [{"v": 1, "k": [{"v": 2, "k": []}]}], [{"v": 1}, {"v": 1, "k": [1]}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"a": 1, "b": 2}], [{"a": "x"}]),
        ({"properties": {"a": {}}, "additionalProperties": True}, [{}, {"a": 1}, {"b": 1, "c": []}], [[]]),
        (
            {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}},
            [{}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}],
            [{"b": 1}],
        ),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
            [[True], [True, False]],
            [[], [True] * 3, [1]],
        ),
        ({"type": "array", "maxItems": 0}, [[]], [[1]]),
        ({"prefixItems": [{"type": "string"}, {"type": "null"}]}, [["a", None]], [[], ["a"], [None, "a"]]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "ä\n€"], ["a", "abcd"]),
        ({"type": "string", "format": "date"}, ["2026-11-27"], ["2026-13-27", "x"]),
        (
            {"type": "string", "format": "date-time"},
            ["2026-11-27T10:00:00Z", "2026-11-27T10:00:00.5+01:00"],
            ["2026-11-27"],
        ),
        ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ({"type": "integer", "minimum": -3, "exclusiveMaximum": 12}, [-3, 0, 9, 11], [-4, 12, 1.5]),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, [None, 4], ["x"]),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "null"}},
                "required": ["a"],
                "anyOf": [{"required": ["b"], "properties": {"b": {"type": "null"}}}],
            },
            [{"a": None, "b": None}],
            [{"a": None}],
        ),
        ({"allOf": [PERSON, {"required": ["tag"]}]}, [{"name": "x", "tag": 1}], [{"name": "x"}]),
        ({"type": "string", "nullable": True}, ["x", None], [1]),
    ],
)
def test_what_fits_and_what_does_not(schema: Any, good: list[Any], bad: list[Any]) -> None:
    matcher = matcher_of(schema)
    for value in good:
        for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
            assert fits(matcher, text), text
    for value in bad:
        assert not fits(matcher, json.dumps(value)), value


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^[A-Z]{2}\\d+$", ["AB1"], ["A1", "AB", "AB1x"]),
        ("a.c", ["xxabcyy", "abc"], ["ac"]),
        ("^(foo|bar)?$", ["", "foo"], ["fo", "foobar"]),
        ('^[^"]+"$', ['a"'], ['"', "a"]),
        ("^\\w+@[\\w.]+?\\.com$", ["a@b.c.com"], ["a@b,com"]),
        ("^\\$\\\\$", ["$\\"], ["$"]),
        ("\\$", ["5$", "$5"], ["5"]),
        ("^(?:a|b)\\n\\S$", ["a\nb"], ["a\n "]),
    ],
)
def test_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    matcher = matcher_of({"type": "string", "pattern": pattern})
    assert [fits(matcher, json.dumps(text)) for text in good] == [True] * len(good)
    assert [fits(matcher, json.dumps(text)) for text in bad] == [False] * len(bad)


@pytest.mark.parametrize("seed", range(30))
def test_whole_numbers_between_bounds(seed: int) -> None:
    rng = random.Random(seed)
    low, high = sorted(rng.randint(-1500, 1500) for _ in range(2))
    matcher = Matcher(parse_gbnf(f"root ::= {integers_between(low, high)}"))
    for n in {low - 1, low, low + 1, 0, high - 1, high, high + 1, *(rng.randint(-3000, 3000) for _ in range(50))}:
        assert fits(matcher, str(n)) == (low <= n <= high), n
    assert not fits(matcher, f"0{high}")


STEPS: dict[str, Any] = {f"a{i}": {"allOf": 2 * [{"$ref": f"#/$defs/a{i + 1}"}]} for i in range(60)}
DOUBLED = {"$ref": "#/$defs/a0", "$defs": STEPS | {"a60": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ([], "must be an object"),
        ({"type": "x"}, "one of object"),
        ({"not": {}}, "'not'"),
        ({"$ref": "https://example.org/schema"}, "elsewhere"),
        ({"$ref": "#/missing"}, "points to nothing"),
        ({"$ref": "#"}, "itself"),
        ({"allOf": [{"$ref": "#/allOf/0"}]}, "ring"),
        ({"enum": []}, "not empty"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "less than"),
        ({"type": "string", "minLength": 10**9}, "the most are"),
        ({"type": "string", "minLength": "x"}, "whole number"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "no whole number"),
        ({"type": "string", "pattern": "(?=a)b"}, "plainer"),
        ({"type": "string", "pattern": "^a|b$"}, "plainer"),
        ({"type": "string", "pattern": "[a"}, "plainer"),
        ({"properties": []}, "must be an object"),
        ({"required": ["a"] * 200_000, "properties": {str(i): {} for i in range(20_000)}}, "too large"),
        (DOUBLED, "too large"),
        ({"enum": ["x" * 2_000_000]}, "too large"),
    ],
)
def test_what_a_grammar_cannot_keep_is_refused(schema: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_gbnf(schema_to_gbnf(json.dumps(schema)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\0", "[" * 100_000, '{"items":' * 500 + "{}" + "}" * 500])
def test_what_is_no_schema(text: str) -> None:
    with pytest.raises(ConfigError):
        schema_to_gbnf(text)
