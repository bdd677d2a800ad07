"""Search over everything that was ever said: an index of trigrams finds candidates, their text decides."""

import re
import sqlite3
from itertools import accumulate

from edge_sir.errors import ConfigError
from edge_sir.store.folding import fold, to_utf8
from edge_sir.store.values import EARLIER, ON_PATH, TAKEN_BACK, Found

__all__ = ["search", "snippet"]

_AROUND = 40  # characters of a snippet on either side
_N_TRIGRAMS = 32  # of a query; more would only make it slower, since the text decides

_COLUMNS = f"""
s.name, m.id, m.number, m.turn, m.role, m.text, m.said,
CASE WHEN m.conversation <> s.conversation THEN '{EARLIER}' WHEN taken_back THEN '{TAKEN_BACK}' ELSE '{ON_PATH}' END
"""
# What another model read again stands in the present conversation, too, at its place and with all before it: the hash.
_NO_COPY = """
NOT (m.conversation <> s.conversation AND EXISTS (
    SELECT 1 FROM messages o WHERE o.session = m.session AND o.conversation = s.conversation AND o.depth = m.depth
    AND NOT o.taken_back AND o.hash = m.hash))
"""
_FOLDED = "instr(coalesce(m.folded, lower(m.text)), ?) > 0"


def search(connection: sqlite3.Connection, words: str, session: int | None, limit: int) -> list[Found]:
    """Messages that hold all words, newest first, at most `limit`. Raises ConfigError if there are no words."""
    terms = _terms(words)
    if not terms or limit < 1:
        raise ConfigError("give words to search for" if not terms else f"a search cannot give {limit} results")
    wanted = _expression(terms)
    tables, conditions, values = "messages m", [], []
    if wanted:  # the index goes through its rows in the order of the ids; CROSS JOIN keeps it in front
        tables, conditions, values = "messages_fts f CROSS JOIN messages m", ["messages_fts MATCH ?"], [wanted]
        conditions.append("m.id = f.rowid")
    conditions += [_FOLDED] * len(terms)
    parameters: list[str | int] = [*values, *terms]
    if session is not None:
        conditions.append("+m.session = ?")
        parameters.append(session)
    conditions.append(_NO_COPY)
    order = "f.rowid" if wanted else "m.id"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {tables} CROSS JOIN sessions s WHERE s.id = m.session AND {' AND '.join(conditions)}"
        f" ORDER BY {order} DESC LIMIT ?",
        (*parameters, limit),
    )
    return [_found(row, terms) for row in rows]


def _terms(words: str) -> list[str]:
    """Words and "quoted words", folded."""
    found = (fold(to_utf8(quoted or word)).strip() for quoted, word in re.findall(r'"([^"]+)"|([^\s"]+)', words))
    return list(dict.fromkeys(term for term in found if term))


def _expression(terms: list[str]) -> str:
    """What a message's trigrams must hold if it holds the terms: such as cover them, one after the other."""
    wanted: dict[str, None] = {}
    for term in terms:
        starts = [*range(0, len(term) - 2, 3), len(term) - 3] if len(term) >= 3 else []
        wanted |= dict.fromkeys(term[start : start + 3] for start in starts)
    return " ".join('"{}"'.format(trigram.replace('"', '""')) for trigram in list(wanted)[:_N_TRIGRAMS])


def _found(row: tuple[str, int, int, int, str, str, float, str], terms: list[str]) -> Found:
    name, id, number, turn, role, text, said, state = row
    return Found(name, id, number, turn, role, text, said, state, snippet(text, terms))


def snippet(text: str, terms: list[str]) -> str:
    """The text around the first place where one of these folded terms stands, on one line."""
    folded = fold(text)
    places = [(at, len(term)) for term in terms if (at := folded.find(term)) >= 0]
    at, length = min(places, default=(0, 0))
    if len(folded) != len(text):  # some character became several, or none: count where each one's fold ends
        ends = list(accumulate(len(fold(character)) for character in text))
        first = next((i for i, end in enumerate(ends) if end > at), 0)
        last = next((i for i, end in enumerate(ends) if end >= at + length), len(text) - 1)
        at, length = first, last + 1 - first
    start, end = max(0, at - _AROUND), at + length + _AROUND
    cut = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"
