"""Several loops in threads, on toys: each request once, each as if alone, and nothing goes on after the end."""

import threading
from collections.abc import Iterator

import pytest
from dialogues import Watched, by_id, request, run, some_requests, terms

from edge_sir.batch.request import BatchRequest
from edge_sir.batch.workers import BatchWorkers
from edge_sir.errors import ShiftError


def test_each_request_is_held_once_and_as_if_alone() -> None:
    requests = some_requests(24, seed=6, recall="text")
    engines = [Watched(2), Watched(2), Watched(1)]
    with BatchWorkers(requests, terms(), engines) as workers:
        results = list(workers)
        assert workers.is_over and workers.step() == []
    expected = by_id(run(requests, Watched(1)))
    assert sorted(one.custom_id for one in results) == sorted(expected)
    for one in results:
        assert one.error is None and one.replies == expected[one.custom_id].replies
    assert all(engine.steps for engine in engines)


def test_none_waits_for_one_loop_while_another_has_a_free_sequence() -> None:
    """Of three requests and two loops one loop is at its first dialogue until the other has had two."""
    taken: list[str] = []
    engines = [Watched(1), Watched(1)]

    def source() -> Iterator[BatchRequest]:
        for name in "abc":
            taken.append(name)
            yield request(name, max_tokens=1)

    shared = BatchWorkers(source(), terms(), engines)
    first, second = shared._loops
    first.step()
    assert taken == ["a"]
    second.step()
    assert taken == ["a", "b"]
    done: list[str] = []
    while not second.is_over:
        done += [one.custom_id for one in second.step()]
    assert (done, taken) == (["b", "c"], ["a", "b", "c"])
    shared.close()


def test_what_the_source_raises_goes_to_the_caller_and_ends_all() -> None:
    def source() -> Iterator[BatchRequest]:
        yield from some_requests(5)
        raise OSError("the disk is broken")

    with BatchWorkers(source(), terms(), [Watched(1), Watched(1)]) as workers:
        with pytest.raises(OSError, match="disk"):
            list(workers)
        assert workers.is_over
    assert not at_work()


def test_what_one_engine_raises_ends_all() -> None:
    engines = [Watched(1), Watched(1)]
    engines[1].failing = {0: ShiftError("wrong keys")}
    with BatchWorkers(some_requests(20), terms(), engines) as workers, pytest.raises(ShiftError):
        list(workers)
    assert not at_work()


def test_left_early_no_thread_goes_on_and_no_more_is_asked_for() -> None:
    taken = []

    def source() -> Iterator[BatchRequest]:
        for asked in some_requests(100):
            taken.append(asked.custom_id)
            yield asked

    engines = [Watched(2), Watched(2)]
    with BatchWorkers(source(), terms(), engines) as workers:
        assert taken == []  # nothing happens before a result is asked for
        while not workers.step():
            pass
    assert not at_work()
    n, steps = len(taken), [len(engine.steps) for engine in engines]
    assert n < 100
    assert list(workers) == [] and len(taken) == n and [len(engine.steps) for engine in engines] == steps


def test_while_nobody_takes_results_no_more_than_a_few_are_made() -> None:
    engines = [Watched(1), Watched(1)]
    with BatchWorkers([request(f"{i}", max_tokens=1) for i in range(60)], terms(), engines) as workers:
        while not workers.step():
            pass
        n = [0, 0]
        while n != (n := [len(engine.steps) for engine in engines]):
            threading.Event().wait(0.3)
        assert sum(n) < 60  # four steps a dialogue, and two results waiting beside those that are held
        assert len(list(workers)) >= 50


def at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "_run" in thread.name]
