"""Where cells stand: packed together, or with gaps where others were.

Removing cells leaves holes. Packed, the survivors are renumbered and llama.cpp rotates their keys (K-shift); with
gaps, positions keep growing and keys are never touched, until the trained length is reached.
"""

from typing import Literal

import numpy as np

from edge_sir.core.ledger import TokenLedger
from edge_sir.core.plan import packing_moves
from edge_sir.engine import Engine, Slice
from edge_sir.errors import CapabilityError

__all__ = ["PositionMode", "Positions", "pack", "read_again", "resolve_positions"]

Positions = Literal["packed", "gaps", "auto"]
PositionMode = Literal["packed", "gaps"]


def resolve_positions(wanted: Positions, engine: Engine) -> PositionMode:
    """`auto` packs where that is known to be right; asking for it elsewhere is a CapabilityError."""
    if wanted == "packed" and not engine.spec.can_pack:
        raise CapabilityError(f"{engine.spec.model} cannot pack: {engine.spec.why}; use --positions gaps")
    if wanted == "auto":
        return "packed" if engine.spec.can_pack else "gaps"
    return wanted


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


def read_again(engine: Engine, seq: int, ledger: TokenLedger) -> None:
    """Decodes what is resident once more from position 0 on, for keys that cannot be moved."""
    engine.remove(seq, 0, -1)
    tokens = ledger["token"].copy()
    step = engine.spec.n_batch
    for p0 in range(0, len(tokens), step):
        part = tokens[p0 : p0 + step]
        engine.decode([Slice(seq, part, p0, np.full(len(part), -1, np.int32), logits=False)])
    ledger.renumber(np.arange(len(tokens)))
