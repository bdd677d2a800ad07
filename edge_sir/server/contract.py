"""What this server does with each field of a request: the one table, which the docs show.

A field that is in no row is ignored, with one line in the log: clients send more with every version.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.values import quoted

__all__ = ["CHAT", "COMPLETIONS", "RESPONSES", "Contract", "IgnoredFields", "Rule", "apply"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done with a field. why: it is refused. harmless: values that ask for nothing, and are ignored."""

    kind: Literal["applied", "ignored", "refused"]
    why: str = ""
    harmless: tuple[Any, ...] = ()


Contract = Mapping[str, Rule]
"""Rules by the name of a field."""


def _all(kind: Literal["applied", "ignored"], names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), Rule(kind))


def _refused(why: str, *harmless: Any) -> Rule:
    return Rule("refused", why, harmless)


_SAMPLING = (
    "temperature top_p top_k min_p repeat_penalty repeat_last_n frequency_penalty presence_penalty logit_bias seed"
)
_BY_CLIENT = "user metadata store service_tier safety_identifier prompt_cache_retention cache_control"

CHAT: Contract = {
    **_all("applied", "model messages stream stream_options max_completion_tokens max_tokens stop n"),
    **_all("applied", _SAMPLING),
    **_all("applied", "logprobs top_logprobs response_format grammar json_schema tools tool_choice prompt_cache_key"),
    **_all("ignored", _BY_CLIENT),
    **_all("ignored", "parallel_tool_calls reasoning_effort verbosity prediction"),
    "audio": _refused("this server writes text alone"),
    "modalities": _refused("this server writes text alone", ["text"], []),
    "echo": _refused("a reply does not repeat its prompt", False),
    "suffix": _refused("nothing can be written before a given end", ""),
    "best_of": _refused("replies are not ranked; ask for several with 'n'", 1),
    "functions": _refused("it was replaced by 'tools'", []),
    "function_call": _refused("it was replaced by 'tool_choice'", "none", "auto"),
    "web_search_options": _refused("this server searches no web"),
}
"""Of /v1/chat/completions."""

COMPLETIONS: Contract = {
    **_all("applied", "model prompt stream stream_options max_tokens stop n grammar json_schema"),
    **_all("applied", _SAMPLING),
    **_all("ignored", _BY_CLIENT),
    "echo": CHAT["echo"],
    "suffix": CHAT["suffix"],
    "best_of": CHAT["best_of"],
    "logprobs": _refused("ask /v1/chat/completions for them", 0, False),
}
"""Of /v1/completions: a text is continued, and nothing of it is remembered."""

RESPONSES: Contract = {
    **_all("applied", "model input instructions previous_response_id stream max_output_tokens temperature top_p"),
    **_all("applied", "text tools tool_choice prompt_cache_key"),
    **_all("ignored", _BY_CLIENT),
    **_all("ignored", "parallel_tool_calls max_tool_calls reasoning truncation include stream_options top_logprobs"),
    "background": _refused("a reply is made while its client waits", False),
    "conversation": _refused("name the last answer with 'previous_response_id'"),
    "prompt": _refused("this server keeps no prompts; send 'instructions' and 'input'"),
}
"""Of /v1/responses."""


class IgnoredFields:
    """Logs each ignored field once, without its value. n_most: names are the client's, and so might be many."""

    def __init__(self, n_most: int = 200) -> None:
        self._n_most = n_most
        self._seen: set[str] = set()

    def note(self, name: str) -> None:
        """A request held the field."""
        if name not in self._seen and len(self._seen) < self._n_most:
            self._seen.add(name)
            _log.info("the field %s of a request has no effect here", quoted(name))


def apply(contract: Contract, document: Mapping[str, Any], ignored: IgnoredFields) -> dict[str, Any]:
    """The fields that are applied; a null counts as not given. Raises RefusedError for one that cannot be."""
    applied: dict[str, Any] = {}
    for name, value in document.items():
        rule = contract.get(name, Rule("ignored"))
        if value is None:
            continue
        if rule.kind == "applied":
            applied[name] = value
        elif rule.kind == "ignored" or any(type(value) is type(v) and value == v for v in rule.harmless):
            ignored.note(name)
        else:
            raise RefusedError(f"'{name}' is not supported: {rule.why}", param=name, code="unsupported_parameter")
    return applied
