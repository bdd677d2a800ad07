"""An error of a conversation, as a client gets it: what it can mend, or that it may try again."""

from edge_sir.errors import BudgetError, SessionBusyError, UserError
from edge_sir.server.wire.refusal import RefusedError

__all__ = ["refused_by"]


def refused_by(error: Exception) -> RefusedError:
    """What the client can mend is said in the error's own words; anything else is in the log alone."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, BudgetError):
        return RefusedError(str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, SessionBusyError):
        return RefusedError(str(error), status=409, kind="conflict_error", code="session_busy", retry_after=5)
    if isinstance(error, UserError):
        return RefusedError(str(error))
    return RefusedError(
        "the server failed at this request; its log says why", status=500, kind="server_error", code="internal_error"
    )
