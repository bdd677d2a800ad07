"""`edge-sir batch --ray`: what is refused, and a job whose actor and whose own process are killed."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_sir.errors import ConfigError
from edge_sir.ray.cluster import LOCAL, connected

FEW = ("--budget", "64", "--max-tokens", "6", "--parallel", "2", "--threads", "1")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None,
    reason="Ray Data is not installed (the extra `ray`)",
)


@pytest.fixture
def source(workdir: Path) -> Path:
    said = ["My name is Ada. " * 8, "I live in Oslo. " * 8] * 2
    lines = [{"custom_id": f"d{i}", "body": {"dialogue": said, "seed": i}} for i in range(60)]
    path = workdir / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def replies(path: Path) -> dict[str, list[str]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({d["custom_id"] for d in found}) == len(found)
    return {d["custom_id"]: [r["message"]["content"] for r in d["response"]["body"]["replies"]] for d in found}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--ray", "127.0.0.1:1"), "no Ray answers at 127.0.0.1:1 (Connection refused); see `ray status`"),
        (("--ray", "here"), "--ray takes HOST:PORT, auto or local, not 'here'"),
        (("--ray", "ray://127.0.0.1:10001"), "does not work from outside of a cluster (ray://127.0.0.1:10001)"),
        (("--ray", "--actors", "0"), "--actors must be at least 1, not 0"),
        (("--actors", "2"), "--actors is for --ray"),
        (("--ray", "--dry-run"), "--dry-run measures this machine alone"),
    ],
)
def test_a_mistake_is_one_line(run_cli: Callable, source: Path, args: tuple[str, ...], complaint: str) -> None:
    assert complaint in run_cli("batch", source, "-o", "out.jsonl", *args).complaint


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_BACKEND_LOG_LEVEL", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
    with pytest.raises(ConfigError, match=r"pip install 'edge-sir\[ray\]'"), connected(LOCAL, model="any"):
        pass


@needs_ray
@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--ray", "auto", "--model", "m.gguf"), "no Ray could be joined at auto: "),
        (("--ray", "--model", "m.gguf"), "work/m.gguf is no file on the machine "),
    ],
)
def test_a_mistake_that_ray_finds_is_one_line(
    run_cli: Callable, source: Path, tmp_path: Path, args: tuple[str, ...], complaint: str
) -> None:
    elsewhere = str(tmp_path) if "auto" in args else None  # where no Ray runs
    env = {"RAY_ADDRESS": None, "RAY_TMPDIR": elsewhere}
    assert complaint in run_cli("batch", source, "-o", "out.jsonl", *args, env=env).complaint


@needs_ray
def test_what_a_dead_actor_held_runs_again_and_a_dead_job_goes_on(
    start_cli: Callable, run_cli: Callable, source: Path, talker_path: Path
) -> None:
    target = source.with_name("out.jsonl")
    command = ("batch", source, "-o", target, "--model", talker_path, *FEW, "--ray", "--actors", "2")
    job: subprocess.Popen[bytes] = start_cli(*command, env={"RAY_ADDRESS": None}, timeout=300)
    _wait_for(lambda: n_lines(target) >= 4, job)
    actors = _actors(job)
    assert len(actors) == 2
    actors[0].kill()
    at_death = n_lines(target)
    _wait_for(lambda: len({a.pid for a in _actors(job)} - {actors[0].pid}) == 2, job)  # another one takes its place
    _wait_for(lambda: n_lines(target) >= at_death + 4, job)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate()
    assert job.returncode == 143 and b"lines are done; the same command goes on" in err, err
    assert b"Ray: 2 actors with 1 CPU each on 1 machine" in err
    n_before = n_lines(target)
    assert n_before < 60

    second = start_cli(*command, "--ordered", env={"RAY_ADDRESS": None}, timeout=300)
    _wait_for(lambda: n_lines(target) > n_before + 4, second)
    _actors(second)[1].kill()
    out, err = second.communicate()
    assert second.returncode == 0, err
    first, *others = out.decode().splitlines()
    assert first.startswith(f"{60 - n_before} dialogues with ") and first.endswith(f"; {n_before} had a result before")
    assert len(others) == 1  # what Ray says of the death is on standard error
    assert list(found := replies(target)) == [f"d{i}" for i in range(60)]
    run_cli("batch", source, "-o", "alone.jsonl", "--model", talker_path, *FEW).succeeded()
    assert found == replies(source.with_name("alone.jsonl"))


def n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _wait_for(happened: Callable[[], bool], job: Any) -> None:
    while not happened():
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)


def _actors(job: Any) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(job.pid).children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::MapWorker"):
                found.append(process)
        except psutil.Error:
            continue
    return found
