"""The parameter table: what is applied is read, what is refused says so, the rest is logged once."""

import logging
from typing import Any

import pytest
from test_wire_messages import asked, refused, user

from edge_sir.engine import SamplingParams
from edge_sir.server.contract import CHAT, IgnoredFields
from edge_sir.server.limits import Limits
from edge_sir.server.sender import namespace_of, sender_of
from edge_sir.server.wire.chat import ChatRequest
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.values import checked, parse_json

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def test_what_the_table_applies_is_what_the_request_has() -> None:
    assert {name for name, rule in CHAT.items() if rule.kind == "applied"} == set(ChatRequest.model_fields)


def test_sampling_is_applied_under_the_engine_s_names() -> None:
    given = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.2, "repeat_last_n": 9}
    given |= {"frequency_penalty": 0.3, "presence_penalty": -0.4, "seed": 11}
    terms = asked(user(), **given).terms
    assert terms.sampling == given and SamplingParams(**terms.sampling).top_k == 7  # type: ignore[arg-type]


def test_what_clients_write_for_nothing_is_understood() -> None:
    terms = asked(user(), top_k=-1, seed=-1, max_tokens=-1, top_p=1, temperature=0, stop="").terms
    assert terms.sampling == {"top_k": 0, "seed": 2**32 - 1, "top_p": 1, "temperature": 0}
    assert terms.max_tokens == Limits().reply_tokens and terms.stop == ()


def test_the_newer_length_counts_and_none_is_beyond_the_limit() -> None:
    assert asked(user(), max_tokens=5, max_completion_tokens=7).terms.max_tokens == 7
    assert asked(user(), max_tokens=5.0).terms.max_tokens == 5
    assert asked(user(), max_tokens=10**9).terms.max_tokens == Limits().reply_tokens


@pytest.mark.parametrize(("stop", "stops"), [("a", ("a",)), (["a", "", "b"], ("a", "b")), ([], ())])
def test_stop_is_a_text_or_a_list(stop: Any, stops: tuple[str, ...]) -> None:
    assert asked(user(), stop=stop).terms.stop == stops


def test_schemas_keep_their_order() -> None:
    schema = {"type": "object", "properties": {"z": {}, "a": {}}}
    wanted = '{"type": "object", "properties": {"z": {}, "a": {}}}'
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert asked(user(), response_format=form).terms.json_schema == wanted
    assert asked(user(), json_schema=schema).terms.json_schema == wanted
    assert asked(user(), response_format={"type": "json_object"}).terms.json_schema == '{"type": "object"}'
    assert asked(user(), response_format={"type": "text"}).terms.json_schema == ""


def test_tools_are_read_and_chosen() -> None:
    assert asked(user(), tools=[TOOL]).incoming.tools.startswith('[{"type":"function","function":{"name":"clock"')
    assert asked(user(), tools=[TOOL], tool_choice="none").incoming.tools == ""
    named = asked(user(), tools=[TOOL], tool_choice={"type": "function", "function": {"name": "clock"}}).terms
    assert (named.tool_choice, named.tool) == ("required", "clock")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "1"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 99}, "n"),
        ({"stop": 5}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"stream": "yes"}, "stream"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"grammar": "root ::= 'x'", "tools": [TOOL]}, "grammar"),
        ({"grammar": "root ::= 'x'", "json_schema": {}}, "grammar"),
        ({"json_schema": {}, "response_format": {"type": "json_object"}}, "json_schema"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"functions": [{"name": "x"}]}, "functions"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_name(fields: dict[str, Any], param: str) -> None:
    error = refused(user(), **fields)
    assert error.status == 400 and error.param == param and "\n" not in str(error)
    assert error.as_dict()["error"]["type"] == "invalid_request_error"
    assert error.headers() == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "json_schema"),
        ({"json_schema": {"type": "object"}}, "json_schema"),
        ({"grammar": "root ::= 'x'"}, "grammar"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"n": 2}, "n"),
    ],
)
def test_what_the_model_cannot_do_is_refused_and_not_left_out(fields: dict[str, Any], param: str) -> None:
    assert refused(user(), can=frozenset(), **fields).param == param
    assert asked(user(), **fields)


def test_what_asks_for_nothing_is_accepted() -> None:
    harmless = {name: rule.harmless[0] for name, rule in CHAT.items() if rule.harmless}
    assert len(harmless) > 4 and asked(user(), **harmless) == asked(user())


def test_ignored_fields_are_logged_once_without_their_values(caplog: pytest.LogCaptureFixture) -> None:
    ignored = IgnoredFields(n_most=3)
    with caplog.at_level(logging.INFO, "edge_sir.server.contract"):
        for name in ("user", "user", "a\nb", "user", "x", "y", "z"):
            ignored.note(name)
    assert [r.getMessage() for r in caplog.records] == [
        f"the field {name} of a request has no effect here" for name in ("'user'", r"'a\nb'", "'x'")
    ]


def test_whom_a_conversation_belongs_to() -> None:
    def space(key: str = "k", **headers: str) -> str:
        by_name = {name.replace("_", "-"): value for name, value in headers.items()}
        return sender_of(by_name, key=key, fingerprint="f").namespace

    spaces = [space(), space("l"), space(x_openwebui_user_id="1"), space(x_openwebui_user_id="2"), space("k1")]
    assert len(set(spaces)) == len(spaces) and space() == space(x_openwebui_chat_id="c")
    assert namespace_of("ab", "c") != namespace_of("a", "bc")


def test_headers_name_the_conversation() -> None:
    headers = {"x-openwebui-chat-id": "{{CHAT_ID}}", "x-conversation-id": " c1 ", "x-openwebui-task": ""}
    sender = sender_of(headers, key="", fingerprint="f")
    assert (sender.session_key, sender.is_utility) == ("c1", False)
    own = sender_of(headers | {"x-edge-sir-session": "s", "x-openwebui-task": "title"}, key="", fingerprint="f")
    assert (own.session_key, own.is_utility) == ("s", True)
    ids = {"x-openwebui-user-message-parent-id": "p", "x-openwebui-message-id": "m"}
    assert sender_of(ids, key="", fingerprint="f").node_key == "p"


def test_the_cache_key_names_the_conversation_where_no_header_does() -> None:
    assert asked(user(), prompt_cache_key="k").incoming.session_key == "k"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b"[" * 200_000,
        b'{"a": ' + b"1" * 5000 + b"}",
        rb'{"a": ["\u0000"]}',
        rb'{"a": ["\ud800"]}',
        rb'{"\ud800": 1}',
        rb'{"\u0041": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_json(body)
    assert caught.value.status == 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("inner", [b"[],", b'{"":{}},'])
def test_a_body_of_empty_lists_takes_no_memory(inner: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_json(b'{"a": [' + inner * 2**20 + b"0]}")
    assert caught.value.status == 413


@pytest.mark.parametrize("penalty", [0, 1e-46, 5e-324])
def test_a_penalty_that_llama_cpp_would_divide_by_as_nothing_is_refused(penalty: float) -> None:
    with pytest.raises(RefusedError, match="'repeat_penalty' must be"):
        checked(ChatRequest, {"messages": [{"role": "user", "content": "Hi"}], "repeat_penalty": penalty})


def test_the_path_of_a_text_that_is_none() -> None:
    with pytest.raises(RefusedError) as caught:
        parse_json(rb'{"messages": [{"content": "a\u0000b"}]}')
    assert caught.value.param == "messages[0].content"
    assert parse_json(rb'{"a": "\ud83d\ude00"}') == {"a": "😀"}
