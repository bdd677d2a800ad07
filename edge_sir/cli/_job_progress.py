"""How far a job is, and what came of it: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from edge_sir.batch.jobs import Summary
from edge_sir.cli._counts import many

__all__ = ["JobProgress", "duration", "summary_lines"]

_LINE_EVERY_S = 60.0


class JobProgress:
    """Dialogues, tokens a second and the time left, on standard error. total: lines of the input, None if unknown."""

    def __init__(self, total: int | None, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._lines = not quiet and not sys.stderr.isatty()
        # The speed is that of the whole run: dialogues are long and few.
        self._bar = tqdm(
            total=total, unit=" dialogues", smoothing=0, file=sys.stderr, disable=quiet or self._lines, leave=False
        )
        self._spoke = clock()
        self.last = Summary()

    def show(self, summary: Summary) -> None:
        """Another line of output is there."""
        self.last = summary
        self._bar.initial = summary.n_done - summary.n_answered  # those took no time
        self._bar.n = summary.n_done
        self._bar.set_postfix_str(_speeds(summary), refresh=False)
        self._bar.update(0)
        if self._lines and self._clock() - self._spoke >= _LINE_EVERY_S:
            self._spoke = self._clock()
            sys.stderr.write(f"  {self._line(summary)}\n")

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()

    def _line(self, summary: Summary) -> str:
        of = "" if self._total is None else f" of {self._total}"
        text = f"{summary.n_done}{of} dialogues, {_speeds(summary)}"
        if self._total is not None and summary.n_answered:
            text += f", {duration((self._total - summary.n_done) * summary.seconds / summary.n_answered)} left"
        return text


def summary_lines(summary: Summary, output: str) -> list[str]:
    """What a run did, for a person."""
    new = f"{many(summary.n_answered, 'dialogue')} with {_replies(summary.n_replies)} in {duration(summary.seconds)}"
    before = f"; {summary.n_before} had a result before" if summary.n_before else ""
    lines = [f"{new}{before}", f"tokens: {summary.n_read} read, {summary.n_generated} written; {_speeds(summary)}"]
    if summary.errors:
        kinds = ", ".join(f"{n} {code}" for code, n in summary.errors.most_common())
        lines.append(f"{many(summary.errors.total(), 'line')} of {output} with an error: {kinds}")
    if summary.n_missing:
        lines.append(f"{many(summary.n_missing, 'dialogue')} without a result; the same command goes on")
    return lines


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `5.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _speeds(summary: Summary) -> str:
    seconds = max(summary.seconds, 1e-9)
    return f"{summary.n_read / seconds:.0f} tokens/s read, {summary.n_generated / seconds:.0f} written"


def _replies(n: int) -> str:
    return "1 reply" if n == 1 else f"{n} replies"
