"""What a conversation remembers: look at it, find, pin and forget by turn or by text."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.ledger import FRAME, ROLES, UNSPOKEN, TokenLedger
from edge_sir.engine import TextCodec
from edge_sir.errors import ConfigError, EdgeSirError
from edge_sir.memory.evictions import EvictionLog, Forgotten, Loss
from edge_sir.memory.passages import Match, Passage, PassageTokens, Said, match_of
from edge_sir.memory.transcript import Transcript
from edge_sir.memory.view import Memory, memory_of, never_said
from edge_sir.session import SavedPassage, Session
from edge_sir.text.boundaries import contains, sentences

__all__ = ["Keeper", "Listener", "MemoryControl", "TakenBack"]

Rows = NDArray[np.intp]
Ints = NDArray[np.int64]


class Keeper(Protocol):
    """What keeps evicted words, too, and must lose what the conversation loses."""

    def truncate(self, turn: int) -> None:
        """Turns from `turn` on were never said."""

    def drop_after(self, message: int) -> None:
        """What was said after the message of that number was never said."""

    def forget(self, born: NDArray[np.int64]) -> None:
        """The tokens with these born numbers are forgotten on request, resident or not."""

    def clear(self) -> None:
        """A new conversation."""

    def holds(self, born: Ints) -> NDArray[np.bool_]:
        """Of which of the tokens with these born numbers it keeps the cells, bool [n]."""

    def passages(self, born: Ints) -> list[SavedPassage]:
        """Those of them whose cells it keeps, to be put back."""


class Listener(Protocol):
    """What hears of that which no later look at the memory shows."""

    def forgot(self, what: int | str) -> None:
        """This was forgotten on request, as in `MemoryControl.forget`."""

    def cleared(self) -> None:
        """A new conversation began."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What it came to that turns were taken back.

    n_tokens: resident ones removed. restored: of what older turns had given up meanwhile, how many tokens of what was
    said are back, by turn. lost: what is not back.
    """

    n_tokens: int = 0
    restored: Mapping[int, int] = field(default_factory=dict)
    lost: tuple[Loss, ...] = ()


class MemoryControl:
    """The session's memory, the transcript of what was said, and the log of what was evicted.

    `what` is a turn's number, or words that were said: then what is left of the sentences is meant that held them,
    in any case. prompt: gives the turn of the system prompt in force, None if there is none.
    archive: what else keeps evicted words, if anything does.
    """

    def __init__(self, session: Session, codec: TextCodec, prompt: Callable[[], int | None] = lambda: 0) -> None:
        self.transcript = Transcript()
        self._session = session
        self._codec = codec
        self._prompt = prompt
        self.evictions = EvictionLog()
        self.archive: Keeper | None = None
        self.listener: Listener | None = None

    @property
    def _said(self) -> Said:
        return Said(self._session.ledger, self.evictions, self._codec)

    def view(self) -> Memory:
        """What is resident, what left the cache and why, by turn."""
        holds = None if self.archive is None else self.archive.holds
        return memory_of(self._session, self._codec, self.transcript, self.evictions, holds)

    @property
    def has_pins(self) -> bool:
        """Whether somebody pinned something that is resident; system prompts always are."""
        ledger = self._session.ledger
        return bool(np.any(ledger["pinned"] & (ledger["turn"] > 0) & ~self._system()))

    # ---- what comes back -----------------------------------------------------------------------

    def take_back(self, turn: int, since: int) -> TakenBack:
        """Turns from `turn` on were never said; what older ones gave up meanwhile is put back.

        As far as the archive has its cells and they fit, what was evicted last first. since: the number of the log's
        entry that came first in `turn`. A policy that never evicts wants the room for what is said next.
        """
        session, log = self._session, self.evictions
        session.end_recall()
        n_left = session.budget.n_cells - int((session.ledger["turn"] < turn).sum())
        away = log.away(since)
        older = {name: column[away["turn"] < turn] for name, column in away.items()}
        back = self._kept(older, n_left)
        with shield():
            n_tokens = session.truncate(turn, [] if self.archive is None else self.archive.passages(back["born"]))
            restored = self._note_restored(back, "undo")
            lost = tuple(loss for loss in log.lost_since(since) if loss.turn < turn)
            self.transcript.truncate(turn)
            log.rewind(turn)
            if self.archive is not None:
                self.archive.truncate(turn)
        return TakenBack(n_tokens, restored, lost)

    def take_back_after(self, message: int) -> int:
        """Of the running turn, what was said after the message of that number was never said.

        Returns how many resident tokens are removed. What made room for them stays away: the next reply needs as much.
        """
        session = self._session
        with shield():
            n_tokens = session.rewind_to(message)
            self.transcript.drop_after(message)
            self.evictions.rewind(session.turn + 1, message)
            if self.archive is not None:
                self.archive.drop_after(message)
        return n_tokens

    def fill(self) -> dict[int, int]:
        """Puts back what was evicted last, up to the low-water mark; returns tokens of what was said, by turn.

        As far as the archive has its cells. What is evicted first is what the policy valued least, or the oldest; so
        what comes back is what would be there still, had the budget been as large before. The room above the mark is
        for what is said next, and so is all of it where the policy never evicts.
        """
        session = self._session
        n_left = session.budget.low_water - len(session.ledger)
        return self.bring_back(self._kept(self.evictions.away(), n_left), "budget")

    def bring_back(self, away: dict[str, Ints], why: str) -> dict[int, int]:
        """Puts these back, for which the policy makes room; returns tokens of what was said, by turn.

        away: columns of `KEPT` of tokens that the archive has cells of. why: as in `Journal.restoring`. Raises
        BudgetError, with nothing changed, if what is fixed leaves no room for them.
        """
        if self.archive is None or not len(away["born"]):
            return {}
        back = self.archive.passages(away["born"])  # what makes room for them may push their cells out
        back = [(saved, rows) for saved, rows in back if self._session.can_put_back(saved, rows)]
        if not back:
            return {}
        with shield():
            self._session.make_room(sum(np.size(rows) for _, rows in back))
            self._session.put_back(back, why)
            return self._note_restored(away, why)

    def recall(self, born: Ints) -> dict[int, int]:
        """As `bring_back`, of what was evicted, by hand: those with these born numbers."""
        away = self.evictions.away()
        chosen = np.isin(away["born"], born)
        wanted = {name: column[chosen] for name, column in away.items()}
        return self.bring_back(self._kept(wanted, len(born)), "recall")

    def is_lost(self, turn: int) -> bool:
        """Whether something of what was said in a turn was evicted and cannot be put back."""
        away = self.evictions.away()
        said = away["born"][(away["turn"] == turn) & ~np.isin(away["role"], UNSPOKEN)]
        return self.archive is None or not self.archive.holds(said).all()

    def _kept(self, away: dict[str, Ints], n_most: int) -> dict[str, Ints]:
        """Of these the first `n_most` whose cells the archive has; none where the policy never evicts."""
        if self.archive is None or not self._session.policy.evicts:
            return {name: column[:0] for name, column in away.items()}
        index = np.flatnonzero(self.archive.holds(away["born"]))[: max(0, n_most)]
        return {name: column[index] for name, column in away.items()}

    def _note_restored(self, away: dict[str, Ints], why: str) -> dict[int, int]:
        """Which of these are resident again goes into the log; returns tokens of what was said, by turn."""
        back = np.isin(away["born"], self._session.ledger["born"])
        self.evictions.restore(away["born"][back], why)
        said = Counter(away["turn"][back & ~np.isin(away["role"], UNSPOKEN)].tolist())
        return dict(sorted(said.items()))

    def clear(self) -> None:
        """A new conversation."""
        self.transcript.truncate(0)
        self.evictions.clear()
        if self.archive is not None:
            self.archive.clear()
        if self.listener is not None:
            self.listener.cleared()

    def where(self, messages: Iterable[int]) -> dict[int, str]:
        """Where the words of these messages are, by id: "resident", "partly resident", "archived" or "text only".

        archived: all that was evicted can be put back with its cells. text only: some of it would be read again.
        """
        ledger, away = self._session.ledger, self.evictions.away()
        is_said, is_said_away = (~np.isin(columns["role"], UNSPOKEN) for columns in (ledger, away))
        found = {}
        for message in messages:
            is_here = bool(np.any(is_said & (ledger["message"] == message)))
            born = away["born"][is_said_away & (away["message"] == message)]
            if is_here:
                found[message] = "partly resident" if len(born) else "resident"
            else:
                is_kept = len(born) and self.archive is not None and bool(self.archive.holds(born).all())
                found[message] = "archived" if is_kept else "text only"
        return found

    def pin(self, what: int | str) -> tuple[Passage, ...]:
        """Pins it and returns what of it is resident; what was evicted is put back first.

        That is what the archive has the cells of; the policy makes room for it, never of what is to be pinned. Raises
        ConfigError if nothing can be pinned, BudgetError if it does not fit, with nothing changed.
        """
        session, name = self._session, f"pinning {_named(what)}"
        away = self._kept(self._away(what), session.budget.n_cells)
        n_back = len(away["born"])
        says = np.any(away["role"] != FRAME)
        rows = self._rows_of(what) if says else self._found(what)
        fixed = session.room.fixed()[rows]
        if n_back:
            session.room.check_pins(int((~fixed).sum()) + n_back, name, "unpin something else")
        with shield():
            before = session.ledger["born"][rows[~session.ledger["pinned"][rows]]]
            session.pin_rows(rows, True, name)
            try:
                self.bring_back(away, "pin")
            except EdgeSirError:
                session.pin_rows(np.flatnonzero(np.isin(session.ledger["born"], before)), False, "")
                raise
            if n_back:
                rows = self._found(what)
                session.pin_rows(rows, True, name)
        return self._passages(rows)

    def unpin(self, what: int | str | None = None) -> tuple[Passage, ...]:
        """Takes its pins off (None: all but those of system prompts), and returns what was pinned."""
        ledger = self._session.ledger
        rows = self._found(what) if what is not None else np.flatnonzero(ledger["turn"] > 0)
        rows = rows[ledger["pinned"][rows] & ~self._system()[rows]]
        if what is not None and not len(rows):
            raise ConfigError(f"nothing of {_named(what)} is pinned that can be unpinned")
        found = self._passages(rows)
        self._session.pin_rows(rows, False, "")
        return found

    def _passages(self, rows: Rows) -> tuple[Passage, ...]:
        """What is resident in these rows, message by message; a sentence of which words made room has those, too."""
        said, pinned = self._said, self._session.ledger["pinned"]
        return tuple(part.passage(pinned) for part in said.holding(rows))

    def forget(self, what: int | str) -> tuple[Passage, ...]:
        """Removes it from cells, ledger and transcript, pinned or not, and returns what was removed.

        System prompts in force and the template tokens among the sinks stay. What later tokens took in from it when
        they were decoded stays in those. Raises ConfigError if it was never said.
        """
        session, ledger = self._session, self._session.ledger
        if isinstance(what, int) and self._is_prompt(what):
            raise ConfigError(f"turn {what} is the system prompt; give another one instead")
        parts: list[PassageTokens] = []
        if isinstance(what, str):
            found = self._said.saying(what)
            parts = [part for part in found if part.role != "system" and part.turn > 0]
            rows = _with_template(ledger, _rows(parts), emptied_only=True)
        else:
            rows = np.flatnonzero(ledger["turn"] == what)
        # Without its first template tokens a model fails; words among the sinks go all the same.
        rows = rows[(rows >= session.policy.n_sink) | (ledger["role"][rows] != FRAME)]
        rows = rows[(ledger["turn"][rows] > 0) & ~self._system()[rows]]
        removed = self._passages(rows)
        texts = self._texts_without(what, parts)
        born = np.concatenate([ledger["born"][rows], *(part.born for part in parts)])
        if isinstance(what, int):
            born = np.concatenate([born, self.evictions.born_of(what)])
        with shield():
            session.forget(rows)
            if ledger.journal is not None:
                ledger.journal.forgotten(np.unique(born))
            if self.archive is not None:
                self.archive.forget(np.unique(born))
            n_unsaid = self._unsay(what, texts)
            if n_unsaid or len(rows):
                turns = Counter(part.turn for part in parts)
                counts = [(what, None)] if isinstance(what, int) else sorted(turns.items())
                self.evictions.forget(born, [Forgotten(turn, session.turn, n) for turn, n in counts])
                if self.listener is not None:
                    self.listener.forgot(what)
        if not n_unsaid and not len(rows):
            raise ConfigError(self._never_said(what))
        return removed

    def _system(self) -> NDArray[np.bool_]:
        """Which ledger rows are of a system prompt in force, its template tokens included; bool [n]."""
        ledger = self._session.ledger
        prompts = np.unique(ledger["message"][ledger["role"] == ROLES.index("system")])
        return np.isin(ledger["message"], prompts)

    def _prompts(self) -> set[int]:
        """The turns of system prompts in force."""
        turns = set(self._session.ledger["turn"][self._system()].tolist()) - {0}
        in_force = self._prompt()
        return turns if in_force is None else turns | {in_force}

    def _is_prompt(self, turn: int) -> bool:
        """Whether a turn holds a system prompt in force and nothing else."""
        return turn in self._prompts() | {0} and all(m.role == "system" for m in self.transcript.of(turn))

    def _unsay(self, what: int | str, texts: Mapping[int, str]) -> int:
        """Takes it out of the transcript; returns how many messages lost something."""
        if isinstance(what, int):
            return self.transcript.forget_turn(what, self._prompts())
        self.transcript.reword(texts)
        return len(texts)

    def _texts_without(self, what: int | str, parts: Sequence[PassageTokens]) -> dict[int, str]:
        """What messages say without these parts of them, and without any sentence that holds `what`, by id.

        The cells lose the same sentences, so the text is that of the tokens that stay. A message whose tokens spell
        another text (a system prompt that was replaced has none) is split by the same rule.
        """
        if isinstance(what, int):
            return {}
        texts, prompts = {}, self._prompts()
        spelled = self._said.without(parts)
        for message in self.transcript:
            whole, rest = spelled.get(message.id, ("", ""))
            if whole.strip() == message.text.strip() != "":
                texts[message.id] = rest.strip()
            elif contains(message.text, what) or whole:
                if message.role == "system" and message.turn in prompts:
                    continue
                forgotten = [part.text for part in parts if part.message == message.id]
                said = sentences(self._codec, message.text)
                kept = [s for s in said if not contains(s, what) and not any(s.strip() in text for text in forgotten)]
                # Words that span two sentences are in neither: then the whole message goes.
                texts[message.id] = "".join(kept).strip() if len(kept) < len(said) else ""
        return texts

    def find(self, what: int | str) -> tuple[Passage, ...]:
        """What is resident of it; nothing is changed. Raises ConfigError if nothing is."""
        rows = self._found(what)
        return self._passages(rows)

    def matches(self, text: str) -> tuple[Match, ...]:
        """How much of `text` is resident, for every sentence that held it."""
        pinned = self._session.ledger["pinned"]
        return tuple(match_of(part, text, pinned) for part in self._said.saying(text))

    def n_evicted(self, what: int | str) -> int:
        """How many tokens of it made room; what was forgotten on request is not missed."""
        if isinstance(what, int):
            return int((self.evictions.words()["turn"] == what).sum())
        return sum(part.n_evicted for part in self._said.saying(what))

    def system_rows(self, turn: int) -> Rows:
        """The rows of the system prompt that was given in `turn`; its first tokens, if they are sinks, stay.

        Its template tokens are among them, but for those of turn 0: all others stand on these.
        """
        ledger = self._session.ledger
        rows = np.flatnonzero((ledger["role"] == ROLES.index("system")) & (ledger["turn"] == turn))
        if turn > 0:
            rows = _with_template(ledger, rows, emptied_only=True)
        return rows[rows >= self._session.policy.n_sink]

    def _found(self, what: int | str) -> Rows:
        """The resident rows, template tokens included. Raises ConfigError that says since when there are none."""
        rows = self._rows_of(what)
        if np.any(self._session.ledger["role"][rows] != FRAME):
            return rows
        turns = [what] if isinstance(what, int) else [m.turn for m in self.transcript if contains(m.text, what)]
        lost = self.evictions.losses()
        losses = [loss for turn in turns for loss in lost.get(turn, ()) if loss.n_content]
        if not losses:
            raise ConfigError(self._never_said(what))
        last = losses[-1]
        since = f"turn {last.turn} was dropped in {last.when}"
        raise ConfigError(f"{_named(what)} is not in memory any more ({since}); say it again first")

    def _rows_of(self, what: int | str) -> Rows:
        """The resident rows, template tokens included."""
        ledger = self._session.ledger
        if isinstance(what, str):
            return _with_template(ledger, _rows(self._said.saying(what)), emptied_only=False)
        return np.flatnonzero(ledger["turn"] == what)

    def _away(self, what: int | str) -> dict[str, Ints]:
        """What of it made room and is not back, template tokens included; as `EvictionLog.away`."""
        away = self.evictions.away()
        if isinstance(what, int):
            wanted = away["turn"] == what
        else:
            parts = self._said.saying(what)
            wanted = np.isin(away["born"], np.concatenate([np.empty(0, np.int64), *(part.born for part in parts)]))
            wanted |= (away["role"] == FRAME) & np.isin(away["message"], [part.message for part in parts])
        return {name: column[wanted] for name, column in away.items()}

    def _never_said(self, what: int | str) -> str:
        if isinstance(what, int):
            return f"there is no turn {what}; this conversation has turns 0 to {self._session.turn}"
        if what.isdecimal():
            return f"there is no turn {what}, and {never_said(what, self.evictions.forgotten())}"
        return never_said(what, self.evictions.forgotten())


def _named(what: int | str) -> str:
    return f"turn {what}" if isinstance(what, int) else f"“{what}”"


def _rows(sentences: Sequence[PassageTokens]) -> Rows:
    """What is resident of them, sorted."""
    return np.unique(np.concatenate([np.empty(0, np.intp), *(part.rows for part in sentences)]))


def _with_template(ledger: TokenLedger, rows: Rows, *, emptied_only: bool) -> Rows:
    """`rows` and the template tokens of their messages; emptied_only: of messages of which no other word is left."""
    template = np.flatnonzero(ledger["role"] == FRAME)
    messages = np.unique(ledger["message"][rows])
    if emptied_only:
        rest = np.setdiff1d(np.flatnonzero(ledger["role"] != FRAME), rows)
        messages = np.setdiff1d(messages, ledger["message"][rest])
    return np.union1d(rows, template[np.isin(ledger["message"][template], messages)])
