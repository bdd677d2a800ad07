"""A thousand damaged headers: clear lines, and a parent that lives."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from damage import Original, damaged
from tiny_families import FAMILIES

from edge_sir.errors import ModelFileError
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.kshift.admission import ChildReport, _stages, judge

Try = Callable[[Path], ChildReport]

SOUND = ("llama", "gemma3", "qwen2-yarn", "phi3-longrope", "olmoe", "gpt2", "jamba", "qwen2vl")


@pytest.fixture
def try_in_child() -> Iterator[Try]:
    """The gate's child on a file; a few hundred Python starts would take minutes, so they are forks."""
    nursery = Path(__file__).with_name("nursery.py")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(nursery)], stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin and parent.stdout

        def run(path: Path) -> ChildReport:
            parent.stdin.write(json.dumps({"path": str(path), "gpu_layers": 0, "threads": 1}) + "\n")
            parent.stdin.flush()
            told = json.loads(parent.stdout.readline())
            return ChildReport(told["status"], _stages(told["out"].encode()), told["err"])

        yield run
        parent.stdin.close()


def test_a_thousand_damaged_headers_end_in_clear_lines(
    tiny_folder: Path, tmp_path: Path, try_in_child: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    originals = [Original.read(f.file(tiny_folder)) for f in FAMILIES if f.name in SOUND]
    path = tmp_path / "damaged.gguf"
    ends: Counter[str] = Counter()
    for what, data in damaged(originals):
        path.write_bytes(data)
        stage = "header"
        try:
            header = check_model_file(path)
            stage = "child"
            judge(header, try_in_child(path))
            ends["usable"] += 1
        except ModelFileError as refusal:
            line = str(refusal)
            assert line.isprintable() and len(line) < 1000 and "damaged.gguf" in line, (what, line)
            assert ";" in line, (what, line)  # the remedy
            ends[stage] += 1
            ends["died"] += "ends llama.cpp" in line
    assert ends["usable"] + ends["header"] + ends["child"] == 1000
    # The controls: most are seen through before llama.cpp gets them, some only there, and a few would have killed us.
    assert ends["header"] > 500 and ends["child"] > 50 and ends["died"] >= 1, ends
