"""Dialogues of one's own, or of a public collection, from a file: one JSON object per line.

docs/own-dialogues.md says what a line holds, and how collections in other forms become such lines.

Messages of one role that stand together are read as one, and a user's message with the reply to it is an exchange, a
turn of its own. A question is a probe that leaves no trace: it is asked after the exchange that it names, or at the
end.
"""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge_sir.errors import ConfigError
from edge_sir.eval.task import SYSTEM, Ask, Dialogue, Say, Setup, Step, Task
from edge_sir.eval.tasks._paper.files import check_range, find, read_text

__all__ = ["File"]

METRICS = ("accuracy", "answer")
"""Of questions with options, and of those with an answer's text alone (its log-probability per token)."""

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Words = Annotated[str, StringConstraints(pattern=r"(?s)^.*$")]  # pydantic refuses half a character where it looks
_Kind = Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Message(_Strict):
    role: Literal["user", "assistant"]
    content: _Text
    id: _Words = ""


class _Question(_Strict):
    """answer: the right one, as text; options: it and wrong ones, if there are any."""

    question: _Text
    answer: _Text
    options: tuple[_Text, ...] = Field(default=(), strict=False, max_length=26)
    stem: _Words = ""
    close: _Words = "."
    evidence: tuple[_Words, ...] = Field(default=(), strict=False)
    after: _Words = ""
    kind: _Kind | None = None


class _Line(_Strict):
    id: _Words = ""
    system: _Words = SYSTEM
    messages: tuple[_Message, ...] = Field(strict=False, min_length=1)
    questions: tuple[_Question, ...] = Field(strict=False, min_length=1)


_PLAIN = {
    "extra_forbidden": "is no field of this form",
    "model_type": "must be an object",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_unicode": "holds half a character (a lone surrogate)",
    "string_pattern_mismatch": "must be letters, digits, _ and - alone",
}


class File(Task):
    """Plays dialogues of your own, with questions about them."""

    metrics = METRICS
    data_files = "a file of JSON lines"
    needs_data = True

    def files(self, data: Path) -> tuple[Path, ...]:
        _read(_given(data))
        return (_given(data),)

    def n_usual(self, setup: Setup, offset: int) -> int:
        return max(1, len(_read(_given(setup.data))) - offset)

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        held = _read(_given(setup.data))
        check_range(len(held), index, index + 1, "dialogues")
        return held[index]


def _given(data: Path | None) -> Path:
    if data is None:
        raise ConfigError("file plays dialogues of your own: name a file of JSON lines with --data")
    if data.is_dir():
        raise ConfigError(f"{data} is a folder: give --data a file of JSON lines")
    return find(data, data.name)


@lru_cache(maxsize=2)
def _read(path: Path) -> tuple[Dialogue, ...]:
    """Raises ConfigError, with the number of the line, for one that is not as docs/own-dialogues.md says."""
    found: dict[str, Dialogue] = {}
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            dialogue = _dialogue(_Line.model_validate(json.loads(text)), number)
        except ValidationError as error:
            raise ConfigError(f"line {number} of {path}: {_said(error)}") from None
        except json.JSONDecodeError as error:
            said = f"{error.msg} at character {error.colno}"
            raise ConfigError(f"line {number} of {path} is no JSON: {said}; each line is one object") from None
        except RecursionError:
            raise ConfigError(f"line {number} of {path} is nested too deep") from None
        except ValueError as error:
            raise ConfigError(f"line {number} of {path}: {error}") from None
        if dialogue.id in found:
            raise ConfigError(f"line {number} of {path}: another line has the id '{dialogue.id}', too")
        found[dialogue.id] = dialogue
    if not found:
        raise ConfigError(f"{path} is empty: give a file with dialogues with --data")
    return tuple(found.values())


def _said(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    must = re.sub(r"^\w+ should ", "must ", first["msg"]).replace(" after validation", "")
    return f"{place or 'the line'} {_PLAIN.get(first['type'], must)}"


# ---- from a line to a dialogue ---------------------------------------------------------------------


def _dialogue(line: _Line, number: int) -> Dialogue:
    """Raises ValueError for names that are not there or there twice."""
    exchanges = _exchanges(line.messages)
    place_of = _places(exchanges)
    evidence = {name for question in line.questions for name in question.evidence}
    for name in evidence | {question.after for question in line.questions if question.after}:
        if name not in place_of:
            raise ValueError(f"no message has the id '{name}', which a question names")
    steps: list[Step] = []
    for place, exchange in enumerate(exchanges):
        steps.append(_say(exchange, place, evidence))
        steps += [_ask(q, place_of) for q in line.questions if place_of.get(q.after, len(exchanges) - 1) == place]
    return Dialogue(line.id or f"line-{number}", tuple(steps), line.system or None)


def _exchanges(messages: tuple[_Message, ...]) -> list[list[_Message]]:
    """Messages of the user, and of the assistant after them."""
    if messages[0].role != "user":
        raise ValueError("the first message must be the user's")
    found: list[list[_Message]] = []
    for before, message in zip((None, *messages), messages, strict=False):
        if message.role == "user" and (before is None or before.role == "assistant"):
            found.append([])
        found[-1].append(message)
    return found


def _places(exchanges: list[list[_Message]]) -> dict[str, int]:
    """The number of its exchange by a message's id."""
    found: dict[str, int] = {}
    for place, exchange in enumerate(exchanges):
        for message in exchange:
            if message.id in found:
                raise ValueError(f"two messages have the id '{message.id}'")
            if message.id:
                found[message.id] = place
    return found


def _say(exchange: list[_Message], place: int, evidence: set[str]) -> Say:
    said = {"user": "", "assistant": ""}
    gold: list[tuple[str, int, int]] = []
    for message in exchange:
        before = f"{said[message.role]}\n" if said[message.role] else ""
        said[message.role] = before + message.content
        if message.id in evidence:
            gold.append((message.role, len(before), len(said[message.role])))
    return Say(said["user"], said["assistant"], _name(place) if gold else "", tuple(gold))


def _ask(asked: _Question, place_of: dict[str, int]) -> Ask:
    stem = asked.stem.rstrip()
    options = asked.options or (asked.answer,)
    if asked.answer not in options:
        raise ValueError(f"the answer '{asked.answer}' is none of the options")
    if len(set(options)) < len(options) or len(asked.options) == 1:
        raise ValueError("options are two or more different texts; leave them out to value the answer alone")
    metric = METRICS[0] if asked.options else METRICS[1]
    return Ask(
        asked.question,
        stem,
        tuple(f" {option}" if stem else option for option in options),
        options.index(asked.answer),
        asked.close,
        metric if asked.kind is None else f"{metric}/{asked.kind}",
        tuple(_name(place) for place in sorted({place_of[name] for name in asked.evidence})),
    )


def _name(place: int) -> str:
    return f"exchange {place}"
