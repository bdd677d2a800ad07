"""Chat templates, taken apart so that only the new message is ever rendered.

A template renders a whole history. edge-sir never re-reads the history, so the template is rendered
once over messages with placeholder contents; what stands between the placeholders is what opens and
closes a message of each role.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_sir.errors import TemplateError

__all__ = ["ChatTemplate", "Markers"]

_PLACEHOLDER = re.compile("(EDGE0SIR[0-9]X)")


@dataclass(frozen=True, slots=True)
class Markers:
    """What a template writes around a message."""

    open: str
    close: str


class ChatTemplate:
    """The markers of a Jinja chat template.

    preamble: what it writes before the first message when there is no system prompt (often a default
    one). generation: what opens a reply. Raises TemplateError for a template that does not
    compile, drops what is said, or rewrites earlier turns.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self._constants = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template does not compile: {_one_line(error)}") from None
        before, user_close = self._around("user")
        start, between, after_reply, last = self._around("user", "assistant", "user")
        _, generation = self._around("user", generate=True)
        reply_close = self._around("user", "assistant")[2]
        if not (between.startswith(user_close) and generation.startswith(user_close) and last == user_close):
            user_close = ""  # e.g. markers that merge the end of one message with the start of the next
        if not after_reply.startswith(reply_close) or start != before:
            raise TemplateError("the chat template rewrites earlier turns; give a plain one with --chat-template")
        user_open = after_reply[len(reply_close) :]
        self._first_open = None if before.endswith(user_open) else before
        self.preamble = before[: len(before) - len(user_open)] if self._first_open is None else ""
        self.generation = generation[len(user_close) :]
        self._markers = {
            "user": Markers(user_open, user_close),
            "assistant": Markers(between[len(user_close) :], reply_close),
        }
        self._markers["tool"] = self._tool_markers(user_close, reply_close)
        self._system = self._system_markers(user_open)

    def markers(self, role: str, *, first: bool = False) -> Markers:
        """Around a message of `role` (user, assistant, tool, system).

        first: it is the first of the conversation, after `preamble` or a system prompt.
        """
        if role == "system":
            return self._system or Markers("", "\n\n")
        if role == "user" and first and self._first_open is not None:
            return Markers(self._first_open, self._markers["user"].close)
        return self._markers[role]

    def _tool_markers(self, user_close: str, reply_close: str) -> Markers:
        """Most templates know no tool role, or not without a call before it: then it speaks as a user."""
        try:
            parts = self._around("user", "assistant", "tool")
        except TemplateError:
            return self._markers["user"]
        if not parts[2].startswith(reply_close):
            return self._markers["user"]
        return Markers(parts[2][len(reply_close) :], parts[3])

    def _system_markers(self, user_open: str) -> Markers | None:
        try:
            before, between, _ = self._around("system", "user")
        except TemplateError:
            return None
        close = between[: len(between) - len(user_open)] if between.endswith(user_open) else between
        return Markers(before, close)

    def _around(self, *roles: str, generate: bool = False) -> list[str]:
        """What stands before, between and after placeholder messages of these roles: len(roles) + 1 texts."""
        names = [f"EDGE0SIR{i}X" for i in range(len(roles))]
        messages = [{"role": role, "content": name} for role, name in zip(roles, names, strict=True)]
        parts = _PLACEHOLDER.split(self._render(messages, generate))
        if parts[1::2] != names:
            raise TemplateError(f"the chat template drops or repeats a message ({', '.join(roles)})")
        return parts[::2]

    def _render(self, messages: Sequence[Mapping[str, str]], generate: bool) -> str:
        try:
            return self._template.render(messages=messages, add_generation_prompt=generate, **self._constants)
        except Exception as error:  # a template is somebody's program: whatever it raises is its fault
            raise TemplateError(f"the chat template fails: {_one_line(error)}") from None


def _environment() -> jinja2.Environment:
    """As the `transformers` library renders chat templates, which is what their authors test against."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return environment


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _one_line(error: Any) -> str:
    return " ".join(str(error).split()) or type(error).__name__
