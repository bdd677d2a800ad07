"""Which contexts a batch gets: opened once where that can be, freed with it, and no more than memory holds."""

from collections.abc import Sequence
from typing import Any

import pytest
from dialogues import Watched, by_id, run, some_requests, terms

from edge_sir.batch.contexts import Contexts, Parallel, checked
from edge_sir.batch.measure import Way
from edge_sir.batch.result import BatchResult
from edge_sir.engine import Engine
from edge_sir.errors import BudgetError, ConfigError

BUDGET = 160


class Machine:
    """Notes which contexts are opened (dialogues, threads) and which are open; `memory` is the cells of all of them."""

    def __init__(self, memory: int = 10**9) -> None:
        self.memory, self.opened = memory, list[tuple[int, int]]()
        self.open_now: dict[Engine, int] = {}

    def open(self, n: int, n_cells: int, threads: int) -> Engine:
        self.opened.append((n, threads))
        if sum(self.open_now.values()) + n * n_cells > self.memory:
            raise BudgetError("no memory")
        engine = Watched(n, n * n_cells, n_ctx_train=4096)
        self.open_now[engine] = n * n_cells
        return engine

    def release(self, engine: Engine) -> None:
        del self.open_now[engine]
        engine.close()

    def contexts(self, threads: int = 2) -> Contexts:
        return Contexts(self.open, self.release, threads)


def measured(monkeypatch: pytest.MonkeyPatch, per_s: dict[tuple[int, int], float]) -> list[tuple[int, list[int]]]:
    """What is measured from now on: tokens a second by contexts and dialogues of each. Returns what was asked for."""
    asked = []

    def measure(engines: Sequence[Engine], counts: Sequence[int], *, n_resident: int) -> list[Way]:
        asked.append((len(engines), [*counts]))
        assert n_resident == BUDGET * 3 // 4
        return [Way(k := len(engines), n, k * n / per_s.get((k, n), 1.0)) for n in counts]

    monkeypatch.setattr("edge_sir.batch.contexts.measure", measure)
    return asked


def held(contexts: Contexts, n: int, parallel: Parallel = "auto") -> list[BatchResult]:
    requests = some_requests(n, recall="text")
    with contexts.run(requests, terms(budget=BUDGET), BUDGET, parallel) as batch:
        found = list(batch)
    expected = by_id(run(requests, Watched(1)))
    assert {one.custom_id: one.replies for one in found} == {name: one.replies for name, one in expected.items()}
    return found


def test_a_number_that_is_given_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, asked = Machine(), measured(monkeypatch, {})
    held(machine.contexts(), 5, 3)
    assert (machine.opened, machine.open_now, asked) == ([(3, 0)], {}, [])


@pytest.mark.parametrize(
    ("fastest", "opened"),
    [
        ((1, 8), [(8, 0), (4, 1), (4, 1)]),  # what wins is open already
        ((2, 4), [(8, 0), (4, 1), (4, 1)]),
        ((1, 4), [(8, 0), (4, 1), (4, 1), (4, 0)]),
        ((2, 1), [(8, 0), (4, 1), (4, 1), (1, 1), (1, 1)]),
    ],
)
def test_contexts_are_opened_once_where_that_can_be(
    monkeypatch: pytest.MonkeyPatch, fastest: tuple[int, int], opened: list[tuple[int, int]]
) -> None:
    machine, asked = Machine(), measured(monkeypatch, {fastest: 100.0})
    contexts = machine.contexts()
    held(contexts, 8)
    assert machine.opened == opened
    assert asked == [(1, [1, 2, 4, 8]), (2, [1, 2, 4])]
    assert not machine.open_now
    held(contexts, 8)  # what is known is not measured again
    assert len(asked) == 2
    assert machine.opened == opened + [(fastest[1], fastest[0] - 1)] * fastest[0]


def test_what_loses_is_freed_before_the_first_dialogue_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    measured(monkeypatch, {(1, 8): 100.0})
    with machine.contexts().run(some_requests(8), terms(budget=BUDGET), BUDGET, "auto"):
        assert [*machine.open_now.values()] == [8 * BUDGET]


@pytest.mark.parametrize(
    ("n_fit", "opened"),
    [
        (9, [(8, 0), (4, 1), (4, 1), (4, 1), (8, 0)]),  # not both at once: the first makes place, and is opened again
        (5, [(8, 0), (4, 0), (2, 1), (2, 1), (2, 1), (4, 0)]),
        (1, [(8, 0), (4, 0), (2, 0), (1, 0)]),
    ],
)
def test_no_more_than_memory_holds(monkeypatch: pytest.MonkeyPatch, n_fit: int, opened: list[tuple[int, int]]) -> None:
    machine = Machine(n_fit * BUDGET)
    measured(monkeypatch, {(1, 8): 200.0, (1, 4): 100.0})
    held(machine.contexts(), 8)
    assert machine.opened == opened
    assert not machine.open_now


def test_where_not_one_dialogue_fits_it_is_said() -> None:
    machine = Machine(BUDGET - 1)
    with pytest.raises(BudgetError, match="no memory"):
        held(machine.contexts(), 8)
    assert not machine.open_now


def test_memory_may_be_less_than_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, asked = Machine(), measured(monkeypatch, {(1, 8): 100.0})
    contexts = machine.contexts(threads=1)
    held(contexts, 8)
    machine.memory = 3 * BUDGET
    held(contexts, 8)
    assert machine.opened == [(8, 0), (8, 0), (8, 0), (4, 0), (2, 0), (1, 0)]
    assert asked == [(1, [1, 2, 4, 8]), (1, [1, 2])]


def test_what_measuring_raises_frees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any, **__: Any) -> list[Way]:
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_sir.batch.contexts.measure", measure)
    machine = Machine()
    with pytest.raises(KeyboardInterrupt):
        held(machine.contexts(), 8)
    assert machine.opened == [(8, 0)] and not machine.open_now


def test_few_that_are_left_write_as_fast_as_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two one at a time, as a processor has it on which a decode of two takes more than two of one."""
    machine = Machine()
    measured(monkeypatch, {(1, 1): 65.0, (1, 2): 53.0, (1, 4): 80.0, (1, 8): 124.0})
    requests = some_requests(8, recall="off")
    with machine.contexts(threads=1).run(requests, terms(budget=BUDGET), BUDGET, "auto") as batch:
        [engine] = machine.open_now
        found = list(batch)
    assert isinstance(engine, Watched)
    writes = [len(step) for step in engine.steps if max(step.values()) == 1]
    assert 2 not in writes and {1, 3} <= {*writes}
    expected = by_id(run(requests, Watched(1)))
    assert {one.custom_id: one.replies for one in found} == {name: one.replies for name, one in expected.items()}


def test_what_is_no_number_of_dialogues() -> None:
    assert [checked(n) for n in (1, 255, "auto")] == [1, 255, "auto"]
    for wrong in (0, 256, True, 1.0, "all"):
        with pytest.raises(ConfigError, match="from 1 to 255, or 'auto'"):
            checked(wrong)  # type: ignore[arg-type]


def test_a_line_says_what_was_chosen(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    measured(monkeypatch, {(1, 1): 65.0, (1, 2): 53.0, (1, 4): 80.0, (1, 8): 124.0})
    with caplog.at_level("INFO", "edge_sir.batch"):
        held(Machine().contexts(threads=1), 8)
    [line] = [record.message for record in caplog.records]
    assert line.startswith("tokens written a second: 65 with 1, 53 with 2, 80 with 4, 124 with 8; 8 dialogues are held")
