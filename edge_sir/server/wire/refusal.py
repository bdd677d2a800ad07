"""A request that is refused, in the form that OpenAI's clients read."""

from typing import Any

from edge_sir.errors import UserError

__all__ = ["RefusedError"]

_RETRIED = (408, 409, 429, 500, 502, 503, 504)


class RefusedError(UserError):
    """Why a request is not answered; the message is one line and names the remedy.

    status: of HTTP. kind: OpenAI's `type`. param: path of the field at fault. code: short name of the reason.
    retry_after: seconds after which the same request may succeed; None where it never will.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code, self.retry_after = status, kind, param, code, retry_after

    def as_dict(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Says whether to try again, and when. Without them openai's clients try what will fail twice more."""
        if self.retry_after is not None:
            return {"retry-after": str(max(1, round(self.retry_after))), "x-should-retry": "true"}
        return {} if self.status in _RETRIED else {"x-should-retry": "false"}
