"""Weights rewritten by llama.cpp's quantizer, on tiny files of random weights."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sir.engine import Slice
from edge_sir.errors import LoadError, UserError
from edge_sir.llama.native import NativeModel
from edge_sir.llama.requantize import to_bf16, to_f32

TOKENS = np.arange(3, 27, dtype=np.int32)


def logits_of(path: Path, make_llama_engine: Callable[..., object]) -> NDArray[np.float32]:
    """Of the last of a few tokens, float32 [n_vocab]."""
    model = NativeModel(path)
    try:
        engine = make_llama_engine(model, 64)
        [result] = engine.decode([Slice(0, TOKENS, 0, np.full(len(TOKENS), -1, np.int32), frozenset(), True)])
        return np.array(result.logits)
    finally:
        engine.close()
        model.close()


def test_32_bit_floats_are_the_same_weights_and_bfloat16_rounds_them(
    tiny_llama_path: Path, tmp_path: Path, make_llama_engine: Callable[..., object]
) -> None:
    given = logits_of(tiny_llama_path, make_llama_engine)
    exact = logits_of(to_f32(tiny_llama_path, tmp_path / "f32.gguf"), make_llama_engine)
    rounded = logits_of(to_bf16(tiny_llama_path, tmp_path / "bf16.gguf"), make_llama_engine)
    spread = float(given.std())
    np.testing.assert_allclose(exact, given, atol=1e-4 * spread)
    assert 0 < float(np.abs(rounded - given).max()) < 0.2 * spread
    assert (tmp_path / "bf16.gguf").stat().st_size < (tmp_path / "f32.gguf").stat().st_size


def test_a_file_that_is_there_is_left_as_it_is(tiny_llama_path: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.gguf"
    there.write_bytes(b"of an earlier run")
    assert to_bf16(tiny_llama_path, there) == there and there.read_bytes() == b"of an earlier run"


def test_what_is_no_model_is_refused_and_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF and nothing more")
    with pytest.raises((LoadError, UserError)):
        to_bf16(tmp_path / "no.gguf", tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["no.gguf"]


def test_a_folder_that_is_not_there_is_named(tiny_llama_path: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=re.escape(f"cannot write {tmp_path / 'no' / 'out.gguf'}")):
        to_bf16(tiny_llama_path, tmp_path / "no" / "out.gguf")
