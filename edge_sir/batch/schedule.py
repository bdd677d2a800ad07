"""What is done next, and for whom: a pure function of what waits, what runs and what the engine holds.

    schedule(waiting, running, ...) ──> Step: who ends and who joins, or else whose slices are decoded together

Nothing else decides. A slice is that of its dialogue alone, never cut to fit: so what a dialogue evicts does not depend
on who else is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Join", "Phase", "Running", "Step", "Waiting", "schedule"]

Phase = Literal["opening", "reading", "writing", "over"]
"""What a dialogue decodes next: its opening, what was said before a reply, the reply with its end marker, nothing."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A dialogue without a sequence. n_cells: its budget. opening: dialogues of the same one can share its cells."""

    n_cells: int
    opening: str


@dataclass(frozen=True, slots=True)
class Running:
    """The dialogue of a sequence. n_next: tokens of its next slice. opening: "" where it has none to share."""

    seq: int
    n_cells: int
    opening: str
    phase: Phase
    n_next: int


@dataclass(frozen=True, slots=True)
class Join:
    """The dialogue `waiting` (an index) begins in `seq`. like: a sequence that holds its opening; None: it reads it."""

    waiting: int
    seq: int
    like: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """ends: whose dialogues are over. joins: who begins, in this order. decodes: whose next slices are one decode."""

    ends: tuple[int, ...] = ()
    joins: tuple[Join, ...] = ()
    decodes: tuple[int, ...] = ()


def schedule(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    *,
    n_seq: int,
    n_cells: int,
    n_batch: int,
    streams: bool = False,
    at_once: Sequence[int] = (),
) -> Step:
    """The next step. waiting, running: in the order in which they came. n_cells: of the context. streams: each sequence
    has cells of its own. at_once: how many of n dialogues that could decode one token each do so together, for n from 0
    on; all, where it says nothing.
    """
    ends = tuple(one.seq for one in running if one.phase == "over")
    joins = tuple(_joins(waiting, running, n_seq, n_cells))
    return Step(ends, joins) if ends or joins else Step(decodes=_decodes(running, n_batch, at_once, streams=streams))


def _joins(waiting: Sequence[Waiting], running: Sequence[Running], n_seq: int, n_cells: int) -> list[Join]:
    """Whoever came first begins first; only one whose opening another is just reading waits until it is there."""
    stay = [one for one in running if one.phase != "over"]
    free = [seq for seq in range(n_seq) if seq not in {one.seq for one in stay}]
    n_free = n_cells - sum(one.n_cells for one in stay)
    being_read = {one.opening for one in stay if one.phase == "opening"}
    holds = {one.seq: one.opening for one in running if one.phase != "opening" and one.opening}  # some are over
    joins = []
    for index, one in enumerate(waiting):
        if not free or one.n_cells > n_free:
            break
        if one.opening in being_read:
            continue
        like = min((seq for seq in holds if holds[seq] == one.opening), key=lambda seq: seq not in free, default=None)
        seq = like if like in free else min(free, key=lambda seq: (seq in holds, seq))
        joins.append(Join(index, seq, like))
        free.remove(seq)
        n_free -= one.n_cells
        if like is None:
            holds.pop(seq, None)
            being_read |= {one.opening} - {""}
        else:
            holds[seq] = one.opening
    return joins


def _decodes(running: Sequence[Running], n_batch: int, at_once: Sequence[int], *, streams: bool) -> tuple[int, ...]:
    """Whose slices fit into one decode: of those that write first, of others as they came.

    With streams llama.cpp decodes only as many tokens of each sequence together as all of them have. A longer slice
    would be cut, and its sums rounded otherwise than alone; so it is a decode of its own, before others write.
    """
    longer = [one.seq for one in running if one.n_next > 1]
    if streams and longer:
        return (longer[0],)
    chosen, n_left = [], n_batch
    for one in sorted(running, key=lambda one: one.phase != "writing"):
        if 0 < one.n_next <= n_left:
            chosen.append(one.seq)
            n_left -= one.n_next
    if len(chosen) < len(at_once) and not set(longer) & set(chosen):
        del chosen[at_once[len(chosen)] :]
    return tuple(chosen)
