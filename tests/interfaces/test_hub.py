"""`hf:OWNER/REPO:FILE`, against a double of the hub on loopback."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles import HubDouble

from edge_sir.errors import ModelError
from edge_sir.models import hub

NAME = "hf:acme/tiny-GGUF:q4/talker.gguf"


@pytest.fixture
def double(talker_path: Path) -> Iterator[HubDouble]:
    server = HubDouble(talker_path.read_bytes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def ask(run_cli: Callable, double: HubDouble, folder: Path) -> Callable:
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


def test_a_file_is_fetched_once_and_then_needs_no_hub(ask: Callable, double: HubDouble, folder: Path) -> None:
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


def test_what_broke_off_is_resumed(ask: Callable, double: HubDouble, folder: Path) -> None:
    block = 1 << 18  # what is written at once
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


def test_a_wrong_checksum_is_refused_and_nothing_kept(ask: Callable, double: HubDouble, folder: Path) -> None:
    double.claims = "a" * 64
    assert "wrong size or checksum" in ask(NAME, "--quiet").complaint
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_what_is_not_there_is_named(ask: Callable, double: HubDouble) -> None:
    assert "did you mean 'q4/talker.gguf'?" in ask("hf:acme/tiny-GGUF:q4/talkr.gguf", "--quiet").complaint
    assert "no public repository acme/none" in ask("hf:acme/none:a.gguf", "--quiet").complaint
    double.gated = True
    assert "terms that must be accepted" in ask(NAME, "--quiet").complaint


def test_offline_is_a_clear_line_with_the_place_for_the_file(ask: Callable, double: HubDouble, folder: Path) -> None:
    line = ask(HF_HUB_OFFLINE="1").complaint
    assert "HF_HUB_OFFLINE" in line and str(folder / "hf" / "acme" / "tiny-GGUF" / "q4" / "talker.gguf") in line
    assert double.paths == []


def test_no_network_is_a_clear_line(ask: Callable) -> None:
    assert "is the network up?" in ask(NAME, "--quiet", HF_ENDPOINT="http://127.0.0.1:9").complaint


def test_models_get_and_path_know_the_hub(run_cli: Callable, double: HubDouble, folder: Path) -> None:
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
    """A folder for PYTHONPATH in which the library cannot be imported."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "huggingface_hub.py").write_text("raise ModuleNotFoundError(name='huggingface_hub')\n")
    return folder


def test_a_file_that_was_put_there_is_used_without_the_library(
    ask: Callable, double: HubDouble, folder: Path, no_library: Path
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
