"""Where cells stand: packed together, or with gaps where others were.

Removing cells leaves holes. Packed, the survivors are renumbered and llama.cpp rotates their keys (K-shift); with
gaps, positions keep growing and keys are never touched, until the trained length is reached.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.ledger import TokenLedger
from edge_sir.core.plan import packing_moves
from edge_sir.engine import Engine, Slice, SliceResult
from edge_sir.errors import CapabilityError, StateError

__all__ = [
    "PositionEpochs",
    "PositionMode",
    "Positions",
    "pack",
    "places_among",
    "read_again",
    "resolve_positions",
    "window_is_lost",
]

Positions = Literal["packed", "gaps", "auto"]
PositionMode = Literal["packed", "gaps"]

_FOR_GOOD = -1


def resolve_positions(wanted: Positions, engine: Engine) -> PositionMode:
    """`auto` packs where that is known to be right; asking for it elsewhere is a CapabilityError."""
    if wanted == "packed" and not engine.spec.can_pack:
        raise CapabilityError(f"{engine.spec.model} cannot pack: {engine.spec.why}; use --positions gaps")
    if wanted == "auto":
        return "packed" if engine.spec.can_pack else "gaps"
    return wanted


class PositionEpochs:
    """Which positions belong to other tokens than they did before, with gaps.

    That begins where survivors are renumbered or read again, and where tokens are decoded at positions that others had
    (after a rewind, or the eviction of the newest). Each time is an epoch. What was saved in an earlier one keeps its
    positions below all that was given away since. What was given to tokens that are taken back belongs to nobody else.
    """

    def __init__(self, now: int = 0, end: int = 0, given: Sequence[tuple[int, int, int]] = ()) -> None:
        self.now = now
        self._end = end  # of the positions in use in this epoch
        # In which epoch, from which position on, and to tokens from which born number on.
        self._given = [(int(epoch), int(p0), int(born)) for epoch, p0, born in given]

    def decoded(self, p0: int, n: int, born: int = _FOR_GOOD) -> None:
        """`n` new tokens, the first with this born number, stand at positions p0, p0 + 1, ..., behind all others."""
        if p0 < self._end:
            self.now += 1
            self._given.append((self.now, p0, born))
        self._end = p0 + n

    def taken_back(self, born: int) -> None:
        """The tokens from this born number on are taken back."""
        self._given = [given for given in self._given if given[2] < born]

    def give(self, p0: int, end: int) -> None:
        """Positions from `p0` on belong to others, whatever is taken back; those of them in use end before `end`."""
        self.now += 1
        # An earlier, higher one adds nothing.
        self._given = [given for given in self._given if given[1] < p0] + [(self.now, p0, _FOR_GOOD)]
        self._end = end

    def still_own(self, epoch: int, last: int) -> bool:
        """Whether positions up to `last` mean the same as they did in `epoch`."""
        return epoch <= self.now and all(last < p0 for since, p0, _ in self._given if since > epoch)

    def state(self) -> dict[str, Any]:
        """The arguments of one that goes on from here."""
        return {"now": self.now, "end": self._end, "given": [list(given) for given in self._given]}


def places_among(pos: NDArray[np.integer], at: NDArray[np.intp], first: int, *, packed: bool) -> NDArray[np.int64]:
    """Positions of all rows, int64 [len(pos) + len(at)], when new rows come in before the rows `at` (sorted).

    packed: all from `first` on stand together; else what need not move stays. Cells before position `first` must not
    move: raises StateError where new rows belong among them.
    """
    n_still = int(np.searchsorted(pos, first))
    if len(at) and at[0] < n_still:
        raise StateError("the place of these cells is among cells that another sequence shares; read their text again")
    wanted = np.insert(np.asarray(pos, np.int64), at, 0)
    index = np.arange(len(wanted))
    if packed:
        wanted[n_still:] = first + np.arange(len(wanted) - n_still)
        return wanted
    # Each row stands behind the one before it, and no earlier than where it was.
    places: NDArray[np.int64] = np.maximum.accumulate(wanted - index) + index
    return places


def pack(engine: Engine, seq: int, ledger: TokenLedger) -> bool:
    """Renumbers the cells of `seq` to 0, 1, ... in engine and ledger; False if they stood so already.

    Cells that another sequence shares must not move, and so stay as they are; the others close up behind them.
    """
    pos = ledger["pos"].copy()
    first = engine.shared_until(seq)
    n_still = int(np.searchsorted(pos, first))
    moves = packing_moves(pos[n_still:], first)
    for p0, p1, delta in moves:
        engine.shift(seq, p0, p1, delta)
    if moves:
        pos[n_still:] = first + np.arange(len(pos) - n_still)
        ledger.renumber(pos)
    return bool(moves)


def window_is_lost(engine: Engine, seq: int, pos: NDArray[np.int32]) -> bool:
    """Whether cells are missing that the next token of a sliding-window model attends to, for resident positions `pos`.

    Cells behind the window may be overwritten, and saved state leaves them out (llama_kv_cache::state_write): after a
    rewind the window lies where they were.
    """
    if not engine.spec.n_swa or not len(pos):
        return False
    first, last = engine.pos_range(seq)
    return last != int(pos[-1]) or first > int(pos[np.searchsorted(pos, int(pos[-1]) + 2 - engine.spec.n_swa)])


def read_again(
    engine: Engine, seq: int, ledger: TokenLedger, needs: frozenset[str] | None = None
) -> tuple[Slice, SliceResult] | None:
    """Decodes what is resident once more from position 0 on, for keys that cannot be moved, or are not there.

    needs: the scores that are wanted of the last slice, with the logits of its last row. Returns that slice and what it
    gave; None for an empty ledger.
    """
    last = None
    engine.remove(seq, 0, -1)
    tokens = ledger["token"].copy()
    step = engine.spec.n_slice
    for p0 in range(0, len(tokens), step):
        part = tokens[p0 : p0 + step]
        wants = needs is not None and p0 + step >= len(tokens)
        piece = Slice(
            seq, part, p0, np.full(len(part), -1, np.int32), (needs or frozenset()) if wants else frozenset(), wants
        )
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            last = piece, engine.decode([piece])[0]
    ledger.renumber(np.arange(len(tokens)))
    return last
