"""One request in one sequence of an engine that others share, driven slice by slice.

    dialogue = terms.prepare(request).begin(engine, seq)
    while (piece := dialogue.next_slice()) is not None:
        dialogue.commit(engine.decode([piece])[0])
    dialogue.result()

It says what a chat of its own says: the opening, then each message, then each turn is decoded to its end before the
next is fed. What goes wrong is its result, not an exception.
"""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.batch.schedule import Phase
from edge_sir.chat.chat import Chat
from edge_sir.chat.turn import Turn
from edge_sir.engine import Slice, SliceResult
from edge_sir.errors import EdgeSirError, UserError
from edge_sir.memory.transcript import Message
from edge_sir.session import SessionState
from edge_sir.text.reply import Reply

if TYPE_CHECKING:
    from edge_sir.batch.terms import Prepared

__all__ = ["Dialogue", "error_of"]


def error_of(error: EdgeSirError) -> RequestError:
    """What OpenAI calls it, in one line."""
    code = "invalid_request_error" if isinstance(error, UserError) else "server_error"
    return RequestError(code, " ".join(str(error).split()))


class Dialogue:
    """What is still to be said in `chat`, and the replies so far.

    of: the request. opened: the session once its opening is decoded, for others that begin with the same one; given,
    its cells are another's, and nothing was read.
    """

    def __init__(self, of: "Prepared", chat: Chat, opened: SessionState | None) -> None:
        self.of = of
        self.opened = opened
        self._chat, self._session = chat, chat.session
        self._messages: deque[Message] = deque(of.messages)
        self._said = deque(of.request.said)
        self._n_shared = len(self._session.ledger)
        self._turn: Turn | None = None
        self._replies: list[Reply] = []
        self._error: RequestError | None = None
        self._is_over = False
        try:
            self._go_on()
        except EdgeSirError as error:
            self.fail(error)

    @property
    def phase(self) -> Phase:
        """What it decodes next."""
        if self._is_over:
            return "over"
        if self.opened is None:
            return "opening"
        return "writing" if self._turn is not None and self._turn.phase != "reading" else "reading"

    @property
    def failed(self) -> bool:
        """Whether an error ended it. Then its cells may be no longer what its ledger says."""
        return self._error is not None

    @property
    def n_next(self) -> int:
        """Tokens of its next slice, 0 once it is over."""
        return 0 if self._is_over else self._session.n_next

    def next_slice(self) -> Slice | None:
        """What to decode next; None once it is over."""
        if self._is_over:
            return None
        try:
            return (self._turn or self._session).next_slice()
        except EdgeSirError as error:
            self.fail(error)
            return None

    def commit(self, result: SliceResult) -> None:
        """Takes what the engine returned for the slice."""
        try:
            (self._turn or self._session).commit(result)
            self._go_on()
        except EdgeSirError as error:
            self.fail(error)

    def fail(self, error: EdgeSirError) -> None:
        """Ends it here; replies so far stay."""
        self._error, self._is_over = error_of(error), True

    def result(self) -> BatchResult:
        """What came of it."""
        return BatchResult(self.of.request.custom_id, tuple(self._replies), self._facts(), self._error)

    def close(self) -> None:
        """Frees what it holds beside its cells."""
        self._chat.close()

    def _go_on(self) -> None:
        """Feeds what comes next, once all that was fed is decoded."""
        while not self._session.n_pending and not self._is_over:
            if self.opened is None:
                self.opened = self._session.state()
            elif self._turn is not None:
                self._turn.next_slice()  # there is none: so it ends
                self._replies.append(self._turn.reply)
                self._turn = None
            elif self._messages:
                message = self._messages.popleft()
                self._chat.add(message.role, message.text)
            elif self._said:
                self._turn = self._chat.turn(self._said.popleft())
            else:
                self._is_over = True

    def _facts(self) -> Mapping[str, Any]:
        stats, session = self._session.stats, self._session
        lost = {
            turn: sum(loss.n_tokens for loss in losses if loss.why == "room")
            for turn, losses in self._chat.evictions.losses().items()
        }
        return {
            "budget": session.budget.n_cells,
            "policy": session.policy.spec,
            "positions": session.mode,
            "resident": len(session.ledger),
            "evicted": stats.evicted,
            "recalled": sum(one.n_tokens for reply in self._replies for one in reply.recalled),
            "read": stats.tokens_in - self._n_shared,
            "shared": self._n_shared,
            "written": stats.tokens_out,
            "renumbered": stats.packs + stats.rereads,
            "lost": {str(turn): n for turn, n in sorted(lost.items()) if n},
        }
