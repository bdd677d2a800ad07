"""What happens where the gate refuses, measured: `python forced.py FILE [TYPE_OF_K N_SWA]` in its own process.

Keys are moved forty times, as an endless conversation would soon have done; where a sliding window is the reason,
old cells come back into the window after they were overwritten. Prints {"moved", "tolerance"} if it survives.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tiny_families import Family

MOVES = (*(64, -64) * 20, 64)


@dataclass(frozen=True)
class Damage:
    """moved: change of the logits in their standard deviations. tolerance: what the gate would allow."""

    moved: float
    tolerance: float
    died: str

    @property
    def factor(self) -> float:
        return self.moved / self.tolerance


def force(family: Family, folder: Path) -> Damage:
    """Packs in a child process whatever the gate says, and reports what that did."""
    n_swa = 32 if family.name == "gemma3" else 0
    command = [sys.executable, __file__, str(family.file(folder)), family.type_k, str(n_swa)]
    child = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=_env(), stdin=subprocess.DEVNULL, check=False
    )
    if child.returncode == 0:
        return Damage(**json.loads(child.stdout.splitlines()[-1]), died="")
    told = [line for line in child.stderr.splitlines() if ".cpp:" in line]
    assert told and child.returncode < 0, child.stderr  # an abort, not a mistake of this script
    return Damage(0.0, 1.0, told[-1].rpartition("/")[2])


def removals(family: Family, folder: Path) -> tuple[bool, bool]:
    """Whether llama.cpp says that it removed tokens of the middle, and of the end, of a recurrent model."""
    command = [sys.executable, __file__, str(family.file(folder))]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, env=_env(), check=True)
    middle, tail = json.loads(child.stdout.splitlines()[-1])
    return middle, tail


def _env() -> dict[str, str]:
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}


def main(path: str, type_k: str, n_swa: str) -> None:
    from edge_sir.llama.kshift.trial import read_plainly, shift_test, trial_options
    from edge_sir.llama.native import NativeModel

    model = NativeModel(Path(path))
    options = trial_options(threads=1)
    tolerance = shift_test(model, read_plainly(model, options)[0], options, ()).tolerance
    options = replace(options, kv_k=type_k)  # type: ignore[arg-type]
    if int(n_swa):
        moved = _lost_window(model, options, int(n_swa))
    else:
        moved = shift_test(model, read_plainly(model, options)[0], options, MOVES).moved
    sys.stdout.write(json.dumps({"moved": moved, "tolerance": tolerance}) + "\n")


def remove_from_state(path: str) -> None:
    """With bare llama.cpp, since edge-sir loads no such model."""
    from edge_sir.llama.native import LOG, lib

    LOG.install()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_threads = 256, 1
    context = lib.llama_init_from_model(model, params)
    tokens = (lib.llama_token * 40)(*range(30, 70))
    assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, 40)) == 0
    memory = lib.llama_get_memory(context)
    answers = [bool(lib.llama_memory_seq_rm(memory, 0, p0, p1)) for p0, p1 in ((8, 20), (30, -1))]
    sys.stdout.write(json.dumps(answers) + "\n")


def _lost_window(model: Any, options: Any, n_swa: int) -> float:
    """Two ways to the same tokens at the same positions, one of them over a shift that takes itself back.

    After a shift llama.cpp looks for cells from the first on and takes those that lie behind the window, of
    which some come back into it when positions are packed.
    """
    from edge_sir.engine import Slice
    from edge_sir.llama.kshift.trial import trial_engine

    tokens = np.random.default_rng(0).integers(20, 250, 3 * n_swa + 1).astype(np.int32)

    def read(shifted: bool) -> np.ndarray:
        with trial_engine(model, options) as engine:
            for p0 in range(0, 3 * n_swa, n_swa):
                if shifted and p0 == 2 * n_swa:
                    for delta in (1, -1):
                        engine.shift(0, 0, -1, delta)
                        engine.flush(0)
                part = tokens[p0 : p0 + n_swa]
                engine.decode([Slice(0, part, p0, np.full(len(part), -1, np.int32), logits=False)])
            engine.remove(0, n_swa, 3 * n_swa)
            [result] = engine.decode([Slice(0, tokens[-1:], n_swa, np.array([-1], np.int32))])
            assert result.logits is not None
            return result.logits.astype(np.float64)

    a, b = read(False), read(True)
    return float(np.sqrt(np.mean((a - b) ** 2)) / a.std())


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else remove_from_state(sys.argv[1])
