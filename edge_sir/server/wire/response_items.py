"""The output of a response: its items, whole and as they grow."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edge_sir.server.outcome import Choice, Shown, ToolCall

__all__ = ["Items"]

Kind = Literal["reasoning", "message", "function_call"]
Event = dict[str, Any]
_PREFIXES: dict[Kind, str] = {"reasoning": "rs", "message": "msg", "function_call": "fc"}
_DELTAS: dict[Kind, str] = {"reasoning": "reasoning_text", "message": "output_text"}


@dataclass(slots=True)
class _Open:
    """An item that grows."""

    kind: Kind
    index: int
    id: str
    text: str = ""


class Items:
    """Items of one response. key: what their ids are made of.

    A thought, the text and each call are items of their own, in the order in which they come.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._n = 0
        self._open: _Open | None = None

    # ---- whole ---------------------------------------------------------------------------------

    def whole(self, choice: Choice) -> list[dict[str, Any]]:
        """All items of a reply, under the ids that they have in its stream."""
        kinds: list[tuple[Kind, str | ToolCall]] = []
        if choice.thought:
            kinds.append(("reasoning", choice.thought))
        if choice.text or not choice.calls:
            kinds.append(("message", choice.text))
        kinds += [("function_call", call) for call in choice.calls]
        return [_item(kind, self._id(kind, i), what) for i, (kind, what) in enumerate(kinds)]

    def _id(self, kind: Kind, index: int) -> str:
        return f"{_PREFIXES[kind]}_{self._key}_{index}"

    # ---- as a stream ---------------------------------------------------------------------------

    def shown(self, shown: Shown) -> Iterator[Event]:
        """A bit of one of them; an item of another kind ends the one before it."""
        if shown.thought:
            yield from self._grow("reasoning", shown.thought)
        if shown.text:
            yield from self._grow("message", shown.text)
        if shown.call is not None:
            yield from self.end()
            yield from self._called(shown.call)

    def end(self) -> Iterator[Event]:
        """Ends the item that is open, if one is."""
        item, self._open = self._open, None
        if item is None:
            return
        delta, place, part = _DELTAS[item.kind], _place(item), _part(item.kind, item.text)
        yield {"type": f"response.{delta}.done", **place, "text": item.text} | _no_logprobs(item.kind)
        if item.kind == "message":
            yield {"type": "response.content_part.done", **place, "part": part}
        done = _item(item.kind, item.id, item.text)
        yield {"type": "response.output_item.done", "output_index": item.index, "item": done}

    def _grow(self, kind: Kind, text: str) -> Iterator[Event]:
        if self._open is None or self._open.kind != kind:
            yield from self.end()
            yield from self._begin(kind)
        item = self._open
        if item is not None:
            item.text += text
            yield {"type": f"response.{_DELTAS[kind]}.delta", **_place(item), "delta": text} | _no_logprobs(kind)

    def _begin(self, kind: Kind) -> Iterator[Event]:
        item = self._open = _Open(kind, self._n, self._id(kind, self._n))
        self._n += 1
        begun = _item(kind, item.id, "") | {"status": "in_progress", "content": []}
        yield {"type": "response.output_item.added", "output_index": item.index, "item": begun}
        if kind == "message":
            yield {"type": "response.content_part.added", **_place(item), "part": _part(kind, "")}

    def _called(self, call: ToolCall) -> Iterator[Event]:
        index, id = self._n, self._id("function_call", self._n)
        self._n += 1
        done = _item("function_call", id, call)
        begun = done | {"status": "in_progress", "arguments": ""}
        place = {"item_id": id, "output_index": index}
        arguments = {"name": call.name, "arguments": call.arguments}
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        yield {"type": "response.function_call_arguments.delta", **place, "delta": call.arguments}
        yield {"type": "response.function_call_arguments.done", **place, **arguments}
        yield {"type": "response.output_item.done", "output_index": index, "item": done}


def _item(kind: Kind, id: str, what: str | ToolCall) -> dict[str, Any]:
    head = {"id": id, "type": kind, "status": "completed"}
    if isinstance(what, ToolCall):
        return head | {"call_id": what.id, "name": what.name, "arguments": what.arguments}
    if kind == "reasoning":
        return head | {"summary": [], "content": [_part(kind, what)]}
    return head | {"role": "assistant", "content": [_part(kind, what)]}


def _part(kind: Kind, text: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _place(item: _Open) -> dict[str, Any]:
    return {"item_id": item.id, "output_index": item.index, "content_index": 0}


def _no_logprobs(kind: Kind) -> dict[str, Any]:
    return {"logprobs": []} if kind == "message" else {}
