"""The plain values of a request, and how a document becomes a checked one."""

import json
import re
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema

from edge_sir.server.wire.refusal import RefusedError

__all__ = ["WHOLE", "Number", "Text", "Wire", "canonical", "checked", "parse_json", "quoted", "refuse"]

_PLAIN = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "finite_number": "must be a finite number",
}

_MOST_CONTAINERS = 2**20
"""Of a body, brackets in its texts included: an empty list takes twenty times the memory that it is sent in."""

_MAY_BE_NO_TEXT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""Nothing else can bring a NUL, or half of a surrogate pair."""

Checked = TypeVar("Checked", bound="Wire")


class Wire(BaseModel):
    """A document of OpenAI's API. A field that is null counts as not given; fields of other makers are kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        return {name: value for name, value in document.items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema says of nulls what `_without_nulls` does."""
        found = handler(schema)
        model = handler.resolve_ref_schema(found)
        for name, field in model.get("properties", {}).items():
            if name not in model.get("required", ()):
                model["properties"][name] = {"anyOf": [field, {"type": "null"}]}
        return found


def _whole(value: Any) -> Any:
    """JSON has one kind of number, and some clients write 256.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = str
WHOLE = BeforeValidator(_whole)
"""Goes last into an `Annotated[int, ...]`, so that bounds before it get into the schema."""
Number = float


def parse_json(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds. Raises RefusedError where it is none, or holds text that is no text."""
    if body.count(b"[") + body.count(b"{") > _MOST_CONTAINERS:
        raise RefusedError(f"the body may hold {_MOST_CONTAINERS} brackets; leave out the oldest messages", status=413)
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_number)
        if _MAY_BE_NO_TEXT.search(body):
            _check_texts(document, "")
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is no JSON: {_reason(error)}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise RefusedError("the body must be a JSON object", code="invalid_json")
    return document


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "its nesting is too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is no UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, at character {error.pos + 1}"
    return str(error)


def _check_texts(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_texts(name, path)
            if isinstance(inner, str | list | dict):
                _check_texts(inner, f"{path}.{quoted(name)[1:-1]}" if path else quoted(name)[1:-1])
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            if isinstance(inner, str | list | dict):
                _check_texts(inner, f"{path}[{i}]")
    elif "\0" in value or not _can_be_encoded(value):
        raise RefusedError("a NUL, or half of a surrogate pair, is no text; take it out", param=path or None)


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked(model: type[Checked], document: Any) -> Checked:
    """The document as `model` has it. Raises RefusedError for the first thing that is wrong, with its path."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = _path(first["loc"])
        reason = _PLAIN.get(first["type"]) or _sentence(first["msg"])
        raise RefusedError(f"'{path}' {reason}" if path else reason, param=path or None) from None


def _path(location: tuple[int | str, ...]) -> str:
    """As OpenAI writes it: messages[0].content."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _sentence(message: str) -> str:
    """pydantic's message, as what follows the name of a field."""
    message = message.removeprefix("Value error, ").replace(" after validation", "")
    return re.sub(r"^(Input|List|String|Value|Dictionary) should ", "must ", message)


def refuse(reason: str) -> NoReturn:
    """Ends the check of a value; `reason` follows its path. pydantic takes a ValueError for that."""
    raise ValueError(reason)


def canonical(value: Any) -> str:
    """JSON in one form: equal values are equal texts."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def quoted(value: Any) -> str:
    """A value in a complaint: short, on one line, whatever it holds."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = "null" if value is None else ascii(value).lower() if isinstance(value, bool) else ascii(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"
