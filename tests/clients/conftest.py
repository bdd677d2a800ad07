"""A server in a process of its own, as a user starts it, and the programs of its clients."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_programs import MODEL, Served, output_of

PROGRAMS = Path(__file__).parent / "programs"
_NODE_PACKAGES = ("openai@6", "ai@6", "@ai-sdk/openai-compatible@2")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """edge-sir serve on a free port, with a state folder of its own."""
    state = tmp_path_factory.mktemp("state")
    command = [sys.executable, "-m", "edge_sir", "serve", "--model", MODEL, "--port", "0"]
    command += ["--state-dir", str(state), "--budget", "512", "--sessions", "2", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield Served(_address(process))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def _address(process: "subprocess.Popen[str]") -> str:
    """What the server says once it listens."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        words = [word.rstrip(".,/") for word in line.split() if word.startswith("http://")]
        if words:
            return words[0].removesuffix("/v1")
    raise AssertionError(f"the server did not start: {''.join(lines)}")


@pytest.fixture
def play(served: Served, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs one of the Python programs and returns what it printed."""

    def run(name: str) -> dict[str, Any]:
        return output_of([sys.executable, str(PROGRAMS / name)], served.environment(tmp_path), tmp_path)

    return run


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages and the programs that use them."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    install = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *_NODE_PACKAGES]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm could not install the clients: {done.stderr.strip()[-200:]}")
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


@pytest.fixture
def play_node(served: Served, node_folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs one of the programs for Node and returns what it printed."""
    return lambda name: output_of(["node", str(node_folder / name)], served.environment(tmp_path), node_folder)
