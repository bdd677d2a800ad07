"""A mapper for tests that needs no model: it answers what it is told to say, several requests at a time."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.text.reply import Reply


def answer(request: BatchRequest) -> BatchResult:
    """A reply to each text: the text in capitals."""
    replies = [
        Reply(i, text.upper(), "", "stop", len(text) + 4, len(text), 0, 0) for i, text in enumerate(request.said)
    ]
    return BatchResult(request.custom_id, tuple(replies), {"budget": 64})


def several(n: int, *, pause_s: float = 0.0) -> Callable[[Iterator[BatchRequest]], Iterator[BatchResult]]:
    """Holds up to `n` requests; of those the newest is finished first."""

    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        held: list[BatchRequest] = []
        for request in requests:
            held.append(request)
            if len(held) == n:
                time.sleep(pause_s)
                yield answer(held.pop())
        while held:
            time.sleep(pause_s)
            yield answer(held.pop())

    return mapper


def line(custom_id: str, *said: str) -> dict[str, Any]:
    return {"custom_id": custom_id, "body": {"dialogue": list(said or (f"This is {custom_id}.",))}}


def write(path: Path, lines: Iterable[dict[str, Any] | bytes]) -> Path:
    texts = (text if isinstance(text, bytes) else json.dumps(text).encode() for text in lines)
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_bytes().splitlines()]


def ids(path: Path) -> list[str | None]:
    return [document["custom_id"] for document in read(path)]
