"""Programs of clients, and what they are started with."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Served:
    """url: of the server, without a path."""

    url: str

    def environment(self, home: Path) -> dict[str, str]:
        """What a client's program is started with: nothing of this machine's user is read or changed."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
        own = {"HOME": str(home), "OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": "any", "MODEL": MODEL}
        return kept | own | {"LLM_USER_PATH": str(home / "llm"), "PYTHONWARNINGS": "ignore"}


def output_of(command: list[str], environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """The last line that a program printed, as JSON."""
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
