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
        except Exception as error:  # a template is somebody's program: whatever happens is its fault
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
        self.preamble, self._first_open = _split_end(before, user_open)
        self.generation = generation[len(user_close) :]
        self._markers = {
            "user": Markers(user_open, user_close),
            "assistant": Markers(between[len(user_close) :], reply_close),
        }
        for role in ("tool", "system"):
            self._markers[role] = self._later_markers(role, reply_close, user_open)
        self._system, self._open_after_system = self._system_markers(user_open)

    def markers(self, role: str, *, first: bool = False, after_system: bool = False) -> Markers:
        """Around a message of `role` (user, assistant, tool, system).

        first: it is the conversation's first message. after_system: only a system prompt stands before it,
        in place of `preamble`.
        """
        if role == "system" and first:
            return self._system
        markers = self._markers[role]
        if role == "user" and after_system:
            return Markers(self._open_after_system, markers.close)
        if role == "user" and first:
            return Markers(self._first_open, markers.close)
        return markers

    def _later_markers(self, role: str, reply_close: str, user_open: str) -> Markers:
        """In mid-conversation. Where the template knows no such message there, it is written like a user's."""
        try:
            _, _, opening, close, _ = self._around("user", "assistant", role, "user")
        except TemplateError:
            return self._markers["user"]
        if not (opening.startswith(reply_close) and close.endswith(user_open)):
            return self._markers["user"]
        return Markers(opening[len(reply_close) :], _split_end(close, user_open)[0])

    def _system_markers(self, user_open: str) -> tuple[Markers, str]:
        """Around a system prompt, and what opens the user message after it.

        A template without a system role gets the prompt as the beginning of the first user message.
        """
        try:
            before, between, _ = self._around("system", "user")
        except TemplateError:
            return Markers(self.preamble + self._first_open, "\n\n"), ""
        close, opening = _split_end(between, user_open)
        return Markers(before, close), opening

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
        except Exception as error:
            raise TemplateError(f"the chat template fails: {_one_line(error)}") from None


def _split_end(text: str, end: str) -> tuple[str, str]:
    """`text` without `end` and `end`; all of it and nothing where it does not end so."""
    return (text[: len(text) - len(end)], end) if text.endswith(end) else (text, "")


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
