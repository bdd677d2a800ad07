"""A chat with a session on a disk that is full or may not be written, and beside another process; by its streams."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edge_sir.store.folder import StateFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts of Linux")


@pytest.fixture
def args(talker_path: Path, tmp_path: Path) -> tuple[str, ...]:
    folder = str(tmp_path / "state")
    terms = ("--model", str(talker_path), "--budget", "96", "--max-tokens", "6")
    return ("chat", *terms, "--session", "ada", "--state-dir", folder)


@pytest.fixture
def said_on_disk(tmp_path: Path) -> Callable[[], list[str]]:
    def read() -> list[str]:
        with StateFolder(tmp_path / "state", read_only=True) as folder:
            stored = folder.open("ada", read_only=True).read()
            return [row.message.text for row in stored.path if row.message.role == "user"]

    return read


def say(process: "subprocess.Popen[bytes]", text: str) -> bytes:
    """Sends a line and waits for the reply."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(text.encode() + b"\n")
    process.stdin.flush()
    return process.stdout.readline()


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


@contextmanager
def no_file_may_grow(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    yield
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def check_goes_on(
    start_cli: Callable, args: Sequence[str], full: Callable, said_on_disk: Callable[[], list[str]]
) -> str:
    """Plays a chat whose disk is full for a while; returns the one warning that is not about that it is saved again."""
    process = start_cli(*args)
    texts = [f"My locker has the number {i}." for i in range(6)]
    assert say(process, texts[0])
    with full(process):
        for text in texts[1:5]:
            assert say(process, text)
        assert said_on_disk() == texts[:1]
    assert say(process, texts[5])
    code, err = ended(process)
    assert code == 0 and said_on_disk() == texts
    warnings = [line for line in err.splitlines() if "saved" in line]
    assert "Traceback" not in err, err
    assert len(warnings) == 2 and warnings[1].endswith("all that was said is saved again"), err
    assert warnings[0].endswith("what is said from now on is not saved"), err
    return warnings[0]


def test_a_chat_goes_on_while_no_file_may_grow(
    args: tuple[str, ...], start_cli: Callable, said_on_disk: Callable[[], list[str]], tmp_path: Path
) -> None:
    check_goes_on(start_cli, args, no_file_may_grow, said_on_disk)
    with StateFolder(tmp_path / "state") as folder:
        assert folder.verify() == []


def test_a_chat_goes_on_while_the_disk_is_full(
    args: tuple[str, ...], start_cli: Callable, said_on_disk: Callable[[], list[str]], tmp_path: Path
) -> None:
    state, ballast = tmp_path / "state", tmp_path / "state" / "ballast"
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", state], capture_output=True).returncode:
        pytest.skip("may not mount a file system here")

    @contextmanager
    def full(_: object) -> Iterator[None]:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
        ballast.unlink()

    try:
        warning = check_goes_on(start_cli, args, full, said_on_disk)
        assert "free some space; what was saved before is intact" in warning
    finally:
        subprocess.run(["umount", state], check=True)


def test_a_disk_that_is_still_full_at_the_end_loses_nothing_older(
    args: tuple[str, ...], start_cli: Callable, run_cli: Callable, said_on_disk: Callable[[], list[str]]
) -> None:
    process = start_cli(*args)
    assert say(process, "My name is Ada.")
    with no_file_may_grow(process):
        assert say(process, "My name is Eve.")
        code, err = ended(process)
    assert "Traceback" not in err and code == 0 and said_on_disk() == ["My name is Ada."]
    run_cli(*args, input=b"Who am I?\n").succeeded()
    assert said_on_disk() == ["My name is Ada.", "Who am I?"]


@contextmanager
def only_to_be_read(folder: Path) -> Iterator[None]:
    """For root a mode is no hindrance: a mount is."""
    if os.geteuid():
        modes = {path: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
        for path, mode in modes.items():
            path.chmod(mode & 0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    for how in (("--bind", folder, folder), ("-o", "remount,ro,bind", folder)):
        if subprocess.run(["mount", *how], capture_output=True).returncode:
            subprocess.run(["umount", folder], capture_output=True)
            pytest.skip("may not mount a folder here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_that_may_only_be_read(
    args: tuple[str, ...], run_cli: Callable, said_on_disk: Callable[[], list[str]], tmp_path: Path
) -> None:
    run_cli(*args, input=b"My name is Ada.\n").succeeded()
    with only_to_be_read(tmp_path / "state"):
        refused = run_cli(*args, input=b"Who am I?\n")
        lines = refused.err.decode().splitlines()
        assert refused.code == 1 and len(lines) == 1, lines
        assert "make the folder writable, or open it read-only" in lines[0]
        read = run_cli(*args, "--read-only", input=b"Who am I?\n").succeeded()
        assert read.out.strip()
    assert said_on_disk() == ["My name is Ada."]


def test_a_second_process_is_refused_or_only_looks(
    args: tuple[str, ...], start_cli: Callable, run_cli: Callable, said_on_disk: Callable[[], list[str]]
) -> None:
    process = start_cli(*args)
    assert say(process, "My name is Ada.")
    complaint = run_cli(*args, input=b"Hello.\n").complaint
    assert f"is open in process {process.pid};" in complaint and "--read-only" in complaint
    for i in range(3):
        looking = run_cli(*args, "--read-only", input=b"Who am I?\n").succeeded()
        told = run_cli(*args, "--read-only", "--commands", input=b"/forget Ada\n").succeeded().out.decode()
        assert "in this chat alone: the session on disk is unchanged (--read-only)" in told
        assert looking.out.strip() and f"{i + 1} turn" in looking.err.decode(), looking.err.decode()
        assert say(process, f"My locker has the number {i}.")
    code, err = ended(process)
    assert code == 0, err
    assert said_on_disk() == ["My name is Ada.", *(f"My locker has the number {i}." for i in range(3))]
