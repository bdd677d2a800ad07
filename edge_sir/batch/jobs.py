"""A job: a file of requests becomes a file of results, and goes on after any kill.

It knows of no engine. `mapper` is anything that takes an iterator of requests and gives their results in any order:
`model.batch`, worker processes, another machine.

    line -> request -> mapper -> result -> line, as soon as it is there
      |-> error ----------------------------^
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_sir.batch.ids import IdTable
from edge_sir.batch.line import read_line
from edge_sir.batch.lines import MOST_BYTES, numbered_lines, open_input
from edge_sir.batch.output import digest_of, digest_of_line, output_line
from edge_sir.batch.output_file import OutputFile
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import ConfigError

__all__ = ["Mapper", "Summary", "run_job"]

Mapper = Callable[[Iterator[BatchRequest]], Iterator[BatchResult]]

# What the table holds of an id: 2 * (its line + 1) + whether its result is written; line 0: in no line of this run.
_ONLY_WRITTEN = 3


@dataclass(slots=True)
class Summary:
    """What a run has done so far.

    n_lines: of the input that were read, blank ones not counted. n_before: of those, how many had a result already.
    n_answered, n_refused: requests that got a result in this run, and lines that were none. errors: of the whole
    output, earlier runs included, by code. n_read, n_generated: tokens. n_asked: requests that the mapper took.
    n_bytes: that the ids take in memory. seconds: since the mapper began.
    """

    n_lines: int = 0
    n_before: int = 0
    n_answered: int = 0
    n_refused: int = 0
    n_asked: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    n_read: int = 0
    n_generated: int = 0
    n_replies: int = 0
    n_bytes: int = 0
    seconds: float = 0.0

    @property
    def n_missing(self) -> int:
        """Requests that were begun and have no result."""
        return self.n_asked - self.n_answered

    @property
    def n_done(self) -> int:
        """Lines that have their line of output."""
        return self.n_before + self.n_answered + self.n_refused


def run_job(
    source: Path,
    target: Path,
    mapper: Mapper,
    *,
    model: str,
    ordered: bool = False,
    limit: int | None = None,
    watch: Callable[[Summary], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Answers every line of `source` that `target` has no result of, and adds the results as they come.

    model: the name that the results give. ordered: in the end the output gets the order of the input. limit: most
    requests of this run. watch: called after each line of output. Of each line of the files 30 to 60 bytes stay in
    memory, and 8 more while they are ordered. Raises ConfigError for files that cannot be used, StoreError where the
    disk fails, and what the mapper raises; what was written stays, and the same call goes on.
    """
    with open_input(source) as lines, OutputFile(target) as output:
        job = _Job(numbered_lines(lines), output, model, limit, watch, clock)
        if output.path.exists() and output.path.samefile(source.expanduser()):
            raise ConfigError(f"{source} is input and output; choose another file with -o")
        job.load()
        job.run(mapper)
        if ordered:
            output.sort(job.line_of)
    return job.summary


class _Job:
    """One run. The mapper may take requests from other threads than the one that gets the results."""

    def __init__(
        self,
        lines: Iterator[tuple[int, bytes | None]],
        output: OutputFile,
        model: str,
        limit: int | None,
        watch: Callable[[Summary], None],
        clock: Callable[[], float],
    ) -> None:
        self.summary = Summary()
        self._lines, self._output, self._model = lines, output, model
        self._limit, self._watch, self._clock = limit, watch, clock
        self._ids = IdTable()
        self._lock = threading.Lock()
        self._began = clock()
        self._is_read = False

    def load(self) -> None:
        """Learns which results are there."""
        for entry in self._output.open():
            self._ids.set(entry.digest, _ONLY_WRITTEN)
            if entry.error is not None:
                self.summary.errors[entry.error] += 1

    def run(self, mapper: Mapper) -> None:
        """Asks and writes until every line has a result."""
        self._began = self._clock()
        results = mapper(self._requests())
        try:
            for result in results:
                with self._lock:
                    self._take_result(result)
        finally:
            self._count()
            if (close := getattr(results, "close", None)) is not None:
                close()
        if not self._is_read:
            raise RuntimeError("the mapper ended before it had taken all requests")

    def line_of(self, digest: bytes) -> int:
        """The number of the line that a result is for, 0 for one of no line of this input."""
        return max(0, self._ids.get(digest) // 2 - 1)

    # ---- requests ------------------------------------------------------------------------------

    def _requests(self) -> Iterator[BatchRequest]:
        while True:
            with self._lock:
                request = self._next()
            if request is None:
                return
            yield request

    def _next(self) -> BatchRequest | None:
        if self._limit is None or self.summary.n_asked < self._limit:
            for number, line in self._lines:
                self.summary.n_lines += 1
                if (request := self._request_of(number, line)) is not None:
                    self.summary.n_asked += 1
                    return request
        self._is_read = True
        return None

    def _request_of(self, number: int, line: bytes | None) -> BatchRequest | None:
        """What is to be asked; None if there is a result, or if the line is none: then the error is written."""
        found = _too_long() if line is None else read_line(line)
        digest = digest_of(found.custom_id) if found.custom_id else digest_of_line(number, line or b"")
        known = self._ids.get(digest)
        if known > _ONLY_WRITTEN:
            found = _duplicate(found.custom_id, known // 2 - 1)
            digest = digest_of_line(number, line or b"")
            known = self._ids.get(digest)
        if known:
            self._ids.set(digest, 2 * (number + 1) + 1)
            self.summary.n_before += 1
            return None
        self._ids.set(digest, 2 * (number + 1))
        if isinstance(found, BatchRequest):
            return found
        self.summary.n_refused += 1
        self._write(_at_line(found, number), digest)
        return None

    # ---- results -------------------------------------------------------------------------------

    def _take_result(self, result: BatchResult) -> None:
        digest = digest_of(result.custom_id)
        known = self._ids.get(digest)
        if not known:
            raise RuntimeError(f"a result for {result.custom_id!r}, which was not asked")
        if known % 2:  # it ran twice, as it may where machines fail
            return
        self.summary.n_answered += 1
        self.summary.n_replies += len(result.replies)
        self.summary.n_read += result.n_read
        self.summary.n_generated += result.n_generated
        self._write(result, digest)

    def _write(self, result: BatchResult, digest: bytes) -> None:
        self._output.append(output_line(result, digest, model=self._model, created=int(time.time())))
        self._ids.set(digest, self._ids.get(digest) | 1)
        if result.error is not None:
            self.summary.errors[result.error.code] += 1
        self._count()
        self._watch(self.summary)

    def _count(self) -> None:
        self.summary.n_bytes = self._ids.n_bytes
        self.summary.seconds = self._clock() - self._began


def _too_long() -> BatchResult:
    return BatchResult("", (), error=RequestError("invalid_request_error", f"it has more than {MOST_BYTES} bytes"))


def _duplicate(custom_id: str, line: int) -> BatchResult:
    """Without the custom_id, so that nobody takes it for the result of the other line."""
    message = f"custom_id {custom_id!a} is that of line {line}; give each line its own"
    return BatchResult("", (), error=RequestError("duplicate_custom_id", message))


def _at_line(result: BatchResult, number: int) -> BatchResult:
    assert result.error is not None
    error = RequestError(result.error.code, f"line {number}: {result.error.message}")
    return BatchResult(result.custom_id, (), error=error)
