"""The text of docs/api.md: every name that `import edge_sir` gives, from its docstring."""

import dataclasses
import inspect
import types
from collections.abc import Iterator
from typing import Any

import pydantic

import edge_sir
from edge_sir import errors
from edge_sir.core.ledger import Journal

HEAD = """# The Python interface

Made by `scripts/make-docs` from the docstrings; do not edit. Everything here is a name of `edge_sir`. Sizes are in
tokens (one token is one KV-cache cell) or bytes, times in seconds, scores in nats.

"""
FIRST = ("load", "Model", "open_chat", "Chat", "ReplyStream", "Reply", "Turn", "Options", "SamplingParams")


def page() -> str:
    """The whole page: what one starts with first, the others by name."""
    names = [*FIRST, *(name for name in edge_sir.__all__ if name not in FIRST)]
    lines = [HEAD.rstrip("\n"), ""]
    for name in names:
        lines += _entry(name, getattr(edge_sir, name))
    lines += ["## Errors", "", "```text", _tree(), "```", ""]
    return "\n".join(lines)


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield from (f"## {name}", "")
    if isinstance(thing, type):
        yield from _class(name, thing)
    else:
        yield from (f"`{name}{_signature(thing)}`", "", _text(thing), "")


def _class(name: str, kind: type) -> Iterator[str]:
    if not issubclass(kind, BaseException | pydantic.BaseModel):
        yield from (f"`{name}{_signature(kind)}`", "")
    yield from (_text(kind), "")
    if issubclass(kind, pydantic.BaseModel):
        for field, info in kind.model_fields.items():
            yield f"- `{info.alias or field}` (default `{info.default!r}`): {info.description}"
        yield ""
        return
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for member, value in _members(kind):
        if member not in fields:
            yield f"- `{member}{'' if isinstance(value, property) else _signature(value)}`: {_text(value, indent='  ')}"
    yield ""


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties, those of our own base classes included, in the order of definition."""
    seen: dict[str, Any] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("edge_sir"):
            for name, value in vars(base).items():
                if name.startswith("_") or name in seen or (base is edge_sir.Trace and hasattr(Journal, name)):
                    continue  # what a session tells its journal is nobody else's to call
                if isinstance(value, classmethod | staticmethod):
                    seen[name] = value.__func__
                elif isinstance(value, property | types.FunctionType):
                    seen[name] = value
    yield from seen.items()


def _signature(thing: Any) -> str:
    """As it is called: `self` and annotations, which the docstring explains better, are left out."""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except ValueError:
        return "()"
    shown = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name not in ("self", "cls")]
    return str(inspect.Signature([p.replace(default=_short(p.default)) for p in shown]))


def _short(default: Any) -> Any:
    """A default that is a value of its own is written `...`: how Python shows it differs between versions."""
    plain = default is inspect.Parameter.empty or isinstance(default, str | int | float | bool | None)
    return default if plain else ...


def _text(thing: Any, indent: str = "") -> str:
    text = inspect.getdoc(thing)
    if not text:
        raise SystemExit(f"{thing} has no docstring")
    return text.replace("\n", f"\n{indent}").replace(f"\n{indent}\n", "\n\n")


def _tree() -> str:
    drawing = inspect.getdoc(errors)
    assert drawing is not None
    return "\n".join(line for line in drawing.splitlines() if "Error" in line and not line.startswith("`"))
