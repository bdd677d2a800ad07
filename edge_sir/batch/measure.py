"""How many dialogues are held at once, and in how many contexts: measured here, then chosen by one function.

On a CPU a decode of two to five tokens costs more per token than one at a time, and one of sixteen much less; where
that turns differs with model and processor, and with what each dialogue holds. What is compared is writing. Slices of
what is read are as long whoever else is there, and with streams each is a decode of its own, so they cost the same.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from edge_sir.engine import Engine, Slice

__all__ = ["Way", "choose", "counts_up_to", "in_words", "measure", "together"]

COUNTS = (1, 2, 4, 8, 16)
_ENOUGH = 0.95  # of the best: what needs fewer dialogues and contexts for that is taken
_TOKEN = 1  # what is decoded does not matter


@dataclass(frozen=True, slots=True)
class Way:
    """So many contexts with so many dialogues each. seconds: of a decode that writes a token of every dialogue."""

    n_contexts: int
    n_each: int
    seconds: float

    @property
    def n_dialogues(self) -> int:
        """Held at once."""
        return self.n_contexts * self.n_each

    @property
    def per_s(self) -> float:
        """Tokens written a second."""
        return self.n_dialogues / max(self.seconds, 1e-9)


def counts_up_to(n_most: int) -> list[int]:
    """Which numbers of dialogues are measured where at most `n_most` can be held: powers of two, and that one."""
    return sorted({*(n for n in COUNTS if n <= n_most), n_most})


def choose(ways: Sequence[Way], n_most: int) -> Way:
    """The way to write fastest with at most `n_most` dialogues; of those nearly as fast, the simplest."""
    fitting = [way for way in ways if way.n_dialogues <= n_most]
    best = max(way.per_s for way in fitting)
    return min((w for w in fitting if w.per_s >= _ENOUGH * best), key=lambda w: (w.n_contexts, w.n_each))


def together(ways: Sequence[Way], chosen: Way) -> tuple[int, ...]:
    """How many of n dialogues of a context write a token in one decode, for n from 0 to those that it holds.

    All n, but where fewer at a time are faster: so at the end of a job, when few are left. Numbers that were not
    measured lie on the line between those that were.
    """
    of = {w.n_each: w.seconds for w in ways if w.n_contexts == chosen.n_contexts and w.n_each <= chosen.n_each}
    counts = np.arange(1, chosen.n_each + 1)
    seconds = np.interp(counts, sorted(of), [of[n] for n in sorted(of)])
    per_s = counts / np.maximum(seconds, 1e-9)
    best = [int(per_s[: n + 1].argmax()) for n in range(len(counts))]
    return (0, *(n + 1 if per_s[n] >= _ENOUGH * per_s[m] else m + 1 for n, m in enumerate(best)))


def in_words(ways: Sequence[Way], chosen: Way, at_once: Sequence[int] = ()) -> str:
    """One line: what was measured and what was chosen. at_once: as `together` has it."""
    parts = []
    for n_contexts in sorted({way.n_contexts for way in ways}):
        of = sorted((way for way in ways if way.n_contexts == n_contexts), key=lambda way: way.n_each)
        where = "" if n_contexts == 1 else f"in {n_contexts} contexts of one thread "
        parts.append(where + ", ".join(f"{way.per_s:.0f} with {way.n_dialogues}" for way in of))
    where = "one context" if chosen.n_contexts == 1 else f"{chosen.n_contexts} contexts of one thread each"
    held = "1 dialogue is" if chosen.n_dialogues == 1 else f"{chosen.n_dialogues} dialogues are"
    fewer = [f"of {n} that are left {at_once[n]}" for n in range(len(at_once)) if at_once[n] < n]
    few = f"; {', '.join(fewer)} at a time" if fewer else ""
    return f"tokens written a second: {'; '.join(parts)}; {held} held at once, in {where}{few}"


def measure(
    engines: Sequence[Engine],
    counts: Sequence[int],
    *,
    n_resident: int = 0,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Way]:
    """Decodes of a token in each of so many sequences, in all engines at once: the median of some, for each count.

    n_resident: tokens that each sequence holds meanwhile. The counts take turns, so that what else the machine does
    slows all alike. Sequences 0 to max(counts) - 1 of the engines are empty before and after.
    """
    for engine in engines:
        _fill(engine, max(counts), n_resident)
        _decode(engine, max(counts), n_resident)  # what the first decode sets up is not measured
    seconds: dict[int, list[float]] = {n: [] for n in counts}
    for _ in range(repeats):
        for n in counts:
            started = clock()
            _decode_all(engines, n, n_resident + 1)
            seconds[n].append(clock() - started)
            for engine in engines:
                for seq in range(n):
                    engine.remove(seq, n_resident + 1, -1)
    for engine in engines:
        for seq in range(max(counts)):
            engine.remove(seq, 0, -1)
    return [Way(len(engines), n, median(seconds[n])) for n in counts]


def _fill(engine: Engine, n_seq: int, n_resident: int) -> None:
    """Reads so many tokens in the first sequence, and gives each other one cells of its own that hold the same."""
    blob = b""
    for seq in range(n_seq if n_resident else 0):
        if blob:
            engine.restore(seq, blob, range(n_resident))
            continue
        for p0 in range(0, n_resident, engine.spec.n_slice):
            n = min(engine.spec.n_slice, n_resident - p0)
            engine.decode([Slice(seq, np.full(n, _TOKEN, np.int32), p0, np.full(n, -1, np.int32), logits=False)])
        if engine.spec.can_restore:
            blob = engine.save(seq, 0, n_resident)


def _decode_all(engines: Sequence[Engine], n: int, p0: int) -> None:
    """One decode in each engine, at the same time. Raises what one of them raises."""
    if len(engines) == 1:
        _decode(engines[0], n, p0)
        return
    failed: list[BaseException] = []

    def run(engine: Engine) -> None:
        try:
            _decode(engine, n, p0)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _decode(engine: Engine, n: int, p0: int) -> None:
    token, unknown = np.full(1, _TOKEN, np.int32), np.full(1, -1, np.int32)
    engine.decode([Slice(seq, token, p0, unknown) for seq in range(n)])
