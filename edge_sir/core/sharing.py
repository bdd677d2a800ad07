"""Which sequences share cells: a shift in one would move the cells of all, without a word from llama.cpp."""

from edge_sir.errors import CapabilityError

__all__ = ["Sharing"]


class Sharing:
    """Groups of sequences, kept by an engine's `copy`, `remove` and `shift`."""

    def __init__(self) -> None:
        self._groups: list[set[int]] = []

    def link(self, src: int, dst: int) -> None:
        """`dst` now shares the cells of `src`."""
        self.unlink(dst)
        for group in self._groups:
            if src in group:
                group.add(dst)
                return
        self._groups.append({src, dst})

    def unlink(self, seq: int) -> None:
        """`seq` was emptied."""
        self._groups = [group - {seq} for group in self._groups if len(group - {seq}) > 1]

    def check_may_shift(self, seq: int) -> None:
        """Raises CapabilityError if `seq` shares cells."""
        for group in self._groups:
            if seq in group:
                others = ", ".join(str(s) for s in sorted(group - {seq}))
                raise CapabilityError(f"sequence {seq} shares cells with {others}, so they must not move")
