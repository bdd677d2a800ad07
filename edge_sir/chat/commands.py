"""What a person may ask of a chat, as functions of the chat and plain arguments that return values to show.

A terminal, a page and a server call the same ones; each shows the values in its own way. All raise UserError for what
the person can mend, with nothing changed then. `what` is a turn's number, or words that were said.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sir.chat.chat import Chat, RegeneratedStream, Undone
from edge_sir.chat.stats import ChatStats
from edge_sir.errors import ConfigError
from edge_sir.memory.evictions import Forgotten, Loss, Restored
from edge_sir.memory.passages import Match, Passage
from edge_sir.memory.transcript import Message, read_transcript
from edge_sir.memory.view import Memory, TurnMemory
from edge_sir.policies import names
from edge_sir.text.reply import Recalled

__all__ = [
    "Affected",
    "BudgetNow",
    "Found",
    "Loaded",
    "PolicyNow",
    "Saved",
    "Stats",
    "SystemNow",
    "Why",
    "budget",
    "clear",
    "find",
    "forget",
    "load",
    "losses",
    "memory",
    "pin",
    "policy",
    "recall",
    "regenerate",
    "save",
    "stats",
    "system",
    "undo",
    "unpin",
    "why",
]

# ---- memory --------------------------------------------------------------------------------------


def memory(chat: Chat) -> Memory:
    """What is resident, what left the cache and why, by turn."""
    return chat.memory()


@dataclass(frozen=True, slots=True)
class Found:
    """What is left of words that were said.

    matches: every sentence that held them. lost: for each of them, how its turn last lost something to make room; None
    where it lost nothing. forgotten: what was forgotten on request, in which they may have been.
    """

    text: str
    matches: tuple[Match, ...]
    lost: tuple[Loss | None, ...]
    forgotten: tuple[Forgotten, ...]


def find(chat: Chat, text: str) -> Found:
    """Whether words are still resident, all or which of them, and where."""
    matches, newest = chat.matches(text), dict[int, Loss]()
    for loss in (loss for losses in chat.evictions.losses().values() for loss in losses):
        if loss.n_content and loss.why != "forgotten":  # what was forgotten is not found any more
            newest[loss.turn] = loss
    lost = tuple(newest.get(match.passage.turn) for match in matches)
    return Found(text, matches, lost, chat.evictions.forgotten())


@dataclass(frozen=True, slots=True)
class Why:
    """A turn with all that it lost. policy and ranks_by: what makes room now, and by which values, in words."""

    turn: TurnMemory
    policy: str
    ranks_by: str


def why(chat: Chat, turn: int) -> Why:
    """The numbers behind what a turn lost. Raises ConfigError if there is no such turn."""
    view = chat.memory()
    found = view.turn(turn)
    if found is None:
        raise ConfigError(f"there is no turn {turn}; this conversation has turns 0 to {view.turn_now}")
    return Why(found, view.policy, view.ranks_by)


def losses(chat: Chat) -> tuple[TurnMemory, ...]:
    """The turns that lost something, for whatever reason."""
    return tuple(turn for turn in chat.memory() if turn.losses)


@dataclass(frozen=True, slots=True)
class Affected:
    """What was pinned, unpinned or forgotten.

    n_evicted: tokens of the same that had made room before, and are not back. n_restored: of what was said, those that
    had made room and were put back for it.
    """

    passages: tuple[Passage, ...]
    n_evicted: int
    n_restored: int = 0

    @property
    def n_resident(self) -> int:
        """Tokens that were resident."""
        return sum(p.n_resident for p in self.passages)

    @property
    def n_pinned(self) -> int:
        """Those of them that are pinned, or were before they were forgotten."""
        return sum(p.n_pinned for p in self.passages)


def pin(chat: Chat, what: int | str) -> Affected:
    """Pins it, what was evicted of it too where that can come back.

    Raises ConfigError if nothing of it is resident then, BudgetError if that would leave no room.
    """
    n_before = chat.n_evicted(what)
    passages = chat.pin(what)
    n_evicted = chat.n_evicted(what)
    return Affected(passages, n_evicted, max(0, n_before - n_evicted))


def recall(chat: Chat, what: int | str) -> tuple[Recalled, ...]:
    """Puts back what was evicted of a turn, or what matches a text. Raises ConfigError, or BudgetError."""
    return chat.recall(what)


def unpin(chat: Chat, what: int | str | None = None) -> Affected:
    """Takes pins off; None: all but those of system prompts."""
    return Affected(chat.unpin(what), 0)


def forget(chat: Chat, what: int | str) -> Affected:
    """Removes it for good. Raises ConfigError if nobody said it."""
    n_evicted = chat.n_evicted(what)
    return Affected(chat.forget(what), n_evicted)


# ---- turns ---------------------------------------------------------------------------------------


def undo(chat: Chat) -> Undone:
    """Takes the last turn back."""
    return chat.undo()


def regenerate(chat: Chat) -> RegeneratedStream:
    """Takes the last reply back and streams another; the stream's `undone` says what that cost."""
    return chat.regenerate()


def clear(chat: Chat) -> int:
    """Begins a new conversation; returns how many turns the old one had."""
    n = chat.session.turn
    chat.clear()
    return n


@dataclass(frozen=True, slots=True)
class Saved:
    """Where the transcript was written. left_out_pins: something is pinned, which a transcript does not hold."""

    path: Path
    n_messages: int
    left_out_pins: bool


def save(chat: Chat, path: str | Path) -> Saved:
    """Writes the transcript to a new file. Raises ConfigError if the file exists or cannot be written."""
    written = chat.transcript.save(path)
    return Saved(written, len(chat.transcript), chat.has_pins)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read. pins_cleared: the conversation before this one had pins, which are not saved."""

    n_turns: int
    resident: int
    budget: int
    pins_cleared: bool


def load(chat: Chat, path: str | Path, watched: Callable[[Sequence[Message]], Iterable[Message]] = iter) -> Loaded:
    """Reads a transcript into an empty conversation.

    watched: given the messages, gives them out one by one; each is read by the model, which takes a while.
    """
    n_turns = chat.load(watched(read_transcript(path)))
    return Loaded(n_turns, len(chat.session.ledger), chat.session.budget.n_cells, chat.pins_cleared)


# ---- terms and figures ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BudgetNow:
    """Cells: the budget, those occupied, those allocated; and tokens that were evicted for it just now, or put back."""

    budget: int
    resident: int
    allocated: int
    evicted: int
    restored: int = 0


def budget(chat: Chat, n_cells: int | None = None) -> BudgetNow:
    """Changes the budget, if one is given. Raises BudgetError."""
    at = len(chat.evictions)
    evicted = 0 if n_cells is None else chat.set_budget(n_cells)
    session = chat.session
    n_restored = sum(len(entry.born) for entry in chat.evictions.since(at) if isinstance(entry, Restored))
    return BudgetNow(session.budget.n_cells, len(session.ledger), chat.engine.spec.n_ctx, evicted, n_restored)


@dataclass(frozen=True, slots=True)
class PolicyNow:
    """The policy's specification, the names of all, and resident tokens that lack a score that it needs."""

    policy: str
    names: tuple[str, ...]
    n_unknown: int


def policy(chat: Chat, spec: str | None = None) -> PolicyNow:
    """Changes the policy, if one is given. Raises ConfigError for an unknown one, BudgetError."""
    n_unknown = 0 if spec is None else chat.set_policy(spec)
    return PolicyNow(chat.session.policy.spec, tuple(names()), n_unknown)


@dataclass(frozen=True, slots=True)
class SystemNow:
    """The system prompt, None if there is none of the person's own, and where it stands.

    template: what the model's template says before anybody does, where there is none; with its template tokens' words.
    """

    text: str | None
    turn: int
    template: str


def system(chat: Chat, text: str | None = None) -> SystemNow:
    """Changes the system prompt, if one is given; an empty one removes it. Raises BudgetError."""
    if text is not None:
        chat.set_system(text)
    first = "" if chat.system else next((turn.text for turn in chat.memory() if turn.turn == 0), "")
    return SystemNow(chat.system, chat.system_turn, first)


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of the present conversation, and of all since the chat was opened."""

    conversation: ChatStats
    run: ChatStats


def stats(chat: Chat) -> Stats:
    """The figures so far."""
    return Stats(chat.stats(), chat.run_stats())
