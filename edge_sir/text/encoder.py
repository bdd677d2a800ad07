"""Messages to tokens: a template's markers around what somebody said, only the new message each time."""

import numpy as np

from edge_sir.engine import THINK_TAGS, TextCodec, Tokens
from edge_sir.text.template import ChatTemplate

__all__ = ["MessageEncoder", "Part"]

Part = tuple[str, Tokens]
"""A role of the ledger, and tokens of that role."""


class MessageEncoder:
    """Renders one message at a time as parts. Only markers may become control tokens, never what somebody said.

    system: the system prompt; without one, what the template itself puts first takes its place.
    """

    def __init__(self, codec: TextCodec, template: ChatTemplate, system: str | None) -> None:
        self._codec, self._template, self._system = codec, template, system
        self.assistant_close = codec.encode(template.markers("assistant").close, special=True)

    def opening(self) -> list[Part]:
        """What stands before the first message: the system prompt or the template's preamble, and BOS."""
        codec, template = self._codec, self._template
        if self._system is None:
            opening = template.preamble + template.markers("user", first=True).open
            parts = [("system", codec.encode(template.preamble, special=True))]
        else:
            opening = template.markers("system", first=True).open
            parts = self._around("system", self._system, first=True, after_system=False)
        if codec.bos >= 0 and codec.encode(opening, special=True)[:1].tolist() != [codec.bos]:
            parts.insert(0, ("frame", np.array([codec.bos], np.int32)))
        return parts

    def message(self, role: str, text: str, *, first: bool) -> list[Part]:
        """A message that somebody said; `first` if nothing but the opening stands before it."""
        first = first and role != "system"
        return self._around(role, text, first=first, after_system=first and self._system is not None)

    def reply_opening(self) -> list[Part]:
        """What opens a reply; a template may begin it inside a thought."""
        opening, tag = self._template.generation, THINK_TAGS[0]
        before, thinks, after = opening.partition(tag) if opening.rstrip().endswith(tag) else (opening, "", "")
        parts = [("frame", self._codec.encode(before, special=True))]
        if thinks:
            parts.append(("thought", self._codec.encode(thinks + after, special=True)))
        return parts

    def _around(self, role: str, text: str, *, first: bool, after_system: bool) -> list[Part]:
        markers = self._template.markers(role, first=first, after_system=after_system)
        return [
            ("frame", self._codec.encode(markers.open, special=True)),
            (role, self._codec.encode(text, special=False)),
            ("frame", self._codec.encode(markers.close, special=True)),
        ]
