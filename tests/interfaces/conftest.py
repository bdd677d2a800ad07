"""Runs the command line as its users do: in its own process, seen only through its streams and exit code."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminals import ABLE, LAUNCH, Terminal, ready

from edge_sir.cli import main

# A flag or two for the command, `input=bytes`, `env={name: value, or None to remove it}`, `timeout=seconds`.
RunCli = Callable[..., "Result"]
StartCli = Callable[..., "subprocess.Popen[bytes]"]
WriteModel = Callable[..., Path]

COMMAND = (sys.executable, "-m", "edge_sir")


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    code: int
    out: bytes
    err: bytes

    @property
    def complaint(self) -> str:
        """The one line that explains a refused run; anything else fails the test."""
        text = self.err.decode()
        assert "Traceback" not in text, text
        lines = text.splitlines()
        assert (self.code, self.out, len(lines)) == (2, b"", 1), (self.code, self.out, text)
        assert lines[0].startswith("edge-sir: ")
        return lines[0]

    def succeeded(self) -> "Result":
        assert self.code == 0, self.err.decode()
        return self


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """An empty folder in which the command runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def gate_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that all runs share, so that each model file is tried once and not in every test."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def clean_env(isolated_home: Path, gate_cache: Path) -> dict[str, str]:
    """An environment without the user's settings; one thread, since cores are shared."""
    foreign = ("PYTHONIO", "PYTHONUTF8", "PYTHONCOERCE", "LC_", "LANG", "NO_COLOR", "COLUMNS", "TERM")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return env | {"EDGE_SIR_THREADS": "1", "PYTHONUTF8": "1", "TERM": "dumb", "XDG_CACHE_HOME": str(gate_cache)}


def _with(env: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in {**env, **(changes or {})}.items() if value is not None}


@pytest.fixture
def run_cli(workdir: Path, clean_env: dict[str, str]) -> RunCli:
    """Runs `edge-sir *args` to its end; `input` is piped in."""

    def run(
        *args: str | Path,
        input: bytes = b"",
        env: Mapping[str, str | None] | None = None,
        command: tuple[str, ...] = COMMAND,
        timeout: float = 60,
    ) -> Result:
        done = subprocess.run(
            [*command, *map(str, args)],
            input=input,
            capture_output=True,
            cwd=workdir,
            env=_with(clean_env, env),
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start_cli(workdir: Path, clean_env: dict[str, str]) -> Iterator[StartCli]:
    """Starts `edge-sir *args` with pipes on all streams; it is killed after `timeout` seconds or with the test."""
    with ExitStack() as closing:

        def start(
            *args: str | Path,
            env: Mapping[str, str | None] | None = None,
            command: tuple[str, ...] = COMMAND,
            timeout: float = 60,
        ) -> "subprocess.Popen[bytes]":
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                [*command, *map(str, args)],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                cwd=workdir,
                env=_with(clean_env, env),
            )
            closing.enter_context(process)
            closing.callback(process.kill)
            watchdog = threading.Timer(timeout, process.kill)
            watchdog.start()
            closing.callback(watchdog.cancel)
            return process

        yield start


@pytest.fixture
def refused_here(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable]:
    """The complaint of `edge-sir chat *args`, run in this process: for what is refused before a model is loaded."""
    monkeypatch.chdir(workdir)
    monkeypatch.setenv("EDGE_SIR_THREADS", "1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    before = signal.getsignal(signal.SIGTERM)

    def run(*args: str | Path, env: Mapping[str, str] | None = None) -> str:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        try:
            code = main(["chat", *map(str, args)])
        except SystemExit as leaving:
            code = leaving.code
        out, err = capsys.readouterr()
        return Result(code, out.encode(), err.encode()).complaint

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> WriteModel:
    """Writes a tiny model, `write_model(name, kind="llama", **arguments of tiny_gguf.write_*)`, once per name."""
    import tiny_gguf

    folder = tmp_path_factory.mktemp("interfaces")
    kinds = {"llama": tiny_gguf.write_llama, "gemma3": tiny_gguf.write_gemma3, "header": tiny_gguf.write_header_only}

    def write(name: str, kind: str = "llama", **arguments: object) -> Path:
        path = folder / f"{name}.gguf"
        return path if path.exists() else kinds[kind](path, **arguments)  # type: ignore[operator]

    return write


@pytest.fixture(scope="session")
def talker_path(write_model: WriteModel) -> Path:
    """A tiny llama that neither ends a reply nor thinks: the logits of its control tokens are always 0."""
    import gguf
    import tiny_gguf

    path = write_model("talker")
    texts, _, kinds = tiny_gguf.vocabulary()
    mute = [i for i in range(len(texts)) if kinds[i] in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)]
    reader = gguf.GGUFReader(path, "r+")
    next(tensor for tensor in reader.tensors if tensor.name == "output.weight").data[mute] = 0
    reader.data.flush()
    return path


@pytest.fixture
def terminal(workdir: Path, clean_env: dict[str, str], talker_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens a terminal with `edge-sir chat *args` on it; stderr is a pipe unless `apart=False`."""
    with ExitStack() as closing:

        def start(*args: str, apart: bool = True, env: dict[str, str] | None = None) -> Terminal:
            ours, theirs = pty.openpty()
            closing.callback(os.close, ours)
            base = ("chat", "--model", str(talker_path), "--budget", "96", "--max-tokens", "8")
            process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, *base, *args],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE if apart else theirs,
                cwd=workdir,
                env=clean_env | (env or {}),
                start_new_session=True,
            )
            os.close(theirs)
            closing.enter_context(process)
            closing.callback(process.kill)
            return Terminal(process, ours)

        yield start


@pytest.fixture
def able(terminal: Callable) -> Callable:
    """A chat on a terminal with a cursor; its prompt has come."""

    def start(*args: str, env: dict[str, str] | None = None, **settings: object) -> Terminal:
        person = terminal(*args, env=ABLE | (env or {}), **settings)
        person.resize(80)
        ready(person)
        return person

    return start
