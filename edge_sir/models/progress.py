"""How far a transfer is: a bar on a terminal, a line now and then elsewhere, nothing if quiet."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

__all__ = ["Progress"]

_LINE_EVERY_S = 10.0


class Progress:
    """Bytes of a file of `total` bytes (None: unknown), on stderr, with the time left. Use it in a `with` block."""

    def __init__(self, name: str, total: int | None, *, quiet: bool) -> None:
        self._total = total
        self._lines = not quiet and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc=name, unit="B", unit_scale=True, file=sys.stderr, disable=quiet or self._lines
        )
        self._first: tuple[float, int] | None = None
        self._spoke = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.close()

    def show(self, n_bytes: int) -> None:
        """`n_bytes` are here now, those of earlier runs included."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, n_bytes)
            self._bar.initial = n_bytes  # what was here before says nothing of the speed
        self._bar.n = n_bytes
        self._bar.update(0)
        if self._lines and now - self._spoke >= _LINE_EVERY_S:
            self._spoke = now
            sys.stderr.write(f"  {self._line(now, n_bytes)}\n")

    def _line(self, now: float, n_bytes: int) -> str:
        of = "" if self._total is None else f" of {self._total / 1e6:.0f}"
        text = f"{n_bytes / 1e6:.0f}{of} MB"
        since, before = self._first or (now, n_bytes)
        rate = (n_bytes - before) / (now - since) if now > since else 0.0
        if rate > 0:
            text += f", {rate / 1e6:.1f} MB/s"
            if self._total is not None:
                text += f", {_duration((self._total - n_bytes) / rate)} left"
        return text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
