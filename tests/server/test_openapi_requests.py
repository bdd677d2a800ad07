"""What the OpenAPI document lets be asked, and much that it does not, is answered as it says: by schemathesis.

`edge-sir` does not need it; `pip install schemathesis` has this run. SCHEMATHESIS_CASES: cases of each path, 3 if not
given; 220 make more than 5,000 requests.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stored_toy import talking

pytest.importorskip("schemathesis")

_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)


def test_every_answer_is_as_the_document_says(tmp_path: Path) -> None:
    n = int(os.environ.get("SCHEMATHESIS_CASES", "3"))
    options = [
        "--generation-allow-x00",
        "false",
        "-n",
        str(n),
        "--seed",
        "1",
        "--no-shrink",
        "--no-color",
        "-c",
        _CHECKS,
    ]
    with talking(tmp_path / "state", temperature=1.0, max_tokens=12) as client:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{client.url}/openapi.json", *options]
        done = subprocess.run(
            [*command, "--phases", "coverage,fuzzing,stateful", "--continue-on-failure"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60 + 10 * n,
        )
    cases = re.search(r"([\d,]+) generated, ([\d,]+) passed", done.stdout)
    assert done.returncode == 0 and cases is not None and cases[1] == cases[2], done.stdout + done.stderr
