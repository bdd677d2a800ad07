"""Eviction policies, one per file; the file's name is the policy's name on the command line.

To add one, write `edge_sir/policies/my_way.py` with one `Policy` subclass in it: `--policy my-way` finds it.
"""

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from edge_sir.core.policy import Policy
from edge_sir.errors import ConfigError

__all__ = ["from_spec", "names", "policy_class"]


def names() -> list[str]:
    """The names of all policies, sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def policy_class(name: str, also: Iterable[str] = ()) -> type[Policy]:
    """The policy called `name`; raises ConfigError naming the nearest one that exists, or one of `also`."""
    if name not in names():
        raise ConfigError(f"unknown policy {name!r}{_nearest(name, [*names(), *also])}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    found = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next(cls for cls in found if issubclass(cls, Policy) and not inspect.isabstract(cls))


def from_spec(spec: str, others: Mapping[str, type[Policy]] = MappingProxyType({}), also: Iterable[str] = ()) -> Policy:
    """Builds a policy from `name[:key=value,...]`, e.g. `sir:decay=0.9`. others: that have no file here, by name.

    Raises ConfigError for an unknown name or key (naming the nearest valid one) or a bad value. also: names that the
    caller knows, too, and that the error names.
    """
    name, _, rest = (part.strip() for part in spec.partition(":"))
    cls = others.get(name) or policy_class(name, [*others, *also])
    types = get_type_hints(cls)
    fields = {f.name: types[f.name] for f in dataclasses.fields(cls) if f.repr}
    values: dict[str, Any] = {}
    for pair in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, text = (part.strip() for part in pair.partition("="))
        key = key.replace("-", "_")
        if key not in fields:
            raise ConfigError(f"policy '{name}' has no key {key!r}{_elsewhere(key) or _nearest(key, fields)}")
        if not equals:
            raise ConfigError(f"policy key {key!r} needs a value: {name}:{key}=...")
        values[key] = _convert(name, key, text, fields[key])
    return cls(**values)


def _convert(policy: str, key: str, text: str, kind: Any) -> Any:
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"policy '{policy}': {key} must be {wanted}, not {text!r}") from None


def _elsewhere(key: str) -> str:
    """Points to the policy that does have this key; empty if none has."""
    owners = [name for name in names() if key in {f.name for f in dataclasses.fields(policy_class(name))}]
    return f"; the policy '{owners[0]}' has it: {owners[0]}:{key}=..." if owners else ""


def _nearest(word: str, valid: Iterable[str]) -> str:
    valid = sorted(valid)
    close = difflib.get_close_matches(word.lower(), valid, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{hint} (all: {', '.join(valid)})"
