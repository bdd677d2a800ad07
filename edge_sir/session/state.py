"""All that a session is beside its cells, as one value: what a fork, a move and a save go through.

    session.state() ──> SessionState ──Session.from_state(engine, ...)──> a session that goes on from there
                             └──dump()──> bytes ──load()──> SessionState

Which fields there are is said in `Session.state` and `Session.from_state`. The cells go their own way (`Engine.copy`,
or `Engine.dump` and `load`). Arrays and scalars are kept apart, so that whoever stores a state needs to know neither.
`/save` writes what was said (memory/transcript.py), not this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import StateError
from edge_sir.session.npz import from_npz, to_npz

__all__ = ["SessionState", "check_scalars"]

_FORMAT = 1
_WHOLE = ("turn", "born", "turn_born", "budget")
_NAMED = ("numbering", "epochs", "carry", "returned", "stats")
_TEXTS = ("fingerprint", "policy", "tail")
_OTHERS = ("positions", "needs", "reserve", "turn_max_repeat", "sampler")


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    """arrays: `ledger.*` (the ledger's columns, [n_resident] each) and, after a decode, `carry.logits` (float32
    [n_vocab], the last decoded row). scalars: numbers, strings and lists, as JSON has them.

    Both are the value's own: nothing that the session does later changes them.
    """

    arrays: dict[str, NDArray[Any]]
    scalars: dict[str, Any]

    @property
    def ledger(self) -> dict[str, NDArray[Any]]:
        """The ledger's columns by name, [n_resident] each."""
        return {name.removeprefix("ledger."): a for name, a in self.arrays.items() if name.startswith("ledger.")}

    def dump(self) -> bytes:
        """The state as bytes; no pickled objects are in them."""
        return to_npz(_FORMAT, self.scalars, self.arrays)

    @classmethod
    def load(cls, data: bytes) -> "SessionState":
        """The state that `dump` wrote. Raises StateError for any other bytes."""
        try:
            scalars, arrays = from_npz(_FORMAT, data)
        except Exception as error:  # whatever it is, the bytes are not what they should be
            raise StateError(f"this is no saved session: {error}") from None
        return cls(arrays, scalars)


def check_scalars(scalars: Mapping[str, Any]) -> None:
    """Raises StateError unless these can be the scalars of a session."""
    if missing := {*_WHOLE, *_NAMED, *_TEXTS, *_OTHERS} - scalars.keys():
        raise StateError(f"this is no saved session: it lacks {', '.join(sorted(missing))}")
    is_right = (
        {name: _is_whole(scalars[name]) for name in _WHOLE}
        | {name: isinstance(scalars[name], Mapping) for name in _NAMED}
        | {name: isinstance(scalars[name], str) for name in _TEXTS}
        | {"positions": scalars["positions"] in ("packed", "gaps")}
        | {"reserve": scalars["reserve"] is None or _is_whole(scalars["reserve"])}
        | {"needs": isinstance(scalars["needs"], list) and all(name in SCORE_NAMES for name in scalars["needs"])}
        | {"turn_max_repeat": isinstance(scalars["turn_max_repeat"], int | float)}
        | {"sampler": isinstance(scalars["sampler"], Mapping | None)}
    )
    if wrong := [name for name, right in is_right.items() if not right]:
        raise StateError(f"this is no saved session: its {wrong[0]} cannot be {scalars[wrong[0]]!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63
