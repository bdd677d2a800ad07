"""A request: one dialogue, what stands before it and on which terms it is held."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_sir.memory.transcript import Message

__all__ = ["BatchRequest"]


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One dialogue with its terms.

    custom_id: names it among all requests of a job. messages: what stands before (roles system, user, assistant, tool).
    said: user texts, one after another, at least one; a reply is generated to each. terms: fields of `Options` that
    this request gives (max_tokens, temperature, seed, stop, budget, policy, recall, ...), not those left to defaults.
    """

    custom_id: str
    messages: tuple[Message, ...]
    said: tuple[str, ...]
    terms: Mapping[str, Any] = field(default_factory=dict)
