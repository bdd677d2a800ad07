"""/sessions over HTTP: what programs and a page ask of the server's sessions; single responses."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stored_toy import Client, asking, said_tokens, talking

from edge_sir.server.app import Settings
from edge_sir.server.guard import Access
from edge_sir.server.wire import session_documents as documents
from edge_sir.server.wire.documents import Response

A, B, C = "My name is Ada.", "What is a monad?", "My sister keeps bees in Oslo."
R1, R2, R3 = (f"{name}: " + f"this is what I say about {name}. " * 3 + "Fine." for name in ("one", "two", "three"))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with talking(tmp_path / "state") as client:
        yield client


@pytest.fixture
def session(client: Client) -> str:
    client.ask(A, reply=R1)
    client.ask(A, R1, B, reply=R2)
    return client.ask(A, R1, B, R2, C, reply=R3).session


def get(client: Client, path: str, status: int = 200, **query: Any) -> Any:
    answer = httpx.get(f"{client.url}{path}", params=query, headers=client.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def post(client: Client, path: str, status: int = 200, **body: Any) -> Any:
    answer = httpx.post(f"{client.url}{path}", json=body, headers=client.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_list_and_one_of_them(client: Client, session: str) -> None:
    other = client.ask("Another one.", reply="ok").session
    listed = documents.SessionList.model_validate(get(client, "/sessions")).data
    assert [one.name for one in listed] == [other, session] and listed[0].title == "Another one."
    assert (listed[1].turns, listed[1].messages, listed[1].state) == (3, 6, "live")
    shown = documents.SessionDocument.model_validate(get(client, f"/sessions/{session}"))
    assert [one["text"] for one in shown.said or ()] == [A, R1, B, R2, C, R3]


def test_the_memory_and_what_is_left_of_words(client: Client, session: str) -> None:
    memory = documents.MemoryDocument.model_validate(get(client, f"/sessions/{session}/memory"))
    assert memory.turn_now == 3 and memory.turns[1]["said"][0]["text"] == A
    found = documents.FoundWords.model_validate(get(client, f"/sessions/{session}/find", q="Ada"))
    assert [(one.turn, one.state) for one in found.turns] == [(1, "whole")]


def test_what_is_pinned_stays(client: Client, session: str) -> None:
    pinned = documents.Pinned.model_validate(post(client, f"/sessions/{session}/pin", what="sister"))
    assert [one.text.strip() for one in pinned.pinned] == [C]
    memory = get(client, f"/sessions/{session}/memory")
    assert memory["n_pinned"] > 0
    on = client.ask(A, R1, B, R2, C, R3, "next", reply="ok")
    assert (on.match, on.read) == ("exact", asking("next"))
    unpinned = documents.Unpinned.model_validate(post(client, f"/sessions/{session}/unpin"))
    assert len(unpinned.unpinned) == 1


def test_what_was_evicted_comes_back(tmp_path: Path) -> None:
    with talking(tmp_path / "state", budget=400) as client:
        history = ["My sister keeps bees in Oslo."]
        for animal in ("elephant", "giraffe", "marmot", "heron", "lynx", "zebra"):
            reply = f"The {animal} walks through the {animal}'s house, and {animal}s everywhere follow the {animal}."
            session = client.ask(*history, reply=reply).session
            history += [reply, f"What of the {animal}'s friends?"]
        back = documents.RecalledNow.model_validate(post(client, f"/sessions/{session}/recall", what=1))
        assert back.recalled and back.recalled[0].turn == 1


def test_a_search(client: Client, session: str) -> None:
    other = client.ask("Oslo is in Norway.", reply="ok").session
    found = documents.FoundMessages.model_validate(get(client, "/sessions/search", q="oslo")).found
    assert {one.session for one in found} == {session, other}
    found = documents.FoundMessages.model_validate(get(client, f"/sessions/{session}/search", q="oslo")).found
    assert [(one.text, one.where) for one in found] == [(C, "resident")]
    get(client, "/sessions/search", 400)


def test_an_export(client: Client, session: str) -> None:
    answer = httpx.get(f"{client.url}/sessions/{session}/export")
    assert answer.headers["content-type"].startswith("application/jsonl") and answer.text.count("\n") == 6
    markdown = httpx.get(f"{client.url}/sessions/{session}/export?format=markdown")
    assert f"## User\n\n{A}" in markdown.text
    get(client, f"/sessions/{session}/export", 400, format="pdf")


def test_a_turn_that_is_taken_back_is_read_again_if_the_client_sends_it(client: Client, session: str) -> None:
    undone = documents.UndoneTurn.model_validate(post(client, f"/sessions/{session}/undo"))
    assert (undone.turn, [one["text"] for one in undone.messages]) == (3, [C, R3])
    on = client.ask(A, R1, B, R2, "instead", reply="ok")
    assert (on.match, on.session, on.read) == ("exact", session, asking("instead"))
    post(client, f"/sessions/{session}/undo")
    again = client.ask(A, R1, B, R2, C, R3, "next", reply="ok")
    assert again.session == session
    assert again.read == said_tokens("user", C) + said_tokens("assistant", R3) + asking("next")
    for _ in range(4):
        post(client, f"/sessions/{session}/undo")
    assert "nothing was said" in post(client, f"/sessions/{session}/undo", 400)["error"]["message"]
    assert client.ask(A, reply=R1).status == 200


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def test_what_is_forgotten_is_on_disk_no_more_nor_in_copies(client: Client, session: str, tmp_path: Path) -> None:
    fork = client.ask(A, R1, "else", reply="ok").session
    assert fork != session
    forgotten = documents.ForgottenNow.model_validate(post(client, f"/sessions/{session}/forget", what="Ada"))
    assert [one.text.strip() for one in forgotten.forgotten] == [A]
    for name in (session, fork):
        assert A not in client.said(name) and not get(client, "/sessions/search", q="Ada")["found"]
    assert b"Ada" not in on_disk(tmp_path / "state")
    on = client.ask(A, R1, B, R2, C, R3, "next", reply="ok")
    assert (on.match, on.session, on.read) == ("anchor", session, asking("next"))
    branch = client.ask(A, R1, "else", "ok", "more", reply="yes")
    assert branch.session in (fork, branch.session)
    assert "nobody said" in post(client, f"/sessions/{session}/forget", 400, what="Ada")["error"]["message"]


def test_a_turn_that_is_forgotten_leaves_the_copies_that_share_it_alone(client: Client, session: str) -> None:
    fork = client.ask(A, R1, "else", reply="ok").session
    post(client, f"/sessions/{session}/forget", what=2)
    assert client.said(fork) == [A, R1, "else", "ok"] and B not in client.said(session)
    post(client, f"/sessions/{session}/forget", what=1)
    assert A not in client.said(fork) and "else" in client.said(fork)


def test_a_session_that_is_removed(client: Client, session: str, tmp_path: Path) -> None:
    answer = httpx.delete(f"{client.url}/sessions/{session}")
    assert answer.json() == {"name": session, "object": "session", "deleted": True}
    get(client, f"/sessions/{session}", 404)
    assert b"sister" not in on_disk(tmp_path / "state")
    assert client.ask(A, R1, B, reply=R2).match == "new"


def test_one_that_is_on_disk_is_looked_at_all_the_same(tmp_path: Path) -> None:
    with talking(tmp_path / "state", n_live=1) as client:
        first = client.ask(A, reply=R1).session
        client.ask("Another one.", reply="ok")
        states = {one["name"]: one["state"] for one in get(client, "/sessions")["data"]}
        assert states[first] == "on disk"
        assert get(client, f"/sessions/{first}/memory")["turn_now"] == 1


def test_a_command_waits_for_a_request_on_its_session(client: Client, session: str) -> None:
    client.models.says("a long reply " * 100)
    done = threading.Event()

    def ask() -> None:
        client.ask(A, R1, B, R2, C, R3, "next", max_tokens=1000)
        done.set()

    thread = threading.Thread(target=ask)
    thread.start()
    while get(client, f"/sessions/{session}")["state"] != "at work":
        assert not done.is_set()
    undone = post(client, f"/sessions/{session}/undo")
    thread.join()
    assert undone["turn"] == 4


@pytest.mark.parametrize("body", [{}, {"what": ""}, {"what": -1}, {"what": [1]}, {"what": None}])
def test_what_is_wrong_is_said(client: Client, session: str, body: dict[str, Any]) -> None:
    assert post(client, f"/sessions/{session}/pin", 400, **body)["error"]["param"].startswith("what")


def test_a_mistake_of_a_client_is_in_no_log(client: Client, session: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        post(client, f"/sessions/{session}/pin", 400, what="a secret of mine")
        get(client, "/sessions/secret", 404)
    logged = [record for record in caplog.records if record.name.startswith(("edge_sir", "uvicorn.error"))]
    assert not [r for r in logged if r.levelno >= logging.WARNING or "secret" in r.getMessage() or r.exc_info]


def test_a_session_of_another_key_is_not_there(tmp_path: Path) -> None:
    settings = Settings(access=Access(keys=frozenset({"one", "two"})))
    with talking(tmp_path / "state", settings=settings) as client:
        client.headers = {"authorization": "Bearer one"}
        session = client.ask(A, reply=R1, headers={"x-openwebui-chat-id": "7"}).session
        assert [one["name"] for one in get(client, "/sessions")["data"]] == [session]
        client.headers = {"authorization": "Bearer two"}
        assert get(client, "/sessions")["data"] == [] and not get(client, "/sessions/search", q="Ada")["found"]
        for path in ("", "/memory", "/export", "/search", "/find"):
            get(client, f"/sessions/{session}{path}", 404, q="Ada")
        for verb in ("pin", "forget", "recall", "unpin"):
            post(client, f"/sessions/{session}/{verb}", 404, what="Ada")
        post(client, f"/sessions/{session}/undo", 404)
        assert httpx.delete(f"{client.url}/sessions/{session}", headers=client.headers).status_code == 404


def test_a_chat_of_the_command_line_is_none_of_the_server(client: Client) -> None:
    with client.home._folder.create("ada", model="toy", fingerprint=client.home._loaded.fingerprint):
        pass
    assert get(client, "/sessions")["data"] == []
    get(client, "/sessions/ada", 404)


def test_without_keys_and_without_one_all_are_seen(client: Client) -> None:
    mine = client.ask(A, reply=R1, headers={"authorization": "Bearer any"}).session
    assert [one["name"] for one in get(client, "/sessions")["data"]] == [mine]
    client.headers = {"authorization": "Bearer other"}
    assert get(client, "/sessions")["data"] == []


# ---- responses -----------------------------------------------------------------------------------


def test_a_response_is_there_until_it_is_deleted(client: Client) -> None:
    client.models.says(R1)
    made = httpx.post(f"{client.url}/v1/responses", json={"input": A}).json()
    found = get(client, f"/v1/responses/{made['id']}")
    Response.model_validate(found)
    assert found["output"] == made["output"] and found["status"] == "completed"
    client.headers = {"authorization": "Bearer other"}
    get(client, f"/v1/responses/{made['id']}", 404)
    client.headers = {}
    url = f"{client.url}/v1/responses/{made['id']}"
    assert httpx.delete(url).json() == {"id": made["id"], "object": "response", "deleted": True}
    assert httpx.delete(url).status_code == httpx.get(url).status_code == 404


def test_the_openapi_document_has_every_path(client: Client) -> None:
    paths = get(client, "/openapi.json")["paths"]
    assert {f"/sessions/{{name}}/{verb}" for verb in ("memory", "find", "search", "export")} <= paths.keys()
    assert {f"/sessions/{{name}}/{verb}" for verb in ("pin", "unpin", "recall", "forget", "undo")} <= paths.keys()
    assert paths["/sessions/{name}"].keys() == {"get", "delete"} == paths["/v1/responses/{id}"].keys()
