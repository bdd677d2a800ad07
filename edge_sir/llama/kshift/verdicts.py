"""What trials found, one small JSON file each in the user's cache folder."""

import contextlib
import hashlib
import json
import logging
import math
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from edge_sir.llama.kshift.gate import RestoreTest, ShiftTest, Trials

__all__ = ["VerdictStore", "digest"]

Test = TypeVar("Test", ShiftTest, RestoreTest)

_log = logging.getLogger(__name__)


class VerdictStore:
    """The outcome cached under `key`. A damaged file counts as absent, an unwritable folder is no error."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.path = Path(platformdirs.user_cache_dir("edge-sir")) / "gate" / f"{digest(key)}.json"

    def read(self) -> Trials | None:
        """What was written last; None if nothing was, or if it cannot be trusted."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["key"] != self.key:
                return None
            return Trials(_trial(found["test"], ShiftTest), _trial(found["restore"], RestoreTest))
        except (OSError, ValueError, TypeError, KeyError):  # ValueError: no UTF-8, no JSON, no number
            return None

    def write(self, trials: Trials) -> None:
        """Replaces the file at once, so that nobody reads half of it."""
        shift, restore = (None if test is None else asdict(test) for test in (trials.shift, trials.restore))
        text = json.dumps({"key": self.key, "test": shift, "restore": restore})
        part = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(part).replace(self.path)
        except OSError as error:
            _log.info("the gate's verdict could not be kept: %s", error)
            if part is not None:
                with contextlib.suppress(OSError):
                    Path(part).unlink()


def _trial(found: Any, kind: type[Test]) -> Test | None:
    """Raises ValueError, TypeError or KeyError for anything but what was written."""
    if found is None:
        return None
    moved, rounding, died = float(found["moved"]), float(found["rounding"]), found["died"]
    if not (isinstance(died, str) and math.isfinite(rounding) and rounding >= 0):
        raise ValueError("no outcome of a trial")
    return kind(moved, rounding, died)


def digest(text: str) -> str:
    """A short name for `text` that files may bear."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
