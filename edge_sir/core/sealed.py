"""Bytes that say what they are and what they depend on, so that damaged and foreign ones are found out before use.

magic 8 | SHA-256 of all that follows 32 | length of the label 4 | label: kind and terms as JSON | payload
"""

import hashlib
import json
from collections.abc import Mapping

from edge_sir.errors import StateError

__all__ = ["seal", "unseal"]

_MAGIC = b"edgesir1"
_LABEL_AT = len(_MAGIC) + 32


def seal(kind: str, terms: Mapping[str, object], payload: bytes | memoryview) -> bytes:
    """`payload` with a checksum and a label. terms: what it depends on, by name, as JSON has it."""
    label = json.dumps({"kind": kind, "terms": dict(terms)}, sort_keys=True).encode()
    size = len(label).to_bytes(4, "little")
    checksum = hashlib.sha256(size)
    checksum.update(label)
    checksum.update(payload)
    return b"".join((_MAGIC, checksum.digest(), size, label, payload))


def unseal(blob: bytes, kind: str, terms: Mapping[str, object]) -> memoryview:
    """The payload of `seal`, not copied. Raises StateError if it is damaged, of another kind or of other terms."""
    view = memoryview(blob)
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise StateError(f"these bytes are no {kind}")
    if hashlib.sha256(view[_LABEL_AT:]).digest() != bytes(view[len(_MAGIC) : _LABEL_AT]):
        raise StateError(f"the {kind} is damaged: its checksum is wrong")
    start = _LABEL_AT + 4 + int.from_bytes(view[_LABEL_AT : _LABEL_AT + 4], "little")
    label = json.loads(bytes(view[_LABEL_AT + 4 : start]))
    if label["kind"] != kind:
        raise StateError(f"these bytes are no {kind} but a {label['kind']}")
    if others := [name for name, value in terms.items() if label["terms"].get(name) != value]:
        raise StateError(f"the {kind} was made with another {' and another '.join(others)}")
    return view[start:]
