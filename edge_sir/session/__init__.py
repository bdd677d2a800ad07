"""One conversation in tokens.

session.py    the step machine, and the only place where memory is lost      state.py      all of it as one value
pending.py    what was fed and not decoded yet                               positions.py  packed, or with gaps
saved.py      rows with their cells, which outlive their eviction          displaced.py  rows that make room for a turn
npz.py        numbers, texts and arrays as bytes
"""

from edge_sir.session.positions import PositionMode, Positions
from edge_sir.session.saved import SavedRows
from edge_sir.session.session import SavedPassage, Session, check_context
from edge_sir.session.state import SessionState

__all__ = ["PositionMode", "Positions", "SavedPassage", "SavedRows", "Session", "SessionState", "check_context"]
