"""Names of sessions: what a person types, and how two are compared."""

import unicodedata

from edge_sir.errors import ConfigError

__all__ = ["checked_name", "name_key"]

_RULE = "1 to 64 letters, digits, '-', '_', '.' and blanks between them, and begins with neither '.' nor '-'"


def checked_name(name: str) -> str:
    """The name, composed (NFC). Raises ConfigError with the rule if it is none."""
    composed = unicodedata.normalize("NFC", name)
    fits = 1 <= len(composed) <= 64 and composed == composed.strip(" ") and composed[0] not in ".-"
    if not fits or not all(c in "-_. " or unicodedata.category(c)[0] in "LMN" for c in composed):
        raise ConfigError(f"{name[:80]!r} is no name for a session: one has {_RULE}")
    return composed


def name_key(name: str) -> str:
    """What names are compared by: the same for all ways to write one in capitals or with composed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
