"""What a request can ask of its reply, streamed or not: grammars, schemas, biases, log-probabilities, tools."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from stored_toy import ANSWERING, Client, asking, n_tokens, talking

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with talking(tmp_path / "state", budget=4096) as client:
        client.headers["authorization"] = "Bearer any"
        yield client


@pytest.fixture
def api(client: Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="any", max_retries=0) as api:
        yield api


def streamed(client: Client, messages: Any = HI, **body: Any) -> list[dict[str, Any]]:
    answer = httpx.post(
        f"{client.url}/v1/chat/completions",
        json={"messages": messages, "stream": True} | body,
        headers=client.headers,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    frames = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame)["choices"][0] for frame in frames[:-1]]


def text_of(choices: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in choices)


# ---- grammars and schemas ------------------------------------------------------------------------


def test_a_reply_fits_a_grammar(client: Client) -> None:
    grammar = 'root ::= "yes" | "no"'
    first = client.send(HI, "Well, no!", grammar=grammar)
    assert (first.text, first.document["choices"][0]["finish_reason"]) == ("no", "stop")
    assert text_of(streamed(client, grammar=grammar)) in ("yes", "no")


@pytest.mark.parametrize("n", [1, 2])
def test_replies_fit_a_schema(client: Client, n: int) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = client.send(HI, response_format=form, n=n, temperature=1.0, max_tokens=400)
    for choice in answer.document["choices"]:
        assert list(json.loads(choice["message"]["content"])) == ["name", "age"]
    found = json.loads(
        text_of(streamed(client, [{"role": "user", "content": "Who?"}], json_schema=PERSON, max_tokens=400))
    )
    assert list(found) == ["name", "age"]
    assert isinstance(json.loads(client.send(HI, "[1] {}", response_format={"type": "json_object"}).text), dict)


def test_openais_client_parses_what_comes(api: openai.OpenAI) -> None:
    reply = api.chat.completions.create(
        model="toy",
        messages=[{"role": "user", "content": "Who?"}],
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON, "strict": True}},
        max_tokens=400,
    )
    assert set(json.loads(reply.choices[0].message.content or "")) == {"name", "age"}


def test_a_beginning_that_goes_on_in_its_grammar(client: Client) -> None:
    begun = [*HI, {"role": "assistant", "content": "a"}]
    assert client.send(begun, grammar='root ::= "ab" "c"').text == "bc"
    refused = client.send(begun, grammar='root ::= "x"')
    assert (refused.status, "begins with" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"grammar": "root ::= root"}, "begin with itself"),
        ({"grammar": "x" * 300_000}, "too long"),
        ({"json_schema": {"type": "x"}}, "one of object"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "'not'"),
        ({"logit_bias": {"5000": 1}}, "the last of this model is 260"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "letters, digits"),
        ({"tools": [WEATHER, WEATHER]}, "one name"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_read(client: Client, body: dict[str, Any], says: str) -> None:
    first = client.send(HI, "Fine.")
    n = [len(live.chat.session.ledger) for live in client.home.sessions]
    answer = client.send([*HI, {"role": "assistant", "content": "Fine."}, {"role": "user", "content": "And?"}], **body)
    assert (answer.status, answer.document["error"]["type"]) == (400, "invalid_request_error")
    assert says in answer.text
    assert [len(live.chat.session.ledger) for live in client.home.sessions] == n
    after = client.ask("Hi", "Fine.", "Well?", reply="Good.")
    assert (after.session, after.text) == (first.session, "Good.")


def test_a_grammar_that_leads_nowhere_is_the_clients_mistake(client: Client) -> None:
    first = client.send(HI, "Fine.")
    answer = client.ask("Hi", "Fine.", "And?", grammar='root ::= "a" []')
    assert (answer.status, "allows nothing" in answer.text) == (400, True)
    after = client.ask("Hi", "Fine.", "Well?", reply="Good.")
    assert (after.session, after.text, after.read) == (first.session, "Good.", asking("Well?"))


def test_a_text_that_is_continued_in_a_grammar(api: openai.OpenAI) -> None:
    reply = api.completions.create(model="toy", prompt="1 2", extra_body={"grammar": 'root ::= " 3" " 4"'}, n=2)
    assert [choice.text for choice in reply.choices] == [" 3 4"] * 2


# ---- biases and log-probabilities ----------------------------------------------------------------


def test_biases(client: Client) -> None:
    assert client.send(HI, logit_bias={"122": 100}, max_tokens=4).text == "zzzz"


def test_log_probabilities(client: Client, api: openai.OpenAI) -> None:
    client.models.says("Hé!")
    reply = api.chat.completions.create(model="toy", messages=HI, logprobs=True, top_logprobs=3)  # type: ignore[arg-type]
    shown = reply.choices[0].logprobs
    assert shown is not None and shown.content is not None
    assert b"".join(bytes(token.bytes or ()) for token in shown.content) == "Hé!".encode()
    assert all(len(token.top_logprobs) == 3 for token in shown.content)
    for token in shown.content:
        likeliest = [other.logprob for other in token.top_logprobs]
        assert likeliest == sorted(likeliest, reverse=True)
    client.models.says("Hé!")
    choices = streamed(client, logprobs=True)
    drawn = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert bytes(b for token in drawn for b in token["bytes"]) == "Hé!".encode()
    assert [token["logprob"] for token in drawn] == pytest.approx([token.logprob for token in shown.content], abs=1e-3)
    assert all(token["top_logprobs"] == [] for token in drawn)
    assert client.send([{"role": "user", "content": "No"}], "x").document["choices"][0]["logprobs"] is None


# ---- tools ---------------------------------------------------------------------------------------


def test_a_loop_of_tools_reads_only_what_is_new(client: Client, api: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "How is Oslo?"}]
    client.models.says(f"Let me look.\n{CALL}\n{CALL.replace('Oslo', 'Rome')}")
    first = api.chat.completions.with_raw_response.create(model="toy", messages=messages, tools=[WEATHER, CLOCK])  # type: ignore[list-item]
    choice = first.parse().choices[0]
    calls = choice.message.tool_calls or []
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.")
    asked = [json.loads(call.function.arguments)["city"] for call in calls if call.type == "function"]
    assert asked == ["Oslo", "Rome"]
    messages.append(choice.message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "12 degrees"} for call in calls]
    second = client.send(messages, "Warm.", tools=[WEATHER, CLOCK])
    result = n_tokens("<|im_start|>user\n<tool_response>\n12 degrees\n</tool_response><|im_end|>\n")
    assert (second.match, second.session) == ("exact", first.headers["x-edge-sir-session"])
    assert (second.text, second.read) == ("Warm.", 2 * result + ANSWERING)
    third = client.send([*messages, {"role": "assistant", "content": "Warm."}, *HI], "Bye.", tools=[WEATHER, CLOCK])
    assert (third.match, third.read) == ("exact", asking("Hi"))
    retried = client.send(messages, "Cold.", tools=[WEATHER, CLOCK])
    assert retried.text == "Cold." and client.said(first.headers["x-edge-sir-session"])[-1] in ("Cold.", "Bye.")


def test_calls_in_a_stream(client: Client) -> None:
    client.models.says(f"Look: {CALL} {CALL.replace('Oslo', 'Rome')}")
    choices = streamed(client, tools=[WEATHER])
    assert text_of(choices) == "Look:"
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 1]
    assert calls[0]["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_a_call_that_must_come(client: Client) -> None:
    for wanted, names in (
        ("required", ["weather", "clock"]),
        ({"type": "function", "function": {"name": "clock"}}, ["clock"]),
    ):
        answer = client.send(HI, tools=[WEATHER, CLOCK], tool_choice=wanted, max_tokens=400)
        message = answer.document["choices"][0]["message"]
        (call,) = message["tool_calls"]
        assert call["function"]["name"] in names and json.loads(call["function"]["arguments"]) is not None
        assert (message["content"], answer.document["choices"][0]["finish_reason"]) == (None, "tool_calls")
    choices = streamed(client, [{"role": "user", "content": "Ho"}], tools=[CLOCK], tool_choice="required")
    assert [c["function"]["name"] for choice in choices for c in choice["delta"].get("tool_calls", ())] == ["clock"]


def test_without_them_a_call_is_text(client: Client) -> None:
    assert client.send(HI, CALL).text == CALL
    assert client.send(HI, CALL, tools=[WEATHER], tool_choice="none").text == CALL


def test_other_tools_in_mid_conversation_are_read_once(client: Client) -> None:
    first = client.send(HI, "Fine.", tools=[WEATHER])
    other = client.ask(
        "Hi", "Fine.", "And?", reply='<tool_call>{"name": "clock", "arguments": {}}</tool_call>', tools=[CLOCK]
    )
    assert other.session == first.session
    assert other.document["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "clock"
    more = [
        {"role": "assistant", "tool_calls": other.document["choices"][0]["message"]["tool_calls"]},
        {"role": "tool", "content": "noon"},
    ]
    messages = [*HI, {"role": "assistant", "content": "Fine."}, {"role": "user", "content": "And?"}, *more]
    on = client.send(messages, "It is noon.", tools=[CLOCK])
    assert (on.match, on.session, on.text) == ("exact", first.session, "It is noon.")
    assert on.read < 150


def test_a_history_with_calls_is_read_as_its_model_wrote_it(client: Client) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    history = [*HI, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "12"}]
    answer = client.send(history, "Warm.", tools=[WEATHER])
    assert (answer.match, answer.text) == ("new", "Warm.")
    assert client.said(answer.session)[1] == CALL


def test_tools_stay_over_a_restart(tmp_path: Path) -> None:
    for i, reply in enumerate(("Fine.", CALL)):
        with talking(tmp_path / "state", budget=4096) as client:
            texts = ("Hi", "Fine.", "How is Oslo?")[: 2 * i + 1]
            answer = client.ask(*texts, reply=reply, tools=[WEATHER])
    assert answer.match == "exact" and answer.read == asking("How is Oslo?")
    assert answer.document["choices"][0]["finish_reason"] == "tool_calls"


def test_responses_call_tools_too(client: Client, api: openai.OpenAI) -> None:
    flat = {"type": "function"} | WEATHER["function"]
    client.models.says(CALL)
    first = api.responses.create(model="toy", input="How is Oslo?", tools=[flat])  # type: ignore[list-item]
    (item,) = [item for item in first.output if item.type == "function_call"]
    assert (item.name, json.loads(item.arguments)) == ("weather", {"city": "Oslo"})
    client.models.says("Warm.")
    result: Any = [{"type": "function_call_output", "call_id": item.call_id, "output": "12 degrees"}]
    second = api.responses.create(model="toy", previous_response_id=first.id, input=result, tools=[flat])  # type: ignore[list-item]
    assert second.output_text == "Warm."
    text = api.responses.create(
        model="toy", input="Who?", text={"format": {"type": "json_schema", "name": "p", "schema": PERSON}}
    ).output_text
    assert set(json.loads(text)) == {"name", "age"}
