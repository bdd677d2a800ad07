"""The memory that `edge-sir doctor` tells of, held against what llama.cpp allocates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_families import FAMILIES

from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.footprint import (
    LoadedBytes,
    MemoryNeed,
    buffers,
    load_measured,
    measure_memory,
    private_bytes,
)
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.native import NativeModel

OPTIONS = EngineOptions(threads=1, chunk=64)
LOADED = LoadedBytes(weights_bytes=10**8, repacked_bytes=0, python_bytes=4 * 10**7, vocabulary_bytes=2 * 10**7)
NEED = MemoryNeed(
    LOADED,
    chunk=64,
    cell_bytes=23_040.5,
    logits_bytes=12 * 10**6,
    graph_bytes=13 * 10**6,
    attention_bytes=8 * 10**5,
    attention_cell_bytes=2560.0,
    rows_bytes=1_400_000,
)


@pytest.mark.parametrize(("kv_k", "kv_v"), [("f16", "f16"), ("q8_0", "q8_0"), ("f16", "q4_0"), ("q4_0", "f16")])
def test_memory_is_what_llama_cpp_takes(tiny_folder: Path, kv_k: str, kv_v: str) -> None:
    family = next(f for f in FAMILIES if f.name == "llama64+q4_0")
    model = NativeModel(family.file(tiny_folder))
    options = replace(OPTIONS, kv_k=kv_k, kv_v=kv_v)  # type: ignore[arg-type]
    need = measure_memory(model, LOADED, options)
    engine = LlamaEngine(model, 512, options)
    assert need.cell_bytes * 512 == pytest.approx(engine.spec.kv_bytes, rel=0.05)  # the log rounds to 0.01 MiB
    engine.close()
    logits = 4 * options.chunk * model.n_vocab
    for n_cells in (256, 8192):
        found = buffers(model, n_cells, options)
        assert need.cells(n_cells) == pytest.approx(found["KV"], rel=0.02)
        assert need.buffers(n_cells) - need.rows_bytes == pytest.approx(found["compute"] + logits, rel=0.02)
    model.close()


@pytest.mark.model
def test_of_a_large_vocabulary_the_logits_lie_in_both_buffers(smollm2: NativeModel) -> None:
    need = measure_memory(smollm2, LOADED, OPTIONS)
    assert need.logits_bytes == 4 * 64 * 49_152
    assert need.graph_bytes == pytest.approx(need.logits_bytes, rel=0.05)
    # In a context that long attention takes more of the buffer than they do.
    assert need.buffers(8192) > need.buffers(4096) == need.buffers(256)
    found = buffers(smollm2, 8192, OPTIONS)["compute"]
    assert need.buffers(8192) - need.rows_bytes - need.logits_bytes == pytest.approx(found, rel=0.02)


def test_the_parts_add_up() -> None:
    assert NEED.cells(1) == NEED.cells(256) == round(256 * 23_040.5)
    assert NEED.buffers(256) == 12_000_000 + 13_000_000 + 1_400_000
    assert NEED.buffers(8192) == 12_000_000 + 800_000 + 8192 * 2560 + 1_400_000
    assert NEED.beside(256) == NEED.buffers(256) + 60_000_000
    assert NEED.of(256) == 100_000_000 + NEED.cells(256) + NEED.beside(256)


def test_the_largest_budget_fits_and_one_more_block_does_not() -> None:
    for limit in (2 * 10**8, 4 * 10**8, 10**9 + 7):  # where the logits count, and where attention does
        n = NEED.largest_budget(limit, 10**6)
        assert n % 256 == 0 and n > 0
        assert NEED.of(n) <= limit < NEED.of(n + 256)
    assert NEED.largest_budget(NEED.of(1) - 1, 10**6) == 0
    assert NEED.largest_budget(NEED.of(1), 10**6) == 256
    assert NEED.largest_budget(10**12, 8192) == 8192
    assert NEED.of(1) == NEED.of(256) < NEED.of(257)


@pytest.mark.model
def test_a_loaded_model_is_weighed(smollm2_path: Path) -> None:
    model, loaded = load_measured(smollm2_path, gpu_layers=0, header=check_model_file(smollm2_path))
    model.close()
    assert loaded.weights_bytes - loaded.repacked_bytes == pytest.approx(smollm2_path.stat().st_size, rel=0.05)
    assert 0 <= loaded.repacked_bytes < loaded.weights_bytes


@pytest.mark.model
@pytest.mark.skipif(not private_bytes(), reason="this system does not tell what memory a process has")
def test_the_process_is_weighed(smollm2_path: Path) -> None:
    before = private_bytes()
    block = np.ones(100_000_000, np.uint8)
    assert private_bytes() - before == pytest.approx(len(block), rel=0.1)
    model, loaded = load_measured(smollm2_path, gpu_layers=0, header=check_model_file(smollm2_path))
    model.close()
    assert loaded.python_bytes > len(block)
    assert 5_000_000 < loaded.vocabulary_bytes < 40_000_000  # 49,152 texts and 48,900 merges
