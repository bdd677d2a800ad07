"""Jobs in processes of their own: killed at any moment, and with a million lines."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from answering import ids, line, read, write

ENV = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

# Answers slowly, writes to the file that it is named.
JOB = """
import sys
from pathlib import Path
from answering import several
from edge_sir.batch.jobs import run_job
run_job(Path(sys.argv[1]), Path(sys.argv[2]), several(8, pause_s=0.002), model="tiny", ordered="ordered" in sys.argv)
"""

# Prints the most memory that 10**6 lines took, in bytes beside what was taken before.
MILLION = """
import resource, sys
from pathlib import Path
from answering import several
from edge_sir.batch.jobs import run_job

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

source, target = Path(sys.argv[1]), Path(sys.argv[2])
small = source.with_name("small.jsonl")
small.write_bytes(b'{"custom_id": "x", "body": {"dialogue": ["x"]}}')
run_job(small, small.with_name("small.out"), several(8), model="tiny", ordered=True)
before = most()
summary = run_job(source, target, several(8), model="tiny", ordered="ordered" in sys.argv)
print(most() - before, summary.n_bytes, summary.n_answered, summary.n_before, summary.n_missing)
"""


def test_killed_whenever_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line(f"d{i}", "One.", f"This is {i}.") for i in range(500)])
    target = tmp_path / "out.jsonl"
    chance = random.Random(7)
    n_killed = 0
    for _ in range(3):
        command = [sys.executable, "-c", JOB, source, target]
        with subprocess.Popen(command, env=ENV) as job:
            begun = target.stat().st_size if target.exists() else 0
            while job.poll() is None and (target.stat().st_size if target.exists() else 0) == begun:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.3))
            job.kill()
        n_killed += job.returncode == -9
        with target.open("ab") as torn:
            torn.write(b'{"id": "batch_req_0123')
    assert n_killed == 3
    subprocess.run([sys.executable, "-c", JOB, source, target, "ordered"], check=True, env=ENV)
    assert ids(target) == [f"d{i}" for i in range(500)]
    said = [[r["message"]["content"] for r in d["response"]["body"]["replies"]] for d in read(target)]
    assert said == [["ONE.", f"THIS IS {i}."] for i in range(500)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("n", [30_000])
def test_memory_is_a_few_bytes_a_line(tmp_path: Path, n: int) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with source.open("w") as file:
        file.writelines(f'{{"custom_id": "dialogue-{i:09d}", "body": {{"dialogue": ["x"]}}}}\n' for i in range(n))

    def run(*how: str) -> list[int]:
        command = [sys.executable, "-c", MILLION, source, target, *how]
        return list(map(int, subprocess.run(command, check=True, capture_output=True, env=ENV).stdout.split()))

    most, n_bytes, n_answered, n_before, n_missing = run("ordered")
    assert (n_answered, n_before, n_missing) == (n, 0, 0)
    assert n_bytes <= 60 * n and most <= 100 * n + (4 << 20)
    most, n_bytes, n_answered, n_before, n_missing = run()
    assert (n_answered, n_before, n_missing) == (0, n, 0)
    assert n_bytes <= 60 * n + 100 and most <= 100 * n + (4 << 20)
