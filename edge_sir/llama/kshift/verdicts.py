"""What trials found, one small JSON file each in the user's cache folder."""

import contextlib
import hashlib
import json
import logging
import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from edge_sir.llama.kshift.gate import ShiftTest

__all__ = ["Remembered", "VerdictStore", "digest"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A cached outcome; `test` is None where keys were not moved because harm is known."""

    test: ShiftTest | None


class VerdictStore:
    """The outcome cached under `key`. A damaged file counts as absent, an unwritable folder is no error."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.path = Path(platformdirs.user_cache_dir("edge-sir")) / "gate" / f"{digest(key)}.json"

    def read(self) -> Remembered | None:
        """What was written last; None if nothing was, or if it cannot be trusted."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["key"] != self.key:
                return None
            test = found["test"]
            if test is None:
                return Remembered(None)
            moved, rounding, died = float(test["moved"]), float(test["rounding"]), test["died"]
        except (OSError, ValueError, TypeError, KeyError):  # ValueError: no UTF-8, no JSON, no number
            return None
        sound = isinstance(died, str) and math.isfinite(rounding) and rounding >= 0
        return Remembered(ShiftTest(moved, rounding, died)) if sound else None

    def write(self, test: ShiftTest | None) -> None:
        """Replaces the file at once, so that nobody reads half of it."""
        text = json.dumps({"key": self.key, "test": test and asdict(test)})
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


def digest(text: str) -> str:
    """A short name for `text` that files may bear."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
