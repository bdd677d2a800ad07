"""JSON schemas, calls of tools and log-probabilities on real models."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sir
from edge_sir import models
from edge_sir.chat import Chat
from edge_sir.errors import ModelError
from edge_sir.grammar.guide import Grammar, Guide
from edge_sir.llama.native import lib
from edge_sir.runtime import Model

pytestmark = pytest.mark.model

EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 30},
        "day": {"type": "string", "format": "date"},
        "guests": {"type": "array", "items": {"type": "string", "maxLength": 10}, "minItems": 1, "maxItems": 3},
        "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "required": ["title", "day", "guests", "price"],
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Iterator[Model]:
    with edge_sir.load(str(smollm2_path), threads=1, quiet=True) as model:
        yield model


def chat_on(model: Model, **options: Any) -> Chat:
    return model.chat(**{"budget": 768, "recall": "off", "temperature": 0.7, "max_tokens": 200} | options)


@pytest.mark.parametrize(("temperature", "seed"), [(0, 0), (0.7, 1), (1.5, 2)])
def test_replies_fit_a_json_schema(smollm2: Model, temperature: float, seed: int) -> None:
    with chat_on(smollm2, temperature=temperature, seed=seed) as chat:
        for question in ("Plan a birthday party.", "Now another event."):
            reply = chat.reply(question, json_schema=EVENT)
            found = json.loads(reply.text)
            assert reply.finish == "stop"
            assert list(found) == ["title", "day", "guests", "price"]
            assert 1 <= len(found["guests"]) <= 3 and re.fullmatch(r"\d{4}-\d\d-\d\d", found["day"])


def test_a_required_call_of_a_tool(smollm2: Model) -> None:
    with chat_on(smollm2, tools=[WEATHER], temperature=0) as chat:
        reply = chat.reply("What is the weather in Oslo?", tool_choice="required")
        (call,) = reply.calls
        assert (call.name, reply.finish, reply.text) == ("get_weather", "tool_calls", "")
        assert list(json.loads(call.arguments)) == ["city"]
        chat.add("tool", '{"degrees": 12}')
        assert chat.reply("So?", tool_choice="none").text


def test_log_probabilities_are_the_log_softmax_of_the_models_logits(smollm2: Model) -> None:
    with chat_on(smollm2, temperature=1.0) as chat:
        turn, rows = chat.turn("Name a river.", top_logprobs=5, max_tokens=12), []
        while (piece := turn.next_slice()) is not None:
            result = chat.engine.decode([piece])[0]
            if not turn.is_open or turn.phase == "writing":
                rows.append(result.logits)
            turn.commit(result)
        reply, ids = turn.reply, {}
        for token in range(smollm2.native.n_vocab):
            ids.setdefault(smollm2.codec.piece(token), []).append(token)
    written = [row for row in rows if row is not None][-len(reply.drawn) - 1 :]
    assert len(reply.drawn) == reply.n_generated > 0
    for drawn, logits in zip(reply.drawn, written, strict=False):
        exact = logits.astype(np.float64)
        exact = exact - exact.max()
        exact -= np.log(np.exp(exact).sum())
        assert min(abs(drawn.logprob - exact[token]) for token in ids[drawn.text]) < 1e-4
        assert [p for _, p in drawn.likeliest] == pytest.approx(np.sort(exact)[::-1][:5], abs=1e-4)


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= [a-zA-Z ,.]+ "!"',
        'root ::= "{" ([^{}"] | "\\"" [^"]* "\\"")* "}"',
        'root ::= ("ä" | "日本" | "😀") "x"? | "yes" | "no way"',
        "root ::= [^a-z]{2,9}",
        'root ::= (digit digit? ", "){1,4} digit\ndigit ::= [0-9]',
    ],
)
def test_the_tokens_that_can_come_are_those_of_llama_cpps_grammars(smollm2: Model, grammar: str) -> None:
    """But for control tokens and parts of characters that nothing completes, which llama.cpp lets through."""
    native, vocabulary = smollm2.native, smollm2.native.vocabulary
    n_vocab, rng = native.n_vocab, np.random.default_rng(0)
    theirs = lib.llama_sampler_init_grammar(native.vocab, grammar.encode(), b"root")
    assert theirs
    guide = Guide(Grammar(grammar), vocabulary)
    try:
        for _ in range(12):
            data = (lib.llama_token_data * n_vocab)()
            for token in range(n_vocab):
                data[token].id, data[token].logit = token, 0.0
            array = lib.llama_token_data_array(data=data, size=n_vocab, selected=-1, sorted=False)
            lib.llama_sampler_apply(theirs, array)
            allowed = {data[i].id for i in range(n_vocab) if data[i].logit == 0.0}
            ours = set(guide.best(np.zeros(n_vocab, np.float32), n_vocab).tolist())
            assert ours <= allowed
            assert not any(vocabulary.texts[token] for token in allowed - ours)
            whole = [token for token in sorted(ours) if vocabulary.texts[token] and token not in vocabulary.ends]
            if not whole:
                break
            token = int(rng.choice(whole))
            guide.accept(token)
            lib.llama_sampler_accept(theirs, token)
    finally:
        lib.llama_sampler_free(theirs)


def test_qwen_calls_a_tool_by_itself() -> None:
    try:
        path = models.resolve("qwen2.5-coder-0.5b-instruct").path
    except ModelError:
        pytest.skip("this model is not here")
    with (
        edge_sir.load(str(path), threads=2, quiet=True) as model,
        chat_on(model, tools=[WEATHER], temperature=0) as chat,
    ):
        reply = chat.reply("What is the weather in Oslo right now?")
        assert [(call.name, json.loads(call.arguments)) for call in reply.calls] == [("get_weather", {"city": "Oslo"})]
        assert (reply.finish, "tool_call" in reply.text) == ("tool_calls", False)
