"""The body of a chat completion, checked: what stands before, what the user says, and the terms."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.options import Options, nearest

__all__ = ["MOST_CHARACTERS", "TERMS", "checked_text", "quoted", "read_body"]

MOST_CHARACTERS = 2**22
"""Of one message. A longer one is taken for a mistake: at 50 tokens a second it would be read for half a day."""

TERMS: Mapping[str, str] = {
    "budget": "a whole number",
    "policy": "text",
    "recall": "text",
    "system": "text",
    "max_tokens": "a whole number",
    "temperature": "a number",
    "top_k": "a whole number",
    "top_p": "a number",
    "min_p": "a number",
    "repeat_penalty": "a number",
    "frequency_penalty": "a number",
    "presence_penalty": "a number",
    "repeat_last_n": "a whole number",
    "seed": "a whole number",
    "stop": "text or a list of texts",
    "template_args": "an object",
}
"""What a line may say of its own dialogue, by its name in `Options`, and what the value must be."""

_ALIASES = {"max_completion_tokens": "max_tokens"}
_NO_EFFECT = {
    "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "stream_options", "user",
}  # fmt: skip
_ONE_WAY: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "response_format": ({"type": "text"},),
    "stream": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Fields of OpenAI's whose other values would need what is not here; these values ask for nothing."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_OTHER = {"model", "messages", "dialogue", "reasoning_effort"}
_KNOWN = {*TERMS, *_ALIASES, *_NO_EFFECT, *_ONE_WAY, *_OTHER}


def read_body(body: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[str, ...], dict[str, Any]]:
    """What stands before, the user's texts (at least one), and the terms that the body gives.

    A field that is null counts as not given. Raises ConfigError, in one line, for whatever cannot be done as asked.
    """
    given = {name: value for name, value in body.items() if value is not None}
    _check_fields(given)
    messages = list(_merged(_messages(given.get("messages", []))))
    if "dialogue" in given:
        said = _dialogue(given["dialogue"])
        if messages and messages[-1].role in ("user", "tool"):
            raise ConfigError("'messages' end before a reply; put what is to be answered into 'dialogue'")
    elif not messages or messages[-1].role != "user":
        raise ConfigError("the last of 'messages' must be the user's, or give 'dialogue', a list of the user's texts")
    else:
        said = (messages.pop().text,)
    terms = _terms(given)
    if "system" in terms and any(m.role == "system" for m in messages):
        raise ConfigError("'system' and a system message; give one of them")
    return tuple(messages), said, terms


def checked_text(value: Any, name: str) -> str:
    """The text, if it is one that can be encoded. name: what the complaint calls it. Raises ConfigError."""
    if type(value) is not str:
        raise ConfigError(f"{name} must be text, not {quoted(value)}")
    if len(value) > MOST_CHARACTERS:
        raise ConfigError(f"{name} has {len(value)} characters; the most are {MOST_CHARACTERS}, so split it")
    if "\0" in value:
        raise ConfigError(f"{name} holds a NUL character; take it out")
    if not value.isascii() and any(unicodedata.category(c) == "Cs" for c in value):
        raise ConfigError(f"{name} holds half of a surrogate pair, which is no character; take it out")
    return value


def quoted(value: Any) -> str:
    """A value in a complaint: short, on one line, whatever it holds."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = "null" if value is None else ascii(value).lower() if isinstance(value, bool) else ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# ---- fields --------------------------------------------------------------------------------------


def _check_fields(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in Options.names() and name not in TERMS and name != "model":
            raise ConfigError(f"'{name}' cannot differ between dialogues; give --{name.replace('_', '-')} instead")
        if name not in _KNOWN:
            raise ConfigError(f"unknown field {quoted(name)}{nearest(name, _KNOWN).replace('-', '_')}")
        if name in _ONE_WAY and not any(type(value) is type(v) and value == v for v in _ONE_WAY[name]):
            raise ConfigError(f"'{name}' is not supported with {quoted(value)}; leave it out")
    if "model" in given:
        checked_text(given["model"], "'model'")


def _terms(given: Mapping[str, Any]) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    for name, value in given.items():
        term = _ALIASES.get(name, name)
        if term not in TERMS:
            continue
        if term in terms and terms[term] != value:
            raise ConfigError(f"'{name}' and '{term}' differ; give one of them")
        if not _is(TERMS[term], value):
            raise ConfigError(f"'{name}' must be {TERMS[term]}, not {quoted(value)}")
        terms[term] = value
    if "reasoning_effort" in given:
        effort = {"reasoning_effort": checked_text(given["reasoning_effort"], "'reasoning_effort'")}
        terms["template_args"] = effort | terms.get("template_args", {})
    if "system" in terms:
        checked_text(terms["system"], "'system'")
    if "stop" in terms:
        stops = [terms["stop"]] if isinstance(terms["stop"], str) else terms["stop"]
        terms["stop"] = tuple(checked_text(text, "a text of 'stop'") for text in stops)
    if terms:
        _check_ranges(terms)
    return terms


def _check_ranges(terms: Mapping[str, Any]) -> None:
    try:
        Options(**terms)
    except ConfigError as error:
        flag, _, reason = str(error).partition(" (given): ")
        raise ConfigError(f"'{flag.replace('-', '_')}': {reason}") from None


def _is(kind: str, value: Any) -> bool:
    if kind == "a whole number":
        return type(value) is int
    if kind == "a number":
        return type(value) in (int, float)
    if kind == "text":
        return type(value) is str
    if kind == "an object":
        return type(value) is dict
    return type(value) is str or type(value) is list


# ---- messages ------------------------------------------------------------------------------------


def _dialogue(value: Any) -> tuple[str, ...]:
    if type(value) is not list or not value:
        raise ConfigError(f"'dialogue' must be a list of the user's texts, at least one, not {quoted(value)}")
    return tuple(_not_blank(checked_text(text, f"text {i} of 'dialogue'"), i) for i, text in enumerate(value, 1))


def _not_blank(text: str, number: int) -> str:
    if not text.strip():
        raise ConfigError(f"text {number} of 'dialogue' is empty; take it out")
    return text


def _messages(value: Any) -> Iterator[Message]:
    if type(value) is not list:
        raise ConfigError(f"'messages' must be a list, not {quoted(value)}")
    turn = 0
    for i, message in enumerate(value, 1):
        if type(message) is not dict:
            raise ConfigError(f"message {i} must be an object with role and content, not {quoted(message)}")
        role = message.get("role")
        if type(role) is not str or role not in _ROLES:
            raise ConfigError(f"message {i}: role must be one of {', '.join(_ROLES)}, not {quoted(role)}")
        if message.get("tool_calls") or message.get("function_call"):
            raise ConfigError(f"message {i}: calls of tools are not supported; leave them out")
        text = _content(message.get("content"), f"message {i}: content")
        if role == "user" and not text.strip():
            raise ConfigError(f"message {i}: content is empty; take the message out")
        turn += role == "user"
        yield Message(turn, _ROLES[role], text)


def _content(value: Any, name: str) -> str:
    """Text, or a list of parts that are text."""
    if type(value) is not list:
        return checked_text(value, name)
    texts = []
    for part in value:
        kind = part.get("type") if type(part) is dict else None
        if kind != "text":
            raise ConfigError(f"{name}: a part must be an object of type 'text', not {quoted(kind or part)}")
        texts.append(checked_text(part.get("text"), name))
    return checked_text("\n".join(texts), name)


def _merged(messages: Iterator[Message]) -> Iterator[Message]:
    """Neighbours of one role as one message, a blank line between them: many templates refuse the others."""
    last: Message | None = None
    for message in messages:
        if last is None:
            last = message
        elif last.role == message.role != "tool":
            last = Message(last.turn, last.role, f"{last.text}\n\n{message.text}")
        else:
            yield last
            last = message
    if last is not None:
        yield last
