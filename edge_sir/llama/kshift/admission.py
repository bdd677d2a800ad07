"""May a model file be used? What was found out once is remembered; a new file is loaded in a child process first.

    header ──cached?──> Trials
       └──no──> python -m edge_sir.llama.kshift.probe ──stages──> judge ──> Trials, cached; or ModelFileError

llama.cpp ends the process on some files that its loader did not foresee. In a child that costs one clear line.
Nothing here imports llama_cpp.
"""

import importlib.metadata
import importlib.util
import json
import logging
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sir.errors import ModelFileError
from edge_sir.llama.gguf.header import AGAIN, OTHER, GGUFHeader
from edge_sir.llama.kshift.gate import RestoreTest, ShiftTest, Trials
from edge_sir.llama.kshift.verdicts import VerdictStore, digest

__all__ = ["ChildReport", "admit", "build_id", "judge", "run_probe"]

_log = logging.getLogger(__name__)

_GATE = 2  # raise it when what a trial does changes, so that old verdicts are forgotten
_ANNOUNCE_AFTER_S = 5.0
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, getattr(signal, "SIGBUS", signal.SIGSEGV))
_LEAST_PATIENCE_S, _BYTES_PER_S = 300.0, 5e6  # a slow card must not look like a hang


@dataclass(frozen=True, slots=True)
class ChildReport:
    """What a probe left behind. status: its exit status, negative for a signal, None if it was stopped as hung."""

    status: int | None
    stages: Sequence[dict[str, Any]]
    stderr: str

    @property
    def crashed(self) -> bool:
        """Whether llama.cpp ended the process, rather than somebody else."""
        return self.status is not None and -self.status in _CRASHES

    def reached(self, stage: str) -> Any:
        """The value under `stage` in the first line that has it, None if none does."""
        return next((line[stage] for line in self.stages if stage in line), None)


def admit(
    header: GGUFHeader,
    *,
    gpu_layers: int = -1,
    threads: int = 0,
    kv_k: str = "f16",
    kv_v: str = "f16",
    flash_attn: str = "auto",
) -> Trials:
    """What moving keys and restoring cells do to the model of this file.

    The first time, a child process loads it: once per file, llama.cpp build, gpu_layers, types of K and V and
    flash-attention setting. Raises ModelFileError for a file that cannot be loaded or used, even if it ended the child.
    """
    context = {"kv_k": kv_k, "kv_v": kv_v, "flash_attn": flash_attn}
    store = VerdictStore("-".join((f"{_GATE}-{header.fingerprint}-{build_id()}-{gpu_layers}", *context.values())))
    known = store.read()
    if known is not None:
        return known
    try:
        report = run_probe(header, gpu_layers=gpu_layers, threads=threads, **context)
    except OSError as error:  # no process can be started here: then nothing is proven, and gaps are always right
        _log.warning("%s could not be tried in a process of its own: %s", header.path.name, error)
        return Trials(ShiftTest(died=f"not tried: {error}"), RestoreTest(died=f"not tried: {error}"))
    trials = judge(header, report)
    if report.reached("done") or report.crashed:  # not a kill for want of memory, which may not happen again
        store.write(trials)
    return trials


def judge(header: GGUFHeader, report: ChildReport) -> Trials:
    """The trials' outcome from a child's report. Raises ModelFileError where the child could not use the file."""
    refusal = report.reached("refused")
    if refusal is not None and not report.reached("read"):
        raise ModelFileError(refusal)
    restore = _restore_test(report)
    if refusal is not None:
        return Trials(ShiftTest(died=refusal), restore)
    if report.reached("done"):
        last = report.stages[-1]
        return Trials(ShiftTest(last["moved"], last["rounding"]) if "moved" in last else None, restore)
    end = _how_it_ended(report)
    if report.reached("read"):
        return Trials(ShiftTest(died=end), restore or RestoreTest(died=end))
    if report.status == -getattr(signal, "SIGKILL", 9):
        raise header.error("was being tried when the process was killed, as for want of memory", "use a smaller model")
    doing = "reading a text with it" if report.reached("loaded") else "loading it"
    raise header.error(f"{doing} ends llama.cpp ({end})", OTHER if report.reached("loaded") else AGAIN)


def _restore_test(report: ChildReport) -> RestoreTest | None:
    if report.reached("not_restored") is not None:
        return RestoreTest(died=report.reached("not_restored"))
    if report.reached("restored") is None:
        return None
    return RestoreTest(report.reached("restored"), report.reached("restore_rounding"))


def run_probe(header: GGUFHeader, *, gpu_layers: int = -1, threads: int = 0, **context: str) -> ChildReport:
    """Has a child process load and try the file. context: kv_k, kv_v, flash_attn, as `EngineOptions` has them.

    Raises OSError where none can be started.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("there is no Python interpreter to run")
    what = {"path": str(header.path.absolute()), "gpu_layers": gpu_layers, "threads": threads}
    request = json.dumps(what | context)
    # Not -m: that would put the working folder before the packages of this process.
    run = "import runpy; runpy.run_module('edge_sir.llama.kshift.probe', {}, '__main__')"
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {run}", request]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err) as child:
            try:
                status = _wait(child, header)
            except BaseException:
                child.kill()
                raise
        out.seek(0)
        err.seek(max(0, err.seek(0, 2) - 65536))
        return ChildReport(status, _stages(out.read()), err.read().decode("utf-8", "replace"))


def _wait(child: "subprocess.Popen[bytes]", header: GGUFHeader) -> int | None:
    try:
        return child.wait(_ANNOUNCE_AFTER_S)
    except subprocess.TimeoutExpired:
        _log.warning("trying %s, once for this file ...", header.path.name)
    try:
        return child.wait(_LEAST_PATIENCE_S + header.size_bytes / _BYTES_PER_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return None


def _stages(text: bytes) -> list[dict[str, Any]]:
    stages = []
    for line in text.splitlines():
        try:
            stage = json.loads(line)
        except ValueError:
            continue  # cut off in the middle, or something else wrote to the stream
        if isinstance(stage, dict):
            stages.append(stage)
    return stages


def _how_it_ended(report: ChildReport) -> str:
    if report.status is None:
        return "it hangs"
    lines = [line.strip() for line in report.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "GGML_" in line or "what():" in line or "Error" in line or ".cpp:" in line]
    last = (telling or lines or ["it gave no reason"])[-1]
    last = re.sub(r"\S*/(?=\S+:\d+: )", "", last)[:200]  # the folder in which llama.cpp was compiled
    try:
        how = signal.Signals(-report.status).name
    except ValueError:
        how = f"exit status {report.status}"
    return f"{how}: {last}"


def build_id() -> str:
    """Names the llama.cpp that is installed: llama-cpp-python's version, and its libraries' names, sizes and dates."""
    version = importlib.metadata.version("llama-cpp-python")
    spec = importlib.util.find_spec("llama_cpp")  # finds it without importing it
    folders = spec.submodule_search_locations if spec else None
    libraries = sorted(path for folder in folders or () for path in (Path(folder) / "lib").glob("*"))
    facts = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in libraries if path.is_file()]
    return f"{version}-{digest(repr(facts))}"
