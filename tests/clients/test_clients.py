"""Clients that people use, as they are published, against a server on SmolLM2-135M."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client_programs import MODEL, Served

pytestmark = pytest.mark.model

Play = Callable[..., dict[str, Any]]
EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]


def test_openai_python(play: Play) -> None:
    pytest.importorskip("openai")
    found = play("openai_chat.py")
    assert found["first"]["choices"][0]["message"]["content"] and found["request_id"]
    assert found["match"] == "exact" and found["same_session"]
    usage = found["second"]["usage"]
    assert 0 < usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] < 25
    assert found["streamed"] and found["stream_finish"] in ("stop", "length")
    assert found["stream_usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert found["seeds"][0] == found["seeds"][1]
    assert "e" not in found["stopped"] and "o" not in found["stopped"]
    assert found["refused"]["type"] == "invalid_request_error" and "content" in found["refused"]["param"]
    assert len(found["at_once"]) == 3 and all(found["at_once"])


def test_openai_python_terms(play: Play) -> None:
    pytest.importorskip("openai")
    found = play("openai_terms.py")
    assert [choice["index"] for choice in found["several"]] == [0, 1, 2]
    shown = found["logprobs"]["logprobs"]["content"]
    assert "".join(one["token"] for one in shown).strip() == found["logprobs"]["message"]["content"].strip()
    for one in shown:
        assert len(one["top_logprobs"]) == 3 and one["logprob"] <= 0
        assert one["logprob"] == max(top["logprob"] for top in one["top_logprobs"])  # drawn greedily
    assert isinstance(found["parsed"]["name"], str) and isinstance(found["parsed"]["inhabitants"], int)
    assert found["called"]["finish_reason"] == "tool_calls"
    [call] = found["called"]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city", "unit"}
    assert found["told"]["message"]["content"] and found["told_match"] == "exact"
    assert found["streamed_name"] == "weather" and set(json.loads(found["streamed_arguments"])) == {"city", "unit"}


def test_openai_python_responses(play: Play) -> None:
    pytest.importorskip("openai")
    found = play("openai_responses.py")
    assert found["first"] and found["second"] and found["match"] == "exact"
    assert found["usage"]["input_tokens_details"]["cached_tokens"] > 0
    seen = list(dict.fromkeys(found["events"]))
    assert seen[:-1] == EVENTS and seen[-1] in ("response.completed", "response.incomplete")
    assert found["streamed"] and found["again"] == found["second"]
    assert found["deleted"] == 404 and found["unknown"] == "previous_response_not_found"


def test_langchain(play: Play) -> None:
    pytest.importorskip("langchain_openai")
    found = play("langchain_chat.py")
    assert found["first"] and found["streamed"] and found["usage"]["output_tokens"] > 0
    [call] = found["calls"]
    assert call["name"] == "weather" and set(call["args"]) == {"city"}
    assert isinstance(found["structured"]["inhabitants"], int)


def test_litellm(play: Play) -> None:
    pytest.importorskip("litellm")
    found = play("litellm_chat.py")
    assert found["first"] and found["streamed"] and found["usage"]["completion_tokens"] > 0


def test_llm_on_the_command_line(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("llm")
    folder = tmp_path / "llm"
    folder.mkdir()
    known = f"- model_id: edge\n  model_name: {MODEL}\n  api_base: {served.url}/v1\n  api_key_name: edge\n"
    (folder / "extra-openai-models.yaml").write_text(known, encoding="utf-8")
    (folder / "keys.json").write_text('{"edge": "any"}', encoding="utf-8")

    def llm(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", *arguments]
        environment = served.environment(tmp_path)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert llm("-m", "edge", "-o", "max_tokens", "12", "My name is Ada.")
    assert llm("-c", "-o", "max_tokens", "12", "What is my name?")


def test_curl(served: Served) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "stream": True})
    command = [curl, "-sN", f"{served.url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1])


def test_openai_for_node(play_node: Play) -> None:
    found = play_node("openai_node.mjs")
    assert found["first"] and found["streamed"] and found["match"] == "exact" and found["answer"]


def test_vercel_ai(play_node: Play) -> None:
    found = play_node("vercel_ai.mjs")
    assert found["first"] and found["streamed"] and found["usage"]["outputTokens"] > 0
    assert isinstance(found["object"]["inhabitants"], int)
