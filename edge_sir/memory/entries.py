"""The entries of the eviction log as bytes, for a redo log on flash.

    one array: the entry's plain values as JSON, in ASCII      one array for each column of `KEPT`

Of an eviction, the losses are written field by field, and once where all of them have the same: policy, decay, when.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_type_hints

import numpy as np

from edge_sir.core.ledger import ROLES
from edge_sir.errors import StateError
from edge_sir.memory.evictions import KEPT, Entry, Evicted, Forgotten, Loss, Restored, Rewound
from edge_sir.session.lean import Ints, from_lean, to_lean

__all__ = ["entry_from_bytes", "entry_to_bytes"]

_NOTHING = np.empty(0, np.int64)
_FIELDS = get_type_hints(Loss)


def entry_to_bytes(entry: Entry) -> bytes:
    """An entry as bytes; no pickled objects are in them."""
    match entry:
        case Evicted():
            values = [entry.why, entry.turn_now, *(_shared(entry.losses, name) for name in _FIELDS)]
            return _packed("evicted", values, [entry.columns[name] for name in KEPT])
        case Rewound():
            return _packed("rewound", [entry.turn, entry.message] if entry.message else [entry.turn])
        case Forgotten():
            return _packed("forgotten", [entry.turn, entry.turn_now, entry.n_sentences, entry.undone])
        case Restored():
            return _packed("restored", [entry.why], [entry.born])


def _shared(losses: Sequence[Loss], name: str) -> list[Any]:
    """A field of these losses: all values, or one for all."""
    values = [getattr(loss, name) for loss in losses]
    return values[:1] if all(value == values[0] for value in values) else values


def _packed(kind: str, values: Sequence[Any], columns: Sequence[Ints] = ()) -> bytes:
    text = json.dumps([kind, *values], separators=(",", ":")).encode("ascii")
    columns = [*columns, *[_NOTHING] * (len(KEPT) - len(columns))]
    return to_lean([np.frombuffer(text, np.uint8).astype(np.int64), *columns])


def entry_from_bytes(data: bytes) -> Entry:
    """The entry that `entry_to_bytes` was given. Raises StateError for any other bytes."""
    text, *columns = from_lean(data, 1 + len(KEPT))
    try:
        kind, *values = json.loads(text.astype(np.uint8).tobytes())
        return _ENTRIES[kind](values, columns)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:  # the checksum was right
        raise StateError(f"these bytes are no entry of a log of evictions: {error}") from None


def _evicted(values: Sequence[Any], columns: Sequence[Ints]) -> Evicted:
    kept = dict(zip(KEPT, columns, strict=True))
    if len({len(column) for column in columns}) != 1:
        raise ValueError("its columns are not of one length")
    if np.any((kept["role"] < 0) | (kept["role"] >= len(ROLES))) or np.any(np.diff(kept["born"]) <= 0):
        raise ValueError("its rows are none of a ledger")
    why, turn_now, *rest = values
    turns = np.unique(kept["turn"]).tolist()
    given = {name: _each(kind, shared, len(turns)) for (name, kind), shared in zip(_FIELDS.items(), rest, strict=True)}
    if given["turn"] != turns:
        raise ValueError("its losses are not of the turns of its rows")
    losses = tuple(Loss(**{name: column[i] for name, column in given.items()}) for i in range(len(turns)))
    return Evicted(_of(str, why), _of(int, turn_now), losses, kept)


def _each(kind: Any, shared: Any, n: int) -> list[Any]:
    """The values of a field, [n]."""
    values = [_of(kind, value) for value in shared]
    if len(values) not in (1, n):
        raise ValueError(f"it has {n} losses, and {len(values)} values of one field")
    return values * n if len(values) < n else values[:n]


def _of(kind: Any, value: Any) -> Any:
    """The value. kind: a type, or several with `|`. Raises ValueError unless it is of that type, and int64 holds it."""
    kinds = get_args(kind) or (kind,)
    is_of_it = type(value) in kinds or (float in kinds and type(value) is int)
    if not is_of_it or (type(value) is int and not -(2**63) <= value < 2**63):
        raise ValueError(f"{value!r} is no {kind}")
    return value


def _rewound(values: Sequence[Any], _: Sequence[Ints]) -> Rewound:
    turn, message = values if len(values) > 1 else (*values, 0)
    return Rewound(_of(int, turn), _of(int, message))


def _forgotten(values: Sequence[Any], _: Sequence[Ints]) -> Forgotten:
    turn, turn_now, n_sentences, undone = values
    return Forgotten(_of(int, turn), _of(int, turn_now), _of(int | None, n_sentences), _of(bool, undone))


def _restored(values: Sequence[Any], columns: Sequence[Ints]) -> Restored:
    (why,) = values
    return Restored(_of(str, why), columns[0])


_ENTRIES: Mapping[str, Callable[[Sequence[Any], Sequence[Ints]], Entry]] = {
    "evicted": _evicted,
    "rewound": _rewound,
    "forgotten": _forgotten,
    "restored": _restored,
}
