"""What `edge-sir doctor` says that a conversation takes, beside what the process of one had at its peak."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_sir.llama.footprint import private_bytes

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not private_bytes(), reason="this system does not tell what memory a process has"),
]

BUDGET = 512
CHAT = """
import sys, threading
from edge_sir import Options, open_chat
import edge_sir.cli  # as in the command

peak, over = 0, threading.Event()

def watch():
    global peak
    while not over.wait(0.002):
        peak = max(peak, private_bytes())

model, chunk, budget = sys.argv[1], *map(int, sys.argv[2:])
with open_chat(Options(model=model, chunk=chunk, budget=budget, threads=1, max_tokens=20, quiet=True)) as chat:
    from edge_sir.llama.footprint import private_bytes
    watcher = threading.Thread(target=watch)
    watcher.start()
    chat.add("user", " ".join(f"The sailor number {i} sold {i} lamps near the bridge." for i in range(30)))
    chat.reply("Go on")
    over.set()
    watcher.join()
    stats = chat.stats()
    assert stats.tokens_in >= 400 and stats.tokens_out > 0, stats
    print(max(peak, private_bytes()) - stats.kv_bytes)
"""


def doctor(path: Path, chunk: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge_sir", "doctor", path, "--json", "--no-speed", "--threads", "1"]
    command += ["--budget", str(BUDGET), "--chunk", str(chunk)]
    done = subprocess.run(command, capture_output=True, check=True)
    memory: dict[str, Any] = json.loads(done.stdout)["memory"]
    return memory


def taken(path: Path, chunk: int) -> int:
    """Private bytes of a chat's process at its peak, less those of its cells."""
    command = [sys.executable, "-c", CHAT, path, str(chunk), str(BUDGET)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def test_doctor_tells_what_a_conversation_takes(smollm2_path: Path) -> None:
    said = {chunk: doctor(smollm2_path, chunk) for chunk in (0, 16, 128)}
    assert [memory["chunk"] for memory in said.values()] == [64, 16, 128]
    found = {chunk: taken(smollm2_path, chunk) - memory["repacked_bytes"] for chunk, memory in said.items()}
    for chunk, memory in said.items():
        assert memory["beside_bytes"] == pytest.approx(found[chunk], rel=0.1)
    # Apart from what Python takes, by the buffers alone: what another chunk costs.
    more = said[128]["buffers_bytes"] - said[16]["buffers_bytes"]
    assert more == pytest.approx(found[128] - found[16], rel=0.1)
    assert more == pytest.approx(2 * (128 - 16) * 4 * 49_152, rel=0.05)
