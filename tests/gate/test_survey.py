"""What `edge-sir doctor` says of devices and speed."""

from pathlib import Path

import pytest

from edge_sir.cli.doctor import parse_bytes
from edge_sir.errors import ConfigError
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.kshift.gate import backend_note
from edge_sir.llama.native import NativeModel
from edge_sir.llama.survey import devices, measure_speed, system_info

OPTIONS = EngineOptions(threads=1, chunk=64)


def test_the_cpu_is_among_the_devices() -> None:
    found = [device for device in devices() if device.kind == "cpu"]
    assert found and all(d.name and d.backend and 0 < d.free_bytes <= d.total_bytes for d in found)
    assert system_info().startswith("llama-cpp-python 0.3.36: ")
    assert " = " not in system_info() and "|" not in system_info()


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
