"""Responses and completions through OpenAI's own client, against the toy."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest
from serving import serving
from toy_conversations import ToyConversations

from edge_sir.errors import EngineError
from edge_sir.server.wire.documents import Completion, Response
from edge_sir.testing import ByteTokenizer


@pytest.fixture
def toy() -> ToyConversations:
    return ToyConversations()


@pytest.fixture
def client(toy: ToyConversations) -> Iterator[openai.OpenAI]:
    with serving(toy) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_a_response(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="toy", input="hello", max_output_tokens=8)
    assert reply.output_text == "abc def" and reply.status == "incomplete"
    assert reply.usage is not None and reply.usage.output_tokens == 8


def test_a_response_as_events(client: openai.OpenAI, toy: ToyConversations) -> None:
    toy.script = [*b"abc def", int(ByteTokenizer().encode("<|im_end|>", special=True)[0])]
    with client.responses.stream(model="toy", input="hello") as stream:
        events = list(stream)
        assert stream.get_final_response().output_text == "abc def"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas).strip() == "abc def"


def test_events_are_named_and_none_follows_the_last(client: openai.OpenAI) -> None:
    document = {"input": "hello", "max_output_tokens": 2, "stream": True}
    text = httpx.post(f"{client.base_url}responses", json=document).text
    *_, last, end = text.split("\n\n")
    assert end == "" and last.startswith("event: response.incomplete\ndata: ") and "[DONE]" not in text
    Response.model_validate(json.loads(last.partition("data: ")[2])["response"])


def test_a_response_that_fails_under_way(client: openai.OpenAI, toy: ToyConversations) -> None:
    def fail() -> None:
        raise EngineError("llama_decode 9")

    toy.before_step = fail
    document = {"input": "hello", "stream": True}
    text = httpx.post(f"{client.base_url}responses", json=document).text
    assert text.strip().split("\n\n")[-1].startswith("event: response.failed\n")
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="toy", input="hello")


def test_a_completion(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="toy", prompt="Once", max_tokens=8)
    assert reply.choices[0].text == "abc def" and reply.choices[0].finish_reason == "length"
    Completion.model_validate(httpx.post(f"{client.base_url}completions", json={"prompt": "Once"}).json())
    chunks = list(client.completions.create(model="toy", prompt="Once", max_tokens=8, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks).strip() == "abc def"
    assert chunks[-1].choices[0].finish_reason == "length"
