"""What is compared of a message: clients send back what was said with other blanks, letters' forms and thoughts."""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass

from edge_sir.server.incoming import Role, Said
from edge_sir.text.thoughts import KNOWN_TAGS

__all__ = ["ROOT", "Mark", "Prompt", "chained", "mark_of", "name_of", "owner_of", "prompt_of", "space_of"]

_SIZE = 16
ROOT = bytes(_SIZE)
"""The chain of a conversation in which nothing was said."""

_REASONING = re.compile(r'<details\s[^<>]*\btype="reasoning"[^<>]*>')
_TAGS = [(re.compile(re.escape(tags.open)), tags.close) for tags in KNOWN_TAGS]
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_SHORT = "|".join(name[:3] for name in f"{_MONTHS}|{_DAYS}".split("|"))
_DATE = re.compile(rf"\d+|\b(?:{_MONTHS}|{_DAYS}|{_SHORT}|Sept)\b|\b[AaPp](?:[Mm]\b|\.[Mm]\.)")


@dataclass(frozen=True, slots=True)
class Mark:
    """A message as it is compared. content: digest of role, text and calls. n_chars: of the text that was compared."""

    role: Role
    content: bytes
    n_chars: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """Digests of a system prompt with the tools, as it is and with its digits, dates and times of day masked."""

    exact: bytes
    masked: bytes


def mark_of(said: Said) -> Mark:
    """Names and ids of calls are left out: clients make up their own."""
    text = _reply(said.text) if said.role == "assistant" else _plain(said.text)
    calls = _calls(said.tool_calls)
    return Mark(said.role, _digest(said.role, text, calls), len(text) + len(calls))


def chained(chain: bytes, content: bytes) -> bytes:
    """The chain of a message that follows one with that chain; it stands for all that was said up to here."""
    return _digest(chain, content)


def space_of(namespace: str, session_key: str) -> bytes:
    """Where a request may find messages: what one key names, or what no key names, in one namespace."""
    return _digest("space", namespace, session_key)


def owner_of(namespace: str) -> bytes:
    """Whose the sessions are that requests of a namespace make."""
    return _digest("owner", namespace)


def name_of(namespace: str, node_key: str) -> bytes:
    """What a client's id of a message is kept as."""
    return _digest("node", namespace, node_key)


def prompt_of(system: str, tools: str) -> Prompt:
    """Of a request's system prompt and tools."""
    text = _plain(system)
    return Prompt(_digest(text, tools), _digest(_DATE.sub("0", text), tools))


def _digest(*parts: str | bytes) -> bytes:
    """16 bytes; the parts' lengths are in it, so that no two lists of parts are one."""
    digest = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def _plain(text: str) -> str:
    """Blanks at the beginning of lines stay: the user may have mended those of a program, and asks again."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def _reply(text: str) -> str:
    """A reply comes back without thoughts, and with other blanks and line ends."""
    for opening, close in _TAGS:
        text = _without_thoughts(_without_unopened(text, opening, close), opening, close)
    text = _without_thoughts(text, _REASONING, "</details>")
    return " ".join(unicodedata.normalize("NFC", text).split())


def _without_unopened(text: str, opening: re.Pattern[str], close: str) -> str:
    """Without a thought that the template opened: only its end is in the reply."""
    end = text.find(close)
    return text if end < 0 or opening.search(text, 0, end) else text[end + len(close) :]


def _without_thoughts(text: str, opening: re.Pattern[str], close: str) -> str:
    """One pass. A thought that does not end is one only at the beginning, where the reply was cut in it."""
    kept, at = "", 0
    while found := opening.search(text, at):
        end = text.find(close, found.end())
        before = text[at : found.start()]
        if end < 0:
            return kept + text[at:] if (kept + before).strip() else ""
        kept, at = kept + before, end + len(close)
    return kept + text[at:]


def _calls(text: str) -> str:
    """Calls without their ids; what is no list of calls stays as it is."""
    try:
        calls = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return text
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return text
    bare = [{key: value for key, value in call.items() if key != "id"} for call in calls]
    return json.dumps(bare, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if bare else ""
