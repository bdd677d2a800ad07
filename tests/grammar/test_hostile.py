"""Whatever is sent as a grammar or a schema: an error of one line, or a reply that fits. Never anything else.

In a child process, on the engine of llama.cpp, so that an end of the process is seen.
"""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("hostile.py")


@pytest.mark.parametrize("name", ["tiny_llama"])
def test_hostile_grammars_and_schemas(request: pytest.FixtureRequest, name: str) -> None:
    native = request.getfixturevalue(name)
    path: Path = native.header.path
    done = subprocess.run([sys.executable, str(CHILD), str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    n_refused, n_drawn = map(int, done.stdout.split())
    assert n_refused > 20 and n_drawn > 8
    assert "parsing grammar" not in done.stderr  # llama.cpp's own words
