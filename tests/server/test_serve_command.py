"""`edge-sir serve` as a process of its own, on a real model, and what it refuses before it loads one."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edge_sir.cli import main
from edge_sir.cli.serve import _access

Start = Callable[..., tuple["subprocess.Popen[bytes]", str]]


@pytest.fixture
def start(smollm2_path: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a server on any port; its process and address. It is killed with the test."""
    with ExitStack() as closing:

        def run(*args: str) -> tuple["subprocess.Popen[bytes]", str]:
            given = ["--model", str(smollm2_path), "--port", "0", "--state-dir", str(tmp_path / "state")]
            given += ["--threads", "1", "--budget", "512", "--temperature", "0", *args]
            process = subprocess.Popen([sys.executable, "-m", "edge_sir", "serve", *given], stderr=subprocess.PIPE)
            closing.enter_context(process)
            closing.callback(process.kill)
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(rb"http://\S+", line):
                    return process, found[0].decode().removesuffix("/v1")
            raise AssertionError("the server did not start")

        yield run


def ask(url: str, *texts: str, **body: Any) -> httpx.Response:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return httpx.post(f"{url}/v1/chat/completions", json={"messages": messages, "max_tokens": 24} | body, timeout=120)


def text_of(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def read_of(answer: httpx.Response) -> int:
    return int(answer.json()["usage"]["prompt_tokens_details"]["cache_write_tokens"])


@pytest.mark.model
def test_killed_in_mid_conversation_it_goes_on_and_reads_nothing_again(start: Start) -> None:
    """What was never saved is read again: the message whose reply was under way."""
    asked = ["My name is Ada.", "I live in Oslo, and I keep bees.", "What is my name?"]
    process, url = start("--resume-s", "0.01")  # the cells of each turn are on disk
    history: list[str] = []
    sessions = set()
    for text in asked[:2]:
        answer = ask(url, *history, text)
        sessions.add(answer.headers["x-edge-sir-session"])
        history += [text, text_of(answer)]
    messages = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate([*history, asked[2]])]
    body = {"messages": messages, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as stream:
        next(line for line in stream.iter_lines() if re.search(r'"content":\s*"[^"]', line))
        process.kill()
        process.wait()
    process, url = start("--resume-s", "0.01")
    answer = ask(url, *history, asked[2])
    assert answer.headers["x-edge-sir-match"] == "exact" and answer.headers["x-edge-sir-session"] in sessions
    control = ask(url, *history[:2], asked[2])  # the same message elsewhere
    assert read_of(answer) == read_of(control)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, 143)
    assert process.stderr is not None and b"Traceback" not in (said := process.stderr.read())
    assert b"goes on (exact, 0 turns decoded again)" in said


@pytest.mark.model
def test_sessions_take_turns_in_one_context_and_other_clients_are_answered(start: Start, tmp_path: Path) -> None:
    process, url = start("--sessions", "1", "--api-key", "secret")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    with openai.OpenAI(base_url=f"{url}/v1", api_key="secret", timeout=120) as client:
        (model,) = client.models.list().data
        histories: list[list[Any]] = [[], []]
        for i, text in enumerate(["Hello there.", "Tell me of bees.", "And then?", "And of honey?"]):
            history = histories[i % 2]
            history.append({"role": "user", "content": text})
            raw = client.chat.completions.with_raw_response.create(model=model.id, messages=history, max_tokens=16)
            assert raw.headers["x-edge-sir-match"] == ("new" if i < 2 else "exact")
            history.append({"role": "assistant", "content": raw.parse().choices[0].message.content})
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    listed = subprocess.run(
        [sys.executable, "-m", "edge_sir", "sessions", "list", "--json", "--state-dir", str(tmp_path / "state")],
        capture_output=True,
        check=True,
    )
    assert [one["n_turns"] for one in json.loads(listed.stdout)] == [2, 2]


# ---- before a model is loaded --------------------------------------------------------------------


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    before = signal.getsignal(signal.SIGTERM)

    def run(*args: str) -> str:
        code = main(["serve", *args])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_an_address_that_others_reach_needs_a_key(refused: Callable[..., str], host: str) -> None:
    assert f"others can reach {host}: give --api-key, or listen on 127.0.0.1" in refused("--host", host)


def test_a_port_that_is_taken(refused: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused("--port", str(port))
    assert "--port is a number from 0 to 65535" in refused("--port", "70000")


def test_a_number_of_sessions(refused: Callable[..., str]) -> None:
    assert "--sessions is a number from 1 to 256, not 0" in refused("--sessions", "0")


@pytest.mark.parametrize("url", ["localhost:3000", "http://localhost:3000/", "foo", "http://", ""])
def test_an_origin_that_no_browser_sends(refused: Callable[..., str], url: str) -> None:
    assert "--allow-origin is a URL without a path, like http://localhost:3000" in refused(f"--allow-origin={url}")


@pytest.mark.parametrize("name", ["http://box", "box:8080", "box/v1", ""])
def test_a_name_that_no_host_has(refused: Callable[..., str], name: str) -> None:
    assert "--allow-host is a name without http:// and port, like box.example" in refused(f"--allow-host={name}")


def test_an_unknown_flag(refused: Callable[..., str]) -> None:
    """The nearest flag is one that the command has; all are shown by its help."""
    help = "(`edge-sir serve --help` shows the options)"
    assert f"unknown argument '--alow-host'; did you mean '--allow-host'? {help}" in refused("--alow-host", "x")
    assert f"unknown argument '--sesion'; did you mean '--sessions'? {help}" in refused("--sesion", "x")
    assert f"unknown argument '--frobnicate' {help}" in refused("--frobnicate")


def test_a_package_that_is_missing(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'edge-sir[server]'" in refused()


def test_who_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def access(host: str, *names: str, key: str = "k") -> Any:
        given = Namespace(host=host, api_key=[], allow_host=list(names), allow_origin=["http://a"])
        return _access(given, {"EDGE_SIR_API_KEY": key})

    assert access("127.0.0.1", key="").keys == frozenset()
    assert access("0.0.0.0").keys == {"k"} and not access("0.0.0.0").hosts
    assert access("0.0.0.0", "Box").hosts == {"localhost", "127.0.0.1", "::1", "box"}
    assert "192.0.2.1" in access("192.0.2.1").hosts and access("::1").origins == {"http://a"}


def test_uvicorn_is_given_time(start: Start) -> None:
    """It ends within seconds although a client holds a connection open."""
    process, url = start()
    with httpx.Client() as client:
        assert client.get(f"{url}/health").status_code == 200
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and time.monotonic() - began < 15
