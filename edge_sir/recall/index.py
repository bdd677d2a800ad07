"""Which turns match a message: a full-text index of what was said, in memory (SQLite FTS5, BM25).

What the user stated outweighs what the model said, and a question holds no fact: an exchange that only repeats the
question ranks behind every statement, or the model would be shown its own "I don't know". A turn's neighbours add a
share of their own score. Of statements that match alike the newest comes first, since it may correct the others.
"""

import math
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_sir.memory.transcript import Message
from edge_sir.recall.terms import is_prefix, terms

__all__ = ["Match", "Terms", "TurnIndex"]

_TOKENIZER = "porter unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
_COLUMNS = ("statement", "question", "reply")
_WEIGHTS = (1.0, 0.1, 0.4)
_CANDIDATES = 64
_MOST_TERMS = 64  # of a long message those that fewest turns hold
_CLAUSE = re.compile(r"[^,;:.!?，。！？\n]*[,;:.!?，。！？\n]*")  # "She is called Ida, did you know?" states something
_ASKS = re.compile(
    r"\W*(?:what|which|when|where|who|whom|whose|why|how|is|are|was|were|do|does|did|can|could|will|would|should|may"
    r"|was|welche\w*|wann|wo|wohin|woher|wer|wem|wen|wessen|warum|wie|ist|sind|hat|habe|kannst|weißt)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """How much must match, and what counts how much.

    coverage: least share of the message's terms, weighted by how rare they are, that a turn must hold to be a match,
    0 to 1. unknown: what a term that no turn holds counts for in that. neighbours: share of the score of the turn
    before and the one after. duplicates: share of terms in common from which on two turns say the same.
    """

    coverage: float = 0.2
    unknown: float = 0.5
    neighbours: float = 0.3
    duplicates: float = 0.8


@dataclass(frozen=True, slots=True)
class Match:
    """A turn that matches. coverage: share of the message's terms that it holds, as in `Terms`; held: their stems."""

    turn: int
    score: float
    coverage: float
    held: frozenset[str]


@dataclass(slots=True)
class _Candidate:
    """words: of the whole turn. held: the stems of the message that it states or answers with."""

    turn: int
    score: float
    words: frozenset[str]
    held: frozenset[str] = frozenset()
    coverage: float = 0.0


class TurnIndex:
    """The turns of one conversation. `sync` brings it up to date with the transcript; `search` asks it.

    n_bytes: memory that the database took after the last `sync`; 0 while it holds nothing.
    """

    def __init__(self, settings: Terms | None = None) -> None:
        self._settings = settings or Terms()
        self._known: dict[int, tuple[Message, ...]] = {}
        self._synced: list[Message] = []
        self.n_bytes = 0
        self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        """An empty database."""
        db = sqlite3.connect(":memory:", check_same_thread=False)
        # `draft` holds some words for a moment, one in each row; `stem` tells what they were made into.
        db.executescript(
            f"""
            CREATE VIRTUAL TABLE turns USING fts5({", ".join(_COLUMNS)}, tokenize="{_TOKENIZER}");
            CREATE VIRTUAL TABLE turn_stem USING fts5vocab(turns, 'row');
            CREATE VIRTUAL TABLE draft USING fts5(word, tokenize="{_TOKENIZER}");
            CREATE VIRTUAL TABLE stem USING fts5vocab(draft, 'instance');
            """
        )
        return db

    def close(self) -> None:
        """Frees it; a second call does nothing."""
        self._db.close()

    def __len__(self) -> int:
        return len(self._known)

    def sync(self, messages: Iterable[Message]) -> None:
        """Holds these messages and no others, from now on. Where some were just added, it looks at those alone."""
        now = list(messages)
        if not now and self._known:  # SQLite gives no page back
            self._db.close()
            self._db = self._opened()
            self._known.clear()
        n_before = len(self._synced)
        is_longer = now[:n_before] == self._synced
        wanted: dict[int, list[Message]] = {}
        for message in now[n_before:] if is_longer else now:
            if message.role != "system":
                so_far = self._known.get(message.turn, ()) if is_longer else ()
                wanted.setdefault(message.turn, list(so_far)).append(message)
        if not is_longer:
            for turn in self._known.keys() - wanted.keys():
                self._put(turn, ())
        for turn, said in wanted.items():
            if tuple(said) != self._known.get(turn):
                self._put(turn, tuple(said))
        if now != self._synced:
            self.n_bytes = self._pages() if self._known else 0
        self._synced = now

    def _pages(self) -> int:
        """Bytes of the database's pages."""
        (n_pages,), (n_bytes,) = (self._db.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size"))
        return int(n_pages) * int(n_bytes)

    def _put(self, turn: int, said: tuple[Message, ...]) -> None:
        self._db.execute("DELETE FROM turns WHERE rowid = ?", (turn,))
        self._known.pop(turn, None)
        if said:
            self._db.execute(
                "INSERT INTO turns(rowid, statement, question, reply) VALUES (?, ?, ?, ?)", (turn, *_split(said))
            )
            self._known[turn] = said

    def search(self, text: str, skip: frozenset[int] = frozenset()) -> list[Match]:
        """The turns that match `text`, best first; those in `skip` are left out, but count as neighbours."""
        wanted = terms(text)
        if not wanted or not self._known:
            return []
        stems = self._stems(wanted)
        weights = self._rarity(set(stems.values()))
        asked = {stem: word for word, stem in stems.items() if stem in weights}
        found = {c.turn: c for c in self._candidates(list(asked.values()))}
        holding = {stem: self._holding(word) for stem, word in asked.items()}
        whole = sum(weights.values())
        for candidate in found.values():
            candidate.held = frozenset(stem for stem, turns in holding.items() if candidate.turn in turns)
            candidate.coverage = sum(weights[stem] for stem in candidate.held) / whole
        scores = self._with_neighbours({turn: c.score for turn, c in found.items()})
        good = [c for c in found.values() if c.turn not in skip and c.coverage >= self._settings.coverage]
        return [Match(c.turn, scores[c.turn], c.coverage, c.held) for c in self._ranked(good, scores)]

    def n_shared(self, text: str, stems: frozenset[str]) -> int:
        """How many of `stems` the text holds."""
        return len(stems & set(self._stems(terms(text)).values()))

    def _stems(self, words: Iterable[str]) -> dict[str, str]:
        """What the tokenizer makes of each of these words."""
        distinct = list(dict.fromkeys(words))
        self._db.executemany("INSERT INTO draft(rowid, word) VALUES (?, ?)", enumerate(distinct))
        stems = {distinct[row]: str(stem) for row, stem in self._db.execute("SELECT doc, term FROM stem")}
        self._db.execute("DELETE FROM draft")
        return stems

    def _rarity(self, stems: Iterable[str]) -> dict[str, float]:
        """These stems, or the rarest of many, with the weight that BM25 gives to terms so rare."""
        n_turns = len(self._known)
        counts = {stem: self._n_turns(stem) for stem in stems}
        rarest = sorted(counts, key=lambda stem: (counts[stem] == 0, counts[stem], stem))[:_MOST_TERMS]
        return {
            stem: math.log(1 + (n_turns - counts[stem] + 0.5) / (counts[stem] + 0.5))
            * (1 if counts[stem] else self._settings.unknown)
            for stem in rarest
        }

    def _n_turns(self, stem: str) -> int:
        """How many turns hold it; of the terms that a single character begins, all together at most."""
        is_one = "term >= ?1 AND term < ?1 || char(0x10ffff)" if is_prefix(stem) else "term = ?1"
        n = self._db.execute(f"SELECT sum(doc) FROM turn_stem WHERE {is_one}", (stem,)).fetchone()[0]
        return min(int(n or 0), len(self._known))

    def _candidates(self, words: Sequence[str]) -> list[_Candidate]:
        rows = self._db.execute(
            f"SELECT rowid, bm25(turns, {', '.join(map(str, _WEIGHTS))}) AS rank, {', '.join(_COLUMNS)} FROM turns "
            "WHERE turns MATCH ? ORDER BY rank LIMIT ?",
            (" OR ".join(map(_phrase, words)), _CANDIDATES),
        )
        return [_Candidate(turn, -rank, frozenset(" ".join(texts).split())) for turn, rank, *texts in rows]

    def _holding(self, word: str) -> set[int]:
        """The turns that hold it beside their questions."""
        query = f"{{statement reply}} : {_phrase(word)}"
        return {int(row[0]) for row in self._db.execute("SELECT rowid FROM turns WHERE turns MATCH ?", (query,))}

    def _with_neighbours(self, scores: Mapping[int, float]) -> dict[int, float]:
        share = self._settings.neighbours
        beside = {turn: scores.get(turn - 1, 0.0) + scores.get(turn + 1, 0.0) for turn in scores}
        return {turn: score + share * beside[turn] for turn, score in scores.items()}

    def _ranked(self, good: Sequence[_Candidate], scores: Mapping[int, float]) -> list[_Candidate]:
        """Best first; of turns that hold the same of the message the newest first, of turns that say the same one."""
        best: dict[frozenset[str], float] = {}
        for candidate in good:
            best[candidate.held] = max(best.get(candidate.held, 0.0), scores[candidate.turn])
        ranked: list[_Candidate] = []
        for candidate in sorted(good, key=lambda c: (-best[c.held], -c.turn)):
            if not any(_alike(candidate.words, other.words) >= self._settings.duplicates for other in ranked):
                ranked.append(candidate)
        return ranked


def _split(said: Sequence[Message]) -> tuple[str, str, str]:
    """What a turn states, asks and answers, as terms with blanks between."""
    parts: dict[str, list[str]] = {name: [] for name in _COLUMNS}
    for message in said:
        if message.role != "user":
            parts["reply"] += terms(message.text)
            continue
        for clause in _CLAUSE.findall(message.text):
            asks = clause.rstrip().endswith(("?", "？")) or _ASKS.match(clause)
            parts["question" if asks else "statement"] += terms(clause)
    statement, question, reply = (" ".join(parts[name]) for name in _COLUMNS)
    return statement, question, reply


def _phrase(word: str) -> str:
    return f'"{word}"{"*" if is_prefix(word) else ""}'


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0
