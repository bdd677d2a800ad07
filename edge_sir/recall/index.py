"""Which turns match a message: a full-text index of what was said, in memory (SQLite FTS5).

Its unit is the sentence: two words of the message in one sentence say more than at two ends of a long turn. What the
user stated outweighs what the model said, and a question holds no fact: an exchange that only repeats the question
ranks behind every statement, or the model would be shown its own "I don't know". A term counts by how rare it is, as in
BM25, and words of all talk count little. A turn's other sentences and its neighbours add a share of their own score. Of
statements that match alike the newest comes first, since it may correct the others. A message that names somebody
leaves out what is about others (`named`).
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edge_sir.memory.transcript import Message
from edge_sir.recall.asking import asks, follows_up, is_about_self, stated
from edge_sir.recall.dense import SentenceEncoder, Sentences, fused
from edge_sir.recall.named import Named
from edge_sir.recall.terms import is_prefix, is_weak, terms

__all__ = ["Match", "Terms", "TurnIndex"]

_TOKENIZER = "porter unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
_COUNTS = {"statement": 1.0, "reply": 0.5}  # what a term counts for by who said it
_CANDIDATES = 256  # sentences
_MOST_TERMS = 64  # of a long message those that fewest sentences hold
_MOST_READ = 1000  # terms of a message; of a longer one those at both ends
_MOST_SENTENCES = 1 << 20  # of a turn
_NEAREST = 3  # turns that share no word
_FURTHEST = 3  # turns back to the question that a follow-up belongs to
_K1, _B = 1.2, 0.5  # of BM25


@dataclass(frozen=True, slots=True)
class Terms:
    """How much must match, and what counts how much.

    coverage: least share of the message's terms, weighted by how rare they are, that a turn must hold to be a match,
    0 to 1: the mean of what its best sentence and the whole turn hold. stated: the same for a message that neither asks
    nor requests anything. least: how many terms a sentence must hold besides, where a word of all talk counts `weak`,
    and that both speak of the user counts `own`. unknown: what a term that no sentence holds counts for. inside,
    neighbours: shares of the scores of the turn's other sentences, and of the turn before and the one after. newest:
    share of the best score from which on the newest comes first. duplicates: share of terms in common from which on two
    turns say the same. With an encoder: dense: weight of its score beside the terms'; alike, alike_own: least cosine of
    a match without a shared word, and the same for a question about the user, where both speak of the user.
    """

    coverage: float = 0.3
    stated: float = 0.6
    least: float = 0.5
    weak: float = 0.2
    own: float = 0.3
    unknown: float = 0.5
    inside: float = 0.3
    neighbours: float = 0.3
    newest: float = 0.75
    duplicates: float = 0.8
    dense: float = 1.0
    alike: float = 0.6
    alike_own: float = 0.2


@dataclass(frozen=True, slots=True)
class Match:
    """A turn that matches. coverage: share of the message's terms that it holds, as in `Terms`; held: their stems."""

    turn: int
    score: float
    coverage: float
    held: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A turn in the index. lengths: terms of each sentence; own: whether the user speaks of themselves in it."""

    said: tuple[Message, ...]
    lengths: tuple[int, ...] = ()
    own: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class _Query:
    """weights: of each stem that counts; words: the terms that they are of; needed: those that coverage is of;
    named: what it names."""

    text: str
    weights: Mapping[str, float]
    words: Mapping[str, str]
    needed: frozenset[str]
    named: Named
    is_asked: bool
    is_own: bool


@dataclass(slots=True)
class _Candidate:
    """A turn with what its sentences hold, by stem what the term counts for there. held: of all of them together."""

    turn: int
    sentences: list[Mapping[str, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    held: dict[str, float] = field(default_factory=dict)
    coverage: float = 0.0
    most: float = 0.0

    @property
    def stems(self) -> frozenset[str]:
        """What it holds."""
        return frozenset(self.held)


class TurnIndex:
    """The turns of one conversation. `sync` brings it up to date with the transcript; `search` asks it.

    n_bytes: memory that the database took after the last `sync`; 0 while it holds nothing.
    encoder: finds for a message that asks or requests something also what means alike.
    """

    def __init__(self, settings: Terms | None = None, encoder: SentenceEncoder | None = None) -> None:
        self._settings = settings or Terms()
        self._sentences = None if encoder is None else Sentences(encoder)
        self._known: dict[int, _Kept] = {}
        self._n_sentences = self._n_terms = 0
        self._synced: list[Message] = []
        self._is_whole = True  # False while `sync` is at work, and after one that broke off
        self.n_bytes = 0
        self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        """An empty database."""
        db = sqlite3.connect(":memory:", check_same_thread=False)
        # `draft` holds some words for a moment, one in each row; `stem` tells what they were made into.
        db.executescript(
            f"""
            CREATE VIRTUAL TABLE sentences USING fts5(statement, question, reply, tokenize="{_TOKENIZER}");
            CREATE VIRTUAL TABLE sentence_stem USING fts5vocab(sentences, 'row');
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

    # ---- what is in it -------------------------------------------------------------------------

    def sync(self, messages: Iterable[Message]) -> None:
        """Holds these messages and no others, from now on. Where some were just added, it looks at those alone.

        After one that broke off (Ctrl-C, an error) it begins anew.
        """
        now = list(messages)
        if not self._is_whole:
            self._empty()
        self._is_whole = False
        n_before = len(self._synced)
        is_longer = now[:n_before] == self._synced
        wanted: dict[int, list[Message]] = {}
        for message in now[n_before:] if is_longer else now:
            if message.role != "system":
                known = self._known.get(message.turn) if is_longer else None
                wanted.setdefault(message.turn, list(known.said if known else ())).append(message)
        if not is_longer:
            for turn in self._known.keys() - wanted.keys():
                self._take_out(turn)
        for turn, said in wanted.items():
            known = self._known.get(turn)
            if known is None or tuple(said) != known.said:
                self._take_out(turn)
                self._put(turn, tuple(said))
        if not self._known and self._synced:  # SQLite gives no page back
            self._empty()
        if now != self._synced:
            self._db.commit()  # until then FTS5 holds what is new beside its pages
            self.n_bytes = self._pages() if self._known else 0
        self._synced, self._is_whole = now, True

    def _empty(self) -> None:
        if self._sentences is not None:
            self._sentences.clear()
        self._known, self._synced = {}, []
        self._n_sentences = self._n_terms = self.n_bytes = 0
        self._db.close()
        self._db = self._opened()

    def _pages(self) -> int:
        """Bytes of the database's pages."""
        (n_pages,), (n_bytes,) = (self._db.execute(f"PRAGMA {of}").fetchone() for of in ("page_count", "page_size"))
        return int(n_pages) * int(n_bytes)

    def _take_out(self, turn: int) -> None:
        if (kept := self._known.pop(turn, None)) is not None:
            rows = _rows(turn, len(kept.lengths))
            self._db.execute("DELETE FROM sentences WHERE rowid BETWEEN ? AND ?", (rows.start, rows.stop - 1))
            self._n_sentences -= len(kept.lengths)
            self._n_terms -= sum(kept.lengths)
            if self._sentences is not None:
                self._sentences.take_out(turn)

    def _put(self, turn: int, said: tuple[Message, ...]) -> None:
        parts = [(m.role == "user", part) for m in said for part in stated(m.text, by_user=m.role == "user")]
        texts = [
            (" ".join(p.states) if by_user else "", " ".join(p.asks), "" if by_user else " ".join(p.states))
            for by_user, p in parts
        ]
        self._db.executemany(
            "INSERT INTO sentences(rowid, statement, question, reply) VALUES (?, ?, ?, ?)",
            ((row, *text) for row, text in zip(_rows(turn, len(parts)), texts, strict=True)),
        )
        lengths = tuple(len(p.states) + len(p.asks) for _, p in parts)
        self._known[turn] = _Kept(said, lengths, tuple(p.is_own for _, p in parts))
        self._n_sentences += len(lengths)
        self._n_terms += sum(lengths)
        if self._sentences is not None:
            told = [p for by_user, p in parts if by_user and p.states]
            self._sentences.put(turn, [p.text for p in told], [p.is_own for p in told])

    # ---- what is asked of it -------------------------------------------------------------------

    def search(self, text: str, skip: frozenset[int] = frozenset(), *, is_asked: bool = False) -> list[Match]:
        """The turns that match `text`, best first; those in `skip` are left out, but count as neighbours.

        A text that only follows up ("And since when?") asks for what the question before it found. is_asked: the text
        asks for them, whether or not it reads as a question.
        """
        if (query := self._query(text, is_asked)) is None:
            return []
        found = {candidate.turn: candidate for candidate in self._candidates(query)}
        settings = self._settings
        least = settings.coverage if query.is_asked else settings.stated
        good = {turn for turn, c in found.items() if c.coverage >= least and c.most >= settings.least}
        cosines = self._cosines(query)
        others = self._about_others(query, {turn: found[turn] for turn in good})
        scores = fused(self._with_neighbours(found), cosines, settings.dense)
        good = (good | self._nearest(query, cosines)) - others
        matches = [found.get(turn) or _Candidate(turn) for turn in good - skip]
        return [Match(c.turn, scores[c.turn], c.coverage, c.stems) for c in self._ranked(matches, scores)]

    def _cosines(self, query: _Query) -> dict[int, float]:
        """How near each turn's meaning is to the message's; none without an encoder, or where nothing is asked."""
        if self._sentences is None or not query.is_asked:
            return {}
        return self._sentences.alike(query.text, own=query.is_own)

    def _nearest(self, query: _Query, cosines: Mapping[int, float]) -> set[int]:
        """The turns that are near enough without sharing a word."""
        least = self._settings.alike_own if query.is_own else self._settings.alike
        return set(sorted((t for t, cosine in cosines.items() if cosine >= least), key=cosines.__getitem__)[-_NEAREST:])

    def _about_others(self, query: _Query, found: Mapping[int, _Candidate]) -> set[int]:
        """The turns that match a message about somebody, and are about somebody else."""
        if not query.named.names:
            return set()
        told = {
            turn: {frozenset(s for s, n in counts.items() if n == _COUNTS["statement"]) for counts in one.sentences}
            for turn, one in found.items()
        }
        held = {turn: one.stems for turn, one in found.items()}
        return query.named.about_others(told, held, self._said_by_user, self._stems)

    def n_shared(self, text: str, stems: frozenset[str]) -> int:
        """How many of `stems` the text holds."""
        return len(stems & self.stems(terms(text)))

    def stems(self, words: Iterable[str]) -> frozenset[str]:
        """The stems of these terms."""
        return frozenset(self._stems(words).values())

    def _query(self, text: str, is_asked: bool) -> _Query | None:
        """What to look for; None for nothing."""
        subject = self._subject() if follows_up(text) else None
        needed = self._stems(_read(terms(subject or text)))
        if subject and not needed:  # "How are you?" is about nothing
            subject, needed = None, self._stems(terms(text))
        stems = needed | (self._stems(terms(text)) if subject else {})
        words = {stem: word for word, stem in stems.items()}
        weights = self._rarity(words)
        if not weights or not self._known:
            return None
        whole = f"{subject}\n{text}" if subject else text
        counted = {word: stem for word, stem in stems.items() if stem in weights}
        named = Named.of(text, subject or "", counted)
        is_question = is_asked or asks(text)
        return _Query(whole, weights, words, frozenset(needed.values()), named, is_question, is_about_self(whole))

    def _subject(self) -> str | None:
        """The question that a message which only follows up belongs to."""
        for turn in sorted(self._known, reverse=True)[:_FURTHEST]:
            said = self._said_by_user(turn)
            if not follows_up(said):
                return said if asks(said) else None
        return None

    def _said_by_user(self, turn: int) -> str:
        return "\n".join(m.text for m in self._known[turn].said if m.role == "user")

    def _stems(self, words: Iterable[str]) -> dict[str, str]:
        """What the tokenizer makes of each of these words."""
        distinct = list(dict.fromkeys(words))
        self._db.execute("DELETE FROM draft")  # Ctrl-C may have come before that was done
        self._db.executemany("INSERT INTO draft(rowid, word) VALUES (?, ?)", enumerate(distinct))
        stems = {distinct[row]: str(stem) for row, stem in self._db.execute("SELECT doc, term FROM stem")}
        return stems

    def _rarity(self, words: Mapping[str, str]) -> dict[str, float]:
        """These stems, or the rarest of many, with the weight that BM25 gives to terms so rare."""
        counts = {stem: self._n_holding(stem) for stem in words}
        rarest = sorted(counts, key=lambda stem: (counts[stem] == 0, counts[stem], stem))[:_MOST_TERMS]
        return {
            stem: math.log(1 + (self._n_sentences - counts[stem] + 0.5) / (counts[stem] + 0.5))
            * (1 if counts[stem] else self._settings.unknown)
            * self._least_of(words[stem])
            for stem in rarest
        }

    def _least_of(self, word: str) -> float:
        return self._settings.weak if is_weak(word) else 1.0

    def _n_holding(self, stem: str) -> int:
        """How many sentences hold it; of the terms that a single character begins, all together at most."""
        is_one = "term >= :stem AND term < :stem || char(0x10ffff)" if is_prefix(stem) else "term = :stem"
        n = self._db.execute(f"SELECT sum(doc) FROM sentence_stem WHERE {is_one}", {"stem": stem}).fetchone()[0]
        return min(int(n or 0), self._n_sentences)

    # ---- what matches --------------------------------------------------------------------------

    def _candidates(self, query: _Query) -> Iterator[_Candidate]:
        held = self._held(query)
        found: dict[int, _Candidate] = {}
        for row, counts in held.items():
            turn, place = divmod(row, _MOST_SENTENCES)
            kept, one = self._known[turn], found.setdefault(turn, _Candidate(turn))
            length = kept.lengths[place] * self._n_sentences / self._n_terms
            sum_ = sum(query.weights[stem] * count for stem, count in counts.items())
            one.scores.append(sum_ * (_K1 + 1) / (1 + _K1 * (1 - _B + _B * length)))
            one.sentences.append(counts)
            one.held = {stem: max(one.held.get(stem, 0.0), counts.get(stem, 0.0)) for stem in one.held | counts}
            own = self._settings.own * (query.is_own and query.is_asked and kept.own[place])
            one.most = max(one.most, own + sum(self._least_of(query.words[s]) * n for s, n in counts.items()))
        for one in found.values():
            one.coverage = (max(_share(query, s) for s in one.sentences) + _share(query, one.held)) / 2
            yield one

    def _held(self, query: _Query) -> dict[int, dict[str, float]]:
        """The sentences that match best, by row, each with the stems that it states or answers with."""
        ranked = self._db.execute(
            "SELECT rowid FROM sentences WHERE sentences MATCH ? ORDER BY bm25(sentences, 1.0, 0.0, 0.5) LIMIT ?",
            (f"{{statement reply}} : ({' OR '.join(_phrase(query.words[s]) for s in query.weights)})", _CANDIDATES),
        )
        held: dict[int, dict[str, float]] = {int(row): {} for (row,) in ranked}
        for stem in query.weights:
            for column, count in _COUNTS.items():
                match = f"{column} : {_phrase(query.words[stem])}"
                for (row,) in self._db.execute("SELECT rowid FROM sentences WHERE sentences MATCH ?", (match,)):
                    if row in held:
                        held[row][stem] = max(count, held[row].get(stem, 0.0))
        return held

    def _with_neighbours(self, found: Mapping[int, _Candidate]) -> dict[int, float]:
        settings, alone = self._settings, {}
        for turn, one in found.items():
            best = max(one.scores)
            alone[turn] = best + settings.inside * min(sum(one.scores) - best, best)
        beside = {turn: alone.get(turn - 1, 0.0) + alone.get(turn + 1, 0.0) for turn in alone}
        return {turn: score + settings.neighbours * min(beside[turn], score) for turn, score in alone.items()}

    def _ranked(self, good: Sequence[_Candidate], scores: Mapping[int, float]) -> list[_Candidate]:
        """Best first; of turns that match alike the newest first, of turns that say the same one."""
        best: dict[frozenset[str], float] = defaultdict(float)
        for one in good:
            best[one.stems] = max(best[one.stems], scores[one.turn])

        def place(one: _Candidate) -> tuple[float, int]:
            score = scores[one.turn]
            return -(best[one.stems] if score >= self._settings.newest * best[one.stems] else score), -one.turn

        ranked: dict[int, tuple[_Candidate, frozenset[str]]] = {}
        for one in sorted(good, key=place):
            words = self._words(one.turn)
            if not any(_alike(words, others) >= self._settings.duplicates for _, others in ranked.values()):
                ranked[one.turn] = one, words
        return [one for one, _ in ranked.values()]

    def _words(self, turn: int) -> frozenset[str]:
        """All terms of a turn. The database has them: a set for each turn took nine times its memory."""
        rows = _rows(turn, len(self._known[turn].lengths))
        texts = self._db.execute(
            "SELECT statement, question, reply FROM sentences WHERE rowid BETWEEN ? AND ?", (rows.start, rows.stop - 1)
        )
        return frozenset(word for sentence in texts for text in sentence for word in text.split())


def _share(query: _Query, held: Mapping[str, float]) -> float:
    """Which share of what the query needs is held, 0 to 1."""
    whole = sum(weight for stem, weight in query.weights.items() if stem in query.needed)
    return sum(query.weights[stem] * count for stem, count in held.items() if stem in query.needed) / whole


def _rows(turn: int, n: int) -> range:
    return range(turn * _MOST_SENTENCES, turn * _MOST_SENTENCES + n)


def _read(found: list[str]) -> list[str]:
    half = _MOST_READ // 2
    return found if len(found) <= _MOST_READ else [*found[:half], *found[-half:]]


def _phrase(word: str) -> str:
    return f'"{word}"{"*" if is_prefix(word) else ""}'


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0
