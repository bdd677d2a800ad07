"""How long a job is going to take, from a few seconds of measurement."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_sir.batch.ids import IdTable
from edge_sir.batch.jobs import Mapper
from edge_sir.batch.line import read_line
from edge_sir.batch.lines import numbered_lines, open_input
from edge_sir.batch.output import digest_of
from edge_sir.batch.output_file import entries
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.errors import ConfigError

__all__ = ["Speed", "Work", "left_to_do", "measure_speed", "work_of"]

_READING_SHARE = 0.3  # of the time of a measurement
_MOST_MEASURED = 64  # tokens of a reply: a longer one is written no faster
_LEAST_SHARE = 0.1  # of a part's time that reading or writing takes: less is noise


@dataclass(slots=True)
class Work:
    """What is left to do. n_most: tokens that the replies have if each takes all that it may."""

    n_dialogues: int = 0
    n_replies: int = 0
    n_characters: int = 0
    n_most: int = 0


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured: tokens a second, read and written side by side as in the job; read tokens for a character,
    template tokens included; tokens of a reply."""

    read_per_s: float
    written_per_s: float
    per_character: float
    per_reply: float

    def seconds(self, work: Work) -> tuple[float, float]:
        """For replies as long as those measured, and for replies as long as they may be."""
        reading = work.n_characters * self.per_character / self.read_per_s
        written = min(work.n_replies * self.per_reply, work.n_most)
        return reading + written / self.written_per_s, reading + work.n_most / self.written_per_s


def left_to_do(source: Path, target: Path) -> Iterator[BatchRequest]:
    """The requests of `source` that `target` has no result of. Reads alone, also while another process writes."""
    ids = IdTable()
    for entry in entries(target):
        ids.set(entry.digest, 1)
    with open_input(source) as file:
        for _, line in numbered_lines(file):
            found = None if line is None else read_line(line)
            if isinstance(found, BatchRequest) and not ids.get(digest := digest_of(found.custom_id)):
                ids.set(digest, 1)
                yield found


def work_of(requests: Iterator[BatchRequest], max_tokens: int) -> Work:
    """Counts them. max_tokens: of a request that gives none."""
    work = Work()
    for request in requests:
        work.n_dialogues += 1
        work.n_replies += len(request.said)
        work.n_characters += _characters(request)
        work.n_most += len(request.said) * request.terms.get("max_tokens", max_tokens)
    return work


def measure_speed(
    mapper: Mapper,
    sample: Sequence[BatchRequest],
    *,
    max_tokens: int,
    seconds: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Speed:
    """Answers the first texts of `sample` again and again for so many seconds, at first with one token each.

    The time that the mapper takes until it asks for the first request is not counted. Raises ConfigError if no dialogue
    of the sample can be held.
    """
    first = [replace(request, said=request.said[:1]) for request in sample]
    reading = _run(mapper, [_shortened(r, 1) for r in first], seconds * _READING_SHARE, clock)
    writing = _run(mapper, [_shortened(r, _most(r, max_tokens)) for r in first], seconds * (1 - _READING_SHARE), clock)
    read_per_s, written_per_s = _solved(reading, writing)
    wanted = {request.custom_id: request.terms.get("max_tokens", max_tokens) for request in first}
    lengths = [n if ended else wanted[id] for id, n, ended in writing.replies]
    characters = {request.custom_id: _characters(request) for request in first}
    return Speed(
        read_per_s,
        written_per_s,
        writing.n_read / sum(characters[id] for id, _, _ in writing.replies),
        sum(lengths) / len(lengths),
    )


@dataclass(slots=True)
class _Measured:
    """n_read, n_written: tokens. replies: whose, how many tokens, and whether it ended by itself."""

    n_read: int = 0
    n_written: int = 0
    seconds: float = 0.0
    replies: list[tuple[str, int, bool]] = field(default_factory=list)


def _run(mapper: Mapper, requests: Sequence[BatchRequest], seconds: float, clock: Callable[[], float]) -> _Measured:
    measured, began = _Measured(), [0.0]

    def supply() -> Iterator[BatchRequest]:
        began[0] = clock()
        for i, request in enumerate(itertools.cycle(requests)):
            if i and clock() - began[0] >= seconds:
                return
            yield replace(request, custom_id=f"{i % len(requests)} {i}")

    failed: BatchResult | None = None
    for result in mapper(supply()):
        if result.error is not None:
            failed = result
            continue
        (reply,) = result.replies
        index = int(result.custom_id.partition(" ")[0])
        measured.n_read += reply.n_read
        measured.n_written += reply.n_generated
        measured.replies.append((requests[index].custom_id, reply.n_generated, reply.finish == "stop"))
    measured.seconds = clock() - began[0]
    if not measured.replies:
        reason = "the model gave no reply" if failed is None or failed.error is None else failed.error.message
        raise ConfigError(f"nothing could be measured: {reason}")
    return measured


def _solved(reading: _Measured, writing: _Measured) -> tuple[float, float]:
    """Tokens read and written a second, such that each part takes the time that was measured."""
    r1, w1, t1 = reading.n_read, reading.n_written, reading.seconds
    r2, w2, t2 = max(writing.n_read, 1), max(writing.n_written, 1), writing.seconds
    both = r1 * w2 - r2 * w1
    per_read = (t1 * w2 - t2 * w1) / both if both > 0 else 0.0
    per_written = (t2 * r1 - t1 * r2) / both if both > 0 else 0.0
    return 1 / max(per_read, _LEAST_SHARE * t1 / max(r1, 1)), 1 / max(per_written, _LEAST_SHARE * t2 / w2)


def _shortened(request: BatchRequest, max_tokens: int) -> BatchRequest:
    return replace(request, terms={**request.terms, "max_tokens": max_tokens})


def _most(request: BatchRequest, max_tokens: int) -> int:
    return int(min(request.terms.get("max_tokens", max_tokens), _MOST_MEASURED))


def _characters(request: BatchRequest) -> int:
    system = request.terms.get("system", "")
    return len(system) + sum(len(m.text) for m in request.messages) + sum(map(len, request.said))
