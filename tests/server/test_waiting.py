"""The queue: bounded, and fair between senders."""

from dataclasses import dataclass

import pytest

from edge_sir.server.limits import Limits
from edge_sir.server.waiting import FullError, Waiting


@dataclass(frozen=True)
class Item:
    sender: str
    number: int = 0


def filled(*items: Item, **limits: int) -> Waiting[Item]:
    waiting: Waiting[Item] = Waiting(Limits(**limits))  # type: ignore[arg-type]
    for item in items:
        waiting.add(item)
    return waiting


def drained(waiting: Waiting[Item]) -> list[str]:
    order = []
    while len(waiting):
        item = next(iter(waiting))
        waiting.take(item)
        order.append(f"{item.sender}{item.number}")
    return order


def test_who_sends_many_waits_for_who_sends_one() -> None:
    waiting = filled(*(Item("a", i) for i in range(3)), Item("b", 0), Item("c", 0), Item("b", 1))
    assert [f"{i.sender}{i.number}" for i in waiting] == ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert drained(waiting) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_a_sender_that_was_served_goes_to_the_end() -> None:
    waiting = filled(Item("a", 0), Item("a", 1), Item("b", 0))
    waiting.take(Item("a", 0))
    waiting.add(Item("c", 0))
    assert drained(waiting) == ["b0", "a1", "c0"]


def test_it_is_bounded_for_all_and_for_each() -> None:
    waiting = filled(Item("a", 0), Item("a", 1), waiting=3, waiting_each=2)
    with pytest.raises(FullError):
        waiting.add(Item("a", 2))
    waiting.add(Item("b"))
    with pytest.raises(FullError):
        waiting.add(Item("c"))
    assert len(waiting) == 3


def test_what_left_makes_room() -> None:
    waiting = filled(Item("a", 0), Item("a", 1), waiting=2)
    assert waiting.discard(Item("a", 0)) and not waiting.discard(Item("a", 0))
    waiting.add(Item("b"))
    assert drained(waiting) == ["a1", "b0"] and not waiting.discard(Item("b"))
