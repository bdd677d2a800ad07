"""The one record of what left the cache: which tokens of which messages, when, why, and what they were valued at.

Entries are only added. An undo adds one, too, and so do a request to forget and what is put back: a reader works out
from the later ones what an earlier one still means, since turn numbers are used again after an undo. Rows carry the
numbers of their messages, which are not. The words themselves are kept as tokens until their turn is taken back or
they are forgotten.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.core.ledger import ROLES, UNSPOKEN
from edge_sir.core.policy import Policy
from edge_sir.core.records import Eviction
from edge_sir.errors import SessionError

__all__ = ["Entry", "Evicted", "EvictionLog", "Forgotten", "Loss", "Restored", "Rewound", "mean"]

Ints = NDArray[np.int64]

KEPT = ("born", "message", "turn", "sentence", "role", "token")
"""The ledger columns of an entry, int64 [n] each; token is -1 where it is not kept."""

_UNKNOWN = -1
_NEVER = 1 << 62
_THOUGHT = ROLES.index("thought")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a turn lost in one eviction, and what that was decided by.

    turn_now: when. why: "room", "thought" or "forgotten". n_content: of n_tokens, those that were said (no template
    tokens, no thoughts). n_thought: the thoughts; a long one makes room before its turn ends. value: what the policy
    ranked these tokens by (mean), cut: the least value that stayed; None where nothing was ranked. ranks_by: what
    values are, in words. thinned: a policy of whole units took only a part of one. surprisal: mean of n_content in
    nats, not decayed. at: tokens ever decoded before it. lowered: nothing came in, the budget was lowered. undone: turn
    `turn_now` was taken back, and its number may be another's now. What was put back since is not counted in n_tokens,
    n_content and n_thought; value, cut and surprisal stay those of the whole.
    """

    turn: int
    turn_now: int
    why: str
    n_tokens: int
    n_content: int
    n_thought: int
    policy: str
    decay: float
    ranks_by: str
    value: float | None
    cut: float | None
    thinned: bool
    surprisal: float | None
    at: int
    lowered: bool = False
    undone: bool = False

    @property
    def when(self) -> str:
        """In which turn, in words."""
        return _when(self.turn_now, self.undone)

    @property
    def n_template(self) -> int:
        """Template tokens among them."""
        return self.n_tokens - self.n_content - self.n_thought


@dataclass(frozen=True, slots=True, eq=False)
class Evicted:
    """Rows left the cache.

    why: "room", "thought" or "forgotten". turn_now: when. losses: what that was, by turn. columns: those of `KEPT`, a
    row for each token.
    """

    why: str
    turn_now: int
    losses: tuple[Loss, ...]
    columns: Mapping[str, Ints]


@dataclass(frozen=True, slots=True)
class Rewound:
    """Turns from `turn` on were taken back, and unless it is 0, all that was said after the message of that number."""

    turn: int
    message: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """That something was forgotten on request: its turn and when; never what.

    n_sentences: None for the whole turn. undone: as in `Loss`.
    """

    turn: int
    turn_now: int
    n_sentences: int | None
    undone: bool = False

    def __str__(self) -> str:
        n = self.n_sentences
        what = "" if n is None else f"{n} sentence{'s' * (n != 1)} of "
        return f"{what}turn {self.turn} in {_when(self.turn_now, self.undone)}"


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """The rows with these born numbers, int64 [n], are resident again, for good. why: as in `Journal.restoring`."""

    why: str
    born: Ints


Entry = Evicted | Rewound | Forgotten | Restored


class EvictionLog:
    """The entries of the present conversation, in order. It grows with the conversation, as the transcript does."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._n_cleared = 0
        self._n_evicted = 0
        self._lowering = False

    def __len__(self) -> int:
        """How many entries there ever were, those of conversations that were cleared included."""
        return self._n_cleared + len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    # ---- writing -------------------------------------------------------------------------------

    @contextmanager
    def lowering(self) -> Iterator[None]:
        """What makes room in here does so for a lower budget."""
        self._lowering = True
        try:
            yield
        finally:
            self._lowering = False

    def note(self, event: Eviction, policy: Policy) -> None:
        """Takes an eviction in, which `policy` decided on.

        Of what makes room, the words are kept: whoever asks for the sentence that they were in means them, too.
        """
        columns = {name: event.columns[name].astype(np.int64) for name in KEPT}
        if event.why != "room":
            columns["token"] = np.full(len(event), _UNKNOWN)
        columns["token"] = np.where(np.isin(columns["role"], UNSPOKEN), _UNKNOWN, columns["token"])
        turns = np.unique(columns["turn"]).tolist()
        rows = (np.flatnonzero(columns["turn"] == turn) for turn in turns)
        losses = tuple(_loss(event, part, policy, self._lowering) for part in rows)
        self._entries.append(Evicted(event.why, event.turn_now, losses, columns))
        self._n_evicted += _n_evicted(losses)

    def rewind(self, turn: int, message: int = 0) -> None:
        """Turns from `turn` on were never said; what was evicted of them is not kept.

        Nor is it of what was said after the message of that number, unless it is 0.
        """
        self._blank(lambda entry: _taken_back(entry, turn, message))
        self._entries.append(Rewound(turn, message))
        self._recount()

    def restore(self, born: Ints, why: str) -> None:
        """The rows with these born numbers were put back; why: as in `Journal.restoring`."""
        if len(born):
            self._entries.append(Restored(why, born))
            self._recount()

    def forget(self, born: Ints, forgotten: Iterable[Forgotten]) -> None:
        """On request: the tokens with these born numbers are not kept, and that this was so is noted; no words are."""
        self._blank(lambda entry: np.isin(entry.columns["born"], born))
        self._entries += forgotten

    def load(self, entries: Iterable[Entry]) -> None:
        """Takes these as if they had come one by one. Raises SessionError unless the log is empty."""
        if self._entries:
            raise SessionError("a log that has entries cannot be loaded")
        self._entries = list(entries)
        last = 0  # the number of the last message that was not taken back later, 0 for any
        for i, (entry, taken_back, _) in reversed(list(enumerate(self._dated()))):
            if isinstance(entry, Rewound) and entry.message:
                last = min(last or entry.message, entry.message)
            elif isinstance(entry, Evicted):
                self._entries[i] = _blanked(entry, _taken_back(entry, taken_back, last))
        self._recount()

    def clear(self) -> None:
        """A new conversation."""
        self._n_cleared, self._entries, self._n_evicted = len(self), [], 0

    def _recount(self) -> None:
        self._n_evicted = sum(_n_evicted(losses) for losses in self.losses().values())

    def _blank(self, which: Callable[[Evicted], NDArray[np.bool_]]) -> None:
        for i, entry in enumerate(self._entries):
            if isinstance(entry, Evicted):
                self._entries[i] = _blanked(entry, which(entry))

    # ---- reading -------------------------------------------------------------------------------

    @property
    def n_evicted(self) -> int:
        """Tokens of what was said that made room, template tokens and thoughts not counted."""
        return self._n_evicted

    def since(self, number: int) -> Sequence[Entry]:
        """The entries of the present conversation from the one of this number on: `len(log)` is the next one's."""
        return self._entries[max(0, number - self._n_cleared) :]

    def first_of(self, turn: int) -> int:
        """The number of the entry that came first in a turn, whose number may have been another's before it."""
        start = 0
        for i, entry in enumerate(self._entries):
            if isinstance(entry, Rewound) and entry.turn <= turn:
                start = i + 1
        for i, entry in enumerate(self._entries[start:], start):
            if isinstance(entry, Evicted | Forgotten) and entry.turn_now >= turn:
                return self._n_cleared + i
        return len(self)

    def losses(self, number: int = 0) -> dict[int, tuple[Loss, ...]]:
        """What each turn lost and has not back, in order, from the entry of this number on; not turns taken back."""
        found: dict[int, list[Loss]] = {}
        for entry, taken_back, back in self._dated(number):
            for loss in _losses(entry, back) if isinstance(entry, Evicted) else ():
                if loss.turn < taken_back:
                    known = replace(loss, undone=True) if loss.turn_now >= taken_back else loss
                    found.setdefault(loss.turn, []).append(known)
        return {turn: tuple(losses) for turn, losses in found.items()}

    def lost_since(self, number: int) -> tuple[Loss, ...]:
        """What made room from the entry of this number on, and is not back."""
        return tuple(loss for losses in self.losses(number).values() for loss in losses if loss.why == "room")

    def away(self, number: int = 0) -> dict[str, Ints]:
        """The columns of `KEPT` of all that made room from the entry of this number on, and is not back.

        Thoughts are not among them, nor turns that were taken back. What was evicted last comes first, of one eviction
        the newest.
        """
        parts = []
        for entry, taken_back, back in reversed(self._dated(number)):
            if isinstance(entry, Evicted) and entry.why == "room":
                columns = entry.columns
                away = ~np.isin(columns["born"], back) & (columns["turn"] < taken_back) & (columns["role"] != _THOUGHT)
                parts.append({name: columns[name][away][::-1] for name in KEPT})
        return {name: np.concatenate([np.empty(0, np.int64), *(part[name] for part in parts)]) for name in KEPT}

    def forgotten(self) -> tuple[Forgotten, ...]:
        """What was forgotten on request, in order; a whole turn takes in what of it was forgotten before."""
        found: list[Forgotten] = []
        for entry, taken_back, _ in self._dated():
            if isinstance(entry, Forgotten) and entry.turn < taken_back:
                whole = entry.n_sentences is None
                found = [f for f in found if not (whole and f.turn == entry.turn)]
                found.append(replace(entry, undone=True) if entry.turn_now >= taken_back else entry)
        return tuple(found)

    def born_of(self, turn: int) -> Ints:
        """The born numbers of all that left the cache of a turn, for whatever reason, int64 [n]."""
        dated = self._dated()
        left = (entry for entry, taken_back, _ in dated if isinstance(entry, Evicted) and turn < taken_back)
        parts = [entry.columns["born"][entry.columns["turn"] == turn] for entry in left]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def words(self) -> dict[str, Ints]:
        """The columns of `KEPT` of all words that were evicted, are not back and still known, in stream order."""
        evicted = [(entry.columns, back) for entry, _, back in self._dated() if isinstance(entry, Evicted)]
        known = [(c, (c["token"] != _UNKNOWN) & ~np.isin(c["born"], back)) for c, back in evicted]
        out = {name: np.concatenate([np.empty(0, np.int64), *(c[name][k] for c, k in known)]) for name in KEPT}
        order = np.argsort(out["born"])
        return {name: column[order] for name, column in out.items()}

    def _dated(self, number: int = 0) -> list[tuple[Entry, int, Ints]]:
        """Every entry from this number on, from which turn on it was taken back later, and what was put back later."""
        dated: list[tuple[Entry, int, Ints]] = []
        taken_back, back = _NEVER, np.empty(0, np.int64)
        for entry in reversed(self.since(number)):
            if isinstance(entry, Rewound):
                taken_back = min(taken_back, entry.turn)
            elif isinstance(entry, Restored):
                back = np.concatenate([back, entry.born])
            dated.append((entry, taken_back, back))
        return dated[::-1]


def _taken_back(entry: Evicted, turn: int, message: int) -> NDArray[np.bool_]:
    """Which rows are of turns from `turn` on, or of messages after that number, 0 for none; bool [n]."""
    later = entry.columns["message"] > message if message else np.zeros(len(entry.columns["turn"]), bool)
    rows: NDArray[np.bool_] = (entry.columns["turn"] >= turn) | later
    return rows


def _blanked(entry: Evicted, which: NDArray[np.bool_]) -> Evicted:
    token = np.where(which, _UNKNOWN, entry.columns["token"])
    return replace(entry, columns={**entry.columns, "token": token})


def _losses(entry: Evicted, back: Ints) -> Iterator[Loss]:
    """Its losses, less the rows with the born numbers `back`."""
    columns, away = entry.columns, ~np.isin(entry.columns["born"], back)
    if away.all():
        yield from entry.losses
        return
    for loss in entry.losses:
        role = columns["role"][away & (columns["turn"] == loss.turn)]
        if len(role):
            n_content, n_thought = int((~np.isin(role, UNSPOKEN)).sum()), int((role == _THOUGHT).sum())
            yield replace(loss, n_tokens=len(role), n_content=n_content, n_thought=n_thought)


def _loss(event: Eviction, rows: NDArray[np.intp], policy: Policy, lowered: bool) -> Loss:
    """What ledger `rows` of one turn in an eviction come to."""
    role, surprisal = event.columns["role"][rows], event.columns["surprisal"][rows]
    content = ~np.isin(role, UNSPOKEN)
    values = None if event.values is None else event.values[rows]
    return Loss(
        turn=int(event.columns["turn"][rows[0]]),
        turn_now=event.turn_now,
        why=event.why,
        n_tokens=len(rows),
        n_content=int(content.sum()),
        n_thought=int((role == _THOUGHT).sum()),
        policy=policy.spec,
        decay=policy.decay,
        ranks_by=policy.ranks_by,
        value=None if values is None else mean(values),
        cut=event.cut if event.cut is not None and np.isfinite(event.cut) else None,
        # What stayed of a unit that was thinned has the same value, and it is the least that stayed.
        thinned=policy.whole_units and values is not None and bool(np.any(values == event.cut)),
        surprisal=mean(surprisal[content]),
        at=event.n_born,
        lowered=lowered,
    )


def _n_evicted(losses: Iterable[Loss]) -> int:
    return sum(loss.n_content for loss in losses if loss.why == "room")


def _when(turn: int, undone: bool) -> str:
    return "a turn that was taken back" if undone else f"turn {turn}"


def mean(values: NDArray[np.floating[Any]]) -> float | None:
    """The mean of those that are known, to six significant digits, not decimals: some policies' values are small."""
    known = values[np.isfinite(values)]
    return float(f"{known.mean():.6g}") if len(known) else None
