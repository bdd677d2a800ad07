"""The bodies of /v1/responses and /v1/completions."""

from typing import Any

import pytest
from test_wire_messages import ALL, asked, user

from edge_sir.server.asked import Asked, Reader
from edge_sir.server.contract import COMPLETIONS, RESPONSES, IgnoredFields
from edge_sir.server.limits import Limits
from edge_sir.server.sender import Sender
from edge_sir.server.wire.completions import CompletionRequest
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.responses import ResponseRequest

READER = Reader(Limits(), ALL, IgnoredFields())
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "clock", "arguments": "{}"}


def response(input: Any = "hello", **fields: Any) -> Asked:
    return READER.response({"input": input, **fields}, Sender("space"), "resp_9")[0]


def completion(prompt: Any = "Once", **fields: Any) -> Asked:
    return READER.completion({"prompt": prompt, **fields}, Sender("space"))[0]


def test_what_the_tables_apply_is_what_the_requests_have() -> None:
    for contract, request in ((RESPONSES, ResponseRequest), (COMPLETIONS, CompletionRequest)):
        assert {name for name, rule in contract.items() if rule.kind == "applied"} == set(request.model_fields)


def test_a_text_is_the_user_s_message() -> None:
    assert response().incoming == asked(user()).incoming
    assert response().reply_key == "resp_9"


def test_instructions_come_before_a_system_message() -> None:
    item = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "B"}]}
    assert response([item, user()], instructions="A").incoming.system == "A\n\nB"


def test_items_are_the_same_as_messages_of_a_chat() -> None:
    """What an answer held, sent back: a reply and its calls are one message again, thoughts are left out."""
    reply = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    reply |= {"content": [{"type": "output_text", "text": "I look.", "annotations": []}]}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    results = [{"type": "function_call_output", "call_id": f"c{i}", "output": "12:00"} for i in (1, 2)]
    items = [user(), thought, reply, CALL, CALL | {"call_id": "c2"}, *results]
    calls = [{"id": f"c{i}", "type": "function", "function": {"name": "clock", "arguments": "{}"}} for i in (1, 2)]
    messages = [user(), {"role": "assistant", "content": "I look.", "tool_calls": calls}]
    messages += [{"role": "tool", "tool_call_id": f"c{i}", "content": "12:00"} for i in (1, 2)]
    assert response(items).incoming == asked(*messages).incoming


def test_an_earlier_response_has_its_id_as_the_node() -> None:
    incoming = response(previous_response_id="resp_8").incoming
    assert incoming.node_key == "resp_8" and len(incoming.messages) == 1


def test_terms_of_a_response() -> None:
    form = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "string"}, "strict": True}}
    tools = [{"type": "function", "name": "clock", "parameters": {"type": "object"}, "strict": True}]
    found = response(text=form, max_output_tokens=9, temperature=0, tools=tools, tool_choice="required")
    terms = found.terms
    assert (terms.max_tokens, terms.sampling, terms.tool_choice) == (9, {"temperature": 0}, "required")
    assert terms.json_schema == '{"type": "string"}' and '"name":"clock"' in found.incoming.tools


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "x"}}, "prompt"),
    ],
)
def test_what_a_response_cannot_be(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RefusedError) as caught:
        response(**fields)
    assert caught.value.param == param and "\n" not in str(caught.value)


def test_a_completion_belongs_to_no_conversation() -> None:
    found = completion(["Once"], max_tokens=3, stop=["."], temperature=0)
    assert found.raw == "Once" and found.incoming.is_utility and found.terms.max_tokens == 3
    assert found.terms.stop == (".",) and found.terms.sampling == {"temperature": 0}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 3}, "logprobs"),
        ({"grammar": "root ::= 'x'", "json_schema": {}}, "grammar"),
    ],
)
def test_what_a_completion_cannot_be(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RefusedError) as caught:
        completion(**fields)
    assert caught.value.param == param
