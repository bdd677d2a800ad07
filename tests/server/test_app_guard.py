"""Who may ask: host, origin, key."""

import re
from collections.abc import Mapping

import httpx
import pytest
from serving import serving
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from toy_conversations import ToyConversations

from edge_sir.server.app import Settings
from edge_sir.server.guard import Access, Guard
from edge_sir.server.limits import Limits
from edge_sir.server.metrics import Metrics
from edge_sir.server.wire.refusal import RefusedError

MODELS = "/v1/models"


def status(url: str, headers: Mapping[str, str] = {}, path: str = MODELS) -> int:
    return httpx.get(f"{url}{path}", headers=headers).status_code


def test_without_keys_any_is_accepted() -> None:
    with serving(ToyConversations()) as url:
        assert status(url) == status(url, {"authorization": "Bearer x"}) == status(url, {"authorization": "?"}) == 200


def test_with_keys_one_of_them_is_needed() -> None:
    with serving(ToyConversations(), Settings(access=Access(keys=frozenset({"one", "another"})))) as url:
        wrong = [{}, {"authorization": "Bearer"}, {"authorization": "Bearer on"}, {"authorization": "Basic one"}]
        wrong += [{"x-api-key": "two"}, {"authorization": "one"}]
        assert {status(url, headers) for headers in wrong} == {401}
        assert status(url, {"authorization": "bearer one"}) == status(url, {"x-api-key": "one"}) == 200
        answer = httpx.get(f"{url}{MODELS}")
        assert answer.json()["error"]["code"] == "invalid_api_key" and answer.headers["x-should-retry"] == "false"
        assert status(url, path="/health") == 200
        assert {status(url, path=path) for path in ("/metrics", "/openapi.json", "/other")} == {401}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[::1"])
def test_a_host_that_is_not_this_one_is_refused(host: str) -> None:
    with serving(ToyConversations()) as url:
        assert status(url, {"host": host}) in (400, 403)


def test_this_host_has_several_names() -> None:
    with serving(ToyConversations()) as url:
        assert {status(url, {"host": host}) for host in ("localhost", "LOCALHOST:9", "127.0.0.1:1", "[::1]:5")} == {200}
    with serving(ToyConversations(), Settings(access=Access(hosts=()))) as url:
        assert status(url, {"host": "a.example"}) == 200


def test_pages_of_other_origins_may_not_ask() -> None:
    with serving(ToyConversations()) as url:
        for origin in ("https://evil.example", "null", "http://localhost:1", "file://", "http://[", "http://a]b"):
            answer = httpx.get(f"{url}{MODELS}", headers={"origin": origin})
            assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
        assert status(url, {"origin": url}) == 200


def test_pages_of_listed_origins_may_ask() -> None:
    access = Access(keys=frozenset({"k"}), origins=frozenset({"https://page.example"}))
    question = {"origin": "https://page.example", "access-control-request-method": "POST"}
    with serving(ToyConversations(), Settings(access=access)) as url:
        before = httpx.options(f"{url}/v1/chat/completions", headers=question)
        assert before.headers["access-control-allow-origin"] == "https://page.example"
        asked = httpx.get(f"{url}{MODELS}", headers={"origin": "https://page.example", "x-api-key": "k"})
        assert asked.status_code == 200 and asked.headers["access-control-allow-origin"] == "https://page.example"
        other = httpx.options(f"{url}/v1/chat/completions", headers=question | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("length", ["9" * 5000, "\xb2", "-1", "+1", "1_0"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    headers = Headers(raw=[(b"host", b"localhost"), (b"content-length", length.encode("latin-1"))])
    with pytest.raises(RefusedError):
        Guard(_nothing, Access(), Limits(), Metrics(), [])._check(headers, MODELS)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("it was let pass")


def test_every_answer_has_an_id_of_its_own() -> None:
    with serving(ToyConversations(), Settings(access=Access(keys=frozenset({"k"})))) as url:
        ids = [httpx.get(f"{url}{path}").headers["x-request-id"] for path in ("/health", MODELS, "/other")]
    assert len(set(ids)) == 3 and all(i.startswith("req_") for i in ids)


def test_the_log_says_what_was_done_and_nothing_of_what_was_said(caplog: pytest.LogCaptureFixture) -> None:
    """What programs poll is left out, paths are not logged as they came, and a stream is logged when it ended."""
    caplog.set_level("INFO", "edge_sir")
    said = [{"role": "user", "content": "Tulips and secrets"}]
    with serving(ToyConversations()) as url:
        for path in ("/health", "/metrics", MODELS, "/sessions/Tulips", "/Tulips?q=secrets"):
            httpx.get(f"{url}{path}")
        for stream in (False, True):
            httpx.post(f"{url}/v1/chat/completions", json={"messages": said, "stream": stream, "max_tokens": 9})
    lines = [record.getMessage() for record in caplog.records if record.name == "edge_sir.server.guard"]
    shown = [re.sub(r"^req_\w+ (.*), \d+\.\d{3} s", r"\1", line) for line in lines]
    assert shown[:2] == ["/sessions/... 404", "other 404"]
    done = r"/v1/chat/completions 200: \S+ new, \d+ read, [1-9]\d* written, \d+ evicted"
    assert len(shown) == 4 and all(re.fullmatch(done, line) for line in shown[2:]), shown
    assert "Tulips" not in caplog.text and "secrets" not in caplog.text
    assert "ending: replies get a moment, and all is saved" in caplog.text


def test_a_wrong_base_address_is_explained() -> None:
    with serving(ToyConversations()) as url:
        answer = httpx.post(f"{url}/chat/completions", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Not Found; a client's base address ends in /v1"
