"""Jinja as chat templates expect it: what the `transformers` library gives them, which their authors test with."""

import json
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_sir.errors import TemplateError

__all__ = ["compile_template", "one_line"]


class _Inert(Extension):
    """`{% generation %} ... {% endgeneration %}`, which marks replies for training, and does nothing here."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Missing(jinja2.Undefined):
    """A name that nobody defined: added to a text, it adds nothing. All else fails as usual."""

    def __add__(self, other: Any) -> Any:
        return other

    __radd__ = __add__


def compile_template(source: str) -> tuple[jinja2.Template, frozenset[str]]:
    """The template, sandboxed, and all names that it asks for. Raises TemplateError if it does not compile."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Inert], undefined=_Missing
    )
    environment.globals["raise_exception"] = _raise
    now = datetime.now()  # one moment for all renderings: they are compared with each other
    environment.globals["strftime_now"] = now.strftime
    environment.filters["tojson"] = _to_json
    try:
        names = frozenset(meta.find_undeclared_variables(environment.parse(source)))
        return environment.from_string(source), names - environment.globals.keys()
    except Exception as error:  # a template is somebody's program: whatever happens is its fault
        raise TemplateError(f"the chat template does not compile: {one_line(error)}") from None


def one_line(error: Any) -> str:
    """The message of an exception, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
