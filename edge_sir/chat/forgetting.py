"""What must leave the disk when something is forgotten on request: also of turns that were taken back meanwhile."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_sir.engine import TextCodec
from edge_sir.errors import StateError
from edge_sir.session.changes import Appended, Change, Inserted, blank, parse
from edge_sir.store.session import SessionStore
from edge_sir.store.values import Forgotten, Record, StoredMessage
from edge_sir.text.boundaries import without

__all__ = ["Forgetting", "forgotten_on_disk"]

_NONE = np.empty(0, np.int64)
_DAMAGED = b"damaged"


@dataclass(frozen=True, slots=True, eq=False)
class Forgetting:
    """asked: each request, a turn or words. texts: of messages now, by id."""

    asked: tuple[int | str, ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict)

    def and_also(self, what: int | str) -> "Forgetting":
        """With one request more."""
        return replace(self, asked=(*self.asked, what))

    def with_texts(self, texts: Mapping[int, str]) -> "Forgetting":
        """With what the messages of the path say without it."""
        return replace(self, texts=texts)

    def texts_aside(
        self, codec: TextCodec, rows: Sequence[StoredMessage], removed: Collection[str], present: int
    ) -> dict[int, str]:
        """New texts of rows that are not on the path, by row. removed: texts of messages that are forgotten whole.

        Of the turn that is forgotten, every earlier attempt goes; of words, each sentence that holds them. present:
        number of the conversation whose turns are meant.
        """
        texts = {}
        for row in rows:
            text = row.message.text
            for what in self.asked:
                if isinstance(what, str):
                    text = without(codec, text, what)
                elif row.conversation == present and row.message.turn == what:
                    text = ""
            text = "" if text in removed else text
            if not row.on_path and text != row.message.text:
                texts[row.row] = text
        return texts


def forgotten_on_disk(
    store: SessionStore, record: Record, forgetting: Forgetting, resident: NDArray[np.int64], codec: TextCodec
) -> Forgotten:
    """What `SessionStore.write` takes for it. record: has all entries of the eviction log, as they are without it.

    resident: born numbers, int64 [n]. The log forgets all other tokens, since thoughts and earlier prompts may hold the
    same, and what was said does not lead to them. Once something is forgotten, nothing goes on from them any more.
    """
    rows = store.messages()
    if record.cleared:
        rows = [replace(row, on_path=False) for row in rows]
    path = [row for row in rows if row.on_path]
    now = {row.row: forgetting.texts.get(row.message.id, row.message.text) for row in path}
    texts = {row.row: now[row.row] for row in path if now[row.row] != row.message.text}
    removed = {row.message.text for row in path if row.row in texts and not texts[row.row]}
    aside = forgetting.texts_aside(codec, rows, removed, store.conversation + record.cleared)
    born = np.setdiff1d(_born_of([*store.changes(), record.changes]), resident)
    # -1: also what was read again for a turn.
    return Forgotten(texts | aside, partial(_blanked, born=np.append(born, -1)), record.entries)


def _blanked(log: bytes, born: NDArray[np.int64]) -> bytes:
    """As `blank`; a damaged log, which may hold anything, is replaced by one that is no log either."""
    try:
        return blank(log, born)
    except StateError:
        return _DAMAGED


def _born_of(logs: Iterable[bytes]) -> NDArray[np.int64]:
    """The born numbers of all tokens whose rows are in the logs."""
    changes = (change for log in logs for change in _parsed(log))
    rows = [change.rows["born"].astype(np.int64) for change in changes if isinstance(change, Appended | Inserted)]
    return np.unique(np.concatenate([_NONE, *rows]))


def _parsed(log: bytes) -> list[Change]:
    """Its changes; none if it is damaged."""
    try:
        return parse(log)
    except StateError:
        return []
