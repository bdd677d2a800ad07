"""What is made of events that the toy does not have: calls of tools, thoughts, several replies, log-probabilities."""

import json
from typing import Any

import openai.types.chat as chat
import openai.types.responses as responses
import pytest
from pydantic import TypeAdapter

from edge_sir.server.failures import refused_by
from edge_sir.server.outcome import Choice, Drawn, Outcome, Shown, ToolCall
from edge_sir.server.sse import frame
from edge_sir.server.wire.answers import ChatAnswer
from edge_sir.server.wire.documents import ChatChunk, ChatCompletion
from edge_sir.server.wire.documents import Response as ResponseDocument
from edge_sir.server.wire.response_answer import ResponseAnswer
from edge_sir.server.wire.responses import ResponseRequest
from edge_sir.text.reply import Recalled

CALL = ToolCall("call_1", "clock", '{"zone":"UTC"}')
EVENT: TypeAdapter[Any] = TypeAdapter(responses.ResponseStreamEvent)


def outcome(*choices: Choice) -> Outcome:
    recalled = (Recalled(3, 5, "My name is Ada."),)
    return Outcome(
        choices, n_held=100, n_read=20, n_generated=7, n_thought=2, resident=127, evicted=4, recalled=recalled
    )


def chat_answer(**fields: Any) -> ChatAnswer:
    return ChatAnswer("chatcmpl-1", 1, "toy", **fields)


def response_answer(**fields: Any) -> ResponseAnswer:
    return ResponseAnswer("resp_1", 1, "toy", ResponseRequest.model_validate({"input": "hello", **fields}))


def test_usage_and_memory() -> None:
    whole = chat_answer().whole("s", "fork", outcome(Choice("a", "stop")))
    assert whole["usage"]["prompt_tokens"] == 120 and whole["usage"]["prompt_tokens_details"]["cached_tokens"] == 100
    assert whole["usage"]["total_tokens"] == 127
    assert whole["edge_sir"] == {
        "session": "s",
        "match": "fork",
        "resident": 127,
        "evicted": 4,
        "recalled": [{"turn": 3, "tokens": 5, "text": "My name is Ada."}],
    }
    ChatCompletion.model_validate(whole)


def test_calls_whole() -> None:
    whole = chat_answer().whole("s", "new", outcome(Choice("", "tool_calls", calls=(CALL, CALL))))
    reply = chat.ChatCompletion.model_validate(whole)
    assert reply.choices[0].finish_reason == "tool_calls" and reply.choices[0].message.content is None
    assert [call.model_dump()["function"]["name"] for call in reply.choices[0].message.tool_calls or []] == [
        "clock"
    ] * 2


def test_calls_streamed_have_their_name_once_and_numbers() -> None:
    answer = chat_answer()
    chunks = [chunk for _ in range(2) for chunk in answer.shown(Shown(call=CALL))]
    deltas = [chat.ChatCompletionChunk.model_validate(c).choices[0].delta.tool_calls or [] for c in chunks]
    assert [call.index for calls in deltas for call in calls] == [0, 1]
    assert [call.function.name for calls in deltas for call in calls if call.function] == ["clock"] * 2


def test_thoughts_are_apart() -> None:
    whole = chat_answer().whole("s", "new", outcome(Choice("yes", "stop", thought="hm")))
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": "yes",
        "refusal": None,
        "reasoning_content": "hm",
    }
    (chunk,) = chat_answer().shown(Shown(thought="hm"))
    assert chunk["choices"][0]["delta"] == {"reasoning_content": "hm"}


def test_several_replies() -> None:
    answer = chat_answer(n=2, include_usage=True)
    first, (bit,) = list(answer.first()), list(answer.shown(Shown("x", choice=1)))
    *ends, usage = answer.last("s", "new", outcome(Choice("a", "stop"), Choice("x", "length")))
    assert [c["choices"][0]["index"] for c in first] == [0, 1] and bit["choices"][0]["index"] == 1
    assert [(c["choices"][0]["index"], c["choices"][0]["finish_reason"]) for c in ends] == [(0, "stop"), (1, "length")]
    assert ["edge_sir" in c for c in ends] == [False, True] and usage["choices"] == []
    for chunk in (*first, bit, *ends, usage):
        ChatChunk.model_validate(chunk)


def test_log_probabilities() -> None:
    drawn = Drawn("ä".encode()[:1], -0.5, (("ä".encode()[:1], -0.5), (b"b", float("-inf"))))
    (chunk,) = chat_answer().shown(Shown("", drawn=(drawn,)))
    parsed = chat.ChatCompletionChunk.model_validate(json.loads(frame(chunk).removeprefix(b"data: ")))
    content = parsed.choices[0].logprobs and parsed.choices[0].logprobs.content
    assert content and content[0].bytes == [0xC3] and content[0].top_logprobs[1].logprob == -9999.0


def test_what_was_cut_by_a_limit_has_a_reason_that_clients_know() -> None:
    whole = chat_answer().whole("s", "new", outcome(Choice("a", "cancelled")))
    assert whole["choices"][0]["finish_reason"] == "length"


# ---- responses -----------------------------------------------------------------------------------


def streamed(answer: ResponseAnswer, shown: list[Shown], choice: Choice) -> list[dict[str, Any]]:
    events = [*answer.first(), *(e for s in shown for e in answer.shown(s)), *answer.last("s", "new", outcome(choice))]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        parsed = EVENT.validate_python(json.loads(json.dumps(event)))
        assert parsed.type == event["type"]
    return events


def test_a_text_as_events() -> None:
    events = streamed(response_answer(), [Shown("he"), Shown("llo")], Choice("hello", "stop"))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[6]["text"] == events[7]["part"]["text"] == "hello"


def test_a_thought_a_text_and_calls_are_items_of_their_own() -> None:
    shown = [Shown(thought="hm"), Shown("yes"), Shown(call=CALL), Shown(call=CALL)]
    choice = Choice("yes", "tool_calls", "hm", (CALL, CALL))
    events = streamed(response_answer(), shown, choice)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call", "function_call"]
    assert done == events[-1]["response"]["output"]
    begun = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in begun] == [0, 1, 2, 3]
    assert {event["item"]["status"] for event in begun} == {"in_progress"}


def test_an_incomplete_response_says_so() -> None:
    events = streamed(response_answer(), [Shown("a")], Choice("a", "length"))
    assert events[-1]["type"] == "response.incomplete"
    whole = response_answer(previous_response_id="resp_0").whole("s", "exact", outcome(Choice("a", "length")))
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    parsed = responses.Response.model_validate(whole)
    assert parsed.output_text == "a" and parsed.previous_response_id == "resp_0"
    assert parsed.usage is not None and parsed.usage.input_tokens == 120
    ResponseDocument.model_validate(whole)


def test_a_failed_response_says_why() -> None:
    (event,) = response_answer().failed(refused_by(ZeroDivisionError("secret")))
    assert event["type"] == "response.failed" and event["response"]["error"]["code"] == "internal_error"
    assert "secret" not in json.dumps(event)


@pytest.mark.parametrize("fields", [{"type": "json_object"}, {"type": "json_schema", "name": "x", "schema": {}}])
def test_its_own_terms_are_shown(fields: dict[str, Any]) -> None:
    tools = [{"type": "function", "name": "clock", "parameters": {}}]
    answer = response_answer(text={"format": fields}, tools=tools, tool_choice={"type": "function", "name": "clock"})
    whole = answer.whole("s", "new", outcome(Choice("a", "stop")))
    assert whole["text"]["format"] == fields and whole["tool_choice"] == {"type": "function", "name": "clock"}
    assert whole["tools"][0]["name"] == "clock"
