"""What drives a batch sees: steps until it is over. And two that drive it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from edge_sir.batch.result import BatchResult

__all__ = ["BatchRun", "results", "results_async"]


class BatchRun(ABC):
    """Requests on their way to results; `step`, or iterate. Use it in a `with` block: leaving that closes it."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether all requests have their results."""

    @abstractmethod
    def step(self) -> list[BatchResult]:
        """Does what comes next and returns the results that are there with it."""

    @abstractmethod
    def close(self) -> None:
        """Ends all that is not over, with no result."""

    def __iter__(self) -> Iterator[BatchResult]:
        while not self.is_over:
            yield from self.step()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def results(opened: AbstractContextManager[BatchRun]) -> Iterator[BatchResult]:
    """Enters it when the first result is asked for, and leaves it at the end or when the iterator is closed."""
    with opened as run:
        yield from run


async def results_async(opened: AbstractContextManager[BatchRun]) -> AsyncIterator[BatchResult]:
    """The same, each step in a thread of its own: nothing else of the program waits for it."""
    in_thread = asyncio.get_running_loop().run_in_executor
    with ThreadPoolExecutor(1, "edge-sir batch") as thread:
        run = await in_thread(thread, opened.__enter__)
        try:
            while not run.is_over:
                for result in await in_thread(thread, run.step):
                    yield result
        finally:
            await in_thread(thread, opened.__exit__, None, None, None)
