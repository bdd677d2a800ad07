"""Doubles on loopback of what models are fetched from: the hub, and a package index."""

import contextlib
import hashlib
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["HubDouble", "IndexDouble"]


class HubDouble(ThreadingHTTPServer):
    """Serves one file of one repository as the hub does, and can be told to fail.

    breaks_after: bytes after which the connection drops, and later ones are refused with 503 unless `recovers`. gated:
    answers like a repository with terms. claims: the SHA-256 it announces. ranges: the Range headers that came. hangs:
    never answers; hangs_later: answers what it is asked about the file, not for the file. pace: seconds between blocks
    of 64 KB.
    """

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.data = data
        self.claims = hashlib.sha256(data).hexdigest()
        self.breaks_after: int | None = None
        self.broken = self.gated = self.hangs = self.hangs_later = self.recovers = False
        self.pace = 0.0
        self.ranges: list[str] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _HubHandler(BaseHTTPRequestHandler):
    server: HubDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.server.paths.append(self.path)
        if self.server.hangs:
            time.sleep(60)
        elif self.path.startswith("/api/models/acme/tiny-GGUF"):
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
        if body and self.server.hangs_later:
            time.sleep(60)
            return
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
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the test's side may be killed
            for start in range(0, len(data[:cut]), 1 << 16):
                self.wfile.write(data[:cut][start : start + (1 << 16)])
                time.sleep(self.server.pace)
        if cut is not None and len(data) > cut:
            self.server.broken = not self.server.recovers
            self.close_connection = True


class IndexDouble(ThreadingHTTPServer):
    """Serves the wheels of a folder as a package index does, and can be told to fail.

    breaks_after: bytes after which the connection drops, once. hangs: never answers. asked: the wheels that were
    fetched, one name per request.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _IndexHandler)
        self.folder = folder
        self.breaks_after: int | None = None
        self.hangs = False
        self.pace = 0.0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple/"


class _IndexHandler(BaseHTTPRequestHandler):
    server: IndexDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.server.hangs:
            time.sleep(60)
        elif found := re.fullmatch(r"/simple/([a-z0-9-]+)/", self.path):
            wheels = self.server.folder.glob(f"{found[1].replace('-', '_')}-*.whl")
            links = "".join(f'<a href="/files/{w.name}">{w.name}</a>' for w in wheels)
            self._send(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        elif (wheel := self.server.folder / Path(self.path).name).is_file():
            self.server.asked.append(wheel.name)
            self._send(wheel.read_bytes(), "application/octet-stream")
        else:
            self.send_error(404)

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        cut = self.server.breaks_after if kind != "text/html" else None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(data[:cut]), 1 << 16):
                self.wfile.write(data[:cut][start : start + (1 << 16)])
                time.sleep(self.server.pace)
        if cut is not None:
            self.server.breaks_after = None
            self.close_connection = True
