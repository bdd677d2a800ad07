"""`hf:OWNER/REPO:FILE`, against a double of the hub on loopback."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_sir import hub
from edge_sir.errors import ModelError

NAME = "hf:acme/tiny-GGUF:q4/talker.gguf"


class Double(ThreadingHTTPServer):
    """Serves one file of one repository as the hub does, and can be told to fail.

    breaks_after: bytes after which the connection drops, and later ones are refused with 503. gated: answers like
    a repository with terms. claims: the SHA-256 it announces. ranges: the Range headers that came.
    """

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.claims = hashlib.sha256(data).hexdigest()
        self.breaks_after: int | None = None
        self.broken = self.gated = False
        self.ranges: list[str] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Double
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.server.paths.append(self.path)
        if self.path.startswith("/api/models/acme/tiny-GGUF"):
            files = [{"rfilename": "README.md"}, {"rfilename": "q4/talker.gguf"}]
            about = {"id": "acme/tiny-GGUF", "sha": "c" * 40, "tags": ["gguf", "license:mit"], "siblings": files}
            self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"}, body)
        elif self.path == "/cdn/talker" and not self.headers.get("Authorization"):
            self._send_file(body)
        elif "/tiny-GGUF/resolve/" not in self.path:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        elif self.server.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"}, body)
        elif not self.path.endswith("/q4/talker.gguf"):
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "c" * 40}, body)
        else:  # as the hub does, to another host
            about = {"X-Repo-Commit": "c" * 40, "X-Linked-Size": str(len(self.server.data))}
            about |= {"X-Linked-ETag": f'"{self.server.claims}"', "ETag": '"of the redirect"'}
            about["Location"] = f"http://localhost:{self.server.server_address[1]}/cdn/talker"
            self._send(302, b"", about, body)

    def _send_file(self, body: bool) -> None:
        data, start = self.server.data, 0
        if wanted := self.headers.get("Range"):
            self.server.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        if body and self.server.broken:
            self._send(503, b"", {}, body)
            return
        headers = {"Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, data[start:], headers, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        cut = self.server.breaks_after
        self.wfile.write(data[:cut])
        if cut is not None and len(data) > cut:
            self.server.broken = True
            self.close_connection = True


@pytest.fixture
def double(talker_path: Path) -> Iterator[Double]:
    server = Double(talker_path.read_bytes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def ask(run_cli: Callable, double: Double, folder: Path) -> Callable:
    """Runs `edge-sir chat --model NAME` on the double."""

    def run(name: str = NAME, *flags: str, **changes: str | None) -> object:
        env = {
            "EDGE_SIR_MODELS_DIR": str(folder),
            "HF_ENDPOINT": double.url,
            "HF_HUB_OFFLINE": None,
            "HF_TOKEN": "hf_secret",
        }
        env |= changes
        return run_cli("chat", "--model", name, "--budget", "256", "--max-tokens", "2", *flags, input=b"Hi\n", env=env)

    return run


def test_a_file_is_fetched_once_and_then_needs_no_hub(ask: Callable, double: Double, folder: Path) -> None:
    first = ask().succeeded()
    told = first.err.decode()
    assert f"Downloading q4/talker.gguf: {len(double.data) / 1e6:.0f} MB from acme/tiny-GGUF" in told
    assert "Licence: mit" in told and str(folder) in told
    target = folder / "hf" / "acme" / "tiny-GGUF" / "q4" / "talker.gguf"
    assert target.read_bytes() == double.data
    assert not list(target.parent.glob("*.part"))
    n_requests = len(double.paths)
    assert ask(NAME, "--quiet", HF_HUB_OFFLINE="1").succeeded().out == first.out
    assert len(double.paths) == n_requests


def test_what_broke_off_is_resumed(ask: Callable, double: Double, folder: Path) -> None:
    block = 10 << 20  # what the library writes at once
    double.data += bytes(2 * block)  # behind the last tensor, where nobody looks
    double.claims = hashlib.sha256(double.data).hexdigest()
    double.breaks_after = block + block // 2
    line = ask(NAME, "--quiet").complaint
    assert "trying again resumes it" in line and NAME in line
    assert not list(folder.rglob("*.gguf"))
    double.breaks_after, double.broken = None, False
    double.ranges.clear()
    ask(NAME, "--quiet").succeeded()
    assert double.ranges == [f"bytes={block}-"]
    assert next(folder.rglob("*.gguf")).read_bytes() == double.data


def test_a_wrong_checksum_is_refused_and_nothing_kept(ask: Callable, double: Double, folder: Path) -> None:
    double.claims = "a" * 64
    assert "wrong size or checksum" in ask(NAME, "--quiet").complaint
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_what_is_not_there_is_named(ask: Callable, double: Double) -> None:
    assert "did you mean 'q4/talker.gguf'?" in ask("hf:acme/tiny-GGUF:q4/talkr.gguf", "--quiet").complaint
    assert "no public repository acme/none" in ask("hf:acme/none:a.gguf", "--quiet").complaint
    double.gated = True
    assert "terms that must be accepted" in ask(NAME, "--quiet").complaint


def test_offline_is_a_clear_line_with_the_place_for_the_file(ask: Callable, double: Double, folder: Path) -> None:
    line = ask(HF_HUB_OFFLINE="1").complaint
    assert "HF_HUB_OFFLINE" in line and str(folder / "hf" / "acme" / "tiny-GGUF" / "q4" / "talker.gguf") in line
    assert double.paths == []


def test_no_network_is_a_clear_line(ask: Callable) -> None:
    assert "is the network up?" in ask(NAME, "--quiet", HF_ENDPOINT="http://127.0.0.1:9").complaint


def test_models_get_and_path_know_the_hub(run_cli: Callable, double: Double, folder: Path) -> None:
    env = {"EDGE_SIR_MODELS_DIR": str(folder), "HF_ENDPOINT": double.url, "HF_HUB_OFFLINE": None}
    complaint = run_cli("models", "path", NAME, env=env).complaint
    assert f"{NAME} is not here yet; run `edge-sir models get {NAME}`" in complaint
    got = run_cli("models", "get", NAME, "--json", env=env).succeeded()
    path = folder / "hf" / "acme" / "tiny-GGUF" / "q4" / "talker.gguf"
    assert json.loads(got.out) == [{"name": NAME, "path": str(path)}]
    assert path.read_bytes() == double.data
    assert run_cli("models", "path", NAME, env=env).succeeded().out.decode().strip() == str(path)


@pytest.fixture
def no_library(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH in which the library is as absent as without the extra."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "huggingface_hub.py").write_text("raise ModuleNotFoundError(name='huggingface_hub')\n")
    return folder


def test_without_the_extra_the_remedy_is_named(ask: Callable, no_library: Path) -> None:
    assert "pip install 'edge-sir[hf]'` (a clone: scripts/setup hf)" in ask(PYTHONPATH=str(no_library)).complaint


def test_a_file_that_was_put_there_is_used_without_the_library(
    ask: Callable, double: Double, folder: Path, no_library: Path
) -> None:
    target = folder / "hf" / "acme" / "tiny-GGUF" / "q4" / "talker.gguf"
    target.parent.mkdir(parents=True)
    target.write_bytes(double.data)
    ask(NAME, "--quiet", PYTHONPATH=str(no_library)).succeeded()
    assert double.paths == []


BAD = ["hf:", "hf:a", "hf:a/b", "hf:a/b:", "hf:a/b:c", "hf:a/b:../c.gguf", "hf:a/b:/c.gguf", "hf:a/b:x/../../c.gguf"]
BAD += ["hf:../b:c.gguf", "hf:a/..:c.gguf", "hf:a/b:.c.gguf", "hf:a/b:x\\c.gguf", "hf:a/b/c:d.gguf", "hf:a/b:c d.gguf"]
BAD += ["hf:a/b:c.gguf\n", "hf:a/b:\x00.gguf", "hf:~/b:c.gguf", "hf:a/b:c:d.gguf", f"hf:a/b:{'x' * 500}.gguf"]


@pytest.mark.parametrize("name", BAD, ids=range(len(BAD)))
def test_names_that_would_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"write hf:OWNER/REPO:FILE\.gguf"):
        hub.parse(name)


@pytest.mark.parametrize("name", ["hf:a/b:c.gguf", "hf:A-b/c_d.e:x/y/Z-q4.GGUF", "HF:a/b:c.gguf"])
def test_good_names_stay_in_their_folder(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", str(folder))
    found = hub.parse(name)
    assert found is not None and found.path.resolve().is_relative_to(folder.resolve() / "hf")


@pytest.mark.parametrize("name", ["smollm2", "hfx/model.gguf", "./hf/x.gguf"])
def test_other_names_are_not_the_hubs(name: str) -> None:
    assert hub.parse(name) is None
