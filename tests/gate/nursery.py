"""Runs the gate's child on many files, each in a fork of this process: a Python start costs more than a tiny model.

Reads one request per line, as `edge_sir.llama.kshift.probe` takes it, and answers with one JSON line
{"status", "out", "err"}. The parent never computes, so that a fork finds no threads missing.
"""

import json
import os
import signal
import sys
import tempfile

import edge_sir.llama.kshift.trial  # noqa: F401 - loaded once, for all children
from edge_sir.llama.kshift import probe

PATIENCE_S = 20


def nurse(request: str) -> dict[str, object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.alarm(PATIENCE_S)
            os._exit(probe.main([request]))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return {"status": None if status == -signal.SIGALRM else status, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(nurse(line)) + "\n")
        sys.stdout.flush()
