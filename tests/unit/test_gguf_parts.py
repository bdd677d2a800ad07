"""A model in several files: the first stands for all of them, and what is amiss is named."""

import shutil
from pathlib import Path

import pytest

from edge_sir.errors import ModelFileError
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.gguf.header import GGUFHeader
from tests.tiny_gguf import write_llama


@pytest.fixture
def whole(tmp_path: Path) -> GGUFHeader:
    return check_model_file(write_llama(tmp_path / "whole.gguf"))


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    first = write_llama(tmp_path / "tiny.gguf", tensors_per_part=8)
    found = sorted(first.parent.glob("tiny-*.gguf"))
    assert [path.name for path in found] == [f"tiny-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    return found


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        check_model_file(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_first_part_counts_all_of_them(parts: list[Path], whole: GGUFHeader) -> None:
    header = check_model_file(parts[0])
    assert header.path == parts[0]
    assert header.size_bytes == sum(path.stat().st_size for path in parts)
    assert header.n_tensors == whole.n_tensors
    assert (header.n_layer, header.n_vocab, header.chat_template) == (whole.n_layer, whole.n_vocab, whole.chat_template)


def test_the_fingerprint_is_of_all_parts(parts: list[Path], tmp_path: Path) -> None:
    before = check_model_file(parts[0]).fingerprint
    copies = tmp_path / "copy"
    copies.mkdir()
    for path in parts:
        shutil.copy(path, copies)
    assert check_model_file(copies / parts[0].name).fingerprint == before
    with (copies / parts[2].name).open("ab") as file:
        file.write(b"\0")
    assert check_model_file(copies / parts[0].name).fingerprint != before


@pytest.mark.parametrize("number", [1, 2])
def test_another_part_names_the_first(parts: list[Path], number: int) -> None:
    told = refusal(parts[number])
    assert f"is part {number + 1} of 3 of a model; give tiny-00001-of-00003.gguf instead" in told


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_part_is_named(parts: list[Path], number: int) -> None:
    parts[number].unlink()
    assert f"the first of 3 parts of a model, but {parts[number].name} is missing" in refusal(parts[0])


def test_a_damaged_part_is_named(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[2].read_bytes()[:-100])
    assert str(parts[2]) in refusal(parts[0]) and "is truncated" in refusal(parts[0])
    parts[2].write_bytes(b"")
    assert f"{parts[2]} is empty" in refusal(parts[0])


def test_a_part_in_another_ones_place_is_refused(parts: list[Path], whole: GGUFHeader) -> None:
    shutil.copy(parts[1], parts[2])
    assert f"{parts[2]} is not part 3 of 3 of {parts[0].name}" in refusal(parts[0])
    shutil.copy(whole.path, parts[2])
    assert f"{parts[2]} is not part 3 of 3 of {parts[0].name}" in refusal(parts[0])


def test_a_part_of_another_model_is_refused(parts: list[Path], tmp_path: Path) -> None:
    other = write_llama(tmp_path / "other.gguf", n_layer=3, tensors_per_part=11)
    others = sorted(other.parent.glob("other-*.gguf"))
    assert len(others) == 3
    shutil.copy(others[2], parts[2])
    assert "not those it names" in refusal(parts[0])


def test_a_renamed_part_is_refused(parts: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "model.gguf", tmp_path / "second.gguf"
    shutil.copy(parts[0], first)
    shutil.copy(parts[1], second)
    assert "its name does not end in -00001-of-00003.gguf; give all parts the names that they had" in refusal(first)
    assert "is part 2 of 3 of a model; give the first part, whose name ends in -00001" in refusal(second)
