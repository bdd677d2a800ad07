"""A model in several files computes what the same model in one does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from engines import some_tokens
from numpy.typing import NDArray
from tiny_gguf import write_llama

from edge_sir.engine import Slice
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.kshift.admission import judge, run_probe
from edge_sir.llama.native import NativeModel


def last_row(path: Path, make_llama_engine: Callable) -> NDArray[np.float32]:
    model = NativeModel(path)
    engine = make_llama_engine(model, threads=1)
    tokens = some_tokens(engine, 20)
    [result] = engine.decode([Slice(0, tokens, 0, np.full(20, -1, np.int32))])
    assert result.logits is not None
    return result.logits


def test_parts_compute_what_the_whole_does(tmp_path: Path, make_llama_engine: Callable) -> None:
    whole = write_llama(tmp_path / "whole.gguf")
    first = write_llama(tmp_path / "tiny.gguf", tensors_per_part=5)
    assert np.array_equal(last_row(whole, make_llama_engine), last_row(first, make_llama_engine))


def test_parts_pass_the_trial(tmp_path: Path) -> None:
    header = check_model_file(write_llama(tmp_path / "tiny.gguf", tensors_per_part=5))
    test = judge(header, run_probe(header, threads=1)).shift
    assert test is not None and not test.died
