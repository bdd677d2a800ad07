"""Eight threads on two chats, in a child process, so that a signal is a failure. A minute: `--torture 60`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("kind", ["toy", "tiny_llama_path", pytest.param("smollm2_path", marks=pytest.mark.model)])
def test_threads_get_answers_or_session_errors(kind: str, request: pytest.FixtureRequest) -> None:
    seconds, seed = request.config.getoption("--torture"), request.config.getoption("--walk-seed")
    which = kind if kind == "toy" else str(request.getfixturevalue(kind))
    run = subprocess.run(
        [sys.executable, str(HERE / "torture.py"), which, str(seconds), str(seed)],
        capture_output=True,
        text=True,
        timeout=seconds + 120,
    )
    assert run.returncode == 0 and "Exception ignored" not in run.stderr, (run.returncode, run.stdout, run.stderr)
    counts = json.loads(run.stdout.splitlines()[-1])
    assert counts["wrong"] == [] and counts["refused"] > 0 and counts["do_reply done"] > 0
