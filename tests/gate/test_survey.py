"""The figures of `edge-sir doctor`, held against what llama.cpp allocates."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_families import FAMILIES

from edge_sir.cli.doctor import parse_bytes
from edge_sir.errors import ConfigError
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.gate import backend_note
from edge_sir.llama.gguf_check import check_model_file
from edge_sir.llama.native import NativeModel
from edge_sir.llama.survey import MemoryNeed, _buffers, devices, measure_memory, measure_speed, system_info

OPTIONS = EngineOptions(threads=1, chunk=64)


def test_the_cpu_is_among_the_devices() -> None:
    found = [device for device in devices() if device.kind == "cpu"]
    assert found and all(d.name and d.backend and 0 < d.free_bytes <= d.total_bytes for d in found)
    assert "llama-cpp-python 0.3.36" in system_info()


@pytest.mark.parametrize(("kv_k", "kv_v"), [("f16", "f16"), ("q8_0", "q8_0"), ("f16", "q4_0"), ("q4_0", "f16")])
def test_memory_is_what_llama_cpp_takes(tiny_folder: Path, kv_k: str, kv_v: str) -> None:
    family = next(f for f in FAMILIES if f.name == "llama64+q4_0")
    model = NativeModel(family.file(tiny_folder))
    options = replace(OPTIONS, kv_k=kv_k, kv_v=kv_v)  # type: ignore[arg-type]
    need = measure_memory(model, options)
    engine = LlamaEngine(model, 512, options)
    assert need.kv_cell_bytes * 512 == pytest.approx(engine.spec.kv_bytes, rel=0.05)  # the log rounds to 0.01 MiB
    engine.close()
    buffers = _buffers(model, 2048, options)
    model.close()
    logits = 4 * options.chunk * model.n_vocab
    assert need.of(2048) == pytest.approx(need.weights_bytes + sum(buffers.values()) + logits, rel=0.02)


def test_the_largest_budget_fits_and_one_more_block_does_not() -> None:
    need = MemoryNeed(weights_bytes=10**8, fixed_bytes=12 * 10**7, cell_bytes=23_040.5, kv_cell_bytes=23_040.0)
    for limit in (13 * 10**7, 2 * 10**8, 3 * 10**8 + 7):
        n = need.largest_budget(limit, 10**6)
        assert n % 256 == 0 and n > 0
        assert need.of(n) <= limit < need.of(n + 256)
    assert need.largest_budget(12 * 10**7 + 5, 10**6) == 0
    assert need.largest_budget(10**12, 8192) == 8192
    assert need.of(1) == need.of(256) < need.of(257)


def test_speed_is_measured_and_leaves_nothing_behind(tiny_llama: NativeModel) -> None:
    engine = LlamaEngine(tiny_llama, 256, OPTIONS)
    speed = measure_speed(engine, 0.05)
    assert speed.read_per_s > speed.write_per_s > 0
    assert engine.pos_range(0) == (-1, -1)
    engine.close()


def test_mixed_types_are_slow_on_some_backends_alone() -> None:
    assert backend_note(["CPU", "MTL"], "f16", "q8_0").startswith("slow on Metal")
    assert backend_note(["CUDA", "CPU"], "q8_0", "f16").startswith("slow on CUDA")
    assert backend_note(["CPU", "Vulkan"], "f16", "q8_0") == ""
    assert backend_note(["MTL", "CUDA"], "q8_0", "q8_0") == ""


SIZES = {"900": 900, "900M": 900_000_000, "2g": 2 * 10**9, "1.5GiB": 3 * 2**29, " 64 kib ": 65536, "7B": 7}


@pytest.mark.parametrize("text", SIZES)
def test_sizes_are_read_as_people_write_them(text: str) -> None:
    assert parse_bytes(text) == SIZES[text]


@pytest.mark.parametrize("text", ["", "G", "2 X", "-1G", "1e9", "2GG", "5I", "1,5G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write it like"):
        parse_bytes(text)


def test_bytes_per_cell_are_those_of_the_file(tiny_llama_path: Path) -> None:
    assert check_model_file(tiny_llama_path).kv_bytes_per_cell(2.0, 2.0) == 2 * 2 * 16 * 2 * 2
