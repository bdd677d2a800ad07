"""A line of output: OpenAI's form, and ids that depend on nothing but the request."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from answering import line, read, several, write
from openai.types import BatchError
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from edge_sir.batch.jobs import run_job
from edge_sir.batch.line import read_request
from edge_sir.batch.output import digest_of, digest_of_line, output_line
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.text.reply import Finish, Recalled, Reply


def reply(text: str = "Hello Ada.", *, finish: Finish = "stop", thought: str = "") -> Reply:
    back = (Recalled(turn=1, n_tokens=4, text="My name is Ada."),)
    return Reply(2, text, thought, finish, 11, 5, 90, 7, n_thought=2 if thought else 0, recalled=back)


def written(result: BatchResult) -> Any:
    line = output_line(result, digest_of(result.custom_id), model="tiny", created=1_700_000_000)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return json.loads(line)


def test_a_completion_with_all_replies() -> None:
    result = BatchResult("a", (reply("One"), reply("Two", finish="length", thought="Hm")), {"budget": 256})
    document = written(result)
    body = document["response"]["body"]
    assert (document["custom_id"], document["error"], document["response"]["status_code"]) == ("a", None, 200)
    assert (body["object"], body["model"], body["created"]) == ("chat.completion", "tiny", 1_700_000_000)
    (choice,) = body["choices"]
    message = {"role": "assistant", "content": "Two", "refusal": None, "reasoning_content": "Hm"}
    assert choice == {"index": 0, "message": message, "finish_reason": "length", "logprobs": None}
    assert body["usage"]["prompt_tokens"] == 22 and body["usage"]["completion_tokens"] == 10
    assert body["usage"]["total_tokens"] == 32
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert [r["message"]["content"] for r in body["replies"]] == ["One", "Two"]
    first = body["replies"][0]
    assert (first["index"], first["finish_reason"], first["resident"], first["evicted"]) == (0, "stop", 90, 7)
    assert first["recalled"] == [{"turn": 1, "tokens": 4, "text": "My name is Ada."}]
    assert first["usage"]["total_tokens"] == 16
    assert body["edge_sir"] == {"budget": 256}


def test_what_stood_before_and_what_was_shared_count_as_read() -> None:
    result = BatchResult("a", (reply("One"), reply("Two")), {"read": 100, "shared": 30})
    body = written(result)["response"]["body"]
    assert (body["usage"]["prompt_tokens"], body["usage"]["total_tokens"]) == (130, 140)
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 30}
    assert [r["usage"]["prompt_tokens"] for r in body["replies"]] == [11, 11]
    assert (result.n_read, result.n_generated) == (100, 10)


def test_an_error_without_a_reply_has_no_response() -> None:
    document = written(BatchResult("a", (), error=RequestError("invalid_request_error", "no")))
    assert document["response"] is None
    assert document["error"] == {"code": "invalid_request_error", "message": "no"}


@pytest.mark.parametrize(("code", "status"), [("server_error", 500), ("invalid_request_error", 400)])
def test_an_error_keeps_the_replies_before_it(code: str, status: int) -> None:
    document = written(BatchResult("a", (reply("One"),), error=RequestError(code, "no")))
    assert document["response"]["status_code"] == status
    assert [r["message"]["content"] for r in document["response"]["body"]["replies"]] == ["One"]


def test_ids_follow_from_the_custom_id() -> None:
    ids = [
        (d["id"], d["response"]["request_id"], d["response"]["body"]["id"])
        for d in (written(BatchResult(name, (reply(text),))) for name, text in (("a", "x"), ("a", "y"), ("b", "x")))
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2]) and len(set(ids[0])) == 3
    assert [i.rstrip("0123456789abcdef") for i in ids[0]] == ["batch_req_", "req_", "chatcmpl-"]


def test_a_line_without_an_id_has_null_and_is_known_by_what_it_holds_and_where() -> None:
    assert written(BatchResult("", (), error=RequestError("invalid_json_line", "no")))["custom_id"] is None
    digests = {digest_of_line(1, b"x"), digest_of_line(2, b"x"), digest_of_line(1, b"y"), digest_of("x")}
    assert len(digests) == 4 and digest_of_line(1, b"x") in digests


def test_whatever_a_text_holds_it_can_be_written() -> None:
    text = "line\nbreak\u2028 \ud800 \0 東京"
    document = written(BatchResult("東京", (reply(text),)))
    content = document["response"]["body"]["choices"][0]["message"]["content"]
    assert content == text.replace("\ud800", "?") and document["custom_id"] == "東京"


def test_openais_own_types_read_it() -> None:
    result = BatchResult("a", (reply("One"), reply("Two", thought="Hm")), {"budget": 256})
    completion = ChatCompletion.model_validate(written(result)["response"]["body"], strict=True)
    assert completion.choices[0].message.content == "Two"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None and completion.usage.total_tokens == 32
    details = completion.usage.completion_tokens_details
    assert details is not None and details.reasoning_tokens == 2
    assert completion.model_extra is not None
    assert completion.model_extra["replies"][0]["message"]["content"] == "One"
    error = written(BatchResult("a", (), error=RequestError("invalid_request_error", "no")))["error"]
    parsed = BatchError.model_validate(error, strict=True)
    assert (parsed.code, parsed.message) == ("invalid_request_error", "no")


def test_openais_own_types_read_every_line_that_a_job_writes(tmp_path: Path) -> None:
    lines: list[Any] = [line("a", "Hello.", "Again."), b"torn", line("b"), line("a"), line("c", "x\0")]
    run_job(write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl", several(2), model="tiny", ordered=True)
    found = read(tmp_path / "out.jsonl")
    assert [document["error"] is None for document in found] == [True, False, True, False, False]
    for document in found:
        if document["error"] is None:
            completion = ChatCompletion.model_validate(document["response"]["body"], strict=True)
            assert completion.choices[0].message.content and document["response"]["status_code"] == 200
        else:
            assert BatchError.model_validate(document["error"], strict=True).message
            assert document["response"] is None


def test_openais_own_types_read_what_the_page_prints() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    blocks = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    completions = [one["response"]["body"] for one in blocks if one["response"] is not None]
    errors = [one["error"] for one in blocks if one["error"] is not None]
    assert completions and errors
    for body in completions:
        completion = ChatCompletion.model_validate(body, strict=True)
        assert completion.usage is not None and completion.usage.total_tokens > 0
    for error in errors:
        BatchError.model_validate(error, strict=True)


def test_what_openais_own_types_write_is_taken() -> None:
    params: CompletionCreateParamsNonStreaming = {
        "model": "any",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}],
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "stop": ["END"],
    }
    found = read_request({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": params})
    assert found.said == ("Hello.",) and found.terms == {"max_tokens": 5, "temperature": 0.5, "stop": ("END",)}
