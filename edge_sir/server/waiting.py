"""Requests that wait for the engine, in a fair order: who sends many waits for who sends one."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from edge_sir.server.limits import Limits

__all__ = ["FullError", "Waiting"]


class FullError(Exception):
    """No more can wait."""


class _HasSender(Protocol):
    @property
    def sender(self) -> str:
        """Whose turn it takes."""


Item = TypeVar("Item", bound=_HasSender)


class Waiting(Generic[Item]):
    """A bounded queue of queues, one for each sender, served in turn. Not safe between threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_sender: OrderedDict[str, deque[Item]] = OrderedDict()
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, item: Item) -> None:
        """Raises FullError if the queue is full, or this sender's part of it."""
        mine = self._by_sender.get(item.sender, ())
        if self._n >= self._limits.waiting or len(mine) >= self._limits.waiting_each:
            raise FullError
        self._by_sender.setdefault(item.sender, deque()).append(item)
        self._n += 1

    def __iter__(self) -> Iterator[Item]:
        """All that wait, in the order in which they would be taken."""
        queues = [list(queue) for queue in self._by_sender.values()]
        for i in range(max(map(len, queues), default=0)):
            yield from (queue[i] for queue in queues if i < len(queue))

    def take(self, item: Item) -> None:
        """Takes it out; its sender goes to the end of the line."""
        self.discard(item)
        if item.sender in self._by_sender:
            self._by_sender.move_to_end(item.sender)

    def discard(self, item: Item) -> bool:
        """Takes it out, if it is there; nobody's turn changes."""
        queue = self._by_sender.get(item.sender)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        self._n -= 1
        if not queue:
            del self._by_sender[item.sender]
        return True
