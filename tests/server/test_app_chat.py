"""Chat requests through OpenAI's own client, against the toy."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from serving import SERVED, serving
from toy_conversations import ToyConversations

from edge_sir.errors import BudgetError, EngineError, StoreError
from edge_sir.server.app import Settings
from edge_sir.server.limits import Limits
from edge_sir.server.wire.documents import ChatChunk, ChatCompletion, ErrorDocument


@pytest.fixture
def toy() -> ToyConversations:
    return ToyConversations()


@pytest.fixture
def url(toy: ToyConversations) -> Iterator[str]:
    with serving(toy) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        yield client


def said(*texts: str) -> list[Any]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def post(url: str, body: Any, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=names)


def events(url: str, **fields: Any) -> list[str]:
    """What a stream holds after `data: `, heartbeats left out."""
    answer = post(url, {"messages": said("hello"), "stream": True, "max_tokens": 4} | fields)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache" and answer.headers["x-accel-buffering"] == "no"
    return [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame.startswith("data: ")]


def test_a_whole_reply(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="toy", messages=said("hello"), max_tokens=8)
    assert reply.choices[0].message.content and reply.choices[0].finish_reason == "length"
    assert reply.usage is not None and reply.usage.completion_tokens == 8
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 8 and reply.model == SERVED.name


def test_a_stream_says_the_same_as_a_whole_reply(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="toy", messages=said("hello"), max_tokens=8)
    stream = client.chat.completions.create(model="toy", messages=said("hello"), max_tokens=8, stream=True)
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.strip() == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["length"]
    assert chunks[0].choices[0].delta.role == "assistant" and len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_what_is_resident_counts_as_cached(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="toy", messages=said("hello"), max_tokens=8)
    assert first.usage is not None
    messages = said("hello", first.choices[0].message.content or "", "more")
    second = client.chat.completions.with_raw_response.create(model="toy", messages=messages, max_tokens=4)
    usage = second.parse().usage
    assert second.headers["x-edge-sir-match"] == "exact" and second.headers["x-edge-sir-session"] == "s0"
    assert usage is not None and usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens
    assert usage.prompt_tokens > first.usage.total_tokens


def test_usage_comes_last_in_a_chunk_of_its_own_and_only_if_asked_for(url: str) -> None:
    *_, last, done = events(url)
    assert done == "[DONE]" and json.loads(last)["choices"] and "usage" not in json.loads(last)
    *_, before, usage, done = events(url, stream_options={"include_usage": True})
    assert json.loads(usage)["choices"] == [] and json.loads(usage)["usage"]["completion_tokens"] == 4
    assert json.loads(before)["usage"] is None and json.loads(before)["edge_sir"]["match"] == "new"


def test_answers_are_as_the_openapi_document_says(url: str) -> None:
    ChatCompletion.model_validate(post(url, {"messages": said("hello"), "max_tokens": 3}).json())
    for event in events(url, stream_options={"include_usage": True})[:-1]:
        ChatChunk.model_validate(json.loads(event))
    ErrorDocument.model_validate(post(url, {"messages": []}).json())


def test_the_asynchronous_client(url: str) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
            replies = [
                client.chat.completions.create(model="toy", messages=said(f"hello {i}"), max_tokens=3) for i in range(5)
            ]
            return [str(reply.choices[0].message.content) for reply in await asyncio.gather(*replies)]

    assert len(asyncio.run(ask())) == 5


def test_one_thread_answers_all(url: str, toy: ToyConversations) -> None:
    for _ in range(3):
        post(url, {"messages": said("hello"), "max_tokens": 2})
    assert len(toy.threads) == 1


# ---- refusals ------------------------------------------------------------------------------------


def test_a_mistake_is_openai_s_error_and_is_not_tried_again(client: openai.OpenAI, toy: ToyConversations) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="toy", messages=said("hello"), temperature=-1)
    error = caught.value
    assert error.param == "temperature" and error.type == "invalid_request_error"
    assert error.response.headers["x-should-retry"] == "false" and error.request_id
    assert not toy.threads


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (rb'{"messages": [{"role": "user", "content": "\ud800"}]}', "messages[0].content"),
        (b'{"messages": 5}', "messages"),
    ],
)
def test_a_body_that_is_none_is_refused(url: str, body: bytes, param: str | None) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", content=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


def test_the_conversation_s_own_refusal_comes_with_its_status_in_a_stream_too(url: str) -> None:
    for stream in (False, True):
        answer = post(url, {"messages": said("x" * 1000), "stream": stream, "max_tokens": 1})
        assert answer.status_code == 200  # the toy evicts
    assert post(url, {"messages": said("a"), "top_logprobs": 1}).json()["error"]["param"] == "top_logprobs"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BudgetError("no room: say less"), 400, "context_length_exceeded"),
        (EngineError("llama_decode 9"), 500, "internal_error"),
        (StoreError("/home/ada/state: disk full"), 500, "internal_error"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
    ],
)
def test_an_error_under_way(
    error: Exception, status: int, code: str, url: str, toy: ToyConversations, caplog: pytest.LogCaptureFixture
) -> None:
    toy.before_step = raising(error)
    with caplog.at_level(logging.ERROR):
        answer = post(url, {"messages": said("hello")})
    assert answer.status_code == status and answer.json()["error"]["code"] == code
    if status == 500:
        assert str(error) not in answer.text and caplog.records[0].exc_info
    toy.before_step = raising(error)
    streamed = post(url, {"messages": said("hello"), "stream": True})
    *_, event, done = streamed.text.strip().split("\n\n")
    assert json.loads(event.removeprefix("data: "))["error"]["code"] == code and done == "data: [DONE]"
    toy.before_step = lambda: None
    assert post(url, {"messages": said("hello"), "max_tokens": 2}).status_code == 200


def test_openai_s_client_raises_what_comes_in_mid_stream(client: openai.OpenAI, toy: ToyConversations) -> None:
    stream = client.chat.completions.create(model="toy", messages=said("hello"), stream=True)
    next(stream)
    toy.before_step = raising(BudgetError("no room: say less"))
    with pytest.raises(openai.APIError, match="no room"):
        list(stream)


def raising(error: Exception) -> Any:
    def fail() -> None:
        raise error

    return fail


def test_too_large_bodies_are_refused_said_or_not() -> None:
    settings = Settings(limits=Limits(body_bytes=1000))
    with serving(ToyConversations(), settings) as url:
        body = b" " * 2000
        said_before = httpx.post(f"{url}/v1/chat/completions", content=body)
        in_parts = httpx.post(f"{url}/v1/chat/completions", content=iter([body[:600], body[:600]]))
    assert (said_before.status_code, in_parts.status_code) == (413, 413)


@pytest.mark.parametrize("disconnects", [False, True])
def test_a_body_that_does_not_come_is_not_waited_for(disconnects: bool, caplog: pytest.LogCaptureFixture) -> None:
    with serving(ToyConversations(), Settings(limits=Limits(body_s=0.2))) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 0), timeout=20) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            if not disconnects:
                assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert httpx.get(f"{url}/health").status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# ---- other paths ---------------------------------------------------------------------------------


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["toy"]
    assert client.models.retrieve("toy").created == SERVED.created
    with pytest.raises(openai.NotFoundError, match="this server has 'toy'"):
        client.models.retrieve("gpt/4")


def test_what_is_not_there_gets_the_error_object(url: str) -> None:
    for answer, status in [(httpx.get(f"{url}/v2"), 404), (httpx.get(f"{url}/v1/chat/completions"), 405)]:
        assert answer.status_code == status and "message" in answer.json()["error"]


def test_metrics_count_and_say_nothing_of_what_was_said(url: str) -> None:
    post(url, {"messages": said("a secret"), "max_tokens": 4})
    text = httpx.get(f"{url}/metrics").text
    assert 'edge_sir_matches_total{match="new"} 1.0' in text and "edge_sir_generated_tokens_total 4.0" in text
    assert 'edge_sir_responses_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert "secret" not in text and "edge_sir_live 0.0" in text


def test_logs_say_nothing_of_what_was_said(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "edge_sir"):
        post(url, {"messages": said("a secret"), "max_tokens": 2, "user": "secret"})
        post(url, {"messages": said("a secret"), "temperature": "secret"})
    assert len(caplog.records) >= 2 and "secret" not in caplog.text


def test_the_openapi_document_is_closed_and_names_the_paths(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/chat/completions", "/v1/models", "/health", "/metrics"}
    names = set(document["components"]["schemas"])
    references = {r.removeprefix("#/components/schemas/") for r in references_of(document)}
    assert references <= names and "ChatRequest" in names
    request = document["components"]["schemas"]["ChatRequest"]
    assert request["required"] == ["messages"]
    assert {"type": "null"} in request["properties"]["seed"]["anyOf"]


def references_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k == "$ref")
        for inner in value.values():
            yield from references_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_of(inner)
