"""What clients send as messages, and what is made of it."""

import json
from typing import Any

import pytest

from edge_sir.server.asked import Asked, Reader
from edge_sir.server.contract import IgnoredFields
from edge_sir.server.incoming import Said
from edge_sir.server.limits import Limits
from edge_sir.server.sender import Sender
from edge_sir.server.terms import Feature
from edge_sir.server.wire.refusal import RefusedError

ALL: frozenset[Feature] = frozenset({"tools", "json_schema", "grammar", "logprobs", "logit_bias", "n"})
CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC",  "a": 1}'}}


def asked(*messages: dict[str, Any], can: frozenset[Feature] = ALL, **fields: Any) -> Asked:
    document = {"messages": list(messages), **fields}
    return Reader(Limits(), can, IgnoredFields()).chat(document, Sender("space"))[0]


def refused(*messages: Any, **fields: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        asked(*messages, **fields)
    return caught.value


def user(content: Any = "hello", **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def test_text_and_parts_are_one_thing() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]
    assert asked(user(parts)).incoming == asked(user("one\ntwo")).incoming
    assert asked(user([])).incoming.messages == (Said("user", ""),)


def test_developer_is_system_and_the_head_is_apart() -> None:
    incoming = asked({"role": "developer", "content": "A"}, {"role": "system", "content": "B"}, user()).incoming
    assert incoming.system == "A\n\nB" and incoming.messages == (Said("user", "hello"),)


def test_late_system_messages_stay_where_they_are() -> None:
    incoming = asked(user(), {"role": "assistant", "content": "yes"}, {"role": "system", "content": "note"}).incoming
    assert incoming.system == "" and [m.role for m in incoming.messages] == ["user", "assistant", "system"]


def test_a_system_prompt_alone_is_answered() -> None:
    incoming = asked({"role": "system", "content": "Say hello."}).incoming
    assert (incoming.system, incoming.messages) == ("", (Said("user", "Say hello."),))


def test_neighbours_of_one_role_are_merged() -> None:
    assert asked(user("one"), user(""), user("two")).incoming.messages == (Said("user", "one\n\ntwo"),)
    assert asked(user("a", name="x"), user("b", name="x")).incoming.messages[0].name == "x"
    assert asked(user("a", name="x"), user("b", name="y")).incoming.messages[0].name == ""


def test_results_of_tools_are_not_merged() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL | {"id": "c2"}]}
    results = [{"role": "tool", "tool_call_id": f"c{i}", "content": "12:00"} for i in (1, 2)]
    messages = asked(user(), calls, *results).incoming.messages
    assert [m.role for m in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1].text == "" and [m.tool_call_id for m in messages[2:]] == ["c1", "c2"]


def test_calls_have_one_form_whatever_form_they_were_sent_in() -> None:
    forms: list[Any] = ['{"zone": "UTC",  "a": 1}', '{"a":1,"zone":"UTC"}', {"zone": "UTC", "a": 1}]
    found = set()
    for arguments in forms:
        call = CALL | {"function": {"arguments": arguments, "name": "clock"}}
        found.add(asked(user(), {"role": "assistant", "tool_calls": [call]}).incoming.messages[1].tool_calls)
    assert found == {'[{"arguments":{"a":1,"zone":"UTC"},"id":"c1","name":"clock"}]'}


def test_arguments_that_are_no_json_are_kept_as_text() -> None:
    call = CALL | {"function": {"name": "clock", "arguments": '{"zone": '}}
    said = asked(user(), {"role": "assistant", "tool_calls": [call]}).incoming.messages[1]
    assert json.loads(said.tool_calls)[0]["arguments"] == '{"zone": '


def test_thoughts_sent_apart_are_no_part_of_a_reply() -> None:
    reply = {"role": "assistant", "content": "yes", "reasoning_content": "hm", "refusal": None, "audio": None}
    assert asked(user(), reply, user()).incoming.messages[1] == Said("assistant", "yes")


def test_nulls_count_as_not_given() -> None:
    nulls = dict.fromkeys(["temperature", "stop", "tools", "tool_choice", "seed", "n", "stream", "audio", "functions"])
    message = {"role": "user", "content": "hello", "name": None, "tool_calls": None}
    assert asked(message, **nulls) == asked(user())


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_what_is_no_text_is_refused_with_its_path(kind: str) -> None:
    error = refused(user([{"type": "text", "text": "see"}, {"type": kind, kind: {"url": "data:"}}]))
    assert error.param == "messages[0].content[1]" and "text alone" in str(error) and error.status == 400


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "judge", "content": "x"}, "messages[0].role"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0]"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": ["x"]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0]"),
        ({"role": "assistant", "tool_calls": [{"id": "x"}]}, "messages[0].tool_calls[0].function"),
        ("hello", "messages[0]"),
    ],
)
def test_what_is_no_message_is_refused_with_its_path(message: Any, param: str) -> None:
    error = refused(message)
    assert error.param == param and "\n" not in str(error)


def test_no_messages_are_refused() -> None:
    assert refused().param == "messages"


def test_too_many_messages_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(RefusedError, match="the most are 3"):
        Reader(Limits(messages=3), ALL, IgnoredFields()).chat({"messages": [None] * 4}, Sender("x"))
