"""A line of input: what it may say, and what each kind of mistake is called."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.batch.body import MOST_CHARACTERS, TERMS
from edge_sir.batch.line import MOST_ID, read_line, read_request
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.options import Options

HELLO = [{"role": "user", "content": "Hello."}]


def line(body: Any = None, **other: Any) -> bytes:
    document = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body or {"messages": HELLO}}
    return json.dumps(document | other).encode()


def request_of(**body: Any) -> BatchRequest:
    found = read_line(line({"messages": HELLO} | body))
    assert isinstance(found, BatchRequest), found
    return found


def complaint(text: bytes) -> str:
    found = read_line(text)
    assert isinstance(found, BatchResult) and found.error is not None and found.replies == ()
    assert "\n" not in found.error.message and found.error.message.isprintable()
    return f"{found.custom_id}|{found.error.code}|{found.error.message}"


# ---- what is taken -------------------------------------------------------------------------------


def test_openai_lines_as_they_are() -> None:
    body = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]},
            {"role": "assistant", "content": "Three", "refusal": None, "name": "it"},
            {"role": "user", "content": "Four"},
        ],
        "max_completion_tokens": 7,
        "max_tokens": None,
        "temperature": 0,
        "stop": ["END"],
        "n": 1,
        "stream": False,
        "response_format": {"type": "text"},
        "user": "somebody",
    }
    assert read_line(line(body)) == BatchRequest(
        "a",
        (Message(0, "system", "Be brief."), Message(1, "user", "One\nTwo"), Message(1, "assistant", "Three")),
        ("Four",),
        {"max_tokens": 7, "temperature": 0, "stop": ("END",)},
    )


def test_a_dialogue_with_terms_of_its_own() -> None:
    terms = {"budget": 256, "policy": "sir:decay=0.9", "recall": "text", "seed": 3, "system": "Be brief."}
    body = terms | {"dialogue": ["One", "Two"], "messages": []}
    assert read_line(line(body)) == BatchRequest("a", (), ("One", "Two"), terms)


def test_method_and_url_may_be_left_out() -> None:
    assert read_request({"custom_id": "a", "body": {"dialogue": ["One"]}}).said == ("One",)


def test_neighbours_of_one_role_are_one_message() -> None:
    said = [("system", "A"), ("system", "B"), ("user", "C"), ("user", "D"), ("assistant", "E"), ("user", "F")]
    found = request_of(messages=[{"role": role, "content": text} for role, text in [*said, ("user", "G")]])
    assert found.messages == (
        Message(0, "system", "A\n\nB"),
        Message(1, "user", "C\n\nD"),
        Message(2, "assistant", "E"),
    )
    assert found.said == ("F\n\nG",)


def test_the_effort_of_reasoning_is_the_templates() -> None:
    assert request_of(reasoning_effort="low").terms == {"template_args": {"reasoning_effort": "low"}}


def test_every_term_is_an_option() -> None:
    assert set(TERMS) <= set(Options.model_fields)


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "|invalid_json_line|the line is no JSON (Expecting value, at character 1)"),
        (line()[:-9], "|invalid_json_line|the line is no JSON ("),
        (line().replace(b"Hello", b"He\0llo"), "|invalid_json_line|the line is no JSON (Invalid control character"),
        (line().replace(b"Hello", b"He\xffllo"), "|invalid_json_line|the line is no JSON (byte 122 is no UTF-8)"),
        (line().replace(b'"Hello."', b"NaN"), "|invalid_json_line|the line is no JSON (NaN is no number of JSON)"),
        (b"[" * 100_000, "|invalid_json_line|the line is no JSON (its nesting is too deep)"),
        (b'{"custom_id": 1' + b"0" * 5000 + b"}", "|invalid_json_line|the line is no JSON (Exceeds the limit"),
        (b"[1]", "|invalid_request_error|the line must be an object, not a list"),
        (b"null", "|invalid_request_error|the line must be an object, not null"),
        (line(custom_id=7), "|invalid_request_error|'custom_id' must be text, not 7"),
        (line(custom_id=""), "|invalid_request_error|'custom_id' must have 1 to 512 characters, not 0"),
        (line(custom_id="x" * (MOST_ID + 1)), "|invalid_request_error|'custom_id' must have 1 to 512 characters"),
        (line(custom_id="\0"), "|invalid_request_error|'custom_id' holds a NUL character"),
        (line(method="GET"), "a|invalid_request_error|'method' must be 'POST', not 'GET'"),
        (line(url="/v1/embeddings"), "a|invalid_request_error|'url' must be '/v1/chat/completions', not"),
        (line(body="x"), "a|invalid_request_error|'body' must be an object, not 'x'"),
        (line(dialogue=["x"]), "a|invalid_request_error|unknown field 'dialogue' beside 'body'"),
    ],
)
def test_a_damaged_line_is_an_error(text: bytes, said: str) -> None:
    assert complaint(text).startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": "Hello"}, "'messages' must be a list, not 'Hello'"),
        ({"messages": []}, "the last of 'messages' must be the user's, or give 'dialogue'"),
        ({"temperature": 1}, "the last of 'messages' must be the user's, or give 'dialogue'"),
        ({"messages": ["Hello"]}, "message 1 must be an object with role and content, not 'Hello'"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "message 1: role must be one of system, developer, user"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "message 1: role must be one of"),
        ({"messages": [{"role": "user", "content": 5}]}, "message 1: content must be text, not 5"),
        ({"messages": [{"role": "user"}]}, "message 1: content must be text, not null"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "message 1: content is empty; take the message out"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "message 1: content: a part must be"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "message 1: calls of tools are not supported"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "message 1: content holds a NUL character"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "message 1: content holds half of a surrogate pair"),
        ({"messages": [{"role": "user", "content": "x" * 10_000_000}]}, "message 1: content has 10000000 characters"),
        ({"messages": HELLO, "dialogue": ["x"]}, "'messages' end before a reply"),
        ({"dialogue": []}, "'dialogue' must be a list of the user's texts, at least one"),
        ({"dialogue": "x"}, "'dialogue' must be a list of the user's texts, at least one, not 'x'"),
        ({"dialogue": ["x", 5]}, "text 2 of 'dialogue' must be text, not 5"),
        ({"dialogue": ["x", ""]}, "text 2 of 'dialogue' is empty"),
        ({"dialogue": ["x"], "max_tokens": "5"}, "'max_tokens' must be a whole number, not '5'"),
        ({"dialogue": ["x"], "max_tokens": True}, "'max_tokens' must be a whole number, not true"),
        ({"dialogue": ["x"], "max_tokens": 0}, "'max_tokens': Input should be greater than or equal to 1"),
        ({"dialogue": ["x"], "max_tokens": 5, "max_completion_tokens": 6}, "'max_completion_tokens' and 'max_tokens'"),
        ({"dialogue": ["x"], "temperature": 11}, "'temperature': Input should be less than or equal to 10"),
        ({"dialogue": ["x"], "temperature": "hot"}, "'temperature' must be a number, not 'hot'"),
        ({"dialogue": ["x"], "seed": -1}, "'seed': Input should be greater than or equal to 0"),
        ({"dialogue": ["x"], "stop": [5]}, "a text of 'stop' must be text, not 5"),
        ({"dialogue": ["x"], "stop": {}}, "'stop' must be text or a list of texts, not an object"),
        ({"dialogue": ["x"], "budget": 0}, "'budget': Input should be greater"),
        ({"dialogue": ["x"], "policy": "sirlm"}, "'policy': unknown policy 'sirlm'; did you mean 'sirllm'?"),
        ({"dialogue": ["x"], "policy": "\x1b[2J"}, "'policy': unknown policy '\\x1b[2J'"),
        ({"dialogue": ["x"], "policy": "sir:\x1b=1"}, "'policy': "),
        ({"dialogue": ["x"], "policy": "sir:decay=\x1b"}, "'policy': "),
        ({"dialogue": ["x"], "recall": "\x1b"}, "'recall': "),
        ({"dialogue": ["x"], "recall": "all"}, "'recall': "),
        ({"dialogue": ["x"], "threads": 2}, "'threads' cannot differ between dialogues; give --threads instead"),
        ({"dialogue": ["x"], "temprature": 2}, "unknown field 'temprature'; did you mean 'temperature'?"),
        ({"dialogue": ["x"], "n": 2}, "'n' is not supported with 2; leave it out"),
        ({"dialogue": ["x"], "n": True}, "'n' is not supported with true"),
        ({"dialogue": ["x"], "stream": True}, "'stream' is not supported with true"),
        ({"dialogue": ["x"], "tools": [{}]}, "'tools' is not supported with a list"),
        ({"dialogue": ["x"], "response_format": {"type": "json_object"}}, "'response_format' is not supported with an"),
        ({"dialogue": ["x"], "model": 5}, "'model' must be text, not 5"),
        ({"dialogue": ["x"], "system": "A", "messages": [{"role": "system", "content": "B"}]}, "'system' and a system"),
    ],
)
def test_a_body_that_cannot_be_done_is_an_error(body: dict[str, Any], said: str) -> None:
    assert complaint(line(body)).startswith(f"a|invalid_request_error|{said}")


def test_a_message_of_the_greatest_length_is_taken() -> None:
    assert len(request_of(dialogue=["x" * MOST_CHARACTERS], messages=None).said[0]) == MOST_CHARACTERS


def test_a_mapping_is_refused_by_an_exception() -> None:
    with pytest.raises(ConfigError, match="'custom_id' must be text, not null"):
        read_request({"body": {"dialogue": ["x"]}})


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*TERMS, "messages", "dialogue", "model", "n", "tools", "custom_id", "body", "x"]), ANY)
def test_whatever_a_field_holds_there_is_a_request_or_one_line(name: str, value: Any) -> None:
    beside = name in ("custom_id", "body")
    text = line(**{name: value}) if beside else line({"dialogue": ["x"], name: value})
    if isinstance(found := read_line(text), BatchResult):
        assert found.error is not None
        complaint(text)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(line())), st.integers(0, 20), st.binary(max_size=4))
def test_whatever_bytes_are_damaged_there_is_a_request_or_one_line(at: int, n: int, put: bytes) -> None:
    text = line()[:at] + put + line()[at + n :]
    if isinstance(read_line(text), BatchResult):
        complaint(text)
