"""Requests in the shapes in which programs with no package of their own here make them."""

from typing import Any

import httpx
import pytest
from client_programs import MODEL, Served

pytestmark = pytest.mark.model

TITLE = """### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Output:
JSON format: { "title": "your concise title here" }
### Chat History:
<chat_history>
USER: %s
ASSISTANT: %s
</chat_history>"""


class Client:
    """Sends chats; answers are kept as a client's history has them."""

    def __init__(self, url: str, **headers: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=120)

    def chat(self, messages: list[dict[str, Any]], headers: dict[str, str] | None = None, **fields: Any) -> Any:
        body = {"model": MODEL, "messages": messages, "stream": False, "max_tokens": 12, "temperature": 0} | fields
        answer = self._http.post("/chat/completions", json=body, headers=headers or {})
        assert answer.status_code == 200, answer.text
        return answer

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


def text(answer: httpx.Response) -> str:
    found: str = answer.json()["choices"][0]["message"]["content"]
    return found


def n_read(answer: httpx.Response) -> int:
    """Tokens that were read for it."""
    usage = answer.json()["usage"]
    return int(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])


def match(answer: httpx.Response) -> str:
    return answer.headers["x-edge-sir-match"]


def test_open_webui(served: Served) -> None:
    """Its chat, then the tasks that it sends beside it with the same headers, then the chat goes on."""
    own = {"X-OpenWebUI-Chat-Id": "5f0c", "X-OpenWebUI-User-Id": "u-1", "X-OpenWebUI-User-Name": "Fatou"}
    with Client(served.url, **own) as client:
        said = [{"role": "user", "content": "My name is Fatou and I collect maps. Say hello."}]
        first = client.chat(said, {"X-OpenWebUI-Message-Id": "m-1"})
        assert match(first) == "new"
        title = client.chat([{"role": "user", "content": TITLE % (said[0]["content"], text(first))}])
        assert match(title) == "scratch"
        tags = client.chat([{"role": "user", "content": "Give tags."}], {"X-OpenWebUI-Task": "tags_generation"})
        assert match(tags) == "scratch"
        said += [{"role": "assistant", "content": text(first)}, {"role": "user", "content": "What do I collect?"}]
        second = client.chat(said)
        assert match(second) == "exact" and n_read(second) < 25
        assert second.headers["x-edge-sir-session"] == first.headers["x-edge-sir-session"]


def test_silly_tavern(served: Served) -> None:
    """Its sampler fields, a note that moves with each turn, a front that is cut off, a reply that it begins itself."""
    terms: dict[str, Any] = {"n": 1, "top_k": 40, "min_p": 0.05, "seed": 7, "frequency_penalty": 0.1, "top_p": 0.9}
    note = {"role": "system", "content": "[Write in the style of a sea story.]"}
    head = {"role": "system", "content": "You are Goran, an old sailor."}
    with Client(served.url) as client:
        said: list[dict[str, Any]] = [{"role": "user", "content": "Good evening, Goran! Where did you sail last?"}]
        for asked in ("And before that, in which harbour did you lie?", "Who was with you on board in those days?"):
            answer = client.chat([head, *said[:-1], note, said[-1]], max_tokens=24, **terms)
            said += [{"role": "assistant", "content": text(answer)}, {"role": "user", "content": asked}]
        last = client.chat([head, *said[:-1], note, said[-1]], max_tokens=24, **terms)
        assert match(last) in ("exact", "anchor") and n_read(last) < 60
        said += [{"role": "assistant", "content": text(last)}, {"role": "user", "content": "Tell me about the storm."}]
        trimmed = client.chat([head, *said[2:]], **terms)
        assert match(trimmed) == "anchor" and n_read(trimmed) < 40
        begun = [head, *said[2:], {"role": "assistant", "content": "The storm came"}]
        going_on = client.chat(begun, **terms)
        assert match(going_on) == "prefill" and text(going_on)


def test_home_assistant(served: Served) -> None:
    """Its prompt begins with the time of day, which changes with every request."""
    prompt = "Current time is %s. Today's date is 2026-11-27. You are a voice assistant for a home. Answer briefly."
    with Client(served.url) as client:
        said = [{"role": "user", "content": "Hana here. Which light is on the stairs?"}]
        first = client.chat([{"role": "system", "content": prompt % "14:03:21"}, *said])
        said += [{"role": "assistant", "content": text(first)}, {"role": "user", "content": "Switch it off."}]
        second = client.chat([{"role": "system", "content": prompt % "14:03:59"}, *said])
        assert match(second) == "exact" and n_read(second) < 25
