"""One conversation in tokens.

session.py     the step machine, and the only place where memory is lost
recallable.py  rows that are there for a turn alone, and those that make room for them
resident.py    ledger and cells in step; what is saved of them, and comes back
pending.py     what was fed and not decoded yet          displaced.py  rows that make room for a turn
positions.py   packed, or with gaps                      state.py      all of a session as one value
saved.py       rows that outlive their eviction          npz.py        numbers, texts and arrays as bytes
changes.py     what happened to the rows, as a log       lean.py       arrays in few bytes
redo.py        does again what a log says
"""

from edge_sir.session.positions import PositionMode, Positions
from edge_sir.session.saved import SavedPassage, SavedRows
from edge_sir.session.session import Session, check_context
from edge_sir.session.state import SessionState

__all__ = ["PositionMode", "Positions", "SavedPassage", "SavedRows", "Session", "SessionState", "check_context"]
