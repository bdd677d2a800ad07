"""The child process that loads a model file first: `python -m edge_sir.llama.kshift.probe '{"path": ...}'`.

It prints one JSON object per stage that it survived, so that its parent knows what ended it.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_sir.errors import BudgetError, EdgeSirError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Loads, reads, restores cells and, where metadata does not speak against it, moves keys.

    The argument is {"path", "gpu_layers", "threads"} as JSON, with "kv_k", "kv_v" and "flash_attn" where they are not
    the usual ones. Stages: {"loaded"}, {"read"}, {"restored", "restore_rounding"} or {"not_restored": message}, and
    {"done", "moved", "rounding"} or {"done"}; {"refused": message} for a file that is refused, or where memory does not
    suffice.
    """
    request = json.loads((sys.argv[1:] if argv is None else argv)[0])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to explain
    try:
        _try(Path(request.pop("path")), request.pop("gpu_layers"), request.pop("threads"), request)
    except EdgeSirError as error:
        _say(refused=str(error))
    return 0


def _try(path: Path, gpu_layers: int, threads: int, context: dict[str, Any]) -> None:
    from edge_sir.llama.kshift.gate import known_harm
    from edge_sir.llama.kshift.trial import read_plainly, restore_test, shift_test, trial_options
    from edge_sir.llama.native import NativeModel

    model = NativeModel(path, gpu_layers=gpu_layers)
    _say(loaded=True)
    options = trial_options(threads)
    plain, can_shift = read_plainly(model, options)
    _say(read=True)
    try:
        restored = restore_test(model, replace(options, **context))
        _say(restored=restored.moved, restore_rounding=restored.rounding)
    except BudgetError:  # no outcome: with more memory free it may be another
        raise
    except EdgeSirError as error:
        _say(not_restored=str(error))
    if known_harm(model.header) or not can_shift:
        _say(done=True)
        return
    test = shift_test(model, plain, options)
    _say(done=True, moved=test.moved, rounding=test.rounding)


def _say(**stage: Any) -> None:
    sys.stdout.write(json.dumps(stage) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os._exit(main())  # nothing is left to do, and unloading a large model takes its time
