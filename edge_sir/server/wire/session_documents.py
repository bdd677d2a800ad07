"""The documents of /sessions: what is sent there, and what is answered."""

from typing import Annotated, Any, Literal

from pydantic import Field

from edge_sir.server.wire.values import Text, Wire

__all__ = [
    "SESSION_DOCUMENTS",
    "Deleted",
    "ForgottenNow",
    "FoundMessages",
    "FoundWords",
    "MaybeWhat",
    "MemoryDocument",
    "Pinned",
    "RecalledNow",
    "SessionDocument",
    "SessionList",
    "UndoneTurn",
    "Unpinned",
    "WhatBody",
]


class WhatBody(Wire):
    """What a command is about: a turn's number, or words that were said."""

    what: Annotated[int, Field(ge=0, lt=2**31)] | Annotated[Text, Field(min_length=1)]


class MaybeWhat(Wire):
    """As `WhatBody`; without it, all."""

    what: Annotated[int, Field(ge=0, lt=2**31)] | Annotated[Text, Field(min_length=1)] | None = None


class Deleted(Wire):
    """It is there no more."""

    deleted: Literal[True]


class SessionDocument(Wire):
    """A session. said: its messages, where one is asked for. created, used: unix seconds."""

    object: Literal["session"]
    name: Text
    title: Text
    created: float
    used: float
    turns: int
    messages: int
    bytes_on_disk: int
    state: Literal["on disk", "live", "at work"]
    said: list[dict[str, Any]] | None = None


class SessionList(Wire):
    """All sessions."""

    object: Literal["list"]
    data: list[SessionDocument]


class MemoryDocument(Wire):
    """What is resident, by turn."""

    turns: list[dict[str, Any]]
    turn_now: int
    n_resident: int
    budget: int
    n_pinned: int
    policy: Text


class _Words(Wire):
    turn: int
    role: Text
    said: Text
    resident: Text
    n_tokens: int
    n_evicted: int
    words: list[Text]
    state: Literal["whole", "partly", "none"]


class FoundWords(Wire):
    """What is left of words."""

    find: Text
    turns: list[_Words]


class _Message(Wire):
    session: Text
    turn: int
    role: Text
    text: Text
    said: float
    state: Text
    snippet: Text
    where: Text


class FoundMessages(Wire):
    """Messages that hold words."""

    search: Text
    found: list[_Message]


class _Passage(Wire):
    turn: int
    role: Text
    text: Text
    n_tokens: int
    n_pinned: int


class Pinned(Wire):
    """What is pinned now."""

    pinned: list[_Passage]
    n_evicted: int
    n_restored: int


class Unpinned(Wire):
    """What was pinned."""

    unpinned: list[_Passage]


class ForgottenNow(Wire):
    """What was forgotten, as far as it was resident."""

    forgotten: list[_Passage]
    n_evicted: int


class _Recalled(Wire):
    turn: int
    tokens: int
    text: Text


class RecalledNow(Wire):
    """What came back."""

    recalled: list[_Recalled]


class UndoneTurn(Wire):
    """What was taken back."""

    turn: int
    messages: list[dict[str, Any]]
    n_tokens: int


SESSION_DOCUMENTS: list[type[Wire]] = [
    Deleted,
    ForgottenNow,
    FoundMessages,
    FoundWords,
    MemoryDocument,
    Pinned,
    RecalledNow,
    SessionDocument,
    SessionList,
    UndoneTurn,
    Unpinned,
]
"""All that is answered."""
