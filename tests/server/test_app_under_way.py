"""Requests while others are under way: queue, heartbeat, disconnect, limits of time, the end."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from serving import serving
from toy_conversations import ToyConversations

from edge_sir.server.app import Settings
from edge_sir.server.limits import Limits


class Gate:
    """Lets the worker take so many steps."""

    def __init__(self) -> None:
        self._steps = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)

    def __call__(self) -> None:
        self.reached.release()
        assert self._steps.acquire(timeout=20)

    def let(self, n: int) -> None:
        """So many more."""
        self._steps.release(n)

    def wait(self) -> None:
        """Until the worker stands before a step."""
        assert self.reached.acquire(timeout=20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let(10_000)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def body(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4} | fields


def post(url: str, document: dict[str, Any], key: str = "k") -> httpx.Response:
    headers = {"x-api-key": key}
    return httpx.post(f"{url}/v1/chat/completions", json=document, headers=headers, timeout=30)


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_models_and_health_are_answered_while_something_is_decoded(gate: Gate, pool: ThreadPoolExecutor) -> None:
    with serving(ToyConversations(before_step=gate)) as url:
        reply = pool.submit(post, url, body())
        gate.wait()
        assert httpx.get(f"{url}/v1/models").status_code == httpx.get(f"{url}/health").status_code == 200
        assert metric(url, "edge_sir_live") == 1
        gate.let(10_000)
        assert reply.result().status_code == 200


def test_requests_are_given_steps_in_turn(pool: ThreadPoolExecutor) -> None:
    """A short one that came later ends first."""
    gate = Gate()
    toy = ToyConversations(n_live=2, before_step=gate)
    with serving(toy) as url:
        long = pool.submit(post, url, body(max_tokens=200))
        gate.wait()
        short = pool.submit(post, url, body("x", max_tokens=1))
        until(lambda: metric(url, "edge_sir_waiting") == 1)
        gate.let(30)
        assert short.result().status_code == 200 and not long.done()
        gate.let(10_000)
        assert long.result().json()["usage"]["completion_tokens"] > 1


def test_a_full_queue_says_when_to_come_again(gate: Gate, pool: ThreadPoolExecutor) -> None:
    settings = Settings(limits=Limits(waiting=3, waiting_each=2))
    with serving(ToyConversations(n_live=1, before_step=gate), settings) as url:
        replies = [pool.submit(post, url, body())]
        gate.wait()
        replies += [pool.submit(post, url, body()) for _ in range(2)]
        until(lambda: metric(url, "edge_sir_waiting") == 2)
        refused = post(url, body())
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error" and refused.headers["x-should-retry"] == "true"
        replies.append(pool.submit(post, url, body(), "another"))
        until(lambda: metric(url, "edge_sir_waiting") == 3)
        assert post(url, body(), "a third").status_code == 429
        gate.let(10_000)
        assert {reply.result().status_code for reply in replies} == {200}


def test_a_silent_stream_has_a_heartbeat(gate: Gate, pool: ThreadPoolExecutor) -> None:
    settings = Settings(limits=Limits(heartbeat_s=0.05))
    with serving(ToyConversations(before_step=gate), settings) as url:
        reply = pool.submit(post, url, body(stream=True))
        gate.wait()
        time.sleep(0.4)
        gate.let(10_000)
        assert reply.result().text.count("\n\n:\n\n") >= 2 and reply.result().text.endswith("data: [DONE]\n\n")


def test_a_stream_in_the_queue_begins_without_its_match(gate: Gate, pool: ThreadPoolExecutor) -> None:
    settings = Settings(limits=Limits(heartbeat_s=0.05, match_s=0.05))
    with serving(ToyConversations(n_live=1, before_step=gate), settings) as url:
        first = pool.submit(post, url, body())
        gate.wait()
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body(stream=True), timeout=30) as late:
            assert late.status_code == 200 and "x-edge-sir-match" not in late.headers
            gate.let(10_000)
            text = late.read().decode()
        assert first.result().headers["x-edge-sir-match"] == "new"
        assert '"match":"new"' in text and text.startswith(":\n\n")


def test_a_request_waits_only_for_so_long(gate: Gate, pool: ThreadPoolExecutor) -> None:
    settings = Settings(limits=Limits(heartbeat_s=0.05, match_s=0.05, wait_s=0.3))
    with serving(ToyConversations(n_live=1, before_step=gate), settings) as url:
        first = pool.submit(post, url, body())
        gate.wait()
        whole, streamed = post(url, body()), post(url, body(stream=True))
        assert whole.status_code == 503 and whole.headers["retry-after"]
        event = streamed.text.strip().split("\n\n")[-2]
        assert json.loads(event.removeprefix("data: "))["error"]["code"] == "waited_too_long"
        assert metric(url, "edge_sir_waiting") == 0
        gate.let(10_000)
        assert first.result().status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n_steps", [0, 3])
def test_a_client_that_disconnects_stops_the_work_within_one_step(
    gate: Gate, pool: ThreadPoolExecutor, stream: bool, n_steps: int
) -> None:
    """n_steps: 0 while the prompt is read, in two chunks; 3 while the reply is written."""
    toy = ToyConversations(before_step=gate)
    with serving(toy) as url:
        hurried = httpx.Client(timeout=httpx.Timeout(30, read=0.5))
        if n_steps:
            gate.let(n_steps)
        with pytest.raises(httpx.ReadTimeout):
            ask(hurried, url, body("x" * 100, max_tokens=100, stream=stream))
        hurried.close()
        time.sleep(0.2)  # the server sees it
        n_before = toy.n_decoded
        gate.let(10_000)
        until(lambda: len(toy.ended) == 1)
        assert toy.ended == ["cancelled"] and toy.n_decoded - n_before <= (1 if n_steps == 0 else 3)
        assert post(url, body()).status_code == 200


def ask(client: httpx.Client, url: str, document: dict[str, Any]) -> None:
    with client.stream("POST", f"{url}/v1/chat/completions", json=document) as answer:
        answer.read()


def test_a_request_that_leaves_the_queue_is_never_begun(gate: Gate, pool: ThreadPoolExecutor) -> None:
    toy = ToyConversations(n_live=1, before_step=gate)
    with serving(toy) as url:
        first = pool.submit(post, url, body())
        gate.wait()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=body(), timeout=httpx.Timeout(30, read=0.3))
        until(lambda: metric(url, "edge_sir_waiting") == 0)
        gate.let(10_000)
        assert first.result().status_code == 200 and len(toy.ended) == 1


def test_a_reply_that_takes_too_long_is_cut(gate: Gate) -> None:
    settings = Settings(limits=Limits(reply_s=0.3))
    with serving(ToyConversations(before_step=lambda: time.sleep(0.02)), settings) as url:
        answer = post(url, body(max_tokens=4000)).json()
    assert answer["choices"][0]["finish_reason"] == "length" and 0 < answer["usage"]["completion_tokens"] < 100


def test_the_end_lets_replies_end_and_refuses_what_waits(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    toy = ToyConversations(n_live=1, before_step=gate)
    with serving(toy, Settings(grace_s=20)) as url:
        first = pool.submit(post, url, body())
        gate.wait()
        second = pool.submit(post, url, body())
        until(lambda: metric(url, "edge_sir_waiting") == 1)
        threading.Timer(0.5, gate.let, [10_000]).start()
    assert first.result().status_code == 200 and toy.closed.is_set() and toy.ended == ["length"]
    assert second.result().status_code == 503


def test_the_end_cuts_what_goes_on_for_too_long(pool: ThreadPoolExecutor) -> None:
    toy = ToyConversations(before_step=lambda: time.sleep(0.02))
    with serving(toy, Settings(grace_s=0.2)) as url:
        reply = pool.submit(post, url, body(max_tokens=4000))
        until(lambda: toy.n_decoded > 3)
    assert toy.closed.is_set() and toy.ended == ["cancelled"]
    assert reply.result().json()["choices"][0]["finish_reason"] == "length"
