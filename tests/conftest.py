"""What all tests share: an isolated home, and models that are loaded once."""

import importlib
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from edge_sir import models
from edge_sir.errors import ModelError

# A run started in the background of a shell ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


if TYPE_CHECKING:
    from edge_sir.llama.engine import LlamaEngine
    from edge_sir.llama.native import NativeModel

SMOLLM2 = "smollm2-135m-instruct"

MakeEngine = Callable[..., "LlamaEngine"]

_homes = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the random tests go on, and from which seed."""
    parser.addoption("--toy-walks", type=int, default=400, help="random walks on the toy")
    parser.addoption("--model-walks", type=int, default=4, help="random walks on SmolLM2")
    parser.addoption("--walk-seed", type=int, default=0, help="seed of the first walk, and of the torture")
    parser.addoption("--torture", type=float, default=5, help="seconds of thread torture on each engine")


@pytest.fixture(autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's files or EDGE_SIR_ variables, but for the folder where the weights lie."""
    home = tmp_path_factory.getbasetemp() / f"home{next(_homes)}"
    home.mkdir()
    for name in [n for n in os.environ if n.startswith("EDGE_SIR_") and n != "EDGE_SIR_MODELS_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    return home


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    try:
        return models.resolve(SMOLLM2).path
    except ModelError as error:
        pytest.fail(f"{error}; run `edge-sir models get {SMOLLM2}` (scripts/test does)", pytrace=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def tiny_llama_path(tiny_folder: Path) -> Path:
    """A llama of two layers with random weights."""
    from tiny_gguf import write_llama

    return write_llama(tiny_folder / "llama.gguf")


@pytest.fixture(scope="session")
def tiny_gemma3_path(tiny_folder: Path) -> Path:
    """A gemma3 whose window of 32 tokens is smaller than any context."""
    from tiny_gguf import write_gemma3

    return write_gemma3(tiny_folder / "gemma3.gguf", n_swa=32)


@pytest.fixture(scope="session")
def tiny_gemma3_wide_path(tiny_folder: Path) -> Path:
    """A gemma3 whose window of 512 tokens holds a context of 256 cells."""
    from tiny_gguf import write_gemma3

    return write_gemma3(tiny_folder / "gemma3-wide.gguf", n_swa=512)


def _load(path: Path) -> Iterator["NativeModel"]:
    from edge_sir.llama.native import NativeModel

    model = NativeModel(path)
    yield model
    model.close()


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Iterator["NativeModel"]:
    yield from _load(smollm2_path)


@pytest.fixture(scope="session")
def tiny_llama(tiny_llama_path: Path) -> Iterator["NativeModel"]:
    yield from _load(tiny_llama_path)


@pytest.fixture(scope="session")
def tiny_gemma3(tiny_gemma3_path: Path) -> Iterator["NativeModel"]:
    yield from _load(tiny_gemma3_path)


@pytest.fixture(scope="session")
def tiny_gemma3_wide(tiny_gemma3_wide_path: Path) -> Iterator["NativeModel"]:
    yield from _load(tiny_gemma3_wide_path)


@pytest.fixture
def make_llama_engine() -> Iterator[MakeEngine]:
    """Makes engines on a model, `make(model, n_cells, **options)`, and closes them after the test."""
    from edge_sir.llama.engine import EngineOptions, LlamaEngine

    with ExitStack() as closing:

        def make(model: "NativeModel", n_cells: int = 256, **options: Any) -> LlamaEngine:
            engine = LlamaEngine(model, n_cells, EngineOptions(**options))
            closing.callback(engine.close)
            return engine

        yield make


@pytest.fixture
def import_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of scripts/, which is no package, for this test alone."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "scripts"))
    with ExitStack() as stack:

        def load(name: str) -> ModuleType:
            module = importlib.import_module(name)
            stack.callback(sys.modules.pop, name)
            return module

        yield load
