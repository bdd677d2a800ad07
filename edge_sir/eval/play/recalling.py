"""Recall in a dialogue that is played: as in a chat, or a control that is given the turn that is right."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sir.eval.play.controls import ArmKeys
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive
from edge_sir.recall.dense import MiniLm
from edge_sir.recall.recall import Recall
from edge_sir.session import Session
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.reply import Recalled

__all__ = ["Recalling", "ways_of"]


@dataclass(slots=True)
class Recalling:
    """One way to recall in a run. by_oracle: the turns that a question asks about come back, and nothing else.

    came: what came back for the running turn.
    """

    recall: Recall
    encoder: MessageEncoder
    by_oracle: bool
    came: tuple[Recalled, ...] = ()

    @classmethod
    def start(
        cls, keys: ArmKeys, session: Session, dialogue: EncodedDialogue, said: Transcript, archive: Archive
    ) -> "Recalling":
        """For a session of which nothing was evicted yet. said: what is said in it, now and later.

        Raises ConfigError where the encoder that `dense` needs is not installed.
        """
        how = keys.recall
        recall = Recall(
            session,
            dialogue.codec,
            said,
            archive,
            share=keys.recall_share,
            place="last" if how == "last" else "own",
            encoder=_encoder() if how == "dense" else None,
        )
        return cls(recall, dialogue.encoder, how == "oracle")

    def on(self, session: Session) -> "Recalling":
        """The same for a fork of its session; to be closed is this one alone."""
        return replace(self, recall=self.recall.on(session), came=())

    def begin(self, message: str, turns: Sequence[int]) -> None:
        """Brings back what the message matches, for the turn that was begun; nothing if it is empty.

        turns: those that it asks about.
        """
        self.came = self.recall.begin(message, self.encoder, turns if self.by_oracle else None) if message else ()

    @property
    def n_bytes(self) -> int:
        """Bytes that it needs outside the cache."""
        return self.recall.archive.n_bytes

    def close(self) -> None:
        """Frees them."""
        self.recall.close()


def ways_of(
    keys: Sequence[ArmKeys], session: Session, dialogue: EncodedDialogue, said: Transcript
) -> tuple[Recalling | None, ...]:
    """One way for each of `keys`, None where nothing comes back; cells and texts have an archive each."""
    kinds = dict.fromkeys(key.recall != "text" for key in keys if key.recall != "off")
    archives = {cells: Archive(session, cells=cells) for cells in kinds}

    def save(rows: NDArray[np.integer[Any]]) -> None:
        for archive in archives.values():
            archive.save(rows)

    session.before_eviction = save if archives else None
    return tuple(
        None if key.recall == "off" else Recalling.start(key, session, dialogue, said, archives[key.recall != "text"])
        for key in keys
    )


@functools.cache
def _encoder() -> MiniLm:
    return MiniLm()
