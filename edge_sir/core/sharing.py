"""Which positions of which sequences share cells: a shift in one would move the cells of all, without a word from
llama.cpp (llama_kv_cells::pos_add).
"""

from edge_sir.errors import CapabilityError

__all__ = ["Sharing"]

Range = tuple[int, int]

_END = 2**62


class Sharing:
    """Ranges [p0, p1) of positions by pair of sequences, kept by an engine's `copy`, `remove` and `shift`.

    Cells that are shared never move, so a range means the same in both sequences for as long as it is shared.
    """

    def __init__(self) -> None:
        self._ranges: dict[frozenset[int], list[Range]] = {}

    def link(self, src: int, dst: int, p0: int, p1: int) -> None:
        """`dst`, emptied before, now shares the cells of `src` at [p0, p1), and those that `src` shares there."""
        for pair, ranges in [*self._ranges.items()]:
            if src in pair and (both := [r for r in (_cut(r, p0, p1) for r in ranges) if r]):
                [other] = pair - {src}
                self._ranges[frozenset({other, dst})] = both
        if p0 < p1:
            self._ranges[frozenset({src, dst})] = [(p0, p1)]

    def remove(self, seq: int, p0: int, p1: int) -> None:
        """`seq` has no cells at [p0, p1) any more; p1 = -1 means to the end."""
        stop = _END if p1 < 0 else p1
        for pair, ranges in [*self._ranges.items()]:
            if seq in pair:
                left = [part for a, b in ranges for part in ((a, min(b, p0)), (max(a, stop), b)) if part[0] < part[1]]
                if left:
                    self._ranges[pair] = left
                else:
                    del self._ranges[pair]

    def shared_until(self, seq: int) -> int:
        """The end of the last range that `seq` shares; 0 for none."""
        return max((b for pair, ranges in self._ranges.items() if seq in pair for _, b in ranges), default=0)

    def check_may_shift(self, seq: int, p0: int, p1: int) -> None:
        """Raises CapabilityError if `seq` shares cells at [p0, p1); p1 = -1 means to the end."""
        stop = _END if p1 < 0 else p1
        for pair, ranges in self._ranges.items():
            if seq in pair and any(_cut(r, p0, stop) for r in ranges):
                [other] = pair - {seq}
                raise CapabilityError(f"sequence {seq} shares cells with {other}, so they must not move")


def _cut(r: Range, p0: int, p1: int) -> Range | None:
    """What of `r` lies in [p0, p1)."""
    a, b = max(r[0], p0), min(r[1], p1)
    return (a, b) if a < b else None
