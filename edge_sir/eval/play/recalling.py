"""Recall in a dialogue that is played: as in a chat, or a control that is given the turn that is right."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_sir.eval.play.controls import ArmRecall
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.memory.transcript import Transcript
from edge_sir.recall.archive import Archive
from edge_sir.recall.dense import MiniLm
from edge_sir.recall.recall import Recall
from edge_sir.session import Session
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.reply import Recalled

__all__ = ["Recalling"]


@dataclass(slots=True)
class Recalling:
    """A run's recall. by_oracle: the turns that a question asks about come back, and nothing for other messages.

    came: what came back for the running turn.
    """

    recall: Recall
    encoder: MessageEncoder
    by_oracle: bool
    came: tuple[Recalled, ...] = ()

    @classmethod
    def start(cls, how: ArmRecall, session: Session, dialogue: EncodedDialogue, said: Transcript) -> "Recalling":
        """For a session of which nothing was evicted yet. said: what is said in it, now and later.

        Raises ConfigError where the encoder that `dense` needs is not installed.
        """
        recall = Recall(
            session,
            dialogue.codec,
            said,
            Archive(session, cells=how != "text"),
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
        """Bytes that are kept outside the cache."""
        return self.recall.archive.n_bytes

    def close(self) -> None:
        """Frees them."""
        self.recall.close()


@functools.cache
def _encoder() -> MiniLm:
    return MiniLm()
