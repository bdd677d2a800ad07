"""The body of /v1/completions, and its answers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, WithJsonSchema

from edge_sir.server.outcome import Finish, Match, Outcome, Shown
from edge_sir.server.terms import ReplyTerms
from edge_sir.server.wire.answers import FINISHES, edge_sir_of, usage_of
from edge_sir.server.wire.chat import Sampled
from edge_sir.server.wire.refusal import RefusedError
from edge_sir.server.wire.values import Text, refuse

__all__ = ["CompletionAnswer", "CompletionRequest"]


def _one_text(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else refuse("must be one text; send other prompts apart, tokens as text")


_ONE_TEXT = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}


class CompletionRequest(Sampled):
    """A text that is to be continued, after the contract was applied."""

    prompt: Annotated[Text, BeforeValidator(_one_text), WithJsonSchema({"anyOf": [{"type": "string"}, _ONE_TEXT]})]
    grammar: Text = ""
    json_schema: dict[str, Any] | None = None

    def terms(self) -> ReplyTerms:
        """On which terms it is continued. Raises RefusedError for fields that contradict each other."""
        if self.grammar and self.json_schema is not None:
            raise RefusedError("'grammar' excludes a JSON schema; give one of them", param="grammar")
        return ReplyTerms(
            max_tokens=self.max_tokens if self.max_tokens > 0 else None,
            sampling=self.sampling(),
            stop=self.stops(),
            n=self.n,
            logit_bias=self.bias(),
            grammar=self.grammar,
            json_schema="" if self.json_schema is None else json.dumps(self.json_schema, ensure_ascii=False),
        )


@dataclass(frozen=True, slots=True)
class CompletionAnswer:
    """The answer to one request, in either form. created: unix seconds."""

    id: str
    created: int
    model: str
    include_usage: bool = False
    has_names: ClassVar[bool] = False

    def whole(self, session: str, match: Match, outcome: Outcome) -> dict[str, Any]:
        """All of it."""
        choices = [_choice(i, choice.text, choice.finish) for i, choice in enumerate(outcome.choices)]
        memory = edge_sir_of(session, match, outcome)
        return {**self._head(), "choices": choices, "usage": usage_of(outcome), "edge_sir": memory}

    def first(self) -> Iterator[dict[str, Any]]:
        """Nothing comes before the text."""
        yield from ()

    def shown(self, shown: Shown) -> Iterator[dict[str, Any]]:
        """A bit of the text; a thought is text, too: nothing was asked that could be thought about."""
        yield {**self._head(), "choices": [_choice(shown.choice, shown.thought + shown.text, None)]}

    def last(self, session: str, match: Match, outcome: Outcome) -> Iterator[dict[str, Any]]:
        """Why it ended, and how many tokens it took if that was asked for."""
        for i, choice in enumerate(outcome.choices):
            yield {**self._head(), "choices": [_choice(i, "", choice.finish)]}
        if self.include_usage:
            yield {**self._head(), "choices": [], "usage": usage_of(outcome)}

    def failed(self, refused: RefusedError) -> Iterator[dict[str, Any]]:
        """OpenAI's clients raise what this says."""
        yield refused.as_dict()

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


def _choice(index: int, text: str, finish: Finish | None) -> dict[str, Any]:
    reason = None if finish is None else FINISHES[finish]
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
