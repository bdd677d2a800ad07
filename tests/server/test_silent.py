"""Clients that hold a connection and do nothing."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from stored_toy import Client, talking

from edge_sir.server.app import Settings
from edge_sir.server.limits import Limits

SETTINGS = Settings(limits=Limits(silent_s=2.0))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with talking(tmp_path / "state", settings=SETTINGS) as client:
        yield client


def connect(client: Client) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", int(client.url.rpartition(":")[2])))
    connection.settimeout(20)
    return connection


def is_reset(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\nHost: local"])
def test_who_sends_no_request_is_not_waited_for(client: Client, begun: bytes) -> None:
    with closing(connect(client)) as connection:
        connection.sendall(begun)
        assert is_reset(connection)


def test_who_begins_a_second_request_and_does_not_end_it(client: Client) -> None:
    with closing(connect(client)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(4096)
        connection.sendall(b"GET ")
        assert is_reset(connection)


def test_who_does_not_read_loses_the_connection(client: Client) -> None:
    client.models.says(" ".join(f"word {i}" for i in range(3000)))
    body = json.dumps({
        "messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 4096,
        "logprobs": True, "top_logprobs": 20,
    }).encode()  # fmt: skip
    with closing(connect(client)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        limit = time.monotonic() + 30
        while httpx.get(f"{client.url}/sessions").json()["data"] == []:  # it is written, whoever reads it
            assert time.monotonic() < limit
            time.sleep(0.1)
        time.sleep(5)
        got = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(2**16):
                got += part
        assert b"200 OK" in got and b"[DONE]" not in got


def test_who_asks_again_and_again_is_not_silent(client: Client) -> None:
    with httpx.Client(base_url=client.url) as http:
        ports = set()
        for _ in range(20):
            answer = http.get("/health")
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(0.2)
    assert len(ports) == 1
