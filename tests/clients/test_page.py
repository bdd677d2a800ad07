"""docs/clients.md: its blocks run as they stand, but for address and key; its headers are known to the server."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from client_programs import Served

from edge_sir.server.sender import sender_of

pytestmark = pytest.mark.model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
ADDRESS = "http://127.0.0.1:8080"
_NEEDED = {"openai-python": "openai", "LangChain": "langchain_openai", "litellm": "litellm"}


def programs(language: str) -> dict[str, str]:
    """The blocks in that language by section; those of one section are one program."""
    sections = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for name, text in zip(sections[1::2], sections[2::2], strict=True):
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        found |= {name: "\n".join(blocks)} if blocks else {}
    return found


PYTHON, NODE, SHELL, JSON = (programs(language) for language in ("python", "js", "sh", "json"))


def run(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return done.stdout


def test_the_page_has_every_client_that_is_tried_here() -> None:
    assert set(PYTHON) == {"openai-python", "LangChain", "litellm"}
    assert set(NODE) == {"openai for Node", "Vercel's ai"} and set(SHELL) == {"curl", "llm"}
    assert set(JSON) == {"Open WebUI"}


def as_served(served: Served, programs: Mapping[str, str], section: str) -> str:
    """With a key of its own, too: what other tests said is not found."""
    program = programs[section]
    assert ADDRESS in program
    return re.sub(r'"any"|\bany$', f'"page-{len(program)}"', program, flags=re.MULTILINE).replace(ADDRESS, served.url)


def n_gone_on(served: Served) -> int:
    """Requests so far that went on where a conversation ended."""
    shown = httpx.get(f"{served.url}/metrics").text
    return int(float(found[1])) if (found := re.search(r'matches_total\{match="exact"\} (\S+)', shown)) else 0


@pytest.mark.parametrize("section", PYTHON)
def test_python(served: Served, tmp_path: Path, section: str) -> None:
    pytest.importorskip(_NEEDED[section])
    program, before = tmp_path / "program.py", n_gone_on(served)
    program.write_text(as_served(served, PYTHON, section), encoding="utf-8")
    assert run([sys.executable, str(program)], served.environment(tmp_path), tmp_path)
    assert n_gone_on(served) - before == (3 if section == "openai-python" else 1)


@pytest.mark.parametrize("section", NODE)
def test_node(served: Served, node_folder: Path, tmp_path: Path, section: str) -> None:
    program, before = node_folder / f"page_{list(NODE).index(section)}.mjs", n_gone_on(served)
    program.write_text(as_served(served, NODE, section), encoding="utf-8")
    assert run(["node", str(program)], served.environment(tmp_path), node_folder)
    assert n_gone_on(served) - before == 1


def test_curl(served: Served, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    program = as_served(served, SHELL, "curl")
    shown = run(["sh", "-eu", "-c", program], served.environment(tmp_path), tmp_path)
    assert '"object": "chat.completion"' in shown and shown.endswith("data: [DONE]\n\n")


def test_llm(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("llm")
    command, before = tmp_path / "bin" / "llm", n_gone_on(served)
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llm "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = served.environment(tmp_path)
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    shown = run(["sh", "-eu", "-c", as_served(served, SHELL, "llm")], environment, tmp_path)
    assert set(json.loads(shown[shown.rindex("\n{") :])) == {"name", "inhabitants"}
    assert n_gone_on(served) - before == 1


def test_the_headers_of_open_webui(served: Served) -> None:
    """Each means something to the server, and with them a title stands beside the chat."""
    headers: dict[str, str] = json.loads(JSON["Open WebUI"])
    nothing = sender_of({}, key="", fingerprint="")
    for name, template in headers.items():
        assert sender_of({name.lower(): "x"}, key="", fingerprint="") != nothing, name
        assert sender_of({name.lower(): template}, key="", fingerprint="") == nothing

    def ask(texts: list[str], **filled: str) -> httpx.Response:
        sent = {name: filled.get(template.strip("{}"), "") for name, template in headers.items()}
        said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        body = {"messages": said, "max_tokens": 8}
        answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=sent, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer

    chat = {"CHAT_ID": "c-1", "USER_ID": "u-9"}
    first = ask(["I am Ines."], **chat, MESSAGE_ID="m-2")
    title = ask(["A title for: I am Ines."], **chat, TASK="title_generation")
    texts = ["I am Ines.", first.json()["choices"][0]["message"]["content"], "Who am I?"]
    second = ask(texts, **chat, MESSAGE_ID="m-4", USER_MESSAGE_PARENT_ID="m-2")
    assert [answer.headers["x-edge-sir-match"] for answer in (first, title, second)] == ["new", "scratch", "exact"]
