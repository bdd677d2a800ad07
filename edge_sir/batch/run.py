"""What drives a batch sees: steps until it is over."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from edge_sir.batch.result import BatchResult

__all__ = ["BatchRun"]


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
